"""`manage.py service_info`."""

import pytest

from enrollments.actions.access_policies import change_policy
from enrollments.actions.services import change_settings
from enrollments.models import HistoryEvent
from tests.devices import ALICE, new_service
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


def test_it_says_what_a_client_needs(settings):
    service = new_service("plant")
    settings.DPS_DEVICE_BIND = "localhost:8443"

    assert json_of("service_info") == {
        "name": "plant",
        "id_scope": service.id_scope,
        "device_endpoint": "https://localhost:8443",
        "service_endpoint": "https://localhost:8443",
        "connection_string": "HostName=localhost:8443;SharedAccessKeyName=provisioningserviceowner;"
        f"SharedAccessKey={service.access_policies.get().primary_key}",
        "ca_certificate": f"{settings.DPS_DATA_DIR}/tls/ca.pem",
    }


@pytest.mark.parametrize(
    ("bind", "endpoint"),
    [
        ("0.0.0.0:8443", "https://localhost:8443"),
        ("[::]:443", "https://localhost:443"),
        ("[::1]:8443", "https://[::1]:8443"),
        ("dps.example:443", "https://dps.example:443"),
    ],
)
def test_the_endpoint_is_one_that_can_be_dialled(settings, bind, endpoint):
    new_service()
    settings.DPS_DEVICE_BIND = bind

    assert json_of("service_info")["device_endpoint"] == endpoint


def test_with_a_certificate_of_the_operators_own_the_ca_is_theirs(settings, tmp_path):
    new_service()
    settings.DPS_TLS_CERT = tmp_path / "server.pem"

    assert json_of("service_info")["ca_certificate"] is None
    assert "the CA that issued DPS_TLS_CERT" in printed_by("service_info")


@pytest.mark.parametrize(
    ("bind", "host_name", "host"),
    [
        ("localhost:443", None, "localhost"),
        ("0.0.0.0:443", "dps.example", "dps.example"),
        ("[::1]:8443", None, "[::1]:8443"),
        ("localhost:8443", "dps.example", "dps.example:8443"),
    ],
)
def test_back_ends_are_told_the_host_that_they_dial(settings, bind, host_name, host):
    service = new_service()
    change_settings(service, {"host_name": host_name}, actor=ALICE)
    settings.DPS_DEVICE_BIND = bind

    told = json_of("service_info")

    assert told["service_endpoint"] == f"https://{host}"
    assert told["connection_string"].startswith(f"HostName={host};")


def no_host_name(service):
    new_service("lab")


def keys_switched_off(service):
    change_settings(service, {"shared_access_keys": False}, actor=ALICE)


def policy_disabled(service):
    policy = service.access_policies.get()
    change_policy(
        service,
        policy.name,
        rights=policy.access_rights,
        enabled=False,
        expected_etag=policy.etag,
        actor=ALICE,
    )


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (no_host_name, "no host name"),
        (keys_switched_off, "switched off"),
        (policy_disabled, "no access policy with all rights is enabled"),
    ],
)
def test_where_there_is_no_connection_string_the_text_says_why(made, why):
    made(new_service())

    assert json_of("service_info", "--service", "plant")["connection_string"] is None
    assert why in printed_by("service_info", "--service", "plant")


def test_printing_the_connection_string_is_recorded_and_leaving_it_out_is_not():
    new_service()
    before = HistoryEvent.objects.count()

    assert "Connection string  none: not asked for" in printed_by("service_info", "--without-keys")
    assert HistoryEvent.objects.count() == before
    assert "Connection string  HostName=" in printed_by("service_info")

    row = HistoryEvent.objects.latest("pk")
    assert (row.event, row.subject_name, row.way) == (
        "keys.revealed",
        "provisioningserviceowner",
        "command line",
    )


@pytest.mark.parametrize(
    ("services", "asked", "code", "sentence"),
    [
        ([], [], 1, "There is no provisioning service yet"),
        (["plant"], ["--service", "lab"], 1, "There are: plant"),
        (["lab", "plant"], [], 2, "one of: lab, plant"),
    ],
    ids=["none", "unknown", "several"],
)
def test_a_service_that_cannot_be_told_is_asked_for(services, asked, code, sentence):
    for name in services:
        new_service(name)

    assert refusal_of("service_info", *asked)[0] == code
    assert sentence in refusal_of("service_info", *asked)[1]


def test_among_several_the_named_one_is_told():
    new_service("lab")
    plant = new_service("plant")

    assert json_of("service_info", "--service", "plant")["id_scope"] == plant.id_scope
