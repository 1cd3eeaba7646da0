"""Who comes in by a change at times to come, or stays in then: the change decides so, though not right away.

A change leaves a device out as long as some other entry bars it. Where that one is to be enabled at a time, or a
certificate begins to be valid, that is when the change lets the device in. And it leaves a device in which, without it,
would be refused from a time on: because what it deletes, or what it makes no difference any more, is to be disabled
then. So the world with the change is compared with the world without it, at each time at which either may differ.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from enrollments.actions.preview.acts import NOBODY, Act, carry_out, preview_of_act, ref_of
from enrollments.actions.preview.effects import Device, Effect, Outcome, Preview, Sides
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.touched import MAX_NAMED, Entry
from enrollments.actions.times_to_come import TimesToCome
from enrollments.models import IndividualEnrollment, ProvisioningService
from enrollments.models.switches import ALL_OPEN, ALL_SHUT, NO_TIME
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key

# So many times are looked at one by one, and so many where all devices are. What comes at others is told together.
MAX_TIMES = 3
ALL_TIMES = 20


@dataclass(frozen=True, slots=True)
class Coming:
    """Devices that are shut out after the change, and by it are let in from a time on; None: later than the others.

    preview: of these devices alone, from what is decided right after the change to what is decided then. is_first:
    nothing changes by itself before, at a time that was not looked at.
    stays: they are in before, and stay so by the change: from what is decided then without it, to what is with it.
    """

    at: datetime | None
    preview: Preview
    is_first: bool = True
    stays: bool = False


@dataclass(frozen=True, slots=True)
class ToCome:
    """now: the preview of the change, which knows until when those stay out that it leaves out.

    looks: the previews of the same change at the times that were looked at, and with all open or all shut.
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
    times = now.times
    if not times:
        return ToCome(now)
    looks = _looks(service, now, look, times, most)
    out = {
        one.registration_id: one.after
        for one in _of_whom(now, lambda sides: sides.after is not None and not sides.after.admitted)
        if one.after is not None
    }
    is_whole = looks.keys() >= set(times.letting_in) and not any(one.not_examined for one in looks.values())
    let_in = (one for seen in looks.values() for one in _of_whom(seen, _may_be_in))
    if is_whole and not any(one.registration_id in out for one in let_in):
        now = replace(now, out_until=None)
    return ToCome(now, tuple(_comings(now, out, looks, times.every)), looks)


def bars_to_come(entries: Sequence[Entry]) -> list[tuple[EntryRef, datetime]]:
    """Those that are enabled and are to be disabled, and when: deleted, they keep nobody out from then on."""
    return [(ref_of(one), one.switches_at) for one in entries if one.enabled and one.switches_at is not None]


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
    times: TimesToCome,
    most: int,
) -> dict[datetime, Preview]:
    """At each of the times, or at all of them at once and at those that matter, where they are more than `most`.

    At once are all switches open that are to be enabled, and then all shut that are to be disabled. That is no time:
    certificates are judged by their dates of now, and who has several may come in by another one.
    """
    if len(times.every) <= most:
        return {at: look(at) for at in times.every}
    looks = {ALL_OPEN: look(ALL_OPEN)} if times.opening else {}
    if times.shutting:
        looks[ALL_SHUT] = look(ALL_SHUT)
    inside = {one.registration_id for one in _admitted(now)}
    waiting = set().union(*(_told_at(one, inside) for one in looks.values())) - _coming_in(now)
    # Neither of these two says what certificates do.
    at_times = {at: look(at) for at in times.beginning[:most]}
    for at in _those_that_matter(service, now, looks.get(ALL_SHUT), waiting, times):
        if len(at_times) >= most or not waiting:
            break
        if at not in at_times:
            at_times[at] = look(at)
        waiting -= _told_at(at_times[at], inside)
    return looks | at_times


