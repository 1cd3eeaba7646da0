"""Identifiers of keys: the same for the same key for ever, and given to what older versions enrolled."""

import importlib

import pytest
from django.apps import apps
from django.test import override_settings

from enrollments.actions.encryption import bring_under_newest_key
from enrollments.actions.key_identifiers import key_identifier
from enrollments.models import (
    EnrollmentGroup,
    IndividualEnrollment,
    KeyIdentifierSecret,
    RegistrationRecord,
)
from enrollments.models.enrollments import new_symmetric_key
from enrollments.models.fields import encryption_keys
from tests.devices import ALICE, derived_key, enroll_key_group, enroll_keys, new_service, register, signs

pytestmark = pytest.mark.django_db

migration = importlib.import_module("enrollments.migrations.0018_key_identifiers")


def test_an_identifier_tells_keys_apart_and_survives_a_new_encryption_key():
    key, other = new_symmetric_key(), new_symmetric_key()
    identifier = key_identifier(key)
    newest = "bmV3ZXN0LWtleS1vZi10aGlydHktdHdvLWJ5dGVzLi4="

    with override_settings(DPS_ENCRYPTION_KEY=f"{newest},{','.join(encryption_keys())}"):
        bring_under_newest_key(actor=ALICE)
        assert key_identifier(key) == identifier
    with override_settings(DPS_ENCRYPTION_KEY=newest):
        assert key_identifier(key) == identifier
        assert key_identifier(other) != identifier
    assert key not in identifier


def test_what_older_versions_enrolled_is_identified_by_the_migration():
    service = new_service()
    entry = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", entry.primary_key), "key-1")
    group = enroll_key_group(service)
    derived = derived_key(group.primary_key, "Line-9-1")
    register(service, signs(service, "Line-9-1", derived), "Line-9-1")
    before = dict(RegistrationRecord.objects.values_list("registration_id", "key_ids"))
    secret = KeyIdentifierSecret.objects.get().secret
    KeyIdentifierSecret.objects.all().delete()
    IndividualEnrollment.objects.update(primary_key_id="", secondary_key_id="")
    EnrollmentGroup.objects.update(primary_key_id="", secondary_key_id="")
    RegistrationRecord.objects.update(key_ids="")

    migration.identify_keys(apps, None)

    after = dict(RegistrationRecord.objects.values_list("registration_id", "key_ids"))
    assert KeyIdentifierSecret.objects.get().secret != secret
    entry.refresh_from_db()
    group.refresh_from_db()
    assert entry.primary_key_id == key_identifier(entry.primary_key) == after["key-1"]
    assert set(after["Line-9-1"].split()) == {key_identifier(derived), f"group:{group.primary_key_id}"}
    assert {name: len(ids) for name, ids in after.items()} == {name: len(ids) for name, ids in before.items()}
