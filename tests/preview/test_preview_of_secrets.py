"""A device's own key and a group's key are different secrets, be the bytes the same (contract 2.2)."""

import pytest
from cryptography.fernet import Fernet

from enrollments.actions.enrollment_groups import delete_enrollment_groups
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.preview import Act, Effect, preview_of, preview_of_act
from enrollments.models import RegistrationRecord
from tests.devices import ALICE, derived_key, enroll_key_group, enroll_keys, register, signs

pytestmark = pytest.mark.django_db


@pytest.fixture
def group(service):
    return enroll_key_group(service)


def enrolled(service, name, key):
    """A device with a key of its own, which has registered."""
    entry = enroll_keys(service, name, primary_key=key)
    register(service, signs(service, name, key), name)
    return entry


def effects(preview):
    return {one.registration_id: one.effect for one in preview.devices}


def test_who_has_the_very_key_of_a_group_is_no_device_of_the_group(service, group):
    entry = enrolled(service, "press-01", group.primary_key)

    assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"press-01": Effect.REFUSED}
    assert effects(preview_of_act(service, Act.DISABLE, [group])) == {}


def test_who_has_the_key_that_a_group_derives_for_it_is(service, group):
    entry = enrolled(service, "press-01", derived_key(group.primary_key, "press-01"))

    said = preview_of_act(service, Act.DELETE, [entry])

    (device,) = said.devices
    assert (device.effect, device.through.name) == (Effect.STILL_ADMITTED, "line-9")


def test_a_key_that_is_derived_for_another_name_lets_nobody_in(service, group):
    entry = enrolled(service, "press-01", derived_key(group.primary_key, "press-02"))

    assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"press-01": Effect.REFUSED}


def test_a_derived_key_counts_as_the_device_spells_its_name(service, group):
    """Another spelling has another key: seen when it registered, and kept."""
    key = derived_key(group.primary_key, "PRESS-01")
    entry = enroll_keys(service, "press-01", primary_key=key)
    register(service, signs(service, "PRESS-01", key), "PRESS-01")

    said = preview_of_act(service, Act.DELETE, [entry])

    assert effects(said) == {"press-01": Effect.STILL_ADMITTED}


def test_a_device_of_a_group_may_be_enrolled_with_its_derived_key(service, group):
    key = derived_key(group.primary_key, "press-01")
    register(service, signs(service, "press-01", key), "press-01")

    right = preview_of(service, lambda: [enroll_keys(service, "press-01", primary_key=key)])
    wrong = preview_of(service, lambda: [enroll_keys(service, "press-01", primary_key=group.primary_key)])

    assert effects(right) == {"press-01": Effect.STILL_ADMITTED}
    assert effects(wrong) == {"press-01": Effect.REFUSED}


def test_a_group_that_is_made_again_with_its_key_lets_its_devices_in_again(service, group):
    key = group.primary_key
    register(service, signs(service, "press-01", derived_key(key, "press-01")), "press-01")
    enrolled(service, "press-02", key)
    delete_enrollments(service, ["press-02"], actor=ALICE)
    delete_enrollment_groups(service, [group.group_id], actor=ALICE)

    said = preview_of(service, lambda: [enroll_key_group(service, "again", primary_key=key)])

    assert effects(said) == {"press-01": Effect.COMES_IN}


def test_a_group_lets_in_whose_own_key_it_derives_though_nobody_knew_of_it_then(service, group):
    key = group.primary_key
    delete_enrollment_groups(service, [group.group_id], actor=ALICE)
    enrolled(service, "press-01", derived_key(key, "press-01"))
    delete_enrollments(service, ["press-01"], actor=ALICE)

    said = preview_of(service, lambda: [enroll_key_group(service, "again", primary_key=key)])

    assert effects(said) == {"press-01": Effect.COMES_IN}


def test_a_new_key_of_the_installation_makes_nothing_unknown(service, group, settings):
    entry = enrolled(service, "press-01", group.primary_key)
    settings.DPS_ENCRYPTION_KEY = f"{Fernet.generate_key().decode()} {settings.DPS_ENCRYPTION_KEY}"

    assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"press-01": Effect.REFUSED}


class TestRecordsOfOlderVersions:
    """They have a fingerprint alone, and one by another key of the installation tells nothing."""

    def test_an_assigned_one_is_of_the_entry_that_holds_its_name(self, service, group):
        entry = enrolled(service, "press-01", group.primary_key)
        RegistrationRecord.objects.update(key_ids="")

        assert effects(preview_of_act(service, Act.DELETE, [entry])) == {"press-01": Effect.REFUSED}

    def test_without_an_entry_it_is_not_known_whose_key_it_was(self, service, group):
        enrolled(service, "press-01", group.primary_key)
        delete_enrollments(service, ["press-01"], actor=ALICE)
        RegistrationRecord.objects.update(key_ids="")

        assert effects(preview_of_act(service, Act.DISABLE, [group])) == {"press-01": Effect.UNKNOWN}

    def test_an_old_fingerprint_is_of_any_key(self, service, group):
        entry = enrolled(service, "press-01", "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw==")
        RegistrationRecord.objects.update(key_ids="", key_fingerprint="00000000:00")

        assert effects(preview_of_act(service, Act.DISABLE, [entry])) == {"press-01": Effect.UNKNOWN}
