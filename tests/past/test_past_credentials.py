"""Back in time of devices that have had one credential after another, or that no registration record tells of."""

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
)
from enrollments.actions.past import FleetLimits, compare, look_back
from enrollments.actions.past.credentials import MORE_PROVEN
from enrollments.actions.past.words import answer, left_out
from enrollments.actions.preview import Effect
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    IndividualEnrollment,
    RegistrationAttempt,
    Slot,
)
from enrollments.policy.decision import Verdict
from tests.certificates import mint, root, self_signed
from tests.devices import (
    ALICE,
    demand_proof,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    prove,
    register,
    signs,
)
from tests.preview.worlds import HOSTS, PLANT_ALONE, named

pytestmark = pytest.mark.django_db

ADMIT, DISABLED, UNAUTHORIZED = Verdict.ADMIT, Verdict.DISABLED, Verdict.UNAUTHORIZED
ANOTHER_KEY = "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="


def now():
    return timezone.now()


def told(look):
    return [(one.verdict, one.entry.name if one.entry else None) for one in look.spells]


def change(service, name, **spec):
    current = IndividualEnrollment.objects.get(registration_id=name)
    change_individual_enrollment(
        service, name, IndividualSpec(**spec), expected_etag=current.etag, actor=ALICE
    )


def pin(service, leaf):
    change(service, leaf.parsed.common_names[0], certificates={Slot.PRIMARY: leaf.parsed})


def thumbprint(leaf):
    return leaf.parsed.thumbprint_sha256


def replaced(attempt, **values):
    """Another one, later than that."""
    columns = {one.attname: getattr(attempt, one.attname) for one in attempt._meta.concrete_fields}
    return RegistrationAttempt(**columns | {"id": None, "last_at": now()} | values)


@pytest.fixture
def renewed(service):
    """A device whose certificate was replaced by another one, with the time before that."""
    first, second = self_signed("pump-1"), self_signed("pump-1")
    enroll_device(service, first)
    assert register(service, first).outcome == "assigned"
    at = now()
    pin(service, second)
    assert register(service, second).outcome == "assigned"
    return first, second, at


