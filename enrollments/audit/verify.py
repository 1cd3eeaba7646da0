"""Checking the history in the database: the first row that is not what was sealed, and what was cut off."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from enrollments.audit.canonical import link_hash
from enrollments.audit.chain import (
    CHUNK,
    SealedRow,
    count_of_no_place,
    count_up_to,
    count_waiting,
    first_of_no_id,
    first_wrong_on_the_list,
    forms_of,
    head,
    sealed_rows,
    sealed_twice,
    unaccounted,
    waiting_rows,
)
from enrollments.audit.guards import not_as_made, sqlite_indexes, wrong_index
from enrollments.audit.notes import Checkpoint, checkpoint_of
from enrollments.audit.report import Problem, Report
from enrollments.audit.signed import Checkpoints, SignedHere
from enrollments.policy.words import counted

# A portion takes some tenths of a second.
PORTION = 20_000


def follow(links: Iterable[SealedRow], checkpoints: Checkpoints, report: Report) -> None:
    """Go along the chain from where the report ends, up to the end of the links or the first fault."""
    rows, last, latest = report.rows, report.head, report.latest
    for link in links:
        number, previous, hash, event_id, form, at, _, _, row = link
        if form is not None:
            row = sha256(form).hexdigest()
        if number != rows + 1 or previous != last or not row or link_hash(number, previous, row) != hash:
            report.problem = _what_is_wrong(link, rows, last, row)
            break
        if number in checkpoints and (problem := checkpoints.against(number, hash)):
            report.problem = problem
            break
        rows, last = number, hash
        if at >= latest:
            latest = at
        elif at:
            report.latest = latest
            report.note_if_late(at, number, event_id)
    report.rows, report.head, report.latest = rows, last, latest


def _what_is_wrong(link: SealedRow, rows: int, last: str, row: str) -> Problem:
    expected = rows + 1
    if link.number != expected:
        after = f"after #{rows} comes" if rows else "the first is"
        what = f"its seal is missing: {after} #{link.number}"
        if rows and link.number <= rows:
            what = f"#{link.number} stands in its place"
        return Problem(expected, None, what)
    if link.previous != last:
        return Problem(expected, _as_id(link.event_id), "its seal does not follow the one before")
    return Problem(
        expected,
        _as_id(link.event_id),
        "it is not the row that was sealed" if row else f"it {link.unreadable}",
    )


def _what_is_wrong_here(rows: int) -> Problem | None:
    """Beside the chain: seals that are in no place of it, IDs that no row can have, and the list of those that wait."""
    if strays := count_of_no_place(rows):
        what = f"{counted(strays, 'seal')} with a place that no row can have: put in from outside"
        return Problem(None, None, what)
    if (seals := count_up_to(rows)) != rows:
        what = f"{counted(seals, 'seal')} for {counted(rows, 'place')}: put in from outside, or taken away"
        return Problem(None, None, what)
    if wrong := first_of_no_id():
        is_row, event_id = wrong
        what = "it was put in from outside: no row of the history can have its ID"
        if not is_row:
            what = "something that is no row's ID is on the list of rows that wait for their seal"
        return Problem(None, _as_id(event_id), what)
    if found := first_wrong_on_the_list():
        return Problem(None, *found)
    return None


def _as_id(found: Any) -> int | None:
    """SQLite takes anything for an ID, and not all of it can be named."""
    return found if type(found) is int else None


@dataclass
class Check:
    """A check of the database that is done in portions, and all that one of them leaves to the next.

    `until`: the place at which the history ended when it began; what comes later is not looked at, unless something
    was signed of it before the end was reached. `kept`: what was signed, and kept elsewhere.
    """

    until: int
    kept: list[Checkpoint] = field(default_factory=list)
    report: Report = field(default_factory=Report)
    # Once all seals were followed: the rows up to this ID that wait can have a seal.
    readable: int | None = None
    # After that: the rows up to this ID have one seal, or wait for one.
    accounted: int | None = None
    # Once all rows were accounted for: how many lists of indexes were counted.
    counted_indexes: int | None = None
    done: bool = False

    def to_go_on_later(self) -> dict[str, Any]:
        """As plain values, of a check that is not done."""
        return asdict(self) | {"kept": [one.text() for one in self.kept]}

    @classmethod
    def from_before(cls, values: dict[str, Any]) -> "Check":
        kept = [checkpoint_of(text) for text in values["kept"]]
        return cls(**values | {"kept": kept, "report": Report(**values["report"])})

    def go_on(self, here: SignedHere, seals: int | None = None) -> None:
        """One portion, of so many seals. Raises BadNote where a note in the installation's file cannot be believed."""
        report = self.report
        if self.counted_indexes is not None:
            self._count_by_indexes(self.counted_indexes)
        elif self.accounted is not None:
            self._account()
        elif self.readable is not None:
            self._look_at_what_waits()
        elif self.is_following:
            self.follow(here, seals or PORTION)
        else:
            self._end_of_the_seals(here)
        if report.problem:
            self.done = True
        if self.done:
            report.waiting = count_waiting()
            report.not_as_made = not_as_made()

    @property
    def is_following(self) -> bool:
        """Whether there are seals to follow, as far as is known."""
        return self.readable is None and self.report.rows < self.until

    def follow(self, here: SignedHere, seals: int) -> None:
        """The next so many seals. Raises BadNote as go_on does."""
        report, begin = self.report, self.report.rows
        to = min(begin + seals, self.until)
        checkpoints = self._signed(here, begin, to)
        if report.problem:
            return
        # Places begin at 1; somebody might hide a row below.
        follow(sealed_rows(to, begin or None), checkpoints, report)
        if report.ok and report.rows < to:
            # What comes next, however far away, is out of place; if nothing does, the seals end here.
            follow(sealed_rows(self.until, report.rows), checkpoints, report)
            self.until = report.rows

    def _end_of_the_seals(self, here: SignedHere) -> None:
        report, looked = self.report, Report()
        kept = [one for one in self.kept if one.size > report.rows]
        beyond = [*kept, *here.between(report.rows or None, None, looked)]
        # The end is asked for after what was signed: whatever was signed meanwhile is of rows that came meanwhile.
        if beyond and (end := head().size) > report.rows:
            self.until = end
            return
        report.take_over(looked)
        report.problem = report.problem or Checkpoints(beyond, report).cut_off(report.rows)
        report.problem = report.problem or _what_is_wrong_here(report.rows)
        self.readable = 0

    def _look_at_what_waits(self) -> None:
        for _ in range(PORTION // CHUNK + 1):
            rows = waiting_rows(CHUNK, self.readable or 0)
            if not rows:
                self.accounted = 0
                return
            for event_id, form, unreadable in forms_of(rows):
                if form is None:
                    what = f"it waits for a seal and cannot have one: {unreadable}"
                    self.report.problem = Problem(None, _as_id(event_id), what)
                    return
                self.readable = event_id

    def _account(self) -> None:
        begin = self.accounted or 0
        last, stranger = unaccounted(begin)
        if last is None:
            self.counted_indexes = 0
            return
        if stranger is not None:
            what = (
                "it has no seal and is not among the rows that wait for one: it was put in from outside, or taken off "
                "their list"
            )
            self.report.problem = Problem(None, _as_id(stranger), what)
        elif twice := sealed_twice(begin, last):
            event_id, first, second = twice
            what = f"it stands at #{first} already, and has a second seal here"
            self.report.problem = Problem(second, _as_id(event_id), what)
        self.accounted = last

    def _count_by_indexes(self, already: int) -> None:
        indexes = sqlite_indexes()
        if already < len(indexes):
            self.report.problem = wrong_index(indexes[already])
            self.counted_indexes = already + 1
        else:
            self.done = True

    def _signed(self, here: SignedHere, after: int, to: int | None) -> Checkpoints:
        """What was signed for these places, wherever it is kept."""
        kept = [one for one in self.kept if one.size > after and (to is None or one.size <= to)]
        return Checkpoints([*kept, *here.between(after if after else None, to, self.report)], self.report)
