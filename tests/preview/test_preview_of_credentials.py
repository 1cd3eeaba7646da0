"""One device may have several credentials: it comes in by whichever of them is good then."""

from datetime import timedelta

import pytest
from cryptography import x509

from enrollments.actions import attempts_certificates
from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    add_individual_enrollment,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.preview import (
    Act,
    Effect,
    limits,
    preview_of,
    preview_of_act,
    what_adding_did,
)
from enrollments.actions.preview.limits import NO_LIMITS
from enrollments.actions.revocation import deny_device, release_registration
from enrollments.errors import Conflict
from enrollments.models import AttestationMechanism, Certificate, IndividualEnrollment, Slot
from tests.certificates import NOW, mint, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service, register, shows, signs

pytestmark = pytest.mark.django_db

# Good when it registered, and not any more.
OUTLIVED = {"not_before": NOW - timedelta(days=30), "not_after": NOW - timedelta(days=1)}
THEN = NOW - timedelta(days=2)
# Before a certificate of the usual length, and after it.
EARLIER, LATER = NOW + timedelta(days=30), NOW + timedelta(days=1000)
BELOW_PLANT = x509.NameConstraints([x509.DNSName("plant.example")], None)
OTHER_CA_LEAF = root("Former CA").leaf("p-0")


@pytest.fixture(autouse=True)
def however_busy_this_machine_is(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)


@pytest.fixture
def service():
    return new_service()


@pytest.fixture
def ca():
    return root("Plant CA", not_before=NOW - timedelta(days=90))


def effects(preview):
    assert preview.not_examined == 0
    return {one.registration_id: one.effect for one in preview.devices}


def change(service, entry, **spec):
    current = IndividualEnrollment.objects.get(pk=entry.pk)
    return change_individual_enrollment(
        service,
        entry.registration_id,
        IndividualSpec(**{"enabled": current.enabled, **spec}),
        expected_etag=current.etag,
        actor=ALICE,
    )


