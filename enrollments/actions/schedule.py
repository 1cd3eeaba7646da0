"""Time-boxed changes: the time at which an entry's switch turns by itself, and writing down that it has (R15).

Nobody has to be there at that time. Decisions ask the database's clock; the row of the history is written by the first
who notices, be it a device, a page or `manage.py run_schedule`.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

from django.db import DatabaseError

from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import record
from enrollments.errors import Invalid
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.models.enrollments import new_etag
from enrollments.models.locks import change_lock
from enrollments.models.services import Standing
from enrollments.models.switches import AsOf, Switch

logger = logging.getLogger(__name__)

Entry = IndividualEnrollment | EnrollmentGroup

LONGEST = timedelta(days=3653)  # ten years
# How many switches are turned in one transaction. Registrations wait for it.
BATCH = 100
# What changes in the row of an entry when its switch turns.
SWITCH_COLUMNS = ("enabled", "switches_at", "scheduled_by", "schedule_reason", "etag", "updated_at")

_EVENTS = {
    (IndividualEnrollment, True): Event.ENROLLMENT_ENABLED,
    (IndividualEnrollment, False): Event.ENROLLMENT_DISABLED,
    (EnrollmentGroup, True): Event.GROUP_ENABLED,
    (EnrollmentGroup, False): Event.GROUP_DISABLED,
}


def as_text(moment: datetime) -> str:
    """A time as the history keeps it, and as commands print it."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def checked_time(field: str, moment: datetime, now: datetime, *, opens: bool) -> datetime:
    """A time that can be scheduled, in whole seconds: what is enabled then is so no earlier than asked.

    opens: whether something is. Raises Invalid for this field.
    """
    if moment.tzinfo is None:
        raise Invalid({field: ["Say in which zone that time is meant, for instance with Z for UTC."]})
    if moment <= now:
        raise Invalid({field: [f"That time has passed: it is {as_text(now)} now."]})
    whole = in_whole_seconds(moment, opens=opens)
    if whole <= now:
        raise Invalid({field: ["That time lies within the second that it is now: give a later one."]})
    if moment > now + LONGEST:
        raise Invalid({field: ["Nothing can be scheduled more than ten years ahead."]})
    return whole


def in_whole_seconds(moment: datetime, *, opens: bool) -> datetime:
    """As it is kept. opens: see checked_time."""
    whole = moment.astimezone(UTC).replace(microsecond=0)
    has_next = whole.year < datetime.max.year
    return whole + timedelta(seconds=1) if opens and whole < moment and has_next else whole


@dataclass(frozen=True, slots=True)
class Span:
    """From when, and until when, an entry is enabled if nobody touches its switch any more."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, entry: Switch) -> "Span":
        turns = entry.switches_at or _NEVER
        return cls(_NOW, turns) if entry.enabled else cls(turns, _NEVER)

    def is_within(self, other: "Span") -> bool:
        """Whether at no time it is enabled where the other is not: then nobody comes in by the difference."""
        return self.start >= self.end or (other.start <= self.start and self.end <= other.end)


def puts_off(entry: Switch, end: datetime | None) -> bool:
    """Whether an entry that is enabled until some time is so for longer, if that is until `end`: None, for good."""
    return entry.enabled and not Span(_NOW, end or _NEVER).is_within(Span.of(entry))


def may_let_in_later(entry: Switch, *, until: datetime | None = None, at: datetime | None = None) -> bool:
    """Whether somebody may come in by disabling this until a time or at one: what is off ends, an end is put off."""
    if until is not None:
        return not Span(until, _NEVER).is_within(Span.of(entry))
    if at is not None:
        return puts_off(entry, at)
    return False


_NOW, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def switch_state(entry: Entry) -> dict[str, str]:
    """The switch as the history keeps it: which way it stands and, if it turns by itself, until when."""
    state: dict[str, str] = {"status": entry.status.value}
    if entry.switches_at is not None:
        state["until"] = as_text(entry.switches_at)
    return state


def clear_schedule(entry: Entry) -> None:
    entry.switches_at, entry.scheduled_by, entry.schedule_reason = None, "", ""


def schedule(entry: Entry, at: datetime, *, actor: Actor, reason: str) -> None:
    entry.switches_at, entry.scheduled_by, entry.schedule_reason = at, actor.name[:150], reason


def settle_entry(service: ProvisioningService, entry: Entry, now: datetime) -> bool:
    """Turn the switch of an entry that is due, and say so in the history. Inside the lock; the caller raises the epoch.

    The row tells who scheduled it and why; `until`, before, is the time at which it was due.
    """
    if not entry.is_due(now):
        return False
    before, by, reason = switch_state(entry), entry.scheduled_by, entry.schedule_reason
    entry.enabled = not entry.enabled
    clear_schedule(entry)
    entry.etag = new_etag()
    entry.save(update_fields=SWITCH_COLUMNS)
    record(
        _EVENTS[type(entry), entry.enabled],
        subject=entry,
        actor=Actor("schedule", by, Way.SCHEDULE),
        service=service,
        reason=reason,
        before=before,
        after=switch_state(entry),
    )
    return True


def settle_due(service: ProvisioningService) -> int:
    """Turn every switch that is due; how many that were. Each once, however many do this at the same time (R15).

    Never inside somebody's transaction. Raises DatabaseError where the history cannot be written: what is due then
    stays due, and keeps out whom it would keep out (R16).
    """
    turned = 0
    while ProvisioningService.what_decisions_read(service.pk).is_switch_due:
        turned += _settle_some(service)
    return turned


def _settle_some(service: ProvisioningService) -> int:
    with change_lock(service, raises_epoch=False):
        _, now = ProvisioningService.epoch_and_time(service.pk)
        due = sorted(_due(service, now), key=lambda entry: (entry.switches_at, entry.pk))[:BATCH]
        for entry in due:
            settle_entry(service, entry, now)
        if due:
            service.raise_epoch()
    return len(due)


def _due(service: ProvisioningService, now: datetime) -> Iterable[Entry]:
    """At most twice as many as are turned at a time: of each kind those that have been due for longest."""
    kinds = service.individualenrollments, service.enrollmentgroups
    return chain.from_iterable(
        # R16: shutting out works without the key that decrypts an entry's keys.
        entries.without_secrets().filter(switches_at__lte=now).order_by("switches_at", "pk")[:BATCH]
        for entries in kinds
    )


def settle_if_possible(service: ProvisioningService) -> bool:
    """For whoever has something else to do: whether a switch was turned. That none could be is logged."""
    try:
        return settle_due(service) > 0
    except DatabaseError:
        logger.exception("What is due in service %s could not be written into the history", service)
        return False


def switches_now(service: ProvisioningService) -> AsOf:
    """For pages: how the switches stand by the database's clock, after what is due has been turned."""
    return standing_now(service).as_of_now(recorded_only=True)


def standing_now(service: ProvisioningService) -> Standing:
    """What decisions read, after what is due has been turned, if it can be."""
    standing = ProvisioningService.what_decisions_read(service.pk)
    if standing.is_switch_due and settle_if_possible(service):
        standing = ProvisioningService.what_decisions_read(service.pk)
    return standing
