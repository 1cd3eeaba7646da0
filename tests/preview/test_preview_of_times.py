"""What a switch that turns by itself does then: the same as judging every device with the clock moved to that time."""

import random
from datetime import timedelta

import pytest

from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    Effect,
    cancel,
    carry_out,
    preview_of_disabling_at,
    preview_of_end,
    preview_then,
    those_put_off,
)
from enrollments.actions.preview.acts import turn
from enrollments.errors import Conflict, Invalid
from enrollments.models import EnrollmentGroup, IndividualEnrollment
from enrollments.models.locks import rehearsal
from tests.certificates import EXPIRED, root
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.preview.worlds import World, grown, may_be_untold, sides_of, together

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    soon = {"not_after": EXPIRED["not_after"] + timedelta(days=3)}
    forest = grown()
    line = forest.cas[4]
    forest.leaves += [line.leaf(f"soon-{number}", **soon) for number in range(2)]
    return forest


def entries_of(world):
    return [
        *IndividualEnrollment.objects.filter(service=world.service).order_by("pk"),
        *EnrollmentGroup.objects.filter(service=world.service).order_by("pk"),
    ]


def schedule_some(world, clock):
    """What is due before that time, at it, and after it."""
    for entry in entries_of(world):
        if world.chance.random() < 0.4:
            at = clock.ahead(days=world.chance.choice([1, 3, 5]))
            act = world.chance.choice([Act.ENABLE, Act.DISABLE])
            turn(world.service, act, entry, actor=ALICE, until=at)


def compared(world, known, said, before, after):
    told = {device.registration_id.lower(): device for device in said.devices}
    for name in before:
        device = told.get(name)
        expected = together(before[name], after[name], known[name], world.unshown.get(name, ()))
        if device is None:
            assert may_be_untold(expected) or name in world.vague, name
        elif device.effect is not Effect.UNKNOWN and name not in world.vague:
            assert sides_of(device) in expected, name


@pytest.mark.parametrize("seed", seeds(0, 20))
def test_a_preview_at_a_time_equals_judging_every_device_then(forest, seed, database_clock):
    world = World(forest, random.Random(seed))
    schedule_some(world, database_clock)
    now, then = database_clock.now, database_clock.ahead(days=3)
    entries = world.chance.sample(entries_of(world), world.chance.choice([1, 1, 2, 3]))
    act = world.chance.choice([Act.ENABLE, Act.DISABLE])
    is_end = act is Act.ENABLE or world.chance.random() < 0.5
    known = world.credentials()

    def outcomes_then():
        database_clock.set_to(then)
        decided = world.judged(known, at=then)
        database_clock.set_to(now)
        return decided

    times = {"until" if is_end else "at": then}
    put_off = those_put_off(act, entries, **times)
    try:
        said = preview_then(world.service, act, entries, limits=NO_LIMITS, **times)
    except (Conflict, Invalid):
        assert act is Act.DISABLE
        return

    def instead():
        if is_end:
            carry_out(world.service, act, entries, actor=ALICE, for_good=True)
        for one in put_off:
            cancel(world.service, one, actor=ALICE)

    before = done_and_taken_back(instead, outcomes_then)
    carry_out(world.service, act, entries, actor=ALICE, **times)
    compared(world, known, said, before, outcomes_then())


@pytest.mark.parametrize("seed", seeds(0, 12))
def test_what_is_put_off_or_dropped_is_shown_as_what_it_would_do_at_its_time(forest, seed, database_clock):
    world = World(forest, random.Random(seed))
    schedule_some(world, database_clock)
    chosen = world.chance.sample(entries_of(world), world.chance.choice([1, 2]))
    first, now, end = (database_clock.ahead(days=days) for days in (2, 0, 4))
    for one in chosen:
        turn(world.service, Act.ENABLE, one, actor=ALICE, until=first)
    act = world.chance.choice([Act.ENABLE, Act.DISABLE])
    for_good = act is Act.ENABLE and world.chance.random() < 0.3
    times = {"for_good": True} if for_good else {"until" if act is Act.ENABLE else "at": end}
    known = world.credentials()

    def outcomes_at_first():
        database_clock.set_to(first)
        decided = world.judged(known, at=first)
        database_clock.set_to(now)
        return decided

    entries = entries_of(world)
    put_off = those_put_off(act, [one for one in entries if one in chosen], **times)
    said = preview_then(world.service, act, put_off, limits=NO_LIMITS)
    as_scheduled = outcomes_at_first()
    carry_out(world.service, act, chosen, actor=ALICE, **times)

    assert set(put_off) == set(chosen)
    compared(world, known, said, outcomes_at_first(), as_scheduled)


def done_and_taken_back(do, look):
    with rehearsal():
        do()
        return look()


def effects(preview):
    return {one.registration_id: one.effect for one in preview.devices}


def test_whose_certificate_has_expired_by_then_is_out_anyway(service, database_clock):
    ca = root("Plant")
    group = enroll_ca(service, ca)
    register(service, ca.leaf("pump-1"))
    register(service, ca.leaf("pump-2", not_after=database_clock.ahead(days=1)))

    said = preview_of_disabling_at(service, [group], database_clock.ahead(days=2))

    # Its leaf proves nothing any more, and it is told 401 whoever bars it.
    assert effects(said) == {"pump-1": Effect.REFUSED, "pump-2": Effect.STILL_OUT}


def test_whom_another_switch_shuts_out_before_then_is_out_already(service, database_clock):
    ca = root("Plant")
    group = enroll_ca(service, ca)
    leaf = ca.leaf("pump-1")
    device = enroll_device(service, leaf)
    register(service, leaf)
    turn(service, Act.DISABLE, device, actor=ALICE, at=database_clock.ahead(days=1))
    entry = enroll_device(service, ca.leaf("pump-2"))

    assert effects(preview_of_disabling_at(service, [entry], database_clock.ahead(days=2))) == {
        "pump-2": Effect.REFUSED
    }
    assert effects(preview_of_disabling_at(service, [group], database_clock.ahead(hours=1))) == {
        "pump-1": Effect.STILL_ADMITTED
    }
    assert effects(preview_of_disabling_at(service, [group], database_clock.ahead(days=2))) == {
        "pump-1": Effect.STILL_OUT
    }


def test_the_end_of_a_disabling_says_who_comes_back(service, database_clock):
    ca = root("Plant")
    group = enroll_ca(service, ca)
    register(service, ca.leaf("pump-1"))
    register(service, ca.leaf("pump-2", not_after=database_clock.ahead(days=1)))

    said = preview_of_end(service, Act.DISABLE, [group], database_clock.ahead(days=2))

    assert effects(said) == {"pump-1": Effect.COMES_IN, "pump-2": Effect.STILL_OUT}
    group.refresh_from_db()
    assert (group.enabled, group.switches_at) == (True, None)