class TestWhatADeviceProvedSinceItWasAdmitted:
    def test_a_renewed_certificate_comes_in_when_its_group_is_enabled(self, service, ca):
        group = enroll_ca(service, ca, "plant")
        assert register(service, ca.leaf("p-0", **OUTLIVED), at=THEN).outcome == "assigned"
        disable_group(service, group)
        renewed = ca.leaf("p-0")
        assert register(service, renewed).outcome == "disabled"

        said = preview_of_act(service, Act.ENABLE, [group])

        assert effects(said) == {"p-0": Effect.COMES_IN}
        enable_enrollment_group(service, "plant", actor=ALICE)
        assert register(service, renewed).outcome == "assigned"

    def test_and_when_its_deny_entry_is_deleted_unless_it_is_kept_out(self, service, ca):
        enroll_ca(service, ca, "plant")
        register(service, ca.leaf("p-0", **OUTLIVED), at=THEN)
        denial = deny_device(service, "p-0", actor=ALICE)
        renewed = ca.leaf("p-0")
        assert register(service, renewed).outcome == "disabled"

        said = preview_of_act(service, Act.DELETE, [denial])

        assert effects(said) == {"p-0": Effect.COMES_IN}
        assert delete_and_deny(service, [denial], actor=ALICE).denied == 1
        assert register(service, renewed).outcome == "disabled"

    def test_one_that_its_entry_does_not_pin_may_be_good_for_a_group(self, service, ca):
        own, leaf = self_signed("pump-1"), ca.leaf("pump-1")
        enroll_ca(service, ca, "plant")
        entry = enroll_device(service, own)
        assert register(service, own).outcome == "assigned"
        assert register(service, leaf).outcome == "unauthorized"

        said = preview_of_act(service, Act.DELETE, [entry])

        assert effects(said) == {"pump-1": Effect.COMES_IN}
        assert delete_and_deny(service, [entry], actor=ALICE).denied == 1
        assert register(service, leaf).outcome == "disabled"

    def test_it_comes_in_by_that_one_alone(self, service, ca):
        own, leaf = self_signed("pump-1"), ca.leaf("pump-1")
        enroll_ca(service, ca, "plant")
        entry = enroll_device(service, own)
        register(service, own)
        register(service, leaf)
        delete_enrollments(service, ["pump-1"], actor=ALICE)

        said = preview_of_act(service, Act.DISABLE, [service.enrollmentgroups.get()])

        assert entry and effects(said) == {"pump-1": Effect.REFUSED}

    def test_what_admitted_it_counts_after_something_else_did(self, service, ca):
        enroll_ca(service, ca, "plant")
        other = root("Other CA")
        group = enroll_ca(service, other, "other")
        register(service, other.leaf("p-0"))
        release_registration(service, "p-0", actor=ALICE)
        assert register(service, ca.leaf("p-0")).outcome == "assigned"

        assert effects(preview_of_act(service, Act.DISABLE, [group])) == {"p-0": Effect.STILL_ADMITTED}

    def test_so_it_comes_in_by_its_former_leaf_once_its_own_entry_is_gone(self, service, ca):
        group, own, leaf = enroll_ca(service, ca, "plant"), self_signed("pump-1"), ca.leaf("pump-1")
        assert register(service, leaf).outcome == "assigned"
        entry = enroll_device(service, own)
        release_registration(service, "pump-1", actor=ALICE)
        assert register(service, own).outcome == "assigned"

        said = preview_of_act(service, Act.DELETE, [entry])

        assert effects(said) == {"pump-1": Effect.REFUSED}
        assert [(str(one), count) for one, count in said.otherwise(Effect.REFUSED)] == [
            ("enrollment group plant", 1)
        ]
        assert delete_and_deny(service, [entry], actor=ALICE).denied == 1
        assert group and register(service, leaf).outcome == "disabled"

    def test_or_once_its_group_is_enabled_again(self, service, ca):
        group, own, leaf = enroll_ca(service, ca, "plant"), self_signed("pump-1"), ca.leaf("pump-1")
        register(service, leaf)
        enroll_device(service, own)
        release_registration(service, "pump-1", actor=ALICE)
        register(service, own)
        delete_enrollments(service, ["pump-1"], actor=ALICE)
        disable_group(service, group)

        said = preview_of_act(service, Act.ENABLE, [group])

        assert effects(said) == {"pump-1": Effect.COMES_IN}
        enable_enrollment_group(service, "plant", actor=ALICE)
        assert register(service, leaf).outcome == "assigned"

    def test_or_once_the_ca_is_gone_that_took_the_place_of_its_former_one(self, service, ca):
        former = enroll_ca(service, ca, "former")
        leaf, newer = ca.leaf("p-0"), root("Newer CA")
        assert register(service, leaf).outcome == "assigned"
        group = enroll_ca(service, newer, "newer", predecessor=former)
        assert register(service, newer.leaf("p-0")).outcome == "assigned"

        said = preview_of_act(service, Act.DELETE, [group])

        assert effects(said) == {"p-0": Effect.REFUSED}
        delete_enrollment_groups(service, ["newer"], actor=ALICE)
        assert register(service, leaf).outcome == "assigned"

    @pytest.mark.parametrize("lasts", [EARLIER, LATER], ids=["less long", "longer"])
    def test_a_renewed_leaf_does_not_hide_the_former_one_that_is_enrolled(self, service, ca, lasts):
        former, renewed = ca.leaf("p-0", not_after=lasts), ca.leaf("p-0")
        group = enroll_ca(service, ca, "plant")
        assert register(service, former).outcome == "assigned"
        assert register(service, renewed).outcome == "assigned"
        disable_group(service, group)
        pins = IndividualSpec(certificates={Slot.PRIMARY: former.parsed})

        said = preview_of(service, lambda: [add_individual_enrollment(service, pins, actor=ALICE)])

        assert effects(said) == {"p-0": Effect.COMES_IN}
        assert [one.after.through.name for one in said.devices] == ["p-0"]

    def test_nor_one_whose_key_is_not_barred(self, service, ca):
        former, renewed = ca.leaf("p-0", not_after=EARLIER), ca.leaf("p-0")
        enroll_ca(service, ca, "plant")
        register(service, former)
        register(service, renewed)
        same_key = mint("somebody", key=renewed.key)
        denial = IndividualSpec(certificates={Slot.PRIMARY: same_key.parsed}, enabled=False)

        said = preview_of(service, lambda: [add_individual_enrollment(service, denial, actor=ALICE)])

        assert effects(said)["p-0"] is Effect.REFUSED
        add_individual_enrollment(service, denial, actor=ALICE)
        assert register(service, renewed).outcome == "disabled"
        assert register(service, former).outcome == "assigned"


