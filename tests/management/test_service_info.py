"""`manage.py service_info`."""

import pytest

from enrollments.models import HistoryEvent
from tests.devices import new_service
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


def test_it_says_what_a_client_needs(settings):
    service = new_service("plant")
    settings.DPS_DEVICE_BIND = "localhost:8443"

    assert json_of("service_info") == {
        "name": "plant",
        "id_scope": service.id_scope,
        "device_endpoint": "https://localhost:8443",
        "service_endpoint": None,
        "connection_string": None,
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


def test_the_text_says_that_there_is_no_service_api_yet():
    service = new_service()

    text = printed_by("service_info")

    assert service.id_scope in text
    assert text.count("this version has no service API") == 2


def test_looking_discloses_nothing_and_leaves_no_row():
    new_service()
    before = HistoryEvent.objects.count()

    printed_by("service_info")

    assert HistoryEvent.objects.count() == before


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