def _told_at(preview: Preview, inside: Collection[str]) -> set[str]:
    """Who comes in, of those who are not inside before; and of these who only stays in by the change."""
    return _coming_in(preview) | {one.registration_id for one in _admitted(preview)}.difference(inside)


def _coming_in(preview: Preview) -> set[str]:
    return {one.registration_id for one in preview.of(Effect.COMES_IN)}


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
    told, inside = _coming_in(now), {one.registration_id for one in _admitted(now)}
    for at in sorted(looks, key=lambda at: (at in NO_TIME, at)):
        alike: dict[tuple[int, bool, Outcome | None], Sides] = {}
        devices: dict[bool, list[Device]] = {False: [], True: []}
        for device in _affected(looks[at]):
            name, sides = device.registration_id, device.sides
            comes_in = sides.effect is Effect.COMES_IN
            if name in told or not (comes_in or name in out):
                continue
            told.add(name)
            stays = comes_in and name in inside
            before = sides.before if stays else out.get(name, sides.before)
            # Before and after are those of the sides, but for who is out now.
            likeness = id(sides), stays, before if before is not sides.before else None
            if (said := alike.get(likeness)) is None:
                held_before = sides.held_before if before is sides.before else None
                said = alike[likeness] = Sides(before, sides.after, held_before, sides.held_after)
            devices[stays].append(Device.with_sides(name, said))
        if at not in NO_TIME:
            inside.update(one.registration_id for one in _admitted(looks[at]))
        is_first = all(one in looks for one in times if one < at)
        for stays, some in devices.items():
            if some:
                preview = Preview(now.epoch, tuple(some), looks[at].not_examined)
                yield Coming(at if at not in NO_TIME else None, preview, is_first, stays)


def _of_whom(preview: Preview, holds: Callable[[Sides], bool]) -> list[Device]:
    """The devices of which that is so. Those that are alike are asked about once."""
    asked: dict[int, bool] = {}
    found = []
    for device in preview.devices:
        sides = device.sides
        if (is_so := asked.get(id(sides))) is None:
            is_so = asked[id(sides)] = holds(sides)
        if is_so:
            found.append(device)
    return found


def _admitted(preview: Preview) -> list[Device]:
    return _of_whom(preview, lambda sides: sides.after is not None and sides.after.admitted)


def _may_be_in(sides: Sides) -> bool:
    """Also by something else that is known of it, or that it may send along."""
    return sides.unless is not None or (sides.after is not None and sides.after.admitted)


def _affected(preview: Preview) -> list[Device]:
    """Those that are admitted after the change and would not be without it, or through another entry."""
    return _of_whom(preview, _is_affected)


def _is_affected(sides: Sides) -> bool:
    if sides.after is None or not sides.after.admitted:
        return False
    return sides.effect is Effect.COMES_IN or not _is_the_same(sides.before, sides.after)


def _is_the_same(before: Outcome | None, after: Outcome) -> bool:
    if before is None or before.through is None or after.through is None:
        return before == after
    # By name: what a change adds has another number in each rehearsal.
    return (before.through.kind, before.through.name) == (after.through.kind, after.through.name)


def _those_that_matter(
    service: ProvisioningService,
    now: Preview,
    all_shut: Preview | None,
    coming: Collection[str],
    times: TimesToCome,
) -> list[datetime]:
    """The times of those that bar devices which come in when all is open, or stay in when all is shut.

    Then of the entries that the change is about, and of groups; the first ones first.
    """
    barring = {
        outcome.through
        for preview, outcomes in ((now, "after"), (all_shut, "before"))
        for one in (preview.devices if preview is not None else ())
        if one.registration_id in coming
        and (outcome := getattr(one, outcomes)) is not None
        and not outcome.admitted
        and outcome.through is not None
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
    every = set(times.every)
    in_order = (
        at
        for some in (entries, times.of_these, of_groups)
        for at in sorted(filter(None, some))
        if at in every
    )
    return list(dict.fromkeys(in_order))
