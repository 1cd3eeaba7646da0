"""Checking the whole history in the database, at once."""

from collections.abc import Iterable

from enrollments.audit import ahead
from enrollments.audit.chain import head
from enrollments.audit.guards import compared_indexes
from enrollments.audit.notes import VerifierKey, read_checkpoint
from enrollments.audit.report import Report
from enrollments.audit.signed import SignedHere
from enrollments.audit.verify import Check
from enrollments.collecting import without_collecting


@without_collecting()
def verify_database(
    keys: list[VerifierKey], kept: Iterable[str] = (), own: Iterable[str] = (), *, indexes: bool = False
) -> Report:
    """Check every row of the installation, and what was signed of it: in the database, and the notes `kept` elsewhere.

    `own`: the notes of the installation's own file. As in the database, some may be by former keys.
    `indexes`: hold each index against its table row by row, which takes as long again; without it, rows are counted.

    Raises BadNote where one of `kept` cannot be believed.
    """
    own = list(own)
    check = Check(head().size, [read_checkpoint(note, keys) for note in kept])
    here = SignedHere(keys, own)
    with ahead.processes_ahead(check, keys, own) as others:
        while not check.done:
            if not (others and others.has_done(check)):
                # No more than others had: they go on behind it, and what was signed is read as far as they read it.
                check.go_on(here, ahead.PORTION)
    if indexes and check.report.ok:
        check.report.problem = compared_indexes()
    return check.report