class TestFormerCertificatesTellOfThemselves:
    """Nothing that came later hides them: neither a longer life, nor many renewals, nor what is not kept."""

    def test_below_a_ca_that_constrains_names(self, service):
        top = root("Top")
        ca = top.intermediate("Plant CA")
        fenced = ca.reissued(extensions=[(BELOW_PLANT, True)])
        group = enroll_ca(service, top, "top")
        former = ca.leaf("p-0", dns_names=["pump.plant.example"], not_after=EARLIER)
        assert register(service, former).outcome == "assigned"
        assert register(service, ca.leaf("p-0", dns_names=["pump.shop.example"])).outcome == "assigned"
        enroll_ca(service, fenced, "fenced")

        (device,) = preview_of_act(service, Act.DELETE, [group]).devices

        assert (device.before.through.name, device.unless.name) == ("top", "fenced")
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, former).outcome == "disabled"

    def test_behind_many_renewals(self, service, ca):
        former = OTHER_CA_LEAF
        other = enroll_ca(service, former.issuer, "former")
        assert register(service, former).outcome == "assigned"
        group = enroll_ca(service, ca, "plant", predecessor=other)
        for day in range(12):
            renewed = ca.leaf("p-0", not_after=LATER - timedelta(days=day))
            assert register(service, renewed).outcome == "assigned"

        assert effects(preview_of_act(service, Act.DELETE, [group])) == {"p-0": Effect.REFUSED}
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, former).outcome == "disabled"

    def test_more_than_are_looked_at_at_a_glance_are_looked_at_where_all_is(self, service, ca, monkeypatch):
        monkeypatch.setattr(attempts_certificates, "MAX_LEAVES", 2)
        other = enroll_ca(service, OTHER_CA_LEAF.issuer, "former")
        register(service, OTHER_CA_LEAF)
        group = enroll_ca(service, ca, "plant", predecessor=other)
        for _ in range(4):
            register(service, ca.leaf("p-0"))

        assert preview_of_act(service, Act.DELETE, [group]).not_examined == 1
        assert effects(preview_of_act(service, Act.DELETE, [group], limits=NO_LIMITS)) == {
            "p-0": Effect.REFUSED
        }
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1

    def test_where_not_all_that_was_sent_is_kept_nothing_is_deleted(self, service, ca):
        crossed = ca.cross_signed_by(root("Second"))
        plant = enroll_ca(service, ca, "plant")
        assert register(service, shows(ca.leaf("p-0"), crossed), "p-0").outcome == "assigned"
        group = enroll_ca(service, OTHER_CA_LEAF.issuer, "other", predecessor=plant)
        assert register(service, OTHER_CA_LEAF).outcome == "assigned"
        Certificate.objects.filter(thumbprint_sha256=crossed.parsed.thumbprint_sha256).delete()
        delete_enrollment_groups(service, ["plant"], actor=ALICE)

        with pytest.raises(Conflict, match="Of 1 device it is not known by what else they may come in"):
            delete_and_deny(service, [group], actor=ALICE)
        assert service.enrollmentgroups.filter(group_id="other").exists()

    def test_one_leaf_below_another_chain_is_another_credential(self, service):
        first, second = root("First"), root("Second")
        line = first.intermediate("Line")
        crossed, leaf = line.cross_signed_by(second), line.leaf("p-0")
        one = enroll_ca(service, first, "first")
        assert register(service, shows(leaf, line), "p-0").outcome == "assigned"
        two = enroll_ca(service, second, "second", predecessor=one)
        disable_group(service, one)
        assert register(service, shows(leaf, crossed), "p-0").outcome == "assigned"
        enable_enrollment_group(service, "first", actor=ALICE)

        assert effects(preview_of_act(service, Act.DELETE, [two])) == {"p-0": Effect.REFUSED}
        assert delete_and_deny(service, [two], actor=ALICE).denied == 1
        assert register(service, shows(leaf, line), "p-0").outcome == "disabled"

    def test_with_all_that_was_sent_along(self, service, ca):
        second, other = root("Second"), root("Other CA")
        crossed, leaf = ca.cross_signed_by(second), ca.leaf("p-0")
        plant = enroll_ca(service, ca, "plant")
        assert register(service, shows(leaf, crossed), "p-0").outcome == "assigned"
        group = enroll_ca(service, other, "other", predecessor=plant)
        assert register(service, other.leaf("p-0")).outcome == "assigned"
        delete_enrollment_groups(service, ["plant"], actor=ALICE)
        enroll_ca(service, second, "second")

        assert effects(preview_of_act(service, Act.DELETE, [group])) == {"p-0": Effect.REFUSED}
        assert delete_and_deny(service, [group], actor=ALICE).denied == 1
        assert register(service, shows(leaf, crossed), "p-0").outcome == "disabled"


