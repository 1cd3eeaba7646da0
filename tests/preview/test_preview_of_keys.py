"""A device may prove a key at an attempt and have a certificate on record, or nothing: that key is known of it too."""

import pytest

from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.key_identifiers import key_identifier
from enrollments.actions.preview import (
    Act,
    Effect,
    limits,
    preview_of,
    preview_of_act,
    preview_of_switching,
)
from enrollments.actions.revocation import release_registration
from enrollments.actions.services import change_settings
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    challenged,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
    new_service,
    register,
    signs,
)
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db

OWN_KEY = "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="


@pytest.fixture(autouse=True)
def however_busy_this_machine_is(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)


@pytest.fixture
def service():
    return new_service()


@pytest.fixture
def keys(service):
    return enroll_key_group(service, "keys")


@pytest.fixture
def plant(service):
    return enroll_ca(service, CA, "plant")


CA = root("Plant CA")


def effects(preview):
    assert preview.not_examined == 0
    return {one.registration_id: one.effect for one in preview.devices}


def by_its_key(service, group, name="press-01"):
    return register(service, signs(service, name, derived_key(group.primary_key, name)), name).outcome


def turned_off(service, *groups):
    for group in groups:
        disable_enrollment_group(service, group.group_id, actor=ALICE)


class TestOfADeviceWithACertificateOnRecord:
    @pytest.fixture(autouse=True)
    def registered(self, service, plant):
        assert register(service, CA.leaf("press-01")).outcome == "assigned"

    def test_it_comes_in_by_the_key_of_a_group_that_is_enabled(self, service, plant, keys):
        turned_off(service, keys, plant)
        assert by_its_key(service, keys) == "disabled"

        said = preview_of_act(service, Act.ENABLE, [keys])

        assert effects(said) == {"press-01": Effect.COMES_IN}
        enable_enrollment_group(service, "keys", actor=ALICE)
        service.registrations.all().update(owner_group=None)
        assert by_its_key(service, keys) == "assigned"

    def test_its_name_is_held_by_the_group_of_its_certificate(self, service, plant, keys):
        turned_off(service, keys, plant)
        by_its_key(service, keys)

        (device,) = preview_of_act(service, Act.ENABLE, [keys]).devices

        enable_enrollment_group(service, "keys", actor=ALICE)
        assert (device.held_after.name, by_its_key(service, keys)) == ("plant", "failed")

    def test_its_key_is_of_no_use_when_the_group_of_its_certificate_that_holds_its_name_is_disabled(
        self, service, plant, keys
    ):
        turned_off(service, keys)
        by_its_key(service, keys)
        enable_enrollment_group(service, "keys", actor=ALICE)

        said = preview_of_act(service, Act.DISABLE, [plant])

        assert effects(said) == {"press-01": Effect.REFUSED}
        assert [one.unless for one in said.devices] == [None]
        turned_off(service, plant)
        assert by_its_key(service, keys) == "failed"

    def test_and_is_kept_out_where_that_is_asked_for(self, service, plant, keys):
        turned_off(service, keys)
        by_its_key(service, keys)
        enable_enrollment_group(service, "keys", actor=ALICE)

        assert delete_and_deny(service, [plant], actor=ALICE).denied == 1

        assert by_its_key(service, keys) == "disabled"

    def test_it_comes_in_where_groups_with_keys_are_let_admit(self, service, plant, keys):
        turned_off(service, plant)
        change_settings(service, {"symmetric_key_groups": False}, actor=ALICE)
        assert by_its_key(service, keys) == "unauthorized"

        said = preview_of_switching(service, {"symmetric_key_groups": True})

        assert effects(said) == {"press-01": Effect.COMES_IN}

    def test_it_comes_in_by_the_key_that_it_proved_when_its_entry_is_added_again(self, service):
        enroll_keys(service, "press-01", primary_key=OWN_KEY, enabled=False)
        assert register(service, signs(service, "press-01", OWN_KEY), "press-01").outcome == "disabled"
        delete_enrollments(service, ["press-01"], actor=ALICE)

        same = preview_of(service, lambda: [enroll_keys(service, "press-01", primary_key=OWN_KEY)])
        other = preview_of(service, lambda: [enroll_keys(service, "press-01")])

        assert effects(same) == {"press-01": Effect.COMES_IN}
        assert effects(other) == {"press-01": Effect.REFUSED}

    def test_and_by_its_tpm(self, service):
        tpm = SoftTpm()
        enroll_tpm(service, endorsement_key=tpm.keys.endorsement_key, enabled=False)
        assert register(service, challenged(service, tpm), "press-01").outcome == "disabled"
        delete_enrollments(service, ["press-01"], actor=ALICE)

        same, other = (
            preview_of(service, lambda one=one: [enroll_tpm(service, endorsement_key=one)])
            for one in (tpm.keys.endorsement_key, SoftTpm(1).keys.endorsement_key)
        )

        assert effects(same) == {"press-01": Effect.COMES_IN}
        assert effects(other) == {"press-01": Effect.REFUSED}

    def test_it_comes_in_where_its_derived_key_becomes_its_own(self, service, plant, keys):
        disable = enroll_device(service, self_signed("press-01"), registration_id="press-01")
        assert by_its_key(service, keys) == "unauthorized"
        delete_enrollments(service, [disable.registration_id], actor=ALICE)
        own = derived_key(keys.secondary_key, "press-01")

        right = preview_of(
            service,
            lambda: [enroll_keys(service, "press-01", primary_key=derived_key(keys.primary_key, "press-01"))],
        )
        wrong = preview_of(service, lambda: [enroll_keys(service, "press-01", primary_key=own)])

        assert effects(right) == {"press-01": Effect.COMES_IN}
        assert effects(wrong) == {"press-01": Effect.REFUSED}