class TestOneDevice:
    def test_could_have_come_by_what_it_had_then(self, service, renewed):
        first, second, at = renewed

        look = look_back(service, "pump-1", at)

        assert told(look) == [(ADMIT, "pump-1")]
        assert thumbprint(first) in answer(look)
        assert "through individual enrollment pump-1, by the chain with which it proved itself" in answer(
            look
        )
        assert look.explanation.verdict is ADMIT
        assert thumbprint(second) in answer(look_back(service, "pump-1", now()))

    def test_what_its_entry_held_counts_where_attempts_are_not_kept_any_more(self, service, renewed):
        first, _, at = renewed
        RegistrationAttempt.objects.filter(leaf_thumbprint=thumbprint(first)).delete()

        look = look_back(service, "pump-1", at)

        assert told(look) == [(ADMIT, "pump-1")]
        assert thumbprint(first) in answer(look)
        assert "what it proved by then is not known" in answer(look)

    def test_an_entry_that_asks_for_what_it_never_showed_has_shut_it_out(self, service):
        """R5, and as previews have it: it is judged by what it is known to have."""
        leaf = self_signed("pump-1")
        enroll_device(service, leaf)
        register(service, leaf)
        pin(service, self_signed("pump-1"))

        look = look_back(service, "pump-1", now())

        assert told(look) == [(UNAUTHORIZED, "pump-1")]
        assert look.has_several is False

    def test_where_none_is_admitted_the_one_shown_latest_by_then_is_explained(self, service, renewed):
        first, second, at = renewed
        delete_enrollments(service, ["pump-1"], actor=ALICE)
        between = now()
        enroll_device(service, self_signed("pump-1"))

        look = look_back(service, "pump-1", between)

        assert {verdict for verdict, _ in told(look)} == {UNAUTHORIZED}
        assert thumbprint(second) in look.basis
        assert thumbprint(first) in look_back(service, "pump-1", at, at).basis

    def test_a_chain_of_a_ca_that_is_shut_since_counts_for_the_time_before(self, service):
        old, new = root("Old"), root("New")
        for ca, name in ((old, "old"), (new, "new")):
            enroll_ca(service, ca, name)
        register(service, old.leaf("pump-1"))
        at = now()
        disable_enrollment_group(service, "new", actor=ALICE)
        without_new = now()
        enable_enrollment_group(service, "new", actor=ALICE)
        register(service, new.leaf("pump-1"))
        disable_enrollment_group(service, "old", actor=ALICE)

        assert told(look_back(service, "pump-1", at, without_new)) == [(ADMIT, "old")]
        assert told(look_back(service, "pump-1", without_new))[-1] == (ADMIT, "new")

    def test_a_key_that_was_replaced_since(self, service):
        entry = enroll_keys(service, "key-1")
        register(service, signs(service, "key-1", entry.primary_key), "key-1")
        at = now()
        change(service, "key-1", mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=ANOTHER_KEY)
        register(service, signs(service, "key-1", ANOTHER_KEY), "key-1")

        assert told(look_back(service, "key-1", at)) == [(ADMIT, "key-1")]
        RegistrationAttempt.objects.all().delete()
        assert told(look_back(service, "key-1", at)) == [(ADMIT, "key-1")]

    def test_a_device_that_came_by_a_derived_key_before_it_had_a_certificate(self, service):
        group = enroll_key_group(service)
        key = derived_key(group.primary_key, "line-9-1")
        register(service, signs(service, "line-9-1", key), "line-9-1")
        at = now()
        leaf = self_signed("line-9-1")
        enroll_device(service, leaf)
        assert register(service, leaf).outcome == "assigned"

        look = look_back(service, "line-9-1", at)

        assert told(look) == [(ADMIT, "line-9"), (ADMIT, "line-9-1")]
        assert "by the key with which it proved itself" in answer(look)

    def test_a_derived_key_that_its_own_entry_held(self, service):
        """Of the key of a group that is gone it is not known any more which one it derived: no refusal is told."""
        group = enroll_key_group(service)
        key = derived_key(group.primary_key, "line-9-1")
        register(service, signs(service, "line-9-1", key), "line-9-1")
        enroll_keys(service, "line-9-1", primary_key=key)
        at = now()
        leaf = self_signed("line-9-1")
        pin(service, leaf)
        assert register(service, leaf).outcome == "assigned"

        assert told(look_back(service, "line-9-1", at))[0] == (ADMIT, "line-9-1")
        assert effects(compare(service, at)) == {"line-9-1": Effect.STILL_ADMITTED}
        delete_enrollment_groups(service, ["line-9"], actor=ALICE)
        assert told(look_back(service, "line-9-1", at))[0] == (None, None)
        assert effects(compare(service, at)) == {"line-9-1": Effect.UNKNOWN}


