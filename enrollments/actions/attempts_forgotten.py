"""Forgetting attempts that are older than their service keeps them, and records of devices never assigned.

They are evidence: that they went is history.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef
from django.utils import timezone

from enrollments.actions.past.names import told_of_as_devices
from enrollments.actions.quiet_periods import forget_ended_quiet_periods
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import record
from enrollments.models import (
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.models.locks import change_lock
from enrollments.models.registrations import RegistrationQuerySet

# In one transaction, for which registrations wait.
AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows of attempts, records, and quiet periods, which are of no use without attempts."""

    attempts: int
    records: int
    quiet_periods: int


def forget_old_attempts(service: ProvisioningService, *, actor: Actor) -> Forgotten:
    """Delete attempts older than the service's setting, as old records of who was never assigned, ended quiet periods.

    A row of the history says how many and up to when: one as a rule, and of many one for each portion, in its
    transaction; none where nothing was deleted (R15). Certificates go by themselves (actions/certificates.py).
    """
    # First, as an admission that is among the attempts ends one: it would stand again without that.
    ended = forget_ended_quiet_periods(service)
    now = timezone.now()
    attempts = records = 0
    after: str | None = ""
    while True:
        # Looked for before anybody has to wait.
        keys, after = _turned_away(service, now - timedelta(days=service.attempts_kept_days), after)
        # No decision reads what goes here, so the epoch stays. But a device that comes at this moment has read its
        # record, and goes on to write it.
        with change_lock(service, raises_epoch=False):
            # Somebody may have it kept for longer meanwhile.
            service.refresh_from_db(fields=["attempts_kept_days"])
            horizon = now - timedelta(days=service.attempts_kept_days)
            rows = _forget_attempts(service, horizon)
            gone = _forget_records(service, horizon, keys)
            if rows or gone:
                told = {
                    "rows": rows,
                    "records": gone,
                    "older_than": horizon.isoformat(timespec="seconds"),
                    "attempts_kept_days": service.attempts_kept_days,
                }
                record(Event.ATTEMPTS_FORGOTTEN, subject=service, actor=actor, service=service, before=told)
        attempts, records = attempts + rows, records + gone
        if rows < AT_ONCE and after is None:
            return Forgotten(attempts, records, ended)


def _forget_attempts(service: ProvisioningService, horizon: datetime) -> int:
    old = service.attempts.filter(last_at__lt=horizon).order_by("last_at", "pk")
    deleted, _ = service.attempts.filter(pk__in=old.values("pk")[:AT_ONCE]).delete()
    return deleted


def _turned_away(
    service: ProvisioningService, horizon: datetime, after: str | None
) -> tuple[set[str], str | None]:
    """Registration keys of records that may go, behind that one, and behind which there may be more.

    Of a device that was deprovisioned the record says no more than of one that never was admitted: the history does.
    """
    if after is None:
        return set(), None
    old = _never_assigned(service, horizon).filter(registration_key__gt=after).order_by("registration_key")
    keys = list(old.values_list("registration_key", flat=True)[:AT_ONCE])
    return set(keys) - told_of_as_devices(service, keys), keys[-1] if len(keys) == AT_ONCE else None


def _forget_records(service: ProvisioningService, horizon: datetime, keys: set[str]) -> int:
    """With their evidence. Whose device came meanwhile stays."""
    if not keys:
        return 0
    _, deleted = _never_assigned(service, horizon).filter(registration_key__in=keys).delete()
    return deleted.get(RegistrationRecord._meta.label, 0)


def _never_assigned(service: ProvisioningService, horizon: datetime) -> RegistrationQuerySet:
    """Records of who was turned away and came last before that time: nobody holds their names, and no hub knows them.

    Who comes back and is turned away as before leaves its record as it was: its attempts tell that it came.
    """
    came = RegistrationAttempt.objects.filter(
        service=OuterRef("service"), registration_key=OuterRef("registration_key"), last_at__gte=horizon
    )
    return service.registrations.filter(
        ~Exists(came),
        status=RegistrationStatus.DISABLED,
        assigned_at=None,
        hub=None,
        device_id="",
        owner_individual=None,
        owner_group=None,
        updated_at__lt=horizon,
    )
