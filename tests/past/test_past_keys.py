"""Back in time of keys that devices proved and that admitted nobody: the same is known of them as previews know."""

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import delete_enrollment_groups
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.explaining import explain_known
from enrollments.actions.known_credentials import known_credentials
from enrollments.actions.past import compare, look_back
from enrollments.actions.past.by_key import WHOSE_KEY
from enrollments.actions.preview import Act, Effect, preview_of_act
from enrollments.policy.decision import Verdict
from tests.certificates import self_signed
from tests.devices import (
    ALICE,
    challenged,
    derived_key,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
    register,
    signs,
)
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db

NAME, OWN_KEY = "press-01", "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="
COMES_IN, STILL_OUT = ("out", "in"), ("out", "out")
SIDES = {Effect.COMES_IN: COMES_IN, Effect.STILL_OUT: STILL_OUT, Effect.UNKNOWN: None}


@pytest.fixture
def keys(service):
    return enroll_key_group(service, "keys")


def by_its_key(service, key, name=NAME):
    return register(service, signs(service, name, key), name).outcome


def explained(service):
    """Whether anything that it is known to have would be let in now."""
    at = timezone.now()
    known = known_credentials(service, NAME, at=at)
    verdicts = [explain_known(service, one, at=at).verdict for one in known]
    return "in" if Verdict.ADMIT in verdicts else "out"


def told_of(look):
    known = [None if one.verdict is None else "in" if one.admitted else "out" for one in look.spells]
    return None if None in known else (known[0], known[-1])


def by_deleting(service, entry):
    """What is told of the device before and after that by previews, the past of it and of all, and explanations."""
    (foreseen,) = preview_of_act(service, Act.DELETE, [entry]).devices
    before, at = explained(service), timezone.now()
    delete_enrollments(service, [entry.registration_id], actor=ALICE)
    (compared,) = compare(service, at).preview.devices
    alone = told_of(look_back(service, NAME, at))
    return SIDES[foreseen.effect], SIDES[compared.effect], alone, (before, explained(service))


def shut_for_a_certificate(service):
    return enroll_device(service, self_signed(NAME), enabled=False)


def shut_for_another_key(service):
    return enroll_keys(service, NAME, enabled=False)


def for_a_certificate(service):
    return enroll_device(service, self_signed(NAME))


def for_another_key(service):
    return enroll_keys(service, NAME)


def for_a_tpm(service):
    return enroll_tpm(service, NAME)


@pytest.mark.parametrize("is_registered", [False, True], ids=["no record", "record"])
class TestADerivedKeyThatItsOwnEntryRefused:
    def refused(self, service, keys, enroll, is_registered):
        entry = enroll(service)
        assert by_its_key(service, derived_key(keys.primary_key, NAME)) in ("unauthorized", "disabled")
        if not is_registered:
            service.registrations.all().delete()
        return entry

    @pytest.mark.parametrize("enroll", [shut_for_a_certificate, shut_for_another_key])
    def test_lets_it_in_once_that_is_gone_as_all_say(self, service, keys, enroll, is_registered):
        entry = self.refused(service, keys, enroll, is_registered)

        assert by_deleting(service, entry) == (COMES_IN,) * 4
        assert look_back(service, NAME, timezone.now()).first.entry.name == "keys"

    @pytest.mark.parametrize("enroll", [for_a_certificate, for_another_key, for_a_tpm])
    def test_and_where_it_was_enabled_for_what_the_device_never_showed(
        self, service, keys, enroll, is_registered
    ):
        self.refused(service, keys, enroll, is_registered)
        at = timezone.now()
        delete_enrollments(service, [NAME], actor=ALICE)

        assert told_of(look_back(service, NAME, at)) == COMES_IN
        assert [one.effect for one in compare(service, at).preview.devices] == [Effect.COMES_IN]

    @pytest.mark.parametrize("enroll", [shut_for_a_certificate, for_a_certificate, for_a_tpm])
    def test_lets_nobody_in_by_another_group(self, service, keys, enroll, is_registered):
        self.refused(service, keys, enroll, is_registered)
        delete_enrollment_groups(service, ["keys"], actor=ALICE)
        enroll_key_group(service, "other")
        at = timezone.now()
        delete_enrollments(service, [NAME], actor=ALICE)

        assert told_of(look_back(service, NAME, at)) == STILL_OUT
        assert [one.effect for one in compare(service, at).preview.devices] == [Effect.STILL_OUT]


