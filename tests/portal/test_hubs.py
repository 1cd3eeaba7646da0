"""Linked hubs: linking, changing and unlinking one."""

from dataclasses import replace

import pytest

from enrollments.actions.registrations import register_device
from enrollments.actions.services import change_settings
from enrollments.models import HistoryEvent, LinkedHub, ProvisioningService
from enrollments.policy.roles import Role
from tests.certificates import root
from tests.devices import ALICE, asks, enroll_ca, register, shows
from tests.factories import a_service, a_user

URL = "/services/plant/hubs/"
NEW = {
    "name": "north",
    "host_name": "North.hub.internal",
    "allocation_weight": "2",
    "latency_ms": "10",
    "apply_allocation_policy": "on",
    "reason": "second site",
}


@pytest.fixture
def built_in(plant: ProvisioningService) -> LinkedHub:
    return plant.hubs.get()


def test_hub_is_linked_and_recorded(admin, plant):
    answer = admin.post(f"{URL}add/", NEW)

    assert answer["Location"] == URL
    hub = plant.hubs.get(name="north")
    assert (hub.host_name, hub.allocation_weight) == ("north.hub.internal", 2)
    assert HistoryEvent.objects.filter(event="hub.linked").latest("id").reason == "second site"


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"name": "built-in"}, "already exists"),
        ({"host_name": "plant.hub.internal"}, "already exists"),
        ({"allocation_weight": "0"}, "greater than or equal to 1"),
        ({"allocation_weight": "1001"}, "less than or equal to 1000"),
        ({"latency_ms": "-1"}, "greater than or equal to 0"),
        ({"name": ""}, "This field is required."),
    ],
)
def test_hub_is_not_linked(admin, plant, entered, sentence):
    answer = admin.post(f"{URL}add/", {**NEW, **entered})

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert plant.hubs.count() == 1


def test_weight_is_changed_and_the_name_is_not(admin, built_in):
    admin.post(
        f"{URL}{built_in.pk}/",
        {"name": "other", "host_name": "other.example", "allocation_weight": "7", "latency_ms": "3"},
    )

    built_in.refresh_from_db()
    assert (built_in.name, built_in.allocation_weight, built_in.apply_allocation_policy) == (
        "built-in",
        7,
        False,
    )
    assert HistoryEvent.objects.get(event="hub.changed").after == {
        "allocation_weight": 7,
        "latency_ms": 3,
        "apply_allocation_policy": False,
    }


def test_hub_is_unlinked_after_a_question(admin, plant, built_in):
    assert "Unlink hub built-in?" in admin.get(f"{URL}{built_in.pk}/unlink/").content.decode()
    assert plant.hubs.exists()

    admin.post(f"{URL}{built_in.pk}/unlink/", {"reason": "moved"})

    assert not plant.hubs.exists()
    assert HistoryEvent.objects.get(event="hub.unlinked").reason == "moved"


def test_hub_that_holds_devices_stays_and_the_page_says_why(admin, plant, built_in):
    ca = root("Plant CA")
    enroll_ca(plant, ca, "plant-7")
    register(plant, ca.leaf("pump-1"))

    answer = admin.post(f"{URL}{built_in.pk}/unlink/", follow=True)

    assert "still holds 1 device identity and 1 registration record" in answer.content.decode()
    assert plant.hubs.exists()


def test_hub_of_another_service_is_not_there(admin):
    other = a_service("lab").hubs.get()

    for path in ("", "unlink/", "devices/"):
        assert admin.get(f"{URL}{other.pk}/{path}").status_code == 404
    assert admin.post(f"{URL}{other.pk}/unlink/").status_code == 404
    assert LinkedHub.objects.filter(pk=other.pk).exists()


