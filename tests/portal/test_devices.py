"""Devices of a hub: identity, twin, keys for those who may see them, deregistering (R13, R17)."""

import pytest
from django.test import Client

from enrollments.models import HistoryEvent, HubDevice, IndividualEnrollment, ProvisioningService
from enrollments.policy.roles import Role
from tests.actions.test_tpm import TpmDevice, enroll_tpm
from tests.certificates import root
from tests.devices import enroll_ca, register, signs
from tests.factories import a_service, a_user, an_individual
from tests.soft_tpm import SoftTpm

CA = root("Plant CA")


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    service = a_service("plant")
    enroll_ca(
        service, CA, "plant-7", initial_twin={"tags": {"hall": "<Ä>"}, "properties": {"desired": {"rate": 5}}}
    )
    return service


@pytest.fixture
def url(plant: ProvisioningService) -> str:
    return f"/services/plant/hubs/{plant.hubs.get().pk}/devices/"


@pytest.fixture
def keyed(plant: ProvisioningService) -> IndividualEnrollment:
    entry = an_individual(plant, "keyed-001", keys=True)
    register(plant, signs(plant, "keyed-001", entry.primary_key), "keyed-001")
    return entry


def page(client: Client, url: str, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_device_shows_identity_owner_and_twin(admin, plant, url):
    register(plant, CA.leaf("Pump-042"))

    text = page(admin, f"{url}pump-042/")

    assert HubDevice.objects.get().thumbprint_sha256 in text
    assert "/services/plant/registrations/Pump-042/" in text
    assert "&quot;hall&quot;: &quot;&lt;Ä&gt;&quot;" in text
    assert "&quot;rate&quot;: 5" in text


def test_keys_are_not_on_the_page_before_they_are_asked_for(admin, keyed, url):
    text = page(admin, f"{url}keyed-001/")

    assert "Show keys" in text
    assert HubDevice.objects.get().primary_key not in text


def test_keys_are_shown_to_administrators_and_that_is_recorded(admin, keyed, url):
    answer = admin.post(f"{url}keyed-001/keys/")

    device = HubDevice.objects.get()
    text = answer.content.decode().replace("&#x27;", "'")
    assert device.primary_key in text
    assert device.secondary_key in text
    assert "no-store" in answer["Cache-Control"]
    row = HistoryEvent.objects.get(event="keys.revealed")
    assert (row.actor_name, row.subject_name) == ("some-administrator", "keyed-001")
    assert device.primary_key not in f"{row.before}{row.after}"


def test_keys_are_not_shown_by_a_get(admin, keyed, url):
    assert admin.get(f"{url}keyed-001/keys/").status_code == 405
    assert not HistoryEvent.objects.filter(event="keys.revealed").exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.OPERATOR])
def test_keys_are_not_shown_to_others(client, plant, keyed, url, role):
    client.force_login(a_user(role, plant))

    answer = client.post(f"{url}keyed-001/keys/")

    assert answer.status_code == 403
    assert HubDevice.objects.get().primary_key not in answer.content.decode()
    assert "Show keys" not in page(client, f"{url}keyed-001/")


def test_keys_that_cannot_be_recorded_are_not_shown(admin, keyed, url, monkeypatch):
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the history cannot be written")

    monkeypatch.setattr("enrollments.actions.hubs.record", broken)

    with pytest.raises(RuntimeError):
        admin.post(f"{url}keyed-001/keys/")


def test_device_with_a_certificate_has_no_keys(admin, plant, url):
    register(plant, CA.leaf("pump-042"))

    answer = admin.post(f"{url}pump-042/keys/")

    assert answer.status_code == 404
    assert "it has no keys to show" in answer.content.decode()


def test_deregistering_asks_then_removes_and_lets_the_device_come_back(admin, plant, url):
    leaf = CA.leaf("pump-042")
    register(plant, leaf)
    question = page(admin, f"{url}pump-042/deregister/")
    assert "comes back as soon as it registers again" in question
    assert HubDevice.objects.exists()

    admin.post(f"{url}pump-042/deregister/", {"reason": "swap"})

    assert not HubDevice.objects.exists()
    assert HistoryEvent.objects.get(event="device.deregistered").reason == "swap"
    assert register(plant, leaf).outcome == "assigned"


def test_device_that_is_gone_is_not_found(admin, plant, url):
    assert admin.post(f"{url}pump-042/deregister/").status_code == 404
    assert admin.get(f"{url}pump-042/").status_code == 404


def test_list_finds_by_beginning_and_states_its_queries(admin, plant, url, django_assert_max_num_queries):
    for number in range(4):
        register(plant, CA.leaf(f"pump-{number}"))

    with django_assert_max_num_queries(6):
        text = page(admin, url, q="PUMP-2")

    assert f"{url}pump-2/" in text
    assert f"{url}pump-1/" not in text


def test_empty_lists_say_what_to_do_next(admin, url):
    assert "An identity appears here when" in page(admin, url)
    assert "No device fits" in page(admin, url, q="x")


def test_the_one_key_of_a_tpm_is_shown_alone(admin, plant, url):
    tpm = SoftTpm(0)
    enroll_tpm(plant, tpm)
    device = TpmDevice(plant, tpm)
    device.challenge()
    device.prove(1)

    text = admin.post(f"{url}press-01/keys/").content.decode()

    assert HubDevice.objects.get().primary_key in text
    assert ("Primary key" in text, "Secondary key" in text) == (True, False)
