"""What the history knows of itself: that somebody took a copy of it, and where it ended when that was signed."""

from collections.abc import Iterator
from typing import Any

from django.db import transaction

from enrollments.audit import checkpoints
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.export import export_lines
from enrollments.audit.record import Subject, record
from enrollments.audit.upkeep import deliver_where_behind
from enrollments.models import HistoryCheckpoint, HistoryEvent, ProvisioningService


@transaction.atomic
def note_export(
    what: str, filters: dict[str, Any], *, actor: Actor, service: ProvisioningService | None
) -> HistoryEvent:
    """Record an export before its first byte leaves. The row also marks its end: later rows are no part of it."""
    return record(
        Event.EXPORTED, subject=Subject("export", what), actor=actor, service=service, after=filters or None
    )


def export_history(
    service: ProvisioningService | None, *, actor: Actor, in_background: bool = False
) -> tuple[HistoryCheckpoint, Iterator[bytes]]:
    """The history with its seals up to now, and the checkpoint with which the lines end.

    The export itself is the last row in it. Of one service, the rows of others are there by their hashes only.
    in_background: see take_checkpoint. Raises HistoryDisagrees.
    """
    note_export("history with seals", {}, actor=actor, service=service)
    checkpoint, _ = take_checkpoint(in_background=in_background)
    return checkpoint, export_lines(checkpoint, service.pk if service else None)


def take_checkpoint(*, in_background: bool = False) -> tuple[HistoryCheckpoint, dict[str, str]]:
    """Sign where the history ends now, and bring that to every destination. Returns what went wrong, by destination.

    With `in_background`, nobody waits for the webhook, and what goes wrong there is noted with the destination.
    It changes nothing that anybody decided, so it is no row of the history: that would never come to rest.
    Raises HistoryDisagrees, Conflict.
    """
    checkpoint = checkpoints.make_checkpoint()
    if in_background:
        deliver_where_behind(checkpoint)
        return checkpoint, {}
    problems = {name: checkpoints.deliver(checkpoint, name) for name in checkpoints.behind(checkpoint)}
    return checkpoint, {name: problem for name, problem in problems.items() if problem}
