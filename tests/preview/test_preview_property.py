"""A preview says what then happens: compared, for random worlds and changes, with judging every device by itself."""

import random
from itertools import combinations

import pytest

from enrollments.actions.enrollment_groups import change_enrollment_group, delete_enrollment_groups
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.preview import (
    Act,
    Effect,
    limits,
    preview_of,
    preview_of_act,
    rehearsing,
    sent_along,
    what_adding_did,
)
from enrollments.actions.preview.limits import NO_LIMITS, Limits
from enrollments.actions.preview.sent_along import (
    certificates_of,
    preview_with_what_is_sent_along,
    sending_along,
)
from enrollments.attestation.x509 import parse_der
from enrollments.models import AttestationMechanism, Slot
from enrollments.models.locks import rehearsal
from enrollments.policy.decision import Verdict
from tests.certificates import root
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca
from tests.preview.worlds import World, grown, is_let_in_otherwise, may_be_untold, only, sides_of, together

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.mark.parametrize("seed", seeds(0, 40))
def test_preview_equals_judging_every_device_before_and_after(forest, seed, monkeypatch):
    monkeypatch.setattr(rehearsing, "MOST_LOOKS", 1 + seed % 4)  # several rehearsals
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)  # however busy this machine is
    world = World(forest, random.Random(seed))
    for _ in range(3):
        compare(world, within=NO_LIMITS if seed % 2 else None)


@pytest.mark.parametrize("seed", seeds(200, 250))
def test_so_does_that_of_devices_with_several_credentials(forest, seed, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)
    monkeypatch.setattr(rehearsing, "MAX_NAMED", seed % 3)  # none is named twice, as of many
    world = World(forest, random.Random(seed), renewing=True)
    for _ in range(4):
        compare(world, within=NO_LIMITS if seed % 2 else None)


@pytest.mark.parametrize("seed", seeds(300, 340))
def test_and_that_of_devices_that_proved_keys_besides(forest, seed, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)
    world = World(forest, random.Random(seed), renewing=seed % 3 == 0, signing=True)
    for _ in range(5):
        compare(world, within=NO_LIMITS if seed % 2 else None)


@pytest.mark.parametrize("seed", seeds(100, 130))
def test_what_is_told_of_some_is_right_where_others_are_too_many(forest, seed):
    few = Limits(classes=seed % 3, singly=seed % 2, seconds=None)
    world = World(forest, random.Random(seed))
    for _ in range(3):
        compare(world, within=few, is_whole=False)


def stays_out(expected):
    """Shut out as before by one of its credentials, whoever shuts it out by another one now."""
    before, after = {first for first, _ in expected}, {second for _, second in expected}
    return bool(before & after) and all(verdict is not Verdict.ADMIT for verdict, *_ in before | after)


def compare(world, *, within, is_whole=True):
    change = world.change()
    known, unshown = world.credentials(), world.unshown
    with rehearsal():
        change()
        brought = {
            key: {one: shown for one, shown in held.items() if one not in known.get(key, {})}
            for key, held in world.enrolled().items()
        }
    every = {key: {**brought.get(key, {}), **known.get(key, {})} for key in {*known, *brought}}
    before = world.judged(every)

    said = preview_of(world.service, change, change.entries, limits=within)

    assert world.judged(every) == before, "a rehearsal leaves nothing behind"
    added = change()
    after = world.judged(every)
    told = {device.registration_id.lower(): device for device in said.devices}
    assert len(told) == len(said.devices), "each device is told once"
    assert said.not_examined == 0 or not is_whole
    if added and not change.entries and is_whole:
        did = what_adding_did(world.service, *added)
        effects = {device.registration_id.lower(): device.effect for device in did.devices}
        assert effects == {name: device.effect for name, device in told.items()}
    for name in (key for key, several in every.items() if several):
        device = told.get(name)
        if device is None and not is_whole:
            continue
        expected = together(before[name], after[name], known.get(name, {}), unshown.get(name, ()))
        if device is None:
            # Nothing changes for it, or nothing is known of it that could be judged.
            assert may_be_untold(expected) or stays_out(expected) or name in world.vague, name
        elif device.effect is Effect.UNKNOWN:
            assert name not in world.identified or name in world.vague, name
            assert name not in world.proven_by_known_keys() or name in world.vague, name
        elif name not in world.vague:
            assert sides_of(device) in expected, name
            if device.effect is Effect.REFUSED:
                is_let_in = is_let_in_otherwise(after[name], known.get(name, {}))
                assert (device.unless is not None) == is_let_in, name


