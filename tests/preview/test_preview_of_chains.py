"""Previews of what hangs on the chains that devices send (R7), and on leaves that are unfit for a path (R9)."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.utils import timezone

from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
)
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.explaining import Question, explain
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.past import compare, look_back
from enrollments.actions.preview import Act, Effect, limits, preview_of, preview_of_act
from enrollments.models import RegistrationRecord, Slot
from enrollments.policy.decision import Verdict
from tests.certificates import NOT_YET_VALID, NOW, mint, root
from tests.devices import ALICE, enroll_ca, enroll_device, new_service, register, shows
from tests.preview.worlds import HOSTS, PLANT_ALONE, named, only

pytestmark = pytest.mark.django_db


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)
    return new_service()


@pytest.fixture
def ca():
    return root("Root 1")


def adding(service, ca, *, enabled, **spec):
    def change():
        added = GroupSpec(group_id="added", certificates={Slot.PRIMARY: ca.parsed}, enabled=enabled, **spec)
        return [add_enrollment_group(service, added, actor=ALICE)]

    return change


def effects(said):
    assert said.not_examined == 0
    return {one.registration_id: one.effect for one in said.devices}


def kept(service, registration_id):
    record = service.registrations.by_registration_id(registration_id)
    return [one.certificate.thumbprint_sha256 for one in record.evidence.select_related("certificate")]


class TestCrossSigned:
    """The device sends a certificate of its CA that another root has issued, and is admitted without it."""

    @pytest.fixture
    def other(self):
        return root("Root 2")

    @pytest.fixture
    def device(self, service, ca, other):
        plant = ca.intermediate("Plant")
        enroll_ca(service, plant, "plant")
        sent = [plant.leaf("pump-1"), plant.cross_signed_by(other)]
        device = shows(*sent)
        assert register(service, device, "pump-1").outcome == "assigned"
        assert kept(service, "pump-1") == [one.parsed.thumbprint_sha256 for one in sent]
        return device

    def test_a_bar_above_what_was_sent_is_told(self, service, device, other):
        said = preview_of(service, adding(service, other, enabled=False))

        assert effects(said) == {"pump-1": Effect.REFUSED}
        bar = enroll_ca(service, other, "bar", enabled=False)
        assert register(service, device, "pump-1").outcome == "disabled"
        assert explain(service, Question(registration_id="pump-1")).verdict is Verdict.DISABLED
        assert effects(preview_of_act(service, Act.DELETE, [bar])) == {"pump-1": Effect.COMES_IN}

    def test_so_it_is_of_the_past(self, service, device, other):
        enroll_ca(service, other, "bar", enabled=False)
        barred = timezone.now()
        delete_enrollment_groups(service, ["bar"], actor=ALICE)

        assert look_back(service, "pump-1", barred).first.verdict is Verdict.DISABLED
        assert effects(compare(service, barred, timezone.now()).preview) == {"pump-1": Effect.COMES_IN}

    def test_of_a_device_without_a_record_too(self, service, device, other):
        RegistrationRecord.objects.all().delete()

        assert effects(preview_of(service, adding(service, other, enabled=False))) == {
            "pump-1": Effect.REFUSED
        }

    def test_of_a_refused_device_without_a_record_too(self, service, device, other):
        group = disable_enrollment_group(service, "plant", actor=ALICE)
        RegistrationRecord.objects.all().delete()
        service.attempts.all().delete()
        assert register(service, device, "pump-1").outcome == "disabled"
        RegistrationRecord.objects.all().delete()
        enroll_ca(service, other, "bar", enabled=False)

        said = preview_of_act(service, Act.ENABLE, [group])

        assert effects(said) == {"pump-1": Effect.STILL_OUT}


class TestThroughWhatWasSent:
    """The device could come in through a CA that is met by what it sends alone."""

    def test_through_a_reissued_intermediate(self, service, ca):
        plant = ca.intermediate("Plant")
        group = enroll_ca(service, plant, "plant")
        device = shows(plant.leaf("pump-1"), plant.reissued())
        register(service, device, "pump-1")
        enroll_ca(service, ca, "root-1")

        assert effects(preview_of_act(service, Act.DELETE, [group])) == {"pump-1": Effect.STILL_ADMITTED}
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, device, "pump-1").outcome == "disabled"

    def test_of_a_pinned_device_with_its_intermediate(self, service, ca):
        plant = ca.intermediate("Plant")
        leaf = plant.leaf("pump-1")
        entry = enroll_device(service, leaf)
        register(service, leaf)
        enroll_ca(service, ca, "root-1")

        assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"pump-1": Effect.STILL_ADMITTED}
        assert delete_and_deny(service, [entry], actor=ALICE).denied == 1
        assert register(service, leaf).outcome == "disabled"

    def test_by_another_certificate_of_its_own_key(self, service, ca):
        """Nobody's signature is verified under the leaf itself."""
        leaf = root("Nobody").leaf("pump-1")
        entry = enroll_device(service, leaf)
        line = ca.intermediate("Line")
        twin = mint("pump-1", key=leaf.key, issuer=line)
        device = shows(leaf, twin, line)
        register(service, device, "pump-1")
        assert len(kept(service, "pump-1")) == 3

        said = preview_of(service, adding(service, ca, enabled=False))

        assert effects(said) == {"pump-1": Effect.STILL_ADMITTED}
        enroll_ca(service, ca, "bar", enabled=False)
        assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"pump-1": Effect.REFUSED}


