"""Who comes in later by a change, when switches turn by themselves: the same as judging every device at those times."""

import random

import pytest

from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    Effect,
    carry_out,
    coming_by,
    preview_of_act,
    preview_to_come,
    ref_of,
)
from enrollments.actions.preview.acts import turn
from enrollments.actions.preview.words import coming_in_lines, in_lines
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import as_text, times_of_enabling
from enrollments.models import EnrollmentGroup, IndividualEnrollment
from enrollments.models.locks import rehearsal
from enrollments.policy.decision import Verdict
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.preview.worlds import World, grown

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


class Fleet:
    """A random world in which some entries are to be enabled, and some disabled, on the days to come."""

    def __init__(self, forest, seed, clock, **kinds):
        self.world, self.clock, self.now = World(forest, random.Random(seed), **kinds), clock, clock.now
        chance, self.service = self.world.chance, self.world.service
        for entry in self.entries():
            if chance.random() < 0.5:
                act = chance.choice([Act.DISABLE, Act.DISABLE, Act.DISABLE, Act.ENABLE])
                turn(
                    self.service,
                    act,
                    entry,
                    actor=ALICE,
                    until=clock.ahead(days=chance.choice([1, 2, 3, 4, 5])),
                )
        self.known = self.world.credentials()
        self.times = times_of_enabling(self.service)

    def entries(self):
        return [
            *IndividualEnrollment.objects.filter(service=self.world.service).order_by("pk"),
            *EnrollmentGroup.objects.filter(service=self.world.service).order_by("pk"),
        ]

    def chosen(self):
        every = self.entries()
        return self.world.chance.sample(every, min(len(every), self.world.chance.choice([1, 1, 2, 3])))

    def admitted(self):
        """At each time, now first: by device, the entries that admit it by one credential or the other."""
        found = []
        for at in (self.now, *self.times):
            self.clock.set_to(at)
            decided = self.world.judged(self.known, at=at)
            found.append(
                {
                    name: by
                    for name, several in decided.items()
                    if (
                        by := {
                            (one[1].kind, one[1].name) for one in several.values() if one[0] is Verdict.ADMIT
                        }
                    )
                }
            )
        self.clock.set_to(self.now)
        return found


@pytest.mark.parametrize("seed", range(30))
def test_whoever_is_kept_out_comes_in_at_no_time_to_come(forest, seed, database_clock):
    fleet = Fleet(forest, seed, database_clock, renewing=seed % 3 == 0)
    entries = fleet.chosen()
    gone = {(ref_of(one).kind, ref_of(one).name) for one in entries}
    before = fleet.admitted()

    delete_and_deny(fleet.service, entries, actor=ALICE)

    for without, then in zip(before, fleet.admitted(), strict=True):
        for name in then.keys() - fleet.world.vague:
            assert without.get(name, set()) - gone, f"{name} comes in by the deletion"


@pytest.mark.parametrize("act", [Act.DELETE, Act.ENABLE])
@pytest.mark.parametrize("seed", range(15))
def test_those_who_come_in_later_are_told_with_the_time(forest, seed, act, database_clock):
    fleet = Fleet(forest, seed, database_clock)
    entries = fleet.chosen()
    now = preview_of_act(fleet.service, act, entries, limits=NO_LIMITS)
    coming = preview_to_come(fleet.service, act, entries, now, limits=NO_LIMITS)
    before = fleet.admitted()
    with rehearsal():
        carry_out(fleet.service, act, entries, actor=ALICE)
        after = fleet.admitted()

    out = {
        one.registration_id.lower() for one in now.devices if one.effect in (Effect.STILL_OUT, Effect.REFUSED)
    }
    expected, told = {}, {}
    for at, without, then in zip(fleet.times, before[1:], after[1:], strict=True):
        for name in (then.keys() & out) - fleet.world.vague:
            if then[name] != without.get(name):
                expected.setdefault(name, at)
    for one in coming.comings:
        told |= {device.registration_id.lower(): one for device in one.preview.devices}
    assert expected.keys() <= told.keys()
    for name, at in expected.items():
        assert told[name].at is None or told[name].at == at or not told[name].is_first
    if coming.now.out_until is None:
        assert not any(then.keys() & out for then in after[1:])