class TestWhoIsKnownByAnAttempt:
    """R14: of a device that proved itself and was never assigned, no record tells."""

    def test_is_among_all_of_a_service(self, service):
        ca = root("Plant")
        enroll_ca(service, ca, "plant")
        demand_proof(service)
        assert register(service, ca.leaf("pump-1")).outcome != "assigned"
        assert not service.registrations.exists()
        at = now()
        prove(service, ca)

        (device,) = compare(service, at).preview.devices

        assert (device.registration_id, device.effect) == ("pump-1", Effect.COMES_IN)
        assert device.after.through.name == "plant"
        assert [verdict for verdict, _ in told(look_back(service, "pump-1", at))] == [UNAUTHORIZED, ADMIT]

    def test_by_all_that_it_sent(self, service):
        ca = root("Plant")
        line = ca.intermediate("Line")
        enroll_ca(service, ca, "plant", enabled=False)
        leaf = line.leaf("pump-1")
        shown = PresentedCredential(certificates=(leaf.der, line.der))
        assert register(service, shown, "pump-1").outcome == "disabled"
        service.registrations.all().delete()
        at = now()
        enable_enrollment_group(service, "plant", actor=ALICE)

        (device,) = compare(service, at).preview.devices

        assert (device.before.verdict, device.after.verdict) == (DISABLED, ADMIT)

    def test_whoever_shouts_its_name_hides_no_proof_of_an_older_version(self, service):
        """These kept no chain. Of who proves nothing no certificate is kept either."""
        ca = root("Plant")
        enroll_ca(service, ca, "plant")
        demand_proof(service)
        register(service, ca.leaf("pump-1"))
        service.attempts.update(chain="")
        proven = service.attempts.get()
        at = now()
        prove(service, ca)
        shouted = [
            replaced(proven, source=f"{number}", leaf_thumbprint=f"{number:064x}", trace=[])
            for number in range(60)
        ]
        RegistrationAttempt.objects.bulk_create(shouted)

        assert [verdict for verdict, _ in told(look_back(service, "pump-1", at))] == [UNAUTHORIZED, ADMIT]
        assert effects(compare(service, at)) == {"pump-1": Effect.COMES_IN}

    def test_an_entry_for_another_certificate_decides_about_it(self, service):
        ca = root("Plant")
        enroll_ca(service, ca, "plant")
        demand_proof(service)
        register(service, ca.leaf("pump-1"))
        prove(service, ca)
        at = now()
        enroll_device(service, self_signed("pump-1"))

        (device,) = compare(service, at).preview.devices

        assert (device.registration_id, device.effect) == ("pump-1", Effect.REFUSED)


def effects(said):
    return {one.registration_id: one.effect for one in said.preview.devices}


