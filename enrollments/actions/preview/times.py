"""What a switch that turns by itself does: at the time at which it turns, and not as things stand now.

Certificates are judged by their dates at that time, and whatever is scheduled before then counts as having happened.
"""

from datetime import datetime
from functools import partial

from enrollments.actions.preview.acts import NOBODY, Act, cancel, turn
from enrollments.actions.preview.effects import Preview
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.rehearsing import preview_of
from enrollments.actions.preview.touched import Entry
from enrollments.errors import Invalid
from enrollments.models import ProvisioningService


def preview_of_disabling_at(
    service: ProvisioningService, entry: Entry, at: datetime, limits: Limits | None = None
) -> Preview:
    """What disabling the entry at a time changes then. Raises Invalid, Conflict. limits: see preview_of."""

    def change() -> list[Entry]:
        turn(service, Act.DISABLE, entry, actor=NOBODY, at=at)
        return []

    return preview_of(service, change, [entry], at=at, limits=limits)


def preview_of_end(
    service: ProvisioningService, act: Act, entry: Entry, until: datetime, limits: Limits | None = None
) -> Preview:
    """What changes back at the end of an act on the entry that is for a time. Raises Invalid, Conflict."""

    def change() -> list[Entry]:
        turn(service, act, entry, actor=NOBODY, until=until)
        return []

    instead = partial(turn, service, act, entry, actor=NOBODY)
    return preview_of(service, change, [entry], at=until, instead_of=instead, limits=limits)


def preview_of_schedule(
    service: ProvisioningService, entry: Entry, at: datetime, limits: Limits | None = None
) -> Preview:
    """What is scheduled for the switch of the entry, and changes at that time."""
    instead = partial(cancel, service, entry, actor=NOBODY)
    return preview_of(service, list, [entry], at=at, instead_of=instead, limits=limits)


def preview_then(
    service: ProvisioningService,
    act: Act,
    entry: Entry,
    *,
    at: datetime | None = None,
    until: datetime | None = None,
    limits: Limits | None = None,
) -> Preview:
    """What changes at the time of an act: one at a time, the end of one until a time, else what is scheduled."""
    if until is not None:
        return preview_of_end(service, act, entry, until, limits)
    if at is not None:
        return preview_of_disabling_at(service, entry, at, limits)
    if entry.switches_at is None:
        raise Invalid({"": [f"Nothing is scheduled for {entry} any more."]})
    return preview_of_schedule(service, entry, entry.switches_at, limits)
