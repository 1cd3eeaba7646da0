"""Whose a registration ID was at a time that has passed: who would have failed then is not told as let in (R11)."""

import random
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import call_command
from django.utils import timezone

from enrollments.actions.certificates import parsed
from enrollments.actions.enrollment_groups import (
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
)
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.judging import judge
from enrollments.actions.name_holders import holder_of, may_take
from enrollments.actions.past import (
    ALL_OF_FLEET,
    FleetLimits,
    Limits,
    compare,
    look_back,
    what_shut_out,
)
from enrollments.actions.past.names import NOT_TOLD, By, Names
from enrollments.actions.past.walking import CLOCKS_APART, changes_since
from enrollments.actions.past.words import (
    answer,
    at_the_end,
    comparison_in_lines,
    look_as_json,
    names_not_asked,
    numbers,
    table,
)
from enrollments.actions.preview import Effect
from enrollments.actions.revocation import (
    delete_registration,
    deprovision_device,
    release_registration,
)
from enrollments.models import HistoryEvent, ProvisioningService, Slot
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryKind
from enrollments.policy.names import registration_key
from tests.certificates import root
from tests.chance import seeds
from tests.devices import ALICE, derived_key, enroll_ca, enroll_key_group, register, signs
from tests.past.lives import Lives

pytestmark = pytest.mark.django_db


def now():
    return timezone.now()


def told(look):
    return [(one.admitted, str(one.held_by or "")) for one in look.spells]


def effects(said):
    return {one.registration_id: said.effect_of(one) for one in said.in_order()}


A, B = "enrollment group a", "enrollment group b"
HELD = f"its name was held through {A}"


@pytest.fixture
def q(service):
    """A device with a certificate of a group that lets it in, and another of one that does not have its name."""
    first, second = root("A"), root("B")
    enroll_ca(service, first, "a")
    enroll_ca(service, second, "b")
    leaves = first.leaf("q-1"), second.leaf("q-1")
    assert [register(service, leaf).outcome for leaf in leaves] == ["assigned", "failed"]
    return leaves