def test_its_own_key_counts_though_nobody_was_ever_let_in_with_it(service):
    enroll_keys(service, NAME, primary_key=OWN_KEY, enabled=False)
    assert by_its_key(service, OWN_KEY) == "disabled"
    service.registrations.all().delete()
    delete_enrollments(service, [NAME], actor=ALICE)
    at = timezone.now()
    enroll_keys(service, NAME, primary_key=OWN_KEY)

    assert told_of(look_back(service, NAME, at)) == COMES_IN
    (device,) = compare(service, at).preview.devices
    assert device.effect is Effect.COMES_IN
    delete_enrollments(service, [NAME], actor=ALICE)
    later = timezone.now()
    enroll_keys(service, NAME)
    assert told_of(look_back(service, NAME, later)) == STILL_OUT


def test_so_does_its_tpm(service):
    tpm = SoftTpm()
    enroll_tpm(service, NAME, endorsement_key=tpm.keys.endorsement_key, enabled=False)
    assert register(service, challenged(service, tpm), NAME).outcome == "disabled"
    service.registrations.all().delete()
    delete_enrollments(service, [NAME], actor=ALICE)
    at = timezone.now()
    enroll_tpm(service, NAME, endorsement_key=tpm.keys.endorsement_key)

    assert told_of(look_back(service, NAME, at)) == COMES_IN
    (device,) = compare(service, at).preview.devices
    assert device.effect is Effect.COMES_IN


def test_who_proved_the_very_key_of_a_group_as_its_own_is_no_device_of_it(service, keys):
    entry = enroll_keys(service, NAME, primary_key=keys.primary_key, enabled=False)
    assert by_its_key(service, keys.primary_key) == "disabled"
    service.registrations.all().delete()

    assert by_deleting(service, entry)[:3] == (STILL_OUT,) * 3


class TestOfAttemptsOfTheVersionBefore:
    """They do not say whether the key was the device's own or that of a group."""

    def forget(self, service):
        service.attempts.update(key_of_group=None)

    def refused_by_its_own(self, service, keys):
        entry = enroll_keys(service, NAME, enabled=False)
        assert by_its_key(service, derived_key(keys.primary_key, NAME)) == "disabled"
        self.forget(service)
        return entry

    def test_it_is_not_known_and_said_so_where_it_matters(self, service, keys):
        entry = self.refused_by_its_own(service, keys)
        service.registrations.all().delete()

        assert by_deleting(service, entry)[:3] == (None,) * 3
        assert look_back(service, NAME, timezone.now()).first.why == WHOSE_KEY
        assert set(compare(service, timezone.now()).unclear.values()) == {WHOSE_KEY}

    def test_it_makes_no_difference_where_both_come_to_the_same(self, service, keys):
        entry = self.refused_by_its_own(service, keys)
        service.registrations.all().delete()
        delete_enrollment_groups(service, ["keys"], actor=ALICE)

        assert by_deleting(service, entry)[1:3] == (STILL_OUT,) * 2

    @pytest.mark.parametrize("by_record", [False, True], ids=["by another attempt", "by the record"])
    def test_it_is_known_by_what_says_more(self, service, keys, by_record):
        assert by_its_key(service, derived_key(keys.primary_key, NAME)) == "assigned"
        entry = self.refused_by_its_own(service, keys)
        if by_record:
            service.attempts.exclude(outcome="disabled").delete()
        else:
            service.registrations.all().delete()
        at = timezone.now()
        delete_enrollments(service, [entry.registration_id], actor=ALICE)

        assert told_of(look_back(service, NAME, at)) == COMES_IN
        (device,) = compare(service, at).preview.devices
        assert device.effect is Effect.COMES_IN