def test_list_counts_devices_and_states_its_queries(admin, plant, django_assert_max_num_queries):
    ca = root("Plant CA")
    enroll_ca(plant, ca, "plant-7")
    for number in range(3):
        register(plant, ca.leaf(f"pump-{number}"))
        admin.post(f"{URL}add/", {**NEW, "name": f"n{number}", "host_name": f"n{number}.internal"})

    with django_assert_max_num_queries(5):
        answer = admin.get(URL)

    assert sum(hub.device_count for hub in answer.context["hubs"]) == 3


def test_without_a_hub_the_next_step_is_named(admin, client, plant):
    plant.hubs.all().delete()
    assert "Link one." in admin.get(URL).content.decode()

    client.force_login(a_user(Role.VIEWER, plant))
    assert "An administrator of the service can link one." in client.get(URL).content.decode()


@pytest.mark.parametrize(
    ("entered", "latencies"),
    [
        ("", {}),
        ("west: 12", {"west": 12}),
        ("West : 12\r\n\r\n  north:7 \r\n", {"west": 12, "north": 7}),
        ("a:b: 3", None),
        ("öst: 0", {"öst": 0}),
        (f"{'x' * 50}: 1", {"x" * 50: 1}),
    ],
)
def test_latencies_by_region_are_read_line_by_line(admin, built_in, entered, latencies):
    answer = admin.post(f"{URL}{built_in.pk}/", {**NEW, "region_latencies": entered})

    built_in.refresh_from_db()
    assert answer.status_code == (422 if latencies is None else 302)
    assert built_in.region_latencies == (latencies or {})


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ("west", "&#x27;west&#x27; cannot be read: write a line such as west: 12."),
        (": 12", "cannot be read"),
        ("west: -1", "cannot be read"),
        ("west: 1.5", "cannot be read"),
        ("west: ١٢", "cannot be read"),
        ("west: 1234567", "cannot be read"),
        (f"{'x' * 51}: 1", "cannot be read"),
        ("west: 1\nWEST: 2", "The region WEST stands there twice"),
        ("west: 1\n" * 600, "at most 4000 characters"),
    ],
)
def test_latencies_that_cannot_be_read_change_nothing(admin, plant, built_in, entered, sentence):
    changed = admin.post(f"{URL}{built_in.pk}/", {**NEW, "region_latencies": entered})
    linked = admin.post(f"{URL}add/", {**NEW, "region_latencies": entered})

    for answer in (changed, linked):
        assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["region_latencies"])
        assert sentence in answer.content.decode()
    built_in.refresh_from_db()
    assert (built_in.region_latencies, plant.hubs.count()) == ({}, 1)


def test_latencies_stand_in_list_and_form_by_the_name_of_the_region(admin, plant):
    admin.post(f"{URL}add/", {**NEW, "region_latencies": "west: 12\nnorth: 7"})
    hub = plant.hubs.get(name="north")

    listed, form = admin.get(URL).content.decode(), admin.get(f"{URL}{hub.pk}/").content.decode()

    assert listed.index("from north 7 ms") < listed.index("from west 12 ms")
    assert "north: 7\nwest: 12</textarea>" in form
    assert HistoryEvent.objects.filter(event="hub.linked").latest("id").after["region_latencies"] == {
        "west": 12,
        "north": 7,
    }


def test_region_in_the_payload_of_a_device_picks_the_hub(admin, plant, built_in):
    change_settings(plant, {"allocation_policy": "geoLatency"}, actor=ALICE)
    admin.post(f"{URL}add/", {**NEW, "region_latencies": "west: 1"})
    admin.post(f"{URL}{built_in.pk}/", {**NEW, "latency_ms": "5"})
    ca = root("Plant CA")
    enroll_ca(plant, ca, "plant-7")
    plant.refresh_from_db()

    hubs = {
        region: register_device(
            plant, replace(asks(name, shows(ca.leaf(name))), payload={"region": region})
        ).record.hub.name
        for name, region in (("pump-1", "West"), ("pump-2", "east"))
    }

    assert hubs == {"West": "north", "east": "built-in"}