class TestOneDevice:
    def test_could_not_have_come_where_another_entry_held_its_name(self, service, q):
        at = now()
        disable_enrollment_group(service, "a", actor=ALICE)
        between = now()
        assert register(service, q[1]).outcome == "failed"

        look = look_back(service, "q-1", between)

        assert told(look) == [(False, A)]
        assert f"could not have registered at {look.at:%Y-%m-%d}" in answer(look)
        assert f"{B} would have admitted it, and {HELD}" in answer(look)
        assert f"{B} would admit it, and {HELD}" in at_the_end(look)
        assert look_as_json(look)["verdict"] == "failed"
        out = StringIO()
        call_command("as_of", between.isoformat(), "--device", "q-1", "--service", service.name, stdout=out)
        assert answer(look) in out.getvalue()
        assert told(look_back(service, "q-1", at)) == [(True, ""), (False, A)]

    def test_who_took_that_name_away_is_told(self, service, q):
        disable_enrollment_group(service, "a", actor=ALICE)

        (turn,) = what_shut_out(service, "q-1", limits=Limits()).turns

        # It had shown the other one last, and that failed before too: what it was let in with decides.
        assert [row.event for row in turn.began_by.rows] == ["group.disabled"]
        assert turn.otherwise == ""

    @pytest.mark.parametrize("free", ["release", "delete the record", "deprovision", "delete the group"])
    def test_could_have_come_once_the_name_was_free(self, service, q, free):
        disable_enrollment_group(service, "a", actor=ALICE)
        at = now()
        match free:
            case "release":
                release_registration(service, "q-1", actor=ALICE)
            case "delete the record":
                delete_registration(service, "q-1", actor=ALICE)
            case "deprovision":
                deprovision_device(service, "q-1", actor=ALICE)
            case _:
                delete_enrollment_groups(service, ["a"], actor=ALICE)
        free_since = HistoryEvent.objects.latest("pk")

        look = look_back(service, "q-1", at)

        # Deprovisioning denies it besides (R13).
        expected = [(False, A), (free != "deprovision", "")]
        assert told(look) == expected
        assert free_since.pk in {row.pk for row in look.spells[1].began_by.rows} or free == "deprovision"
        assert [one.before.admitted for one in compare(service, at).preview.devices] == [False]
        assert [one.after.admitted for one in compare(service, at).preview.devices] == [expected[1][0]]

    def test_a_group_that_follows_may_take_the_name_from_then_on(self, service, q):
        disable_enrollment_group(service, "a", actor=ALICE)
        group = service.enrollmentgroups.get(group_id="b")
        at = now()
        spec = GroupSpec(
            certificates={Slot.PRIMARY: parsed(group.certificates.get().certificate.pem)},
            predecessor=service.enrollmentgroups.get(group_id="a"),
        )
        change_enrollment_group(service, "b", spec, expected_etag=group.etag, actor=ALICE)

        look = look_back(service, "q-1", at)

        assert told(look) == [(False, A), (True, "")]
        assert look.spells[1].began_by.event.event == "group.changed"
        assert effects(compare(service, at)) == {"q-1": Effect.COMES_IN}

    def test_whoever_takes_it_shuts_the_former_one_out(self, service, q):
        at = now()
        release_registration(service, "q-1", actor=ALICE)
        assert register(service, q[1]).outcome == "assigned"
        disable_enrollment_group(service, "b", actor=ALICE)

        look = look_back(service, "q-1", at)

        assert told(look) == [(True, ""), (True, ""), (False, B)]
        # That it came with the other one is no change by which anybody is shut out: whoever renews does that.
        assert [turn.began_by.event.event for turn in look.shut_outs] == ["group.disabled"]

    def test_a_group_of_the_same_name_that_was_made_again_does_not_hold_it(self, service, q):
        at = now()
        delete_enrollment_groups(service, ["a"], actor=ALICE)
        between = now()
        enroll_ca(service, root("A again"), "a")

        assert told(look_back(service, "q-1", at, at)) == [(True, "")]
        assert told(look_back(service, "q-1", between)) == [(True, "")]
        assert effects(compare(service, between)) == {"q-1": Effect.STILL_ADMITTED}

    def test_of_groups_with_keys_the_same_holds(self, service):
        keys = [enroll_key_group(service, name) for name in ("keys-a", "keys-b")]
        tokens = [signs(service, "q-1", derived_key(one.primary_key, "q-1")) for one in keys]
        assert [register(service, one, "q-1").outcome for one in tokens] == ["assigned", "failed"]
        disable_enrollment_group(service, "keys-a", actor=ALICE)
        at = now()
        release_registration(service, "q-1", actor=ALICE)

        assert told(look_back(service, "q-1", at)) == [(False, "enrollment group keys-a"), (True, "")]
        assert effects(compare(service, at)) == {"q-1": Effect.COMES_IN}

    def test_what_somebody_wrote_past_the_history_leaves_it_unknown(self, service, q):
        disable_enrollment_group(service, "a", actor=ALICE)
        service.registrations.update(owner_group=None)

        look = look_back(service, "q-1", now())

        assert [(one.verdict, one.why) for one in look.spells] == [(None, NOT_TOLD)]


class TestAllOfAService:
    def test_who_failed_for_its_name_is_not_counted_as_let_in(self, service, q):
        at = now()
        disable_enrollment_group(service, "a", actor=ALICE)

        said = compare(service, at)

        assert numbers(said) == (1, 0)
        assert effects(said) == {"q-1": Effect.REFUSED}
        _, row = table(said)
        assert row[4:6] == ("failed", f"{B}, while {A} held the name")
        assert names_not_asked(said) == ""

    def test_also_where_nothing_was_made_of_names_since(self, service, q):
        disable_enrollment_group(service, "a", actor=ALICE)
        at = now()

        assert effects(compare(service, at)) == {"q-1": Effect.STILL_OUT}

    def test_where_there_are_too_many_names_that_is_said(self, service, q):
        disable_enrollment_group(service, "a", actor=ALICE)
        at = now()
        release_registration(service, "q-1", actor=ALICE)

        glance = compare(service, at, limits=FleetLimits(names=0))

        assert effects(glance) == {"q-1": Effect.STILL_ADMITTED}
        assert names_not_asked(glance) in comparison_in_lines(glance)
        assert "Too many registration IDs" in names_not_asked(glance)
        assert effects(compare(service, at, limits=ALL_OF_FLEET)) == {"q-1": Effect.COMES_IN}

    def test_of_another_service_nothing_counts(self, service, q):
        other = ProvisioningService.objects.exclude(pk=service.pk).first()
        assert other is None or not Names.of(other, {"q-1"}).held