class TestOfADeviceThatWasAdmittedByAnotherKeySince:
    """Without a second between the two: whichever key came last is on the record."""

    def test_it_comes_in_by_its_derived_key_once_its_own_entry_is_gone(self, service, keys):
        assert by_its_key(service, keys) == "assigned"
        entry = enroll_keys(service, "press-01", primary_key=OWN_KEY)
        release_registration(service, "press-01", actor=ALICE)
        assert register(service, signs(service, "press-01", OWN_KEY), "press-01").outcome == "assigned"

        said = preview_of_act(service, Act.DELETE, [entry])

        assert effects(said) == {"press-01": Effect.REFUSED}
        assert [one.unless.name for one in said.devices] == ["keys"]
        assert delete_and_deny(service, [entry], actor=ALICE).denied == 1
        assert by_its_key(service, keys) == "disabled"

    def test_and_by_its_own_key_once_that_is_enrolled_again(self, service, keys):
        enroll_keys(service, "press-01", primary_key=OWN_KEY)
        own = signs(service, "press-01", OWN_KEY)
        assert register(service, own, "press-01").outcome == "assigned"
        delete_enrollments(service, ["press-01"], actor=ALICE)
        assert by_its_key(service, keys) == "assigned"
        turned_off(service, keys)

        said = preview_of(service, lambda: [enroll_keys(service, "press-01", primary_key=OWN_KEY)])

        assert effects(said) == {"press-01": Effect.COMES_IN}

    def test_the_secondary_key_after_the_primary_one_is_on_the_record(self, service):
        entry = enroll_keys(service, "press-01", primary_key=OWN_KEY)
        for key in (entry.primary_key, entry.secondary_key):
            assert register(service, signs(service, "press-01", key), "press-01").outcome == "assigned"
            record = service.registrations.get()
            assert key_identifier(key) in record.key_ids.split()


class TestOfADeviceWithoutARecord:
    def test_it_comes_in_by_the_key_of_a_group_that_is_enabled(self, service, keys):
        turned_off(service, keys)
        by_its_key(service, keys)
        service.registrations.all().delete()

        assert effects(preview_of_act(service, Act.ENABLE, [keys])) == {"press-01": Effect.COMES_IN}
        assert effects(preview_of_act(service, Act.DELETE, [keys])) == {"press-01": Effect.STILL_OUT}

    def test_it_comes_in_by_a_group_that_is_made_again_with_its_key(self, service, keys):
        turned_off(service, keys)
        by_its_key(service, keys)
        service.registrations.all().delete()
        key = keys.primary_key
        delete_enrollment_groups(service, ["keys"], actor=ALICE)

        said = preview_of(service, lambda: [enroll_key_group(service, "again", primary_key=key)])
        other = preview_of(service, lambda: [enroll_key_group(service, "again")])

        assert effects(said) == {"press-01": Effect.COMES_IN}
        assert effects(other) == {}

    def test_who_proved_the_very_key_of_a_group_as_its_own_is_no_device_of_it(self, service, keys):
        enroll_keys(service, "press-01", primary_key=keys.primary_key, enabled=False)
        assert (
            register(service, signs(service, "press-01", keys.primary_key), "press-01").outcome == "disabled"
        )
        service.registrations.all().delete()
        entry = service.individualenrollments.get()

        assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"press-01": Effect.STILL_OUT}
        assert effects(preview_of_act(service, Act.DISABLE, [keys])) == {}

    def test_a_refused_key_leaves_the_certificate_of_the_record_what_it_is(self, service, plant, keys):
        turned_off(service, plant, keys)
        leaf = CA.leaf("press-01")
        assert register(service, leaf).outcome == "disabled"
        assert by_its_key(service, keys) == "disabled"

        said = preview_of_act(service, Act.ENABLE, [plant])

        assert effects(said) == {"press-01": Effect.COMES_IN}
        enable_enrollment_group(service, "plant", actor=ALICE)
        assert register(service, leaf).outcome == "assigned"


class TestOfAttemptsOfTheVersionBefore:
    """They do not say whether the key was the device's own or that of a group."""

    def forget(self, service):
        service.registrations.all().delete()
        service.attempts.update(key_of_group=None)

    def test_where_a_group_decided_it_was_a_key_of_a_group(self, service, keys):
        turned_off(service, keys)
        by_its_key(service, keys)
        self.forget(service)

        assert effects(preview_of_act(service, Act.ENABLE, [keys])) == {"press-01": Effect.COMES_IN}

    def test_where_a_disabled_enrollment_did_it_is_not_known_and_said_so_if_it_matters(self, service, keys):
        entry = enroll_device(service, self_signed("press-01"), enabled=False)
        assert by_its_key(service, keys) == "disabled"
        self.forget(service)

        assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"press-01": Effect.UNKNOWN}
