"""What was signed of the history, beside what is there: checkpoints in the database, the file, and kept elsewhere."""

from collections.abc import Iterable

from enrollments.audit.notes import (
    BadNote,
    Checkpoint,
    UnknownSigner,
    VerifierKey,
    claimed_size,
    read_checkpoint,
)
from enrollments.audit.report import Problem, Report
from enrollments.models import HistoryCheckpoint
from enrollments.policy.words import counted

# Whoever can write to the database can put in checkpoints by anybody.
MAX_SIGNERS, MAX_NAME = 20, 100


class Checkpoints:
    """What was signed, by size. What was looked at goes into the report."""

    def __init__(self, signed: Iterable[Checkpoint], report: Report) -> None:
        self._signed: dict[int, list[Checkpoint]] = {}
        self._report = report
        self.largest = 0
        for one in signed:
            self._signed.setdefault(one.size, []).append(one)
            self.largest = max(self.largest, one.size)
            report.checkpoints += 1
            report.signers[one.origin] = report.signers.get(one.origin, 0) + 1

    def __contains__(self, size: int) -> bool:
        return size in self._signed

    def against(self, index: int, hash: str) -> Problem | None:
        """Whether the row that stands at this place is the one that was signed for."""
        for one in self._signed.get(index, ()):
            if one.head != hash:
                return Problem(
                    index,
                    None,
                    f"the checkpoint of {one.at:%Y-%m-%d %H:%M:%S} UTC was signed for another row here: something from "
                    f"#{self._report.signed + 1} to #{index} was changed and sealed anew",
                )
            self._report.signed = index
        return None

    def cut_off(self, rows: int) -> Problem | None:
        """Whether something was signed for more rows than there are."""
        if self.largest <= rows:
            return None
        at = max(one.at for one in self._signed[self.largest])
        return Problem(
            rows + 1,
            None,
            f"the history was cut off: the checkpoint of {at:%Y-%m-%d %H:%M:%S} UTC was signed for "
            f"{counted(self.largest, 'row')}, and the number here is {rows}",
        )


class SignedHere:
    """The checkpoints in the database and in the installation's own file, some of which may be by former keys.

    A signature takes 0.1 ms to check, and there may be one for every ten minutes of years: they are read where the
    check of the rows has come to.
    """

    def __init__(self, keys: list[VerifierKey], own: Iterable[str] = ()) -> None:
        """`own`: the notes of the file. Raises BadNote where one of them is none."""
        self._keys = keys
        self._own = [(claimed_size(note), note) for note in own]

    def between(self, after: int | None, to: int | None, report: Report) -> list[Checkpoint]:
        """Those for more than `after` and up to `to` rows, None being no bound. One that was changed is a problem.

        Raises BadNote of a note in the file.
        """
        found = []
        for size, note in self._own:
            if (after is None or size > after) and (to is None or size <= to):
                try:
                    found.append(read_checkpoint(note, self._keys))
                except UnknownSigner as problem:
                    _note_unchecked(report, "in the file", problem)
        rows = HistoryCheckpoint.objects.order_by("size", "pk")
        rows = rows if after is None else rows.filter(size__gt=after)
        rows = rows if to is None else rows.filter(size__lte=to)
        for row in rows.iterator():
            try:
                one = read_checkpoint(row.note, self._keys)
            except UnknownSigner as problem:
                _note_unchecked(report, "in the database", problem)
                continue
            except BadNote as problem:
                what = f"checkpoint {row.pk} is not what was signed: {problem.message}"
                report.problem = report.problem or Problem(None, None, what)
                continue
            if (one.size, one.head, one.at) != (row.size, row.head, row.at):
                report.problem = report.problem or Problem(
                    None, None, f"checkpoint {row.pk} is not what was signed"
                )
                continue
            found.append(one)
        return found


def _note_unchecked(report: Report, where: str, problem: UnknownSigner) -> None:
    which = f"{where}, signed by {problem.signers[:MAX_NAME]}, whose verifier key is not known here"
    if which not in report.unchecked and len(report.unchecked) >= MAX_SIGNERS:
        which = f"{where}, signed by others whose verifier keys are not known here"
    report.unchecked[which] = report.unchecked.get(which, 0) + 1
