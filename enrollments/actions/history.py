"""What the history knows of itself: that somebody took a copy of it (R15, R17)."""

from typing import Any

from django.db import transaction

from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import HistoryEvent, ProvisioningService


@transaction.atomic
def note_export(
    what: str, filters: dict[str, Any], *, actor: Actor, service: ProvisioningService | None
) -> HistoryEvent:
    """Record an export before its first byte leaves. The row also marks its end: later rows are no part of it."""
    return record(
        Event.EXPORTED, subject=Subject("export", what), actor=actor, service=service, after=filters or None
    )
