"""What switches that turn by themselves do: at the time at which they turn, and not as things stand now.

Certificates are judged by their dates at that time, and whatever is scheduled before then counts as having happened.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from enrollments.actions.preview.acts import NOBODY, Act, cancel, carry_out
from enrollments.actions.preview.effects import Preview
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.rehearsing import preview_of
from enrollments.actions.preview.touched import Entry
from enrollments.errors import Invalid
from enrollments.models import ProvisioningService


def preview_of_disabling_at(
    service: ProvisioningService, entries: Sequence[Entry], at: datetime, limits: Limits | None = None
) -> Preview:
    """What disabling the entries at a time changes then. Raises Invalid, Conflict. limits: see preview_of."""

    def change() -> list[Entry]:
        carry_out(service, Act.DISABLE, entries, actor=NOBODY, at=at)
        return []

    return preview_of(service, change, entries, at=at, limits=limits)


def preview_of_end(
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    until: datetime,
    limits: Limits | None = None,
) -> Preview:
    """What changes back at the end of an act on the entries that is for a time. Raises Invalid, Conflict."""

    def change() -> list[Entry]:
        carry_out(service, act, entries, actor=NOBODY, until=until)
        return []

    instead = partial(carry_out, service, act, entries, actor=NOBODY)
    return preview_of(service, change, entries, at=until, instead_of=instead, limits=limits)


def preview_of_schedule(
    service: ProvisioningService, entry: Entry, at: datetime, limits: Limits | None = None
) -> Preview:
    """What is scheduled for the switch of the entry, and changes at that time."""
    instead = partial(cancel, service, entry, actor=NOBODY)
    return preview_of(service, list, [entry], at=at, instead_of=instead, limits=limits)


def preview_then(
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    *,
    at: datetime | None = None,
    until: datetime | None = None,
    limits: Limits | None = None,
) -> Preview:
    """What changes at the time of an act: one at a time, the end of one until a time, else what is scheduled for one.

    Raises Invalid, Conflict.
    """
    if until is not None:
        return preview_of_end(service, act, entries, until, limits)
    if at is not None:
        return preview_of_disabling_at(service, entries, at, limits)
    if len(entries) != 1:
        raise Invalid({"": ["What is scheduled is looked at of one entry at a time."]})
    (entry,) = entries
    if entry.switches_at is None:
        raise Invalid({"": [f"Nothing is scheduled for {entry} any more."]})
    return preview_of_schedule(service, entry, entry.switches_at, limits)