class TestWhatAnEntryHolds:
    def test_a_certificate_that_was_exchanged_comes_in_when_its_entry_is_enabled(self, service):
        first, second = self_signed("pump-1"), self_signed("pump-1")
        entry = enroll_device(service, first)
        register(service, first)
        change(service, entry, certificates={Slot.PRIMARY: second.parsed})
        disable_enrollment(service, "pump-1", actor=ALICE)

        said = preview_of_act(service, Act.ENABLE, [entry])

        assert effects(said) == {"pump-1": Effect.COMES_IN}
        enable_enrollment(service, "pump-1", actor=ALICE)
        assert register(service, second).outcome == "assigned"

    def test_so_do_keys(self, service):
        entry = enroll_keys(service, "pump-1")
        register(service, signs(service, "pump-1", entry.primary_key), "pump-1")
        keys = {
            "primary_key": "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw==",
            "secondary_key": "c2Vjb25kIHNlY3JldCBrZXkgd2l0aCBieXQ=",
        }
        change(service, entry, mechanism=AttestationMechanism.SYMMETRIC_KEY, **keys)
        disable_enrollment(service, "pump-1", actor=ALICE)

        said = preview_of_act(service, Act.ENABLE, [entry])

        assert effects(said) == {"pump-1": Effect.COMES_IN}
        enable_enrollment(service, "pump-1", actor=ALICE)
        assert (
            register(service, signs(service, "pump-1", keys["secondary_key"]), "pump-1").outcome == "assigned"
        )

    @pytest.mark.parametrize("came", [True, False])
    def test_so_does_a_secondary_certificate(self, service, came):
        first, second = self_signed("pump-1", **OUTLIVED), self_signed("pump-1")
        pins = {Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
        entry = enroll_device(service, first, certificates=pins)
        if came:
            assert register(service, first, at=THEN).outcome == "assigned"
        disable_enrollment(service, "pump-1", actor=ALICE)

        said = preview_of_act(service, Act.ENABLE, [entry])

        assert effects(said) == {"pump-1": Effect.COMES_IN}

    def test_a_secondary_certificate_may_be_good_for_a_group(self, service, ca):
        pins = {Slot.PRIMARY: self_signed("pump-1").parsed, Slot.SECONDARY: ca.leaf("pump-1").parsed}
        enroll_ca(service, ca, "plant")
        entry = enroll_device(service, self_signed("pump-1"), certificates=pins)

        said = preview_of_act(service, Act.DELETE, [entry])

        assert effects(said) == {"pump-1": Effect.STILL_ADMITTED}
        assert [one.through.name for one in said.devices] == ["plant"]

    def test_what_a_change_brings_keeps_nobody_in_who_has_not_got_it(self, service):
        first, second = self_signed("pump-1"), self_signed("pump-1")
        entry = enroll_device(service, first)
        register(service, first)

        def exchange():
            change(service, entry, certificates={Slot.PRIMARY: second.parsed})
            return []

        assert effects(preview_of(service, exchange, [entry])) == {"pump-1": Effect.REFUSED}

    def test_but_lets_in_who_was_out(self, service):
        first, second = self_signed("pump-1"), self_signed("pump-1")
        entry = enroll_device(service, first)
        register(service, first)
        disable_enrollment(service, "pump-1", actor=ALICE)

        def exchange():
            change(service, entry, certificates={Slot.PRIMARY: second.parsed}, enabled=True)
            return []

        assert effects(preview_of(service, exchange, [entry])) == {"pump-1": Effect.COMES_IN}


class TestKeysThatAnEntryBars:
    """R6: under any name."""

    def test_another_device_with_the_key_comes_in_though_it_never_came(self, service):
        leaf = self_signed("pump-y")
        twin = self_signed("pump-x", key=leaf.key)
        enroll_device(service, twin)
        entry = enroll_device(service, leaf, enabled=False)
        assert register(service, twin).outcome == "disabled"
        service.attempts.all().delete()
        service.registrations.all().delete()

        said = preview_of_act(service, Act.DELETE, [entry])

        assert effects(said)["pump-x"] is Effect.COMES_IN
        assert effects(preview_of_act(service, Act.ENABLE, [entry])) == {
            "pump-x": Effect.COMES_IN,
            "pump-y": Effect.COMES_IN,
        }

    def test_so_does_one_whose_enrolled_certificate_lies_below_the_key(self, service, ca):
        line = ca.intermediate("Line")
        enroll_device(service, line.leaf("pump-x"))
        entry = enroll_device(service, line, registration_id="line", enabled=False)

        said = preview_of_act(service, Act.DELETE, [entry])

        assert effects(said)["pump-x"] is Effect.COMES_IN

    def test_who_has_another_certificate_enrolled_stays_in(self, service):
        leaf, own = self_signed("pump-y"), self_signed("pump-x")
        twin = self_signed("pump-x", key=leaf.key)
        enroll_device(service, own, certificates={Slot.PRIMARY: twin.parsed, Slot.SECONDARY: own.parsed})
        entry = enroll_device(service, leaf)

        said = preview_of_act(service, Act.DISABLE, [entry])

        assert effects(said) == {"pump-y": Effect.REFUSED, "pump-x": Effect.STILL_ADMITTED}


def disable_group(service, group):
    return disable_enrollment_group(service, group.group_id, actor=ALICE)


class TestWhatAnEntryHoldsThatStaysAsItIs:
    def test_a_device_that_came_with_another_certificate_is_still_admitted_by_its_own(self, service, ca):
        group = enroll_ca(service, ca, "plant")
        register(service, ca.leaf("pump-1"))
        enroll_device(service, self_signed("pump-1"))

        said = preview_of_act(service, Act.DISABLE, [group])

        assert effects(said) == {"pump-1": Effect.STILL_ADMITTED}

    def test_unless_that_one_is_good_no_more(self, service, ca):
        group = enroll_ca(service, ca, "plant")
        register(service, ca.leaf("pump-1"))
        enroll_device(service, self_signed("pump-1", **OUTLIVED))

        said = preview_of_act(service, Act.DISABLE, [group])

        assert effects(said) == {"pump-1": Effect.STILL_OUT}


class TestWhatAddingAnEntryDid:
    def test_who_has_another_certificate_is_refused_and_told_so_before_and_afterwards(self, service, ca):
        enroll_ca(service, ca, "plant")
        leaf, another = ca.leaf("pump-1"), self_signed("pump-1")
        register(service, leaf)

        said = preview_of(service, lambda: [enroll_device(service, another)])
        told = what_adding_did(service, enroll_device(service, another))

        assert effects(said) == effects(told) == {"pump-1": Effect.REFUSED}
        assert register(service, leaf).outcome == "unauthorized"

    def test_who_has_that_certificate_is_not(self, service, ca):
        enroll_ca(service, ca, "plant")
        leaf = ca.leaf("pump-1")
        register(service, leaf)

        told = what_adding_did(service, enroll_device(service, leaf))

        assert effects(told) == {"pump-1": Effect.STILL_ADMITTED}

    def test_so_it_is_with_keys(self, service, ca):
        enroll_ca(service, ca, "plant")
        leaf = ca.leaf("pump-1")
        register(service, leaf)

        told = what_adding_did(service, enroll_keys(service, "pump-1"))

        assert effects(told) == {"pump-1": Effect.REFUSED}
        assert register(service, leaf).outcome == "unauthorized"