OPERATIONS, SNAPSHOTS = 120, 10


class Named(Lives):
    """Whose names change hands, and notes of each what the live rule says."""

    def __init__(self, *args):
        self.rules = []
        super().__init__(*args)

    def operate(self):
        if self.chance.random() < 0.2:
            self.try_to(self.free_a_name)
        else:
            super().operate()

    def free_a_name(self):
        name = self.chance.choice(sorted(self.has))
        if self.chance.random() < 0.7:
            release_registration(self.service, name, actor=ALICE)
        else:
            delete_registration(self.service, name, actor=ALICE)

    def look(self):
        """By name: the group that holds it, and of what the device has which entry admits it, and whether it may."""
        self.wait_until_nothing_is_due_soon()
        at = now()
        service = ProvisioningService.objects.get(pk=self.service.pk)
        rules = {}
        for name, every in self.has.items():
            record = service.registrations.filter(registration_key=name).first()
            holder = holder_of(record) if record is not None else None
            judged = {
                label: judge(service, name, one.shown, at=at)
                for label, one in every.items()
                if one.tpm is None
            }
            rules[name] = (
                holder,
                {
                    label: (one.decision.entry, one.groups_proven, record is None or may_take(record, one))
                    for label, one in judged.items()
                    if one.decision.verdict is Verdict.ADMIT
                },
            )
        self.rules.append((at, rules))
        while now() <= at:
            pass


@pytest.mark.parametrize("seed", seeds(0, 3, least=1))
def test_who_could_have_had_its_name_at_step_n_is_what_the_rule_said_at_step_n(forest, api, seed):
    lives = Named(forest, seed, api)
    wanted = set(random.Random(seed).sample(range(OPERATIONS), k=SNAPSHOTS))
    for step in range(OPERATIONS):
        lives.operate()
        if step in wanted:
            lives.look()
    service, held, free = lives.service, 0, 0
    alone = Names.of(service, set(lives.has))
    assert alone.doubtful == set()

    for at, rules in lives.rules:
        last = changes_since(service, at, None).last
        for names in (alone, Names.of_all(service, last, at - CLOCKS_APART, None)):
            for key, (holder, takers) in rules.items():
                group = holder if holder is not None and holder.kind is EntryKind.GROUP else None
                by = By(last, at)
                found = names.holder(key, by)
                assert (found and found.pk) == (group and group.pk), key
                for taker, proven, may in takers.values():
                    assert (names.in_the_way(key, taker, proven, by) is None) == may, (key, taker)
                    held, free = held + (not may), free + may
    assert held > 10
    assert free > 100

    for (at, before), (until, after) in pairwise(lives.rules):
        said = compare(service, at, until, limits=ALL_OF_FLEET)
        for device in said.preview.devices:
            key = registration_key(device.registration_id)
            look = look_back(service, key, at, until, limits=Limits(None, None, None))
            sides = ((device.before, look.spells[0], before), (device.after, look.spells[-1], after))
            for outcome, spell, rules in sides:
                assert (outcome is not None and outcome.admitted) == spell.admitted, key
                kept = [may for label, (_, _, may) in rules[key][1].items() if lives.has[key][label].is_kept]
                every = [may for _, _, may in rules[key][1].values()]
                assert spell.admitted or True not in kept or spell.verdict is None, key
                assert not spell.admitted or True in every or key in lives.soft_tpms, key
