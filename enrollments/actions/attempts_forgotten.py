"""Forgetting attempts that are older than their service keeps them. They are evidence: that they went is history."""

from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from enrollments.actions.quiet_periods import forget_ended_quiet_periods
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import record
from enrollments.models import ProvisioningService


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows of attempts, and how many quiet periods, which are of no use without them."""

    attempts: int
    quiet_periods: int


@transaction.atomic
def forget_old_attempts(service: ProvisioningService, *, actor: Actor) -> Forgotten:
    """Delete attempts older than the service's setting, and quiet periods that are over.

    One row of the history says how many and up to when; none where no attempt was deleted (R15).
    """
    # First, as an admission that is among the attempts ends one: it would stand again without that.
    ended = forget_ended_quiet_periods(service)
    days = service.attempts_kept_days
    horizon = timezone.now() - timedelta(days=days)
    deleted, _ = service.attempts.filter(last_at__lt=horizon).delete()
    if deleted:
        gone = {
            "rows": deleted,
            "older_than": horizon.isoformat(timespec="seconds"),
            "attempts_kept_days": days,
        }
        record(Event.ATTEMPTS_FORGOTTEN, subject=service, actor=actor, service=service, before=gone)
    return Forgotten(deleted, ended)