@pytest.fixture
def plant(service, database_clock):
    """A group below one that is disabled until tomorrow, with a device; and when that is."""
    top = root("Root")
    line = top.intermediate("Line")
    high, low = enroll_ca(service, top, "high"), enroll_ca(service, line, "low")
    register(service, line.leaf("pump-1"))
    at = database_clock.ahead(days=1)
    carry_out(service, Act.DISABLE, [high], actor=ALICE, until=at)
    return line, low, at


def told(service, act, entries):
    coming = preview_to_come(service, act, entries, preview_of_act(service, act, entries))
    return [*in_lines(coming.now), *coming_in_lines(coming.comings)]


def test_the_words_say_until_when_somebody_stays_out_and_what_comes_then(service, plant):
    _, low, at = plant

    assert told(service, Act.DELETE, [low]) == [
        f"1 device is shut out already, until {as_text(at)} at the least: pump-1.",
        f"From {as_text(at)} on, with whatever else is scheduled until then:",
        "1 device will come in anew through enrollment group high: pump-1.",
    ]


def test_who_is_not_let_in_by_any_switch_stays_out(service, plant):
    _, low, _ = plant
    deny_device(service, "pump-1", actor=ALICE)

    assert told(service, Act.DELETE, [low]) == ["1 device is shut out already, and stays so: pump-1."]


def test_where_no_switch_turns_nothing_is_asked(service, plant, django_assert_num_queries):
    _, low, _ = plant
    carry_out(service, Act.ENABLE, [service.enrollmentgroups.by_group_id("high")], actor=ALICE)
    now = preview_of_act(service, Act.DELETE, [low])

    with django_assert_num_queries(0):
        assert preview_to_come(service, Act.DELETE, [low], now).looks == {}


def test_what_comes_at_many_times_is_told_together(service, database_clock):
    top = root("Root")
    enroll_ca(service, top, "top")
    lines = [top.intermediate(f"Line {number}") for number in range(3)]
    for number, line in enumerate(lines):
        group = enroll_ca(service, line, f"line-{number}")
        register(service, line.leaf(f"pump-{number}"))
        carry_out(service, Act.DISABLE, [group], actor=ALICE, until=database_clock.ahead(days=1 + number))
    denial = deny_device(service, "pump-0", actor=ALICE)
    others = [deny_device(service, f"pump-{number}", actor=ALICE) for number in (1, 2)]

    def look(at=None):
        return preview_of_act(service, Act.DELETE, [denial, *others], at=at)

    coming = coming_by(service, look(), look, most=1)

    assert [(one.at, one.preview.known) for one in coming.comings] == [
        (database_clock.ahead(days=1).replace(microsecond=0), 1),
        (None, 2),
    ]
    assert coming_in_lines(coming.comings)[2].startswith("At other times")
    assert delete_and_deny(service, [denial, *others], actor=ALICE).denied == 3


def test_who_has_an_entry_that_opens_later_is_no_effect_of_the_deletion(service, database_clock):
    """It comes in by its own entry at that time, with the group or without."""
    ca = root("Plant")
    group, leaf = enroll_ca(service, ca, "plant"), ca.leaf("pump-1")
    own = enroll_device(service, leaf)
    register(service, leaf)
    carry_out(service, Act.DISABLE, [own], actor=ALICE, until=database_clock.ahead(days=1))

    coming = preview_to_come(service, Act.DELETE, [group], preview_of_act(service, Act.DELETE, [group]))

    assert coming.comings == ()
    assert coming.now.out_until is not None
    assert delete_and_deny(service, [group], actor=ALICE).denied == 0
