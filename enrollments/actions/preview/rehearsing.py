"""Rehearsing a change: what is decided about the devices that it touches, before it and after it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain

from enrollments.actions.evidence import is_signed
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.preview.effects import Device, Preview
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.secrets import read_key_groups
from enrollments.actions.preview.singles import Time, judge_singly, single_devices, unregistered_devices
from enrollments.actions.preview.touched import (
    Entry,
    Touched,
    classes_of,
    joined,
    known_devices,
    records_touched,
    still_there,
    touched_by,
)
from enrollments.actions.preview.world import (
    Individual,
    World,
    look_above,
    read_individuals,
    read_individuals_of,
    read_leaf_bars,
)
from enrollments.actions.schedule import standing_now
from enrollments.collecting import without_collecting
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.models.locks import rehearsal
from enrollments.models.switches import AsOf


def preview_of(
    service: ProvisioningService,
    change: Callable[[], Iterable[Entry]],
    entries: Sequence[Entry] = (),
    *,
    at: datetime | None = None,
    instead_of: Callable[[], object] | None = None,
) -> Preview:
    """What `change` would do to the devices that are known. Raises whatever `change` raises.

    change: makes the change by its action, and returns the entries that it added, if any. It is run in a transaction
    that is taken back. entries: those that it changes or deletes. The preview holds for the epoch that it names.
    at: what is decided at that time to come, with all that is scheduled until then, instead of now.
    instead_of: what the change is compared with, made and taken back likewise, if not with leaving all as it is.
    """
    with secret_read_once(), without_collecting():
        return _preview_of(service, change, entries, Time.of(at), instead_of)


def _preview_of(
    service: ProvisioningService,
    change: Callable[[], Iterable[Entry]],
    entries: Sequence[Entry],
    time: Time,
    instead_of: Callable[[], object] | None,
) -> Preview:
    standing = standing_now(service)  # what is due by now is no part of the change
    epoch, as_of = standing.epoch, time.as_of(standing)
    classes = classes_of(service)
    touched = touched_by(entries)
    unregistered = unregistered_devices(service, touched)
    # Looked at in any case: what a change adds is not known before it is made.
    with _made(instead_of):
        before = _world(service, classes, time)
        other = _individuals(service, touched, _as_of(service, time)) if instead_of else {}
    with rehearsal():
        added = list(change())
        touched = joined(touched, touched_by([*still_there(entries), *added]))
        after = _world(service, classes, time)
        after.individuals = _individuals(service, touched, _as_of(service, time))
        singles, too_many = single_devices(service, touched, before, after)
        by_key = {
            one.registration_key: one for one in [*unregistered_devices(service, touched), *unregistered]
        }
        singles = [*singles, *by_key.values()]
        judge_singly(service, singles, time)
    with _made(instead_of):
        for single in singles:
            if single.after is not None:
                single.before = single.judged(service, time)
    before.individuals = _individuals(service, touched, as_of)
    records = records_touched(service, touched, before, after, time.at)
    for some in records:
        others = read_individuals_of(service, some, as_of)
        before.individuals = {**others, **before.individuals}
        before.leaf_bars = {**before.leaf_bars, **read_leaf_bars(service, some, as_of)}
    changed = before.changed(touched.keys, after)
    if instead_of is not None:
        before = before.changed(touched.keys, replace(before, individuals=other))
    deciders = Decider(before), Decider(changed)
    examined = [one.told for one in singles if one.after is not None]
    beyond = too_many + len(singles) - len(examined)
    told = {one.registration_key for one in singles}
    devices = list(examined)
    known = chain.from_iterable(known_devices(some, before, after) for some in records)
    for one in [*known, *_known_by_secrets(before, after, told)]:
        if one.registration_key in told:
            continue
        told.add(one.registration_key)
        if one.evidence and one.evidence not in before.above and (is_signed(one.evidence) or too_many):
            beyond += 1  # of a class that was not looked at
        elif not one.is_judgeable:
            devices.append(Device(one.registration_id, None, None))
        else:
            first, second = (decider.outcome(one) for decider in deciders)
            devices.append(Device(one.registration_id, first, second))
    devices += _known_by_name_alone(before, after, told)
    return Preview(epoch, tuple(devices), beyond)


@contextmanager
def _made(change: Callable[[], object] | None) -> Iterator[None]:
    """Inside, that is done; or nothing, and then nothing is locked."""
    if change is None:
        yield
        return
    with rehearsal():
        change()
        yield


def _world(service: ProvisioningService, classes: Iterable[RegistrationRecord], time: Time) -> World:
    standing = ProvisioningService.what_decisions_read(service.pk)
    return World(
        above={
            record.evidence_class: look_above(service, record, time.at, time.to_come) for record in classes
        },
        key_groups=read_key_groups(service, time.as_of(standing)),
        key_groups_admit=standing.groups_with_keys_admit,
    )


def _as_of(service: ProvisioningService, time: Time) -> AsOf:
    return time.as_of(ProvisioningService.what_decisions_read(service.pk))


def _individuals(service: ProvisioningService, touched: Touched, as_of: AsOf) -> dict[str, Individual]:
    return read_individuals(service.individualenrollments.filter(registration_key__in=touched.keys), as_of)


def _known_by_secrets(before: World, after: World, told: Collection[str]) -> Iterable[Known]:
    """The devices of individual enrollments that never registered, and hold the keys that are enrolled for them."""
    for key, one in {**after.individuals, **before.individuals}.items():
        if one.secrets and key not in told:
            yield Known(key, one.ref.name, one.mechanism, readings=(one.secrets,))


def _known_by_name_alone(before: World, after: World, told: Collection[str]) -> list[Device]:
    """A deny entry may be of a device that never showed anything."""
    named = {**after.individuals, **before.individuals}
    return [Device(one.ref.name, None, None) for key, one in named.items() if key not in told]