class TestAllOfAService:
    def test_whose_certificate_was_replaced_could_have_come_at_both_times(self, service, renewed):
        _, _, at = renewed

        assert effects(compare(service, at)) == {"pump-1": Effect.STILL_ADMITTED}

    def test_also_where_attempts_are_not_kept_any_more(self, service, renewed):
        _, _, at = renewed
        RegistrationAttempt.objects.all().delete()

        assert effects(compare(service, at)) == {"pump-1": Effect.STILL_ADMITTED}

    def test_what_it_never_showed_has_shut_it_out(self, service):
        leaf = self_signed("pump-1")
        enroll_device(service, leaf)
        register(service, leaf)
        at = now()
        pin(service, self_signed("pump-1"))

        assert effects(compare(service, at)) == {"pump-1": Effect.REFUSED}

    def test_whose_entry_was_deleted_and_added_for_another_certificate(self, service, renewed):
        first, second, _ = renewed
        delete_enrollments(service, ["pump-1"], actor=ALICE)
        without = now()
        enroll_device(service, first)
        with_first = now()
        pin(service, second)

        assert effects(compare(service, without, with_first)) == {"pump-1": Effect.COMES_IN}
        assert effects(compare(service, with_first)) == {"pump-1": Effect.STILL_ADMITTED}

    def test_who_never_came_has_what_was_enrolled_at_each_time(self, service):
        enroll_device(service, self_signed("pump-1"))
        at = now()
        change(service, "pump-1", mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=ANOTHER_KEY)
        between = now()
        pin(service, self_signed("pump-1"))

        assert effects(compare(service, at, between)) == {"pump-1": Effect.STILL_ADMITTED}
        assert effects(compare(service, at)) == {"pump-1": Effect.STILL_ADMITTED}
        assert [one.verdict for one in look_back(service, "pump-1", at).spells] == [ADMIT]

    def test_whose_key_was_replaced(self, service):
        entry = enroll_keys(service, "key-1")
        register(service, signs(service, "key-1", entry.primary_key), "key-1")
        at = now()
        change(service, "key-1", mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=ANOTHER_KEY)
        assert effects(compare(service, at)) == {"key-1": Effect.REFUSED}
        register(service, signs(service, "key-1", ANOTHER_KEY), "key-1")

        assert effects(compare(service, at)) == {"key-1": Effect.STILL_ADMITTED}

    def test_what_was_replaced_and_is_below_a_ca_is_judged_by_itself_like_any_other(self, service):
        """Sorted among the others by who signed it, and where it shares with nobody, looked at alone."""
        ca = root("Narrow", extensions=[(PLANT_ALONE, True)])
        enroll_ca(service, ca, "narrow")
        first = ca.leaf("pump-1", extensions=[named(HOSTS[0])])
        enroll_device(service, first)
        register(service, first)
        at = now()
        second = self_signed("pump-1")
        pin(service, second)
        register(service, second)
        disable_enrollment(service, "pump-1", actor=ALICE)

        assert effects(compare(service, at)) == {"pump-1": Effect.REFUSED}
        assert compare(service, at, limits=FleetLimits(singly=0)).preview.not_examined == 1

    def test_what_was_replaced_counts_with_what_was_sent_along(self, service):
        ca = root("Plant")
        line = ca.intermediate("Line")
        enroll_ca(service, ca, "plant")
        assert register(service, line.leaf("pump-1")).outcome == "assigned"
        at = now()
        other = root("Other")
        enroll_ca(service, other, "other", predecessor=service.enrollmentgroups.get())
        assert register(service, other.leaf("pump-1")).outcome == "assigned"
        disable_enrollment_group(service, "plant", actor=ALICE)
        between = now()
        disable_enrollment_group(service, "other", actor=ALICE)

        assert through(compare(service, at, between)) == ("plant", "other")
        assert effects(compare(service, at)) == {"pump-1": Effect.REFUSED}

    def test_a_refused_proof_of_a_registered_device_counts_where_it_would_have_been_let_in(self, service):
        leaf, ca = self_signed("pump-1"), root("Plant")
        enroll_device(service, leaf)
        register(service, leaf)
        enroll_ca(service, ca, "plant")
        assert register(service, ca.leaf("pump-1")).outcome != "assigned"
        at = now()
        delete_enrollments(service, ["pump-1"], actor=ALICE)

        assert through(compare(service, at)) == ("pump-1", "plant")

    def test_a_key_of_a_group_that_it_had_before_its_certificate(self, service):
        group = enroll_key_group(service)
        key = derived_key(group.primary_key, "line-9-1")
        register(service, signs(service, "line-9-1", key), "line-9-1")
        at = now()
        leaf = self_signed("line-9-1")
        enroll_device(service, leaf)
        register(service, leaf)

        assert through(compare(service, at)) == ("line-9", "line-9-1")

    def test_a_second_certificate_and_what_it_held_between_the_times(self, service):
        first, second, third = (self_signed("pump-1") for _ in range(3))
        slots = {Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
        enroll_device(service, first, certificates=slots)
        register(service, second)
        at = now()
        pin(service, third)
        register(service, third)
        between = now()
        pin(service, second)

        assert effects(compare(service, at, between)) == {"pump-1": Effect.STILL_ADMITTED}
        assert effects(compare(service, between)) == {"pump-1": Effect.STILL_ADMITTED}

    def test_who_was_turned_away_with_another_credential_is_on_record_with_what_it_had(self, service):
        """Its record says by which mechanism it came last; what is kept there is what let it in before."""
        entry = enroll_keys(service, "pump-1")
        register(service, signs(service, "pump-1", entry.primary_key), "pump-1")
        at = now()
        leaf = self_signed("pump-1")
        pin(service, leaf)
        disable_enrollment(service, "pump-1", actor=ALICE)
        assert register(service, leaf).outcome == "disabled"
        RegistrationAttempt.objects.all().delete()

        assert effects(compare(service, at)) == {"pump-1": Effect.REFUSED}
        assert told(look_back(service, "pump-1", at))[0] == (ADMIT, "pump-1")

    def test_whose_key_somebody_else_has_too_does_not_stand_for_others_of_its_ca(self, service):
        """R7: what is above one leaf by another certificate of its key is not above the leaves beside it."""
        ca, barred = root("Plant"), root("Barred")
        enroll_ca(service, ca, "plant")
        twin, *others = (ca.leaf(f"pump-{number}") for number in range(3))
        for leaf in (twin, *others):
            register(service, leaf)
        enroll_ca(service, barred, "barred", enabled=False)
        enroll_device(service, mint("valve-1", key=twin.key, issuer=barred), enabled=False)
        at = now()
        disable_enrollment_group(service, "plant", actor=ALICE)

        said = effects(compare(service, at))

        assert (said["pump-0"], said["pump-1"], said["pump-2"]) == (
            Effect.STILL_OUT,
            Effect.REFUSED,
            Effect.REFUSED,
        )


def through(said):
    """Of the only device: which entries let it in at the two times."""
    (device,) = said.preview.devices
    return tuple(one.through.name if one.admitted else None for one in (device.before, device.after))


class TestWhatIsNotLookedAt:
    """That nobody has looked is never told as if the device had been shut out."""

    def test_who_has_earlier_proofs_than_a_glance_looks_at_is_not_examined_where_it_seems_refused(
        self, service
    ):
        old, new = root("Old"), root("New")
        enroll_ca(service, old, "old")
        register(service, old.leaf("pump-1"))
        register(service, old.leaf("valve-1"))
        at = now()
        enroll_ca(service, new, "new", predecessor=service.enrollmentgroups.get())
        assert register(service, new.leaf("pump-1")).outcome == "assigned"
        leaf = self_signed("press-1")
        enroll_device(service, leaf)
        register(service, leaf)

        glance, every = (compare(service, at, limits=FleetLimits(attempts=most)) for most in (1, None))

        assert effects(every)["pump-1"] is Effect.STILL_ADMITTED
        assert "pump-1" not in effects(glance)
        assert effects(glance)["valve-1"] is Effect.STILL_ADMITTED
        assert effects(glance)["press-1"] is Effect.COMES_IN
        assert glance.preview.not_examined == 1
        assert glance.attempts_since is not None
        assert every.attempts_since is None

    def test_who_has_proven_more_than_is_looked_at_is_not_known_instead_of_refused(
        self, service, monkeypatch
    ):
        old, new = root("Old"), root("New")
        enroll_ca(service, old, "old")
        register(service, old.leaf("pump-1"))
        at = now()
        enroll_ca(service, new, "new", predecessor=service.enrollmentgroups.get())
        between = now()
        assert register(service, new.leaf("pump-1")).outcome == "assigned"
        assert through(compare(service, at, between)) == ("old", "old")
        monkeypatch.setattr("enrollments.actions.past.attempted.MOST_PROVEN", 1)

        (device,) = compare(service, at).preview.devices

        assert (device.before, device.after.through.name) == (None, "new")
        assert compare(service, at).unclear == {"pump-1": MORE_PROVEN}
        look = look_back(service, "pump-1", at)
        assert told(look) == [(None, None), (ADMIT, "new")]
        assert "has proven more than 40 credentials" in left_out(look)

    def test_that_all_was_looked_at_is_not_worth_a_word(self, service, renewed):
        _, _, at = renewed

        assert left_out(look_back(service, "pump-1", at)) == ""

    def test_what_was_sent_along_and_is_not_kept_makes_a_refusal_unknown(self, service):
        ca = root("Plant")
        line = ca.intermediate("Line")
        enroll_ca(service, ca, "plant")
        register(service, line.leaf("pump-1"))
        at = now()
        leaf = self_signed("pump-1")
        enroll_device(service, leaf)
        register(service, leaf)
        between = now()
        delete_enrollments(service, ["pump-1"], actor=ALICE)
        Certificate.objects.filter(thumbprint_sha256=thumbprint(line)).delete()

        assert effects(compare(service, at, between)) == {"pump-1": Effect.UNKNOWN}
        assert [verdict for verdict, _ in told(look_back(service, "pump-1", at))] == [None, ADMIT, None]
        assert compare(service, at).unclear["pump-1"].startswith("not all is kept")
