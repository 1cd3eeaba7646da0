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
from enrollments.actions.schedule import puts_off
from enrollments.errors import Invalid
from enrollments.models import ProvisioningService

# So many are named in a sentence.
MAX_NAMES = 20


def preview_of_disabling_at(
    service: ProvisioningService, entries: Sequence[Entry], at: datetime, limits: Limits | None = None
) -> Preview:
    """What disabling the entries at a time changes then. Raises Invalid, Conflict. limits: see preview_of.

    One that is to be disabled by then is compared with itself as it is if nothing is scheduled for it.
    """

    def change() -> list[Entry]:
        carry_out(service, Act.DISABLE, entries, actor=NOBODY, at=at)
        return []

    by_then = [one for one in entries if one.enabled and one.is_due(at)]
    instead = partial(_drop, service, by_then) if by_then else None
    return preview_of(service, change, entries, at=at, instead_of=instead, limits=limits)


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

    instead = partial(carry_out, service, act, entries, actor=NOBODY, for_good=True)
    return preview_of(service, change, entries, at=until, instead_of=instead, limits=limits)


def preview_of_schedule(
    service: ProvisioningService, entries: Sequence[Entry], limits: Limits | None = None
) -> Preview:
    """What is scheduled for the switches of the entries, all at one time, and changes then.

    Raises Invalid where there is no such time: a preview is of one.
    """
    for one in entries:
        if one.switches_at is None:
            raise Invalid({"": [f"Nothing is scheduled for {one} any more."]})
    times = {one.switches_at for one in entries}
    if len(times) != 1:
        names = ", ".join(str(one) for one in entries[:MAX_NAMES])
        more = " and more" if len(entries) > MAX_NAMES else ""
        raise Invalid(
            {
                "": [
                    f"What is scheduled for {names}{more} comes at several times, and a preview is of one: look at it, "
                    "put it off or drop it one by one."
                ]
            }
        )
    (at,) = times
    return preview_of(
        service, list, entries, at=at, instead_of=partial(_drop, service, entries), limits=limits
    )


def those_put_off(
    act: Act,
    entries: Sequence[Entry],
    *,
    at: datetime | None = None,
    until: datetime | None = None,
    for_good: bool = False,
) -> list[Entry]:
    """Those that are to be disabled at a time, and are so later by this act, or never: somebody may stay in by that.

    It then rests on the preview of what is scheduled for them (preview_then, of these alone).
    """
    end = until if act is Act.ENABLE else at
    if act is Act.DELETE or (end is None and not (for_good and act is Act.ENABLE)):
        return []
    return [one for one in entries if puts_off(one, end)]


def _drop(service: ProvisioningService, entries: Sequence[Entry]) -> None:
    for one in entries:
        cancel(service, one, actor=NOBODY)


def preview_then(
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    *,
    at: datetime | None = None,
    until: datetime | None = None,
    limits: Limits | None = None,
) -> Preview:
    """What changes at the time of an act: one at a time, the end of one until a time, else what is scheduled.

    Raises Invalid, Conflict.
    """
    if until is not None:
        return preview_of_end(service, act, entries, until, limits)
    if at is not None:
        return preview_of_disabling_at(service, entries, at, limits)
    return preview_of_schedule(service, entries, limits)