class TestUnfitLeaves:
    """A pinned certificate need not be fit for a path (R9): it does not speak for those that are below the same CA."""

    LONG, LONGER = (NOW + timedelta(days=days) for days in (3650, 4000))

    @pytest.fixture
    def ca(self):
        return root("Plant CA", not_after=self.LONGER)

    @pytest.fixture
    def group(self, service, ca):
        return enroll_ca(service, ca, "plant")

    def pumps(self, service, ca, **options):
        for number in range(3):
            leaf = ca.leaf(f"pump-{number}", **options)
            assert register(service, only(leaf), f"pump-{number}").outcome == "assigned"

    def gateway(self, service, ca, **options):
        edge = ca.intermediate("edge-1", **options)
        entry = enroll_device(service, edge)
        assert register(service, only(edge), "edge-1").outcome == "assigned"
        return entry

    def test_one_that_is_valid_for_longest_says_nothing_of_the_others(self, service, ca, group):
        self.pumps(service, ca)
        self.gateway(service, ca, not_after=self.LONG)

        said = effects(preview_of_act(service, Act.DISABLE, [group]))

        assert said == dict.fromkeys(("pump-0", "pump-1", "pump-2"), Effect.REFUSED) | {
            "edge-1": Effect.STILL_ADMITTED
        }

    def test_others_say_nothing_of_it(self, service, ca, group):
        self.pumps(service, ca, not_after=self.LONG)
        entry = self.gateway(service, ca)

        assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"edge-1": Effect.REFUSED}
        moment = timezone.now()
        delete_enrollments(service, ["edge-1"], actor=ALICE)
        then_and_now = compare(service, moment, timezone.now()).preview
        assert then_and_now.counts[Effect.REFUSED] == 1

    @pytest.mark.parametrize("is_first", [True, False])
    def test_nor_do_they_before_their_ca_is_enrolled(self, service, ca, is_first):
        """No signature was verified when they registered."""
        leaves = [ca.leaf("pump-1", not_after=self.LONG), ca.intermediate("edge-1")]
        for leaf in leaves if is_first else leaves[::-1]:
            enroll_device(service, leaf)
            register(service, only(leaf), leaf.parsed.common_names[0])
        enroll_ca(service, ca, "plant")

        said = preview_of_act(service, Act.DELETE, list(service.individualenrollments.all()))

        assert effects(said) == {"pump-1": Effect.STILL_ADMITTED, "edge-1": Effect.REFUSED}

    def test_one_that_is_not_valid_yet_says_nothing_of_those_that_are(self, service, ca, group):
        self.pumps(service, ca)
        late = NOT_YET_VALID | {"not_after": self.LONG}
        leaf = ca.leaf("late-1", **late)
        at = late["not_before"] + timedelta(hours=1)
        assert register(service, leaf, at=at).outcome == "assigned"

        said = preview_of_act(service, Act.DISABLE, [group])

        assert said.counts[Effect.REFUSED] == 3

    def test_constraints_of_a_helper_divide_a_class(self, service, ca):
        """Bare leaves: that their CA stands below one with name constraints is known from a helper alone."""
        fenced = ca.intermediate("Fenced", extensions=[(PLANT_ALONE, True)])
        group = enroll_ca(service, ca, "plant", helpers=(fenced.parsed,))
        inside, outside = (
            fenced.leaf(f"pump-{number}", extensions=[named(host)]) for number, host in enumerate(HOSTS)
        )
        register(service, only(inside), "pump-0")
        entry = enroll_device(service, outside)
        register(service, only(outside), "pump-1")

        assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"pump-1": Effect.REFUSED}
        said = effects(preview_of_act(service, Act.DISABLE, [group]))
        assert said == {"pump-0": Effect.REFUSED, "pump-1": Effect.STILL_ADMITTED}


def test_classes_of_before_are_divided_by_the_migration(service, ca):
    enroll_ca(service, ca, "plant")
    edge, bare = ca.intermediate("edge-1"), root("Nobody").leaf("bare-1")
    for leaf in (edge, bare):
        enroll_device(service, leaf)
    for leaf in (ca.leaf("pump-1"), edge, bare):
        register(service, only(leaf), leaf.parsed.common_names[0])
    classes = dict(service.registrations.values_list("registration_key", "evidence_class"))
    service.registrations.filter(registration_key="edge-1").update(evidence_class=classes["pump-1"])

    for _ in range(2):
        import_module("enrollments.migrations.0029_unfit_leaves").divide_classes(apps, None)

    assert dict(service.registrations.values_list("registration_key", "evidence_class")) == classes
