"""A preview says what then happens: compared, for random worlds and changes, with judging every device by itself."""

import random

import pytest

from enrollments.actions.preview import Effect, limits, preview_of, rehearsing
from enrollments.actions.preview.limits import NO_LIMITS, Limits
from tests.preview.worlds import World, by_name, grown, still_shown

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.mark.parametrize("seed", range(40))
def test_preview_equals_judging_every_device_before_and_after(forest, seed, monkeypatch):
    monkeypatch.setattr(rehearsing, "MOST_LOOKS", 1 + seed % 4)  # several rehearsals
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)  # however busy this machine is
    world = World(forest, random.Random(seed))
    for _ in range(3):
        compare(world, within=NO_LIMITS if seed % 2 else None)


@pytest.mark.parametrize("seed", range(100, 130))
def test_what_is_told_of_some_is_right_where_others_are_too_many(forest, seed):
    few = Limits(classes=seed % 3, singly=seed % 2, seconds=None)
    world = World(forest, random.Random(seed))
    for _ in range(3):
        compare(world, within=few, is_whole=False)


def compare(world, *, within, is_whole=True):
    change = world.change()
    before, failed = world.outcomes(), world.held_by_others()

    said = preview_of(world.service, change, change.entries, limits=within)

    assert world.outcomes() == before, "a rehearsal leaves nothing behind"
    change()
    after, failing = world.outcomes(), world.held_by_others()
    told = {device.registration_id.lower(): device for device in said.devices}
    assert len(told) == len(said.devices), "each device is told once"
    recorded = {*world.service.registrations.values_list("registration_key", flat=True), *world.came}
    assert said.not_examined == 0 or not is_whole
    for name in before:
        device = told.get(name)
        if device is None and not is_whole:
            continue
        if device is None:
            # Of who never proved anything nothing is kept, so nothing can be said.
            assert before[name] == after[name] or name not in recorded or name in world.vague, name
        elif device.effect is Effect.UNKNOWN:
            assert name not in world.identified or name in world.vague, name
        elif name in recorded and still_shown(world, name):
            assert (device.before.verdict, device.before.through) == before[name], name
            assert device.held_before == failed.get(name), name
            assert by_name(device.after.verdict, device.after.through) == by_name(*after[name]), name
            assert device.held_after == failing.get(name), name
