"""Turning an entry's switch, now or at a time, with what is recorded of it (R5 to R7, R15)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from enrollments.actions.entries import refuse_outdated
from enrollments.actions.schedule import (
    SWITCH_COLUMNS,
    Span,
    as_text,
    checked_time,
    clear_schedule,
    schedule,
    settle_entry,
    switch_state,
)
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import Happened, clean_reason, record_all, require_still
from enrollments.errors import Conflict, Invalid
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.models.enrollments import new_etag
from enrollments.models.locks import change_lock

E = TypeVar("E", IndividualEnrollment, EnrollmentGroup)


def set_enabled(
    service: ProvisioningService,
    find: Callable[[], E],
    enabled: bool,
    event: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
    until: datetime | None = None,
    for_good: bool = False,
) -> E:
    """Turn an entry's switch, until somebody turns it again or, with `until`, until then.

    What was scheduled before is off. Only the disabling of an entry that is enabled already stays scheduled, unless
    another time is given or it is `for_good`. Where all is so already, nothing changes and nothing is recorded.
    expected_epoch: see check_epoch. Looked at where somebody may come in by it, now or later.
    """
    with _switching(
        service, find, event, actor=actor, reason=reason, expected_epoch=expected_epoch
    ) as switch:
        if enabled and switch.entry.enabled and until is None and not for_good:
            return switch.entry
        switch.turn(enabled, until)
    return switch.entry


def disable_entry(
    service: ProvisioningService,
    find: Callable[[], E],
    event: Event,
    scheduled: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
    until: datetime | None = None,
    at: datetime | None = None,
) -> E:
    """Turn an entry's switch off, now (until a time, perhaps) or at one: the history has the first or the second event.

    Raises Invalid for times that cannot be scheduled, and Conflict.
    """
    if at is None:
        return set_enabled(
            service,
            find,
            False,
            event,
            actor=actor,
            reason=reason,
            expected_epoch=expected_epoch,
            until=until,
        )
    if until is not None:
        raise Invalid({"at": ["An entry holds one scheduled change: give the one time or the other."]})
    return _schedule_disabling(
        service, find, scheduled, at, actor=actor, reason=reason, expected_epoch=expected_epoch
    )


def disabled_for_good(entry: E, now: datetime, event: Event, *, actor: Actor, reason: str) -> Happened | None:
    """Turn it off as set_enabled does, of an entry that is not due, for whoever saves it and many others.

    What that is in the history; None where it is so already.
    """
    switch = _Switch.of(entry, now, actor=actor, reason=reason)
    switch.turn(False, None)
    return switch.happened(event)


def _schedule_disabling(
    service: ProvisioningService,
    find: Callable[[], E],
    event: Event,
    at: datetime,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
) -> E:
    """Let an entry's switch be turned off at a time. One that is off for good stays so, and nothing is recorded.

    Raises Invalid, and Conflict for one that is off until some other time: an entry holds one scheduled change.
    expected_epoch: see set_enabled; an end that is put off lets in for longer.
    """
    with _switching(
        service, find, event, actor=actor, reason=reason, expected_epoch=expected_epoch
    ) as switch:
        at = checked_time("at", at, switch.now, opens=False)
        if switch.entry.enabled:
            switch.turn_at(at)
        elif switch.entry.switches_at is not None:
            raise Conflict(
                f"{switch.entry} is disabled until {as_text(switch.entry.switches_at)}: disable it until further "
                "notice, or until another time."
            )
    return switch.entry


def cancel_schedule(
    service: ProvisioningService,
    find: Callable[[], E],
    event: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
) -> E:
    """Leave an entry's switch as it stands until somebody turns it. Where nothing is scheduled nothing is recorded.

    expected_epoch: see set_enabled; what was to be disabled at a time then stays enabled.
    """
    with _switching(
        service, find, event, actor=actor, reason=reason, expected_epoch=expected_epoch
    ) as switch:
        switch.turn_at(None)
    return switch.entry


@dataclass(slots=True)
class _Switch(Generic[E]):
    """An entry whose switch is being set, and the time by the database's clock."""

    entry: E
    now: datetime
    before: dict[str, str]
    actor: Actor
    reason: str

    @classmethod
    def of(cls, entry: E, now: datetime, *, actor: Actor, reason: str) -> "_Switch[E]":
        return cls(entry, now, switch_state(entry), actor, reason)

    def turn(self, enabled: bool, until: datetime | None) -> None:
        """Raises Invalid for a time that cannot be scheduled."""
        until = checked_time("until", until, self.now, opens=not enabled) if until is not None else None
        self.entry.enabled = enabled
        self.turn_at(until)

    def happened(self, event: Event) -> Happened | None:
        """What was set, as the history has it, with a new etag for the entry; None where all is as it was."""
        after = switch_state(self.entry)
        if after == self.before:
            return None
        self.entry.etag = new_etag()
        return Happened(event, self.entry, self.before, after)

    def turn_at(self, moment: datetime | None) -> None:
        if moment is None:
            clear_schedule(self.entry)
        elif moment != self.entry.switches_at:
            schedule(self.entry, moment, actor=self.actor, reason=self.reason)


@contextmanager
def _switching(
    service: ProvisioningService,
    find: Callable[[], E],
    event: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None,
) -> Iterator[_Switch[E]]:
    """Inside the change lock: the entry as it stands by now, to be set; what was changed is saved and recorded."""
    reason = clean_reason(reason)
    with change_lock(service):
        entry = find()
        standing = ProvisioningService.what_decisions_read(service.pk)
        # What was due before this change stands before it in the history.
        settle_entry(service, entry, standing.now)
        was = Span.of(entry)
        switch = _Switch.of(entry, standing.now, actor=actor, reason=reason)
        yield switch
        happened = switch.happened(event)
        if happened is None:
            require_still(actor)
            return
        if not Span.of(entry).is_within(was):
            refuse_outdated(service, standing, expected_epoch)
        entry.save(update_fields=SWITCH_COLUMNS)
        record_all([happened], actor=actor, service=service, reason=reason)