def let_in_with_some_of(more, world, known):
    """Registration keys of the devices that are let in if they send none of these along, some, or all."""
    found = set()
    for number in range(len(more) + 1):
        for some in combinations(more, number):
            extended = {
                key: {
                    one: sending_along(shown, list(map(parse_der, shown.certificates)), some)
                    for one, shown in several.items()
                }
                for key, several in known.items()
            }
            judged = world.judged(extended)
            found |= {key for key in known if is_let_in_otherwise(judged.get(key, {}), known[key])}
    return found


@pytest.mark.parametrize("seed", seeds(400, 412))
def test_what_is_said_of_certificates_sent_along_once_they_are_gone(forest, seed, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)
    # As if they were many: what is not looked at makes no difference.
    monkeypatch.setattr(sent_along, "MANY", 0)
    world = World(forest, random.Random(seed), renewing=seed % 2 == 0)
    groups = list(world.service.enrollmentgroups.order_by("pk"))
    group = world.chance.choice(groups or [world.add_group(forest.cas[2])])
    more = certificates_of([group])
    known = world.credentials()

    said = preview_of_act(world.service, Act.DELETE, [group], limits=NO_LIMITS)

    delete_enrollment_groups(world.service, [group.group_id], actor=ALICE)
    let_in = let_in_with_some_of(more, world, known)
    assert said.not_examined == 0
    for device in said.devices:
        name = device.registration_id.lower()
        if name in world.vague or device.effect not in (Effect.REFUSED, Effect.STILL_OUT):
            continue
        assert (device.unless is not None) == (name in let_in), name


class Alone(World):
    """Devices send their leaves alone, and more groups stand above each other."""

    def sends(self, leaf):
        return only(leaf)

    def add_key_group(self, *args):
        for ca in self.forest.cas[:5]:
            self.try_to(enroll_ca, self.service, ca)
        return super().add_key_group(*args)


@pytest.mark.parametrize("seed", seeds(420, 440))
def test_so_it_is_of_those_that_a_group_holds_no_more(forest, seed, monkeypatch):
    """Its CA is another one afterwards, and its helpers are gone; another group may hold them all the same."""
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)
    world = Alone(forest, random.Random(seed), renewing=seed % 2 == 0)
    # Nobody holds the names of the devices, so that another group may have them (R11).
    world.service.registrations.update(owner_group=None, owner_individual=None)
    groups = world.service.enrollmentgroups.filter(mechanism=AttestationMechanism.X509).order_by("pk")
    group = world.chance.choice([one for one in groups if certificates_of([one])])
    enrolled = set(world.service.trust_anchors.exclude(group=group).values_list("spki_sha256", flat=True))
    free = [one for one in forest.cas if one.parsed.spki_sha256 not in enrolled]
    ca = world.chance.choice([root("New"), *free])
    spec = GroupSpec(certificates={Slot.PRIMARY: ca.parsed}, enabled=world.chance.random() < 0.7)

    def change():
        how = {"expected_etag": group.etag, "actor": ALICE}
        change_enrollment_group(world.service, group.group_id, spec, **how)
        return []

    held = certificates_of([group])
    known = world.credentials()

    said = preview_with_what_is_sent_along(world.service, change, [group], limits=NO_LIMITS)

    change()
    there = certificates_of(world.service.enrollmentgroups.all())
    more = [one for one in held if one not in there]
    let_in = let_in_with_some_of(more, world, known)
    assert said.not_examined == 0
    for device in said.devices:
        name = device.registration_id.lower()
        if name in world.vague or device.effect not in (Effect.REFUSED, Effect.STILL_OUT):
            continue
        assert (device.unless is not None) == (name in let_in), name
