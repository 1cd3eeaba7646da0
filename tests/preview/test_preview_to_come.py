"""Who comes in later by a change, or stays in, when switches turn: the same as judging every device at those times."""

import random

import pytest

from enrollments.actions import deleting
from enrollments.actions.deleting import delete_and_deny, preview_if_it_only_narrows
from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    Effect,
    carry_out,
    coming_by,
    preview_of,
    preview_of_act,
    preview_to_come,
    ref_of,
)
from enrollments.actions.preview.acts import turn
from enrollments.actions.preview.to_come import MAX_TIMES
from enrollments.actions.preview.words import coming_in_lines, in_lines
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import as_text
from enrollments.actions.times_to_come import times_to_come
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.models.locks import rehearsal
from enrollments.models.switches import ALL_OPEN, ALL_SHUT
from enrollments.policy.decision import Verdict
from tests.certificates import root, self_signed
from tests.chance import seeds
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
                act = chance.choice([Act.DISABLE, Act.ENABLE])
                turn(
                    self.service,
                    act,
                    entry,
                    actor=ALICE,
                    until=clock.ahead(days=chance.choice([1, 2, 3, 4, 5])),
                )
        self.known = self.world.credentials()
        standing = ProvisioningService.what_decisions_read(self.service.pk)
        self.times = times_to_come(self.service, standing).every

    def entries(self):
        return [
            *IndividualEnrollment.objects.filter(service=self.world.service).order_by("pk"),
            *EnrollmentGroup.objects.filter(service=self.world.service).order_by("pk"),
        ]

    def chosen(self):
        every = self.entries()
        return self.world.chance.sample(every, min(len(every), self.world.chance.choice([1, 1, 2, 3])))

    def admitted(self):
        """At each time, now first: by device and credential, the entries that admit it."""
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
                            credential: (one[1].kind, one[1].name)
                            for credential, one in several.items()
                            if one[0] is Verdict.ADMIT
                        }
                    )
                }
            )
        self.clock.set_to(self.now)
        return found


@pytest.mark.parametrize("seed", seeds(0, 16))
def test_whoever_is_kept_out_comes_in_at_no_time_to_come(forest, seed, database_clock):
    fleet = Fleet(forest, seed, database_clock, renewing=seed % 3 == 0)
    entries = fleet.chosen()
    gone = {(ref_of(one).kind, ref_of(one).name) for one in entries}
    before = fleet.admitted()

    delete_and_deny(fleet.service, entries, actor=ALICE)

    for without, then in zip(before, fleet.admitted(), strict=True):
        for name in then.keys() - fleet.world.vague:
            assert {*without.get(name, {}).values()} - gone, f"{name} comes in by the deletion"


@pytest.mark.parametrize("act", [Act.DELETE, Act.ENABLE])
@pytest.mark.parametrize("seed", seeds(0, 8))
def test_those_who_come_in_later_are_told_with_the_time(forest, seed, act, database_clock):
    fleet = Fleet(forest, seed, database_clock)
    entries = fleet.chosen()
    now = preview_of_act(fleet.service, act, entries, limits=NO_LIMITS)
    coming = preview_to_come(fleet.service, act, entries, now, limits=NO_LIMITS)
    before = fleet.admitted()
    with rehearsal():
        carry_out(fleet.service, act, entries, actor=ALICE)
        after = fleet.admitted()

    effects = {one.registration_id.lower(): one.effect for one in now.devices}
    out = {name for name, one in effects.items() if one in (Effect.STILL_OUT, Effect.REFUSED)}
    # Refused with what it showed last alone: by something else it is in all the same, and that is told.
    out -= {one.registration_id.lower() for one in now.devices if one.sides.unless is not None}
    vague = fleet.world.vague | {name for name, one in effects.items() if one is Effect.COMES_IN}
    expected, staying, told, told_to_stay, may_stay = {}, {}, {}, {}, set()
    for at, without, then in zip(fleet.times, before[1:], after[1:], strict=True):
        for name in then.keys() - vague:
            if then[name].keys() - without.get(name, {}).keys():
                may_stay.add(name)
            if name in out and {*then[name].values()} != {*without.get(name, {}).values()}:
                expected.setdefault(name, at)
            elif name not in without:
                staying.setdefault(name, at)
    for one in coming.comings:
        names = {device.registration_id.lower(): one for device in one.preview.devices}
        assert not names.keys() & (told | told_to_stay).keys(), "each once"
        (told_to_stay if one.stays else told).update(names)
    assert expected.keys() <= told.keys()
    assert staying.keys() <= (told | told_to_stay).keys()
    assert told_to_stay.keys() - vague <= may_stay
    for name, at in (expected | staying).items():
        one = (told | told_to_stay)[name]
        assert one.at is None or one.at == at or not one.is_first
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
        f"1 device is shut out already, not counting what is scheduled from {as_text(at)} on: pump-1.",
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


