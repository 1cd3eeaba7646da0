"""Checking the history for somebody who looks at it, a portion at a time: whether it is what was sealed and signed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import transaction

from enrollments.audit import checkpoints
from enrollments.audit.actor import Actor
from enrollments.audit.chain import head
from enrollments.audit.events import Event
from enrollments.audit.notes import BadNote, Checkpoint, notes_in, read_checkpoint
from enrollments.audit.record import Subject, record
from enrollments.audit.report import Problem
from enrollments.audit.signed import SignedHere
from enrollments.audit.verify import Check
from enrollments.collecting import without_collecting
from enrollments.errors import Invalid
from enrollments.models import ProvisioningService
from enrollments.models.locks import if_nobody_else

MAX_NOTES = 100


def begin_check(kept: str = "") -> Check:
    """Of all rows that are sealed now. `kept`: checkpoints that somebody has from elsewhere, one after the other.

    Raises Invalid.
    """
    try:
        return Check(head().size, _read(kept))
    except BadNote as problem:
        raise Invalid({"kept": [problem.message]}) from None


def continue_check(
    check: Check, seconds: float, *, actor: Actor, service: ProvisioningService | None
) -> bool:
    """Check for so long, a portion at least, or until it is done. False: it is the turn of somebody else's check.

    One check at a time on each machine: it keeps a processor busy. Its end is recorded, with what was found.
    """
    with if_nobody_else(Path(settings.DPS_DATA_DIR) / "history-check") as has_turn:
        if has_turn:
            _go_on(check, seconds)
    if has_turn and check.done:
        _note_check(check, actor=actor, service=service)
    return has_turn


@without_collecting()
def _go_on(check: Check, seconds: float) -> None:
    end = time.monotonic() + seconds
    keys = [checkpoints.verifier_key()]
    with _told_as_a_problem(check):
        here = SignedHere(keys, checkpoints.notes_in_file())
        # One portion in any case, so that even a busy machine gets on.
        check.go_on(here)
        while not check.done and time.monotonic() < end:
            check.go_on(here)


@contextmanager
def _told_as_a_problem(check: Check) -> Iterator[None]:
    """A file of checkpoints that cannot be believed is something that a check has found."""
    try:
        yield
    except BadNote as problem:
        what = f"a checkpoint that was kept outside cannot be believed: {problem.message}"
        check.report.problem, check.done = Problem(None, None, what), True


@transaction.atomic
def _note_check(check: Check, *, actor: Actor, service: ProvisioningService | None) -> None:
    report = check.report
    found = {
        "rows": report.rows,
        "head": report.head,
        "checkpoints": report.checkpoints,
        "problem": str(report.problem) if report.problem else None,
        **({"not_as_made": report.not_as_made} if report.not_as_made else {}),
    }
    record(
        Event.HISTORY_CHECKED,
        subject=Subject("history", "the history"),
        actor=actor,
        service=service,
        after=found,
    )


def _read(kept: str) -> list[Checkpoint]:
    """Raises BadNote."""
    if not kept.strip():
        return []
    # Whoever pastes it may lose the line feed at its end.
    notes = notes_in(f"{kept.rstrip()}\n")
    if len(notes) > MAX_NOTES:
        raise BadNote(f"These are {len(notes)} checkpoints; at most {MAX_NOTES} are checked at once.")
    keys = [checkpoints.verifier_key()]
    return [read_checkpoint(note, keys) for note in notes]
