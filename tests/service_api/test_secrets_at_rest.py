"""A copy of the database opens nothing: no key, no token and no session stands in it as it is used."""

import base64

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client

from dpsportal import settings as portal
from enrollments.actions.access_policies import add_policy, regenerate_policy_key, reveal_policy_keys
from enrollments.actions.api_tokens import add_api_token
from enrollments.models import AccessPolicy, EnrollmentGroup, HubDevice, IndividualEnrollment
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.devices import ALICE, enroll_key_group, enroll_keys, register, signs
from tests.factories import a_user
from tests.service_api.conftest import error_of, keys

pytestmark = pytest.mark.django_db


def everything_stored():
    """All values of all tables, past the application."""
    values = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            values += [str(value) for row in cursor.fetchall() for value in row]
    return "\n".join(values)


def test_what_is_stored_opens_nothing(service, api, settings):
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]
    administrator = a_user(Role.ADMINISTRATOR, service)
    add_policy(service, "fleet-sync", list(AccessRight), actor=ALICE)
    regenerate_policy_key(service, "fleet-sync", "primary", actor=ALICE)
    reveal_policy_keys(service, "fleet-sync", actor=ALICE)
    token = add_api_token(
        service, administrator, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE
    )[1]
    keyed = enroll_keys(service, "pump-042")
    register(service, signs(service, "pump-042", keyed.primary_key), "pump-042")
    enroll_key_group(service)
    webhook = {"webhookUrl": "https://hooks.example/pick?code=s3cr3tcode", "apiVersion": "2021-10-01"}
    api.put(
        "/enrollments/hooked",
        keys("hooked", allocationPolicy="custom", customAllocationDefinition=webhook),
    )
    api.put("/enrollments/pump-042", keys(), If_Match="*")
    api.post("/enrollments/pump-042/attestationmechanism")
    settings.ROOT_URLCONF = "dpsportal.urls"
    browser = Client()
    browser.force_login(administrator)

    secrets = [
        getattr(row, column)
        for model in (AccessPolicy, IndividualEnrollment, EnrollmentGroup, HubDevice)
        for row in model.objects.all()
        for column in ("primary_key", "secondary_key")
    ]
    secrets += [token, browser.cookies["sessionid"].value, "s3cr3tcode", settings.DPS_ENCRYPTION_KEY]
    stored = everything_stored()

    assert all(secrets)
    assert len(set(secrets)) > 12
    assert "pump-042" in stored
    assert [one for one in secrets if one in stored] == []
    assert [one for one in secrets if one[:24] in stored] == []


def test_a_session_of_the_database_is_none_of_a_browser(service, client, settings):
    settings.ROOT_URLCONF = "dpsportal.urls"
    settings.MIDDLEWARE = portal.MIDDLEWARE
    client.force_login(a_user(Role.ADMINISTRATOR))
    assert client.get("/people/").status_code == 200
    stored = Session.objects.get().session_key

    thief = Client()
    thief.cookies["sessionid"] = stored
    assert thief.get("/people/").status_code == 302

    assert client.post("/sign-out/").status_code == 302
    assert not Session.objects.filter(session_key=stored).exists()
    assert client.get("/people/").status_code == 302


def test_errors_repeat_no_key(api, caplog):
    key = base64.b64encode(b"secret-key-of-a-device-0123456789" * 2).decode()
    caplog.set_level("DEBUG")
    wrong = {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": 7}}
    short = {"type": "symmetricKey", "symmetricKey": {"primaryKey": key[:8] + "=", "secondaryKey": key}}

    for attestation in (wrong, short):
        status, _code, message = error_of(api.put("/enrollments/pump-042", keys(attestation=attestation)))

        assert status == 400
        assert key[:8] not in message
    assert key[:8] not in caplog.text