# --- Bars that are scheduled, and are dropped ------------------------------------------------------------


@pytest.fixture
def below_two(service):
    """A device below a group that has another one above it, both enabled."""
    top = root("Root")
    line = top.intermediate("Line")
    high, low = enroll_ca(service, top, "high"), enroll_ca(service, line, "low")
    register(service, line.leaf("pump-1"))
    return line, high, low


def shown(coming):
    return [
        (one.at, one.stays, sorted(device.registration_id for device in one.preview.devices))
        for one in coming.comings
    ]


def coming_in(service, act, entries, most=MAX_TIMES):
    return preview_to_come(service, act, entries, preview_of_act(service, act, entries), most=most)


def test_who_stays_in_because_a_bar_that_is_scheduled_goes_with_its_entry_is_told(
    service, below_two, database_clock
):
    _, _, low = below_two
    at = database_clock.ahead(days=1)
    carry_out(service, Act.DISABLE, [low], actor=ALICE, at=at)
    low.refresh_from_db()

    assert told(service, Act.DELETE, [low]) == [
        "1 device will still be admitted through enrollment group high: pump-1.",
        f"From {as_text(at)} on, when these would be refused without this change, with whatever else is scheduled "
        "until then:",
        "1 device will stay in through enrollment group high: pump-1.",
    ]


def test_of_an_individual_enrollment_that_is_to_be_disabled_likewise(service, below_two, database_clock):
    line, _, _ = below_two
    leaf = line.leaf("pump-2")
    own = enroll_device(service, leaf)
    register(service, leaf)
    at = database_clock.ahead(days=1)
    carry_out(service, Act.DISABLE, [own], actor=ALICE, at=at)
    own.refresh_from_db()

    assert shown(coming_in(service, Act.DELETE, [own])) == [(own.switches_at, True, ["pump-2"])]


def test_whom_another_entry_shuts_out_at_that_time_as_well_does_not_stay_in(
    service, below_two, database_clock
):
    _, high, low = below_two
    at = database_clock.ahead(days=1)
    carry_out(service, Act.DISABLE, [low, high], actor=ALICE, at=at)
    low.refresh_from_db()

    assert coming_in(service, Act.DELETE, [low]).comings == ()


def test_a_bar_of_another_entry_that_the_change_gets_round_counts_as_well(service, below_two, database_clock):
    """R8: with an individual enrollment of its own, the device does not mind that its group is disabled then."""
    line, _, low = below_two
    at = database_clock.ahead(days=1)
    carry_out(service, Act.DISABLE, [low], actor=ALICE, at=at)
    low.refresh_from_db()
    leaf = line.leaf("pump-2")
    register(service, leaf)

    def look(at=None):
        return preview_of(service, lambda: [enroll_device(service, leaf)], at=at)

    coming = coming_by(service, look(), look)

    assert shown(coming) == [(low.switches_at, True, ["pump-2"])]


def test_who_is_barred_later_by_an_entry_that_is_deleted_is_kept_out_at_once(
    service, below_two, database_clock
):
    """It comes in through a nearer group, which stays: that alone would keep it in past the time of the bar."""
    line, high, _ = below_two
    carry_out(service, Act.DISABLE, [high], actor=ALICE, at=database_clock.ahead(days=1))
    high.refresh_from_db()

    coming = coming_in(service, Act.DELETE, [high])
    deleted = delete_and_deny(service, [high], actor=ALICE)

    assert shown(coming) == [(high.switches_at, True, ["pump-1"])]
    assert coming.now.counts == {Effect.STILL_ADMITTED: 1}
    assert deleted.denied == 1
    assert register(service, line.leaf("pump-1")).outcome == "disabled"


