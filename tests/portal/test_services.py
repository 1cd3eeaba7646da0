"""All resources, adding a service, and the overview of one."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from enrollments.models import (
    AttemptOutcome,
    HistoryEvent,
    LinkedHub,
    ProvisioningService,
    RegistrationAttempt,
)
from enrollments.policy.roles import Role
from enrollments.portal.views.overview import last_day
from tests.certificates import root
from tests.devices import enroll_ca, register
from tests.factories import a_service, a_user, an_individual


@pytest.fixture
def admin(client: Client, db: None) -> Client:
    client.force_login(a_user(Role.ADMINISTRATOR))
    return client


def attempt(
    service: ProvisioningService, name: str, outcome: AttemptOutcome, at: datetime, count: int = 1
) -> RegistrationAttempt:
    return RegistrationAttempt.objects.create(
        service=service,
        hour=at.replace(minute=0, second=0, microsecond=0),
        claimed_registration_id=name,
        registration_key=name,
        outcome=outcome,
        reason="admitted" if outcome == AttemptOutcome.ASSIGNED else "not_enrolled",
        count=count,
        first_at=at,
        last_at=at,
    )


def test_all_resources_shows_scope_counts_and_role(admin, plant):
    an_individual(plant, "pump-1")
    an_individual(plant, "pump-2", enabled=False)

    page = admin.get("/").content.decode()

    assert plant.id_scope in page
    assert "(1 disabled)" in page
    assert "Administrator" in page


def test_only_own_services_are_shown(client, plant):
    a_service("lab")
    client.force_login(a_user(Role.VIEWER, plant))

    page = client.get("/").content.decode()

    assert "/services/plant/" in page
    assert "/services/lab/" not in page
    assert "Add service" not in page


@pytest.mark.parametrize("page", ["", "history/", "enrollments/", "enrollments/add/", "imports/"])
def test_each_page_of_a_service_says_beside_its_heading_whose_it_is(admin, plant, page):
    """Where the navigation is folded away, nothing else does."""
    shown = admin.get(f"/services/plant/{page}").content.decode()

    crumbs = shown.split('<nav aria-label="Breadcrumb">')[1].split("</nav>")[0]
    assert ">plant<" in crumbs


def test_number_of_queries_does_not_grow_with_services(admin, plant, django_assert_max_num_queries):
    for number in range(10):
        a_service(f"lab-{number}")

    with django_assert_max_num_queries(10):
        admin.get("/")


def test_without_any_service_the_next_step_is_named(admin, client, db):
    assert "Begin by adding one." in admin.get("/").content.decode()

    client.force_login(a_user(Role.VIEWER, a_service("lab"), "elsewhere"))
    ProvisioningService.objects.get(name="lab").memberships.all().delete()

    assert "An administrator of the installation can give you a role" in client.get("/").content.decode()


def test_service_is_added_and_recorded(admin):
    answer = admin.post("/services/add/", {"name": "lab", "description": "Benches"})

    assert answer["Location"] == "/services/lab/"
    service = ProvisioningService.objects.get(name="lab")
    row = HistoryEvent.objects.get(event="service.added")
    assert (row.actor_name, row.after) == (
        "some-administrator",
        {"name": "lab", "id_scope": service.id_scope},
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Plant", "Use lower-case letters, digits and inner hyphens."),
        ("plant", "already exists"),
        ("add", "A service cannot be named add"),
        ("", "This field is required."),
        ("../x", "Use lower-case letters"),
    ],
)
def test_service_with_such_a_name_is_not_added(admin, plant, name, sentence):
    answer = admin.post("/services/add/", {"name": name})

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert ProvisioningService.objects.count() == 1


def test_overview_says_what_a_device_needs(admin, plant, settings):
    settings.DPS_DEVICE_BIND = "dps.example:8443"

    page = admin.get("/services/plant/").content.decode()

    assert plant.id_scope in page
    assert "https://dps.example:8443" in page
    assert f"https://dps.example:8443/{plant.id_scope}/registrations/pump-001&#x27;" in page
    assert "$DEVICE/register?api-version=" in page
    assert "$DEVICE/operations/$OPERATION?api-version=" in page
    assert "--cert device.pem --key device.key --cacert" in page
    assert ".venv/bin/python manage.py simulate --service plant" in page


def test_listener_on_every_interface_is_shown_by_the_name_in_use(admin, plant, settings):
    settings.DPS_DEVICE_BIND = "0.0.0.0:9443"
    settings.ALLOWED_HOSTS = ["portal.example"]

    page = admin.get("/services/plant/", headers={"host": "portal.example:8000"}).content.decode()

    assert "https://portal.example:9443" in page
    assert "0.0.0.0" not in page


def test_overview_warns_when_no_hub_is_linked(admin, plant):
    assert "No hub is linked" not in admin.get("/services/plant/").content.decode()

    LinkedHub.objects.all().delete()

    assert "No hub is linked" in admin.get("/services/plant/").content.decode()


def test_hours_are_summed_by_outcome(plant):
    now = datetime(2026, 5, 3, 14, 20, tzinfo=UTC)
    attempt(plant, "pump-1", AttemptOutcome.ASSIGNED, now, 3)
    attempt(plant, "pump-2", AttemptOutcome.ASSIGNED, now - timedelta(minutes=10))
    attempt(plant, "odd", AttemptOutcome.REFUSED, now, 7)
    attempt(plant, "pump-3", AttemptOutcome.DISABLED, now - timedelta(hours=23), 2)
    attempt(plant, "pump-4", AttemptOutcome.FAILED, now - timedelta(hours=24), 100)
    attempt(a_service("lab"), "other", AttemptOutcome.REFUSED, now, 50)

    buckets = last_day(plant, now)

    assert len(buckets) == 24
    assert (buckets[0].label, buckets[-1].label) == ("15:00", "14:00")
    assert (buckets[-1].admitted, buckets[-1].refused) == (4, 7)
    assert (buckets[0].admitted, buckets[0].refused) == (0, 2)
    assert sum(bucket.refused for bucket in buckets) == 9


@pytest.mark.usefixtures("time_stands_still")
def test_overview_lists_refusals_with_their_trace(admin, plant):
    ca = root("Plant CA")
    enroll_ca(plant, ca, "plant-7")
    register(plant, ca.leaf("pump-1"))
    register(plant, root("Stranger").leaf("odd-1"))
    row = plant.attempts.get(registration_key="odd-1")

    page = admin.get("/services/plant/").content.decode()

    assert f"/services/plant/attempts/{row.pk}/" in page
    assert "Nothing is enrolled that fits" in page
    assert "1 admitted, 1 refused" in page


def test_viewer_sees_figures_and_neither_refusals_nor_history_nor_sums_of_them(client, plant):
    """R17."""
    attempt(plant, "odd-1", AttemptOutcome.REFUSED, timezone.now(), 4711)
    client.force_login(a_user(Role.VIEWER, plant))

    page = client.get("/services/plant/").content.decode()

    assert "Registration records" in page
    assert "Refused within a day" not in page
    assert "4711" not in page and "4,711" not in page
    assert "admitted, " not in page
    assert "odd-1" not in page
    assert "Changed lately" not in page


def test_overview_states_its_queries(admin, plant, django_assert_max_num_queries):
    ca = root("Plant CA")
    enroll_ca(plant, ca, "plant-7")
    for number in range(8):
        register(plant, ca.leaf(f"pump-{number}"))

    with django_assert_max_num_queries(14):
        admin.get("/services/plant/")
