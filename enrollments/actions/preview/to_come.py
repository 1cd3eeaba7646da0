"""Who is shut out once a change is made, and comes in later all the same, when a switch turns by itself.

A change leaves a device out as long as some other entry bars it. Where that one is to be enabled at a time, that is
when the change lets the device in: such times are looked at besides now. Switches that turn off let nobody in.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from enrollments.actions.preview.acts import NOBODY, Act, carry_out, preview_of_act
from enrollments.actions.preview.effects import Device, Effect, Outcome, Preview, Sides
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.touched import MAX_NAMED, Entry
from enrollments.actions.schedule import times_of_enabling
from enrollments.models import IndividualEnrollment, ProvisioningService
from enrollments.models.switches import ALL_OPEN
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key

# So many times are looked at one by one, and so many where all devices are. What comes at others is told together.
MAX_TIMES = 3
ALL_TIMES = 20


@dataclass(frozen=True, slots=True)
class Coming:
    """Devices that are shut out after the change, and by it are let in from a time on; None: later than the others.

    preview: of these devices alone, from what is decided right after the change to what is decided then. is_first: no
    switch turns on before, at a time that was not looked at.
    """

    at: datetime | None
    preview: Preview
    is_first: bool = True


@dataclass(frozen=True, slots=True)
class ToCome:
    """now: the preview of the change, which knows until when those stay out that it leaves out.

    looks: the previews of the same change at the times that were looked at, and with all open.
    """

    now: Preview
    comings: tuple[Coming, ...] = ()
    looks: Mapping[datetime, Preview] = field(default_factory=dict)

    def passing_to_others(self, gone: Collection[EntryRef]) -> list[Device]:
        """The devices that another entry lets in without these, now or later (see Preview.passing_to_others)."""
        passing: dict[str, Device] = {}
        for preview in (self.now, *self.looks.values()):
            for device in preview.passing_to_others(gone):
                passing.setdefault(registration_key(device.registration_id), device)
        return list(passing.values())

    @property
    def unsure(self) -> bool:
        """Whether some were not examined."""
        return any(one.not_examined for one in (self.now, *self.looks.values()))


def coming_by(
    service: ProvisioningService, now: Preview, look: Callable[[datetime], Preview], most: int = MAX_TIMES
) -> ToCome:
    """Who comes in later by a change, of which `now` is the preview. look: the same preview of a time to come.

    At most `most` times are looked at one by one; of more, all of them at once tell besides whether there is anything
    to tell. Where none is, nothing is read.
    """
    if now.out_until is None:
        return ToCome(now)
    times = times_of_enabling(service)
    looks = _looks(service, now, look, times, most)
    ever = [device for preview in looks.values() for device in _admitted(preview)]
    out = {one.registration_id: one.after for one in now.devices if one.after and not one.after.admitted}
    is_whole = looks.keys() >= set(times) and not any(one.not_examined for one in looks.values())
    if is_whole and not any(one.registration_id in out for one in ever):
        now = replace(now, out_until=None)
    return ToCome(now, tuple(_comings(now, out, looks, times)), looks)


def kept_shut(service: ProvisioningService, entries: Sequence[Entry]) -> Callable[[], object] | None:
    """What to compare a change of these with at a time to come, where that is not the same time without the change.

    An individual enrollment that is disabled until then admits its device then by what it holds now, and by what the
    change gives it. The second keeps in nobody who is in by the first (see `together`). But all are out now, so it is
    compared with staying disabled.
    """
    shut = [
        one
        for one in entries
        if isinstance(one, IndividualEnrollment) and not one.enabled and one.switches_at is not None
    ]
    return partial(carry_out, service, Act.DISABLE, shut, actor=NOBODY) if shut else None


def _looks(
    service: ProvisioningService,
    now: Preview,
    look: Callable[[datetime], Preview],
    times: Sequence[datetime],
    most: int,
) -> dict[datetime, Preview]:
    """At each of the times, or at all of them open and at those that matter, where they are more than `most`.

    All open is no time: certificates are judged by their dates of now, and who has several may come in by another one.
    """
    if len(times) <= most:
        return {at: look(at) for at in times}
    looks = {ALL_OPEN: look(ALL_OPEN)}
    waiting = {one.registration_id for one in _admitted(looks[ALL_OPEN])}
    waiting -= {one.registration_id for one in _admitted(now)}
    for at in _those_that_matter(service, now, waiting, times)[:most]:
        if not waiting:
            break
        looks[at] = look(at)
        waiting -= {one.registration_id for one in _admitted(looks[at])}
    return looks


def preview_to_come(
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    now: Preview,
    *,
    limits: Limits | None = None,
    most: int = MAX_TIMES,
) -> ToCome:
    """The same of an act on entries. limits: see preview_of. What only shuts out lets nobody in later either."""
    if not act.may_widen:
        return ToCome(now)
    return coming_by(
        service, now, lambda at: preview_of_act(service, act, entries, at=at, limits=limits), most
    )


def _comings(
    now: Preview, out: Mapping[str, Outcome], looks: Mapping[datetime, Preview], times: Sequence[datetime]
) -> Iterator[Coming]:
    """Each device once, the first time first."""
    inside = {one.registration_id for one in _admitted(now)}
    for at in sorted(looks):
        alike: dict[tuple[int, Outcome | None], Sides] = {}
        devices = []
        for device in _affected(looks[at]):
            name = device.registration_id
            if name in inside or (name not in out and device.effect is not Effect.COMES_IN):
                continue
            inside.add(name)
            before = out.get(name, device.before)
            likeness = id(device.sides), before
            if likeness not in alike:
                alike[likeness] = Sides(before, device.after, held_after=device.held_after)
            devices.append(Device.with_sides(name, alike[likeness]))
        if devices:
            told = Preview(now.epoch, tuple(devices), looks[at].not_examined)
            is_first = all(one in looks for one in times if one < at)
            yield Coming(at if at != ALL_OPEN else None, told, is_first)


def _admitted(preview: Preview) -> list[Device]:
    return [one for one in preview.devices if one.after is not None and one.after.admitted]


def _affected(preview: Preview) -> list[Device]:
    """Those that are admitted after the change and would not be without it, or through another entry."""
    return [one for one in _admitted(preview) if one.effect is Effect.COMES_IN or not _is_the_same(one)]


def _is_the_same(device: Device) -> bool:
    before, after = device.before, device.after
    if before is None or after is None or before.through is None or after.through is None:
        return before == after
    # By name: what a change adds has another number in each rehearsal.
    return (before.through.kind, before.through.name) == (after.through.kind, after.through.name)


def _those_that_matter(
    service: ProvisioningService, now: Preview, coming: Collection[str], times: Sequence[datetime]
) -> list[datetime]:
    """The times of those that bar devices that come in when all is open, then of groups; the first ones first."""
    barring = {
        one.after.through
        for one in now.devices
        if one.registration_id in coming and one.after is not None and one.after.through is not None
    }
    entries = [
        *service.individualenrollments.filter(
            pk__in=[one.pk for one in barring if one.kind is EntryKind.INDIVIDUAL][:MAX_NAMED]
        ).values_list("switches_at", flat=True),
        *service.enrollmentgroups.filter(
            pk__in=[one.pk for one in barring if one.kind is EntryKind.GROUP]
        ).values_list("switches_at", flat=True),
    ]
    of_groups = service.enrollmentgroups.values_list("switches_at", flat=True)
    in_order = (at for some in (entries, of_groups) for at in sorted(filter(None, some)) if at in times)
    return list(dict.fromkeys(in_order))
