"""The preview of a list says what then happens: compared, for random worlds and lists, with carrying the list out."""

import hashlib
import random
from ssl import PEM_cert_to_DER_cert

import pytest

from enrollments.actions.preview import Effect, above, deciding, limits
from enrollments.actions.preview.limits import NO_LIMITS
from enrollments.attestation.credential import PresentedCredential
from enrollments.audit.actor import Actor, Way
from enrollments.transfer.foreseen import foresee
from tests.devices import derived_key
from tests.preview.worlds import World, grown, side_by_name, together
from tests.transfer.lists import carried_out, checked, json_lines
from tests.transfer.random_lines import NAMES_OF_KEYS, NEW_KEY, lines, that_bar

pytestmark = pytest.mark.django_db
ROOT = Actor("cli", "root", Way.COMMAND_LINE)


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.fixture(scope="module")
def barring(forest):
    return that_bar(forest)


@pytest.mark.parametrize("seed", range(60))
def test_preview_of_a_list_equals_carrying_it_out(forest, barring, seed, monkeypatch):
    monkeypatch.setattr(above, "MOST_LOOKS", 1 + seed % 4)  # several rehearsals
    monkeypatch.setattr(deciding, "PORTION", 5)
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)  # however busy this machine is
    chance = random.Random(seed)
    world = World(forest, chance, renewing=seed % 3 == 0, signing=seed % 2 == 0)
    if seed % 4:
        world.enroll_unshown(barring)
    listed = lines(world, barring, chance)
    run = checked(world.service, json_lines(*listed))
    if not run.chunks:
        pytest.skip("no line of this list can be imported")
    compare(world, run, listed, is_whole=True, within=NO_LIMITS if seed % 2 else None)


@pytest.mark.parametrize("seed", range(100, 140))
def test_what_is_told_of_some_is_right_where_others_are_too_many(forest, barring, seed, monkeypatch):
    """Whose entry alone decides is told without a look at what lies above it."""
    monkeypatch.setattr(limits, "MAX_CLASSES", seed % 3)
    monkeypatch.setattr(limits, "MAX_SINGLY", seed % 2)
    chance = random.Random(seed)
    world = World(forest, chance, renewing=seed % 2 == 0)
    world.enroll_unshown(barring)
    listed = lines(world, barring, chance)
    run = checked(world.service, json_lines(*listed))
    if not run.chunks:
        pytest.skip("no line of this list can be imported")
    compare(world, run, listed, is_whole=False)


def compare(world, run, listed, *, is_whole, within=None):
    known = world.credentials()
    given = given_by(world, listed)
    every = {key: {**given.get(key, {}), **known.get(key, {})} for key in {*known, *given}}
    before = world.judged(every)
    there = {one.registration_key for one in world.service.individualenrollments.all()}

    seen = foresee(run, within).now

    assert world.judged(every) == before, "a preview leaves nothing behind"
    assert seen.not_examined == 0 or not is_whole
    carried_out(run, actor=ROOT)
    after, enrolled = world.judged(every), world.enrolled()
    told = {device.registration_id.lower(): device for device in seen.devices}
    assert len(told) == len(seen.devices), "each device is told once"
    assert told.keys() <= every.keys(), "nobody else is told about"
    # Nobody knows them, and they bar no key.
    new = {
        one.registration_key
        for one in world.service.individualenrollments.all()
        if one.registration_key not in {*there, *known} and (one.enabled or not one.certificates.exists())
    }
    for name in every:
        device = told.get(name)
        if device is None and not is_whole:
            continue
        shown = {*known.get(name, {}), *enrolled.get(name, {})}
        sides = [
            {one: side[name][one] for one in side.get(name, {}) if one in shown} for side in (before, after)
        ]
        if not sides[0]:
            assert device is None or device.effect is Effect.UNKNOWN, name
            continue
        expected = together(*sides, known.get(name, {}))
        if device is None:
            assert expected[0] == expected[1] or name in {*world.vague, *new}, name
        elif device.effect is Effect.UNKNOWN:
            assert name not in world.identified or name in world.vague, name
        elif name not in world.vague:
            assert (
                side_by_name(device.before.verdict, device.before.through, device.held_before) in expected[0]
            ), name
            assert (
                side_by_name(device.after.verdict, device.after.through, device.held_after) in expected[1]
            ), name


def given_by(world, listed):
    """By registration key, what these lines may give to an entry; of keys all that any line gives."""
    found = {name: may_be_brought(world, name) for name in NAMES_OF_KEYS}
    for line in listed:
        pair = line.get("attestation", {}).get("x509", {}).get("clientCertificates", {})
        for held in pair.values():
            der = PEM_cert_to_DER_cert(held["certificate"])
            shown = {hashlib.sha256(der).hexdigest(): PresentedCredential(certificates=(der,))}
            found[line["registrationId"].lower()] = found.get(line["registrationId"].lower(), {}) | shown
    return found


def may_be_brought(world, name):
    groups = world.key_group.primary_key, world.key_group.secondary_key
    keys = [NEW_KEY, *groups, *(derived_key(one, name) for one in groups)]
    return {f"key {key}": world.signs(name, key) for key in keys}
