"""What a check of the history found, and what it looked at: the report, and the first thing that is wrong."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from enrollments.audit.canonical import NOTHING_BEFORE
from enrollments.policy.words import counted

# A row that was written early may be sealed late. By more than this, it is said: it may have been put in afterwards.
LATE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong. `index`: the place in the sequence; `event_id`: of the row, where known."""

    index: int | None
    event_id: int | None
    what: str

    def __str__(self) -> str:
        place = [f"#{self.index}"] if self.index is not None else []
        place += [f"row {self.event_id}"] if self.event_id is not None else []
        return f"{' '.join(place)}: {self.what}" if place else self.what


@dataclass
class Report:
    """What was checked so far, and what was found. `waiting`: rows that have no seal yet, which is no fault.

    A check that is done in portions goes on from here, so this is all that one portion leaves to the next.
    """

    rows: int = 0
    head: str = NOTHING_BEFORE
    waiting: int = 0
    checkpoints: int = 0
    # Up to where the history and what was signed agreed last.
    signed: int = 0
    # How many checkpoints each key has signed.
    signers: dict[str, int] = field(default_factory=dict)
    # Checkpoints that nobody could check, by where they are and who signed them.
    unchecked: dict[str, int] = field(default_factory=dict)
    opaque: int = 0
    excerpt_rows: int | None = None
    excerpt_opaque: int = 0
    # Of the rows dated more than an hour before rows that were sealed earlier: how many, and which is the first.
    latest: str = ""
    # No row is dated before this; only kept of a portion that does not begin with the first row.
    earliest: str = ""
    late: int = 0
    first_late: str = ""
    problem: Problem | None = None
    # What stands around the rows and is not as it was made. No row is wrong by that.
    not_as_made: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.problem is None

    @property
    def notices(self) -> list[str]:
        """What is no fault, and may be a trace of one."""
        said = [
            f"{counted(number, 'checkpoint')} {'was' if number == 1 else 'were'} not checked: {which}."
            for which, number in self.unchecked.items()
        ]
        if self.late:
            said.append(
                f"{counted(self.late, 'row')} {'is' if self.late == 1 else 'are'} dated more than an hour before rows "
                f"that were sealed earlier, the first of them {self.first_late}: changes that took long, a clock that "
                "was set back, or rows put in afterwards."
            )
        return said

    def take_over(self, other: "Report") -> None:
        """What was found about checkpoints that only now turn out to be the last."""
        self.problem = self.problem or other.problem
        for which, number in other.unchecked.items():
            self.unchecked[which] = self.unchecked.get(which, 0) + number

    def joined(self, portion: "Report") -> bool:
        """Add a portion that goes on where this report ends, and in which nothing is wrong. False: nothing was added,
        since where it began nobody could tell which of its rows are late, or which signers are one too many.
        """
        may_be_late = portion.late or portion.earliest < self.latest
        if may_be_late or not portion.unchecked.keys() <= self.unchecked.keys():
            return False
        self.rows, self.head, self.latest = portion.rows, portion.head, max(self.latest, portion.latest)
        self.checkpoints += portion.checkpoints
        self.signed = max(self.signed, portion.signed)
        for signer, number in portion.signers.items():
            self.signers[signer] = self.signers.get(signer, 0) + number
        self.take_over(portion)
        return True

    def note_if_late(self, at: str, number: int, event_id: int | None) -> None:
        """Of a row that is dated before one that was sealed earlier."""
        self.earliest = min(self.earliest, at)
        if _is_late(at, self.latest):
            self.late += 1
            self.first_late = self.first_late or f"#{number} (row {event_id})"


def _is_late(at: str, latest: str) -> bool:
    """A day that no calendar has is out of order as well."""
    try:
        return datetime.fromisoformat(latest) - datetime.fromisoformat(at) > LATE
    except ValueError:
        return True