def test_so_is_whoever_comes_in_through_the_other_entry_meanwhile(
    service, below_two, database_clock, monkeypatch
):
    line, high, _ = below_two
    carry_out(service, Act.DISABLE, [high], actor=ALICE, at=database_clock.ahead(days=1))
    high.refresh_from_db()
    leaf, really = line.leaf("pump-9"), deleting.preview_to_come

    def while_one_comes(*args, **kwargs):
        told = really(*args, **kwargs)
        assert register(service, leaf).outcome == "assigned"
        return told

    monkeypatch.setattr(deleting, "preview_to_come", while_one_comes)

    assert delete_and_deny(service, [high], actor=ALICE).denied == 2
    assert register(service, leaf).outcome == "disabled"


@pytest.mark.parametrize("stands", [True, False])
@pytest.mark.parametrize("at", [ALL_OPEN, ALL_SHUT])
def test_with_all_open_or_shut_rows_are_asked_as_entries_are(service, database_clock, stands, at):
    """Whatever is to turn stands open, or shut; all else as it is."""
    entry, other = (
        enroll_device(service, self_signed(f"pump-{number}"), enabled=stands) for number in range(2)
    )
    when = {"at" if stands else "until": database_clock.ahead(days=1)}
    turn(service, Act.DISABLE, entry, actor=ALICE, **when)
    as_of = ProvisioningService.what_decisions_read(service.pk).as_of(at)

    for one in (entry, other):
        one.refresh_from_db()
        found = service.individualenrollments.filter(as_of.where(enabled=True), pk=one.pk).exists()
        lost = service.individualenrollments.filter(as_of.where(enabled=False), pk=one.pk).exists()
        expected = (at == ALL_OPEN) if one == entry else stands
        assert (as_of.enabled(one), found, lost) == (expected, expected, not expected)


def test_of_more_bars_than_are_looked_at_one_by_one_none_is_left_out(service, below_two, database_clock):
    line, _, _ = below_two
    leaves = [line.leaf(f"pump-{number}") for number in range(2, 5)]
    own = [enroll_device(service, leaf) for leaf in leaves]
    for number, (leaf, one) in enumerate(zip(leaves, own, strict=True)):
        register(service, leaf)
        carry_out(service, Act.DISABLE, [one], actor=ALICE, at=database_clock.ahead(days=1 + number))
        one.refresh_from_db()

    assert shown(coming_in(service, Act.DELETE, own, most=1)) == [
        (own[0].switches_at, True, ["pump-2"]),
        (None, True, ["pump-3", "pump-4"]),
    ]
    assert delete_and_deny(service, own, actor=ALICE).denied == 3


def test_what_keeps_nobody_in_is_not_held_up_and_what_does_is(service, database_clock):
    """R6: one that is to be disabled will bar its key under the name of the other one, too."""
    leaf = root("Plant").leaf("pump-1")
    twin = root("Other").leaf("pump-2", key=leaf.key)
    own, _ = enroll_device(service, leaf), enroll_device(service, twin)
    register(service, leaf)
    register(service, twin)
    assert preview_if_it_only_narrows(service, [own]) is not None

    carry_out(service, Act.DISABLE, [own], actor=ALICE, at=database_clock.ahead(days=1))
    own.refresh_from_db()

    assert preview_if_it_only_narrows(service, [own]) is None


# --- Certificates that begin to be valid later --------------------------------------------------------------


def test_who_comes_in_once_the_certificate_of_a_ca_is_valid_is_told(service, below_two, database_clock):
    """The group above is there already, with a certificate from tomorrow on; what is deleted is what bars."""
    at = database_clock.ahead(days=1).replace(microsecond=0)
    plant = root("Plant", not_before=at)
    leaf = plant.leaf("press-1")
    enroll_ca(service, plant, "plant")
    own = enroll_device(service, leaf)
    register(service, leaf)
    carry_out(service, Act.DISABLE, [own], actor=ALICE)
    own.refresh_from_db()

    coming = coming_in(service, Act.DELETE, [own])

    assert shown(coming) == [(at, False, ["press-1"])]
    assert coming.now.out_until == at
    assert delete_and_deny(service, [own], actor=ALICE).denied == 1


def test_so_is_who_gets_a_certificate_that_is_valid_later(service, database_clock):
    at = database_clock.ahead(days=1).replace(microsecond=0)
    later = self_signed("press-1", not_before=at)

    def look(at=None):
        return preview_of(service, lambda: [enroll_device(service, later)], at=at)

    assert shown(coming_by(service, look(), look)) == [(at, False, ["press-1"])]
