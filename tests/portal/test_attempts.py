"""Attempts: finding one by name, outcome and tracking ID, and reading how it was decided (R3, R14)."""

import pytest
from django.test import Client

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Role
from tests.certificates import root
from tests.devices import enroll_ca, register
from tests.factories import a_service, a_user

CA = root("Plant CA")
URL = "/services/plant/attempts/"


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    service = a_service("plant")
    enroll_ca(service, CA, "plant-7")
    return service


@pytest.fixture
def auditor(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.AUDITOR, plant))
    return client


def page(client: Client, url: str = URL, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"pump-1", "odd-1"}),
        ({"q": "PUMP"}, {"pump-1"}),
        ({"outcome": "refused"}, {"odd-1"}),
        ({"outcome": "assigned"}, {"pump-1"}),
        ({"q": "pump", "outcome": "refused"}, set()),
        ({"outcome": "nonsense"}, set()),
    ],
)
def test_filter(auditor, plant, query, found):
    register(plant, CA.leaf("pump-1"))
    register(plant, root("Stranger").leaf("odd-1"))

    text = page(auditor, **query)

    assert {name for name in ("pump-1", "odd-1") if f">{name}</a>" in text} == found


def test_tracking_id_leads_to_its_attempt(auditor, plant):
    answer = register(plant, root("Stranger").leaf("odd-1"))

    found = auditor.get(URL, {"tracking_id": f" {answer.tracking_id} "})

    assert found["Location"] == f"{URL}{plant.attempts.get().pk}/"


def test_tracking_id_of_another_service_leads_nowhere(auditor):
    answer = register(a_service("lab"), root("Stranger").leaf("odd-1"))

    assert "No attempt has this tracking ID" in page(auditor, tracking_id=answer.tracking_id)


@pytest.mark.parametrize("text", ["hello", "00000000-0000-0000-0000-000000000000"])
def test_text_that_is_no_tracking_id_leads_nowhere(auditor, text):
    answer = auditor.get(URL, {"tracking_id": text})

    assert answer.status_code == 200
    assert 'class="field-errors"' in answer.content.decode()


def test_trace_is_told_step_by_step(auditor, plant):
    register(plant, CA.leaf("pump-1"))

    text = page(auditor, f"{URL}{plant.attempts.get().pk}/")

    steps = ["Rule R3", "Rule R5", "Rule R7"]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
    assert "enrollment group plant-7" in text
    assert "<ol" in text


def test_attempt_of_another_service_is_not_there(auditor):
    lab = a_service("lab")
    register(lab, root("Stranger").leaf("odd-1"))

    assert auditor.get(f"{URL}{lab.attempts.get().pk}/").status_code == 404


def test_overflow_row_is_explained(auditor, plant):
    register(plant, root("Stranger").leaf("odd-1"))
    row = plant.attempts.get()
    plant.attempts.update(claimed_registration_id=OVERFLOW_NAME, registration_key=OVERFLOW_NAME)

    assert "More unproven claims came within this hour" in page(auditor)
    assert "counted here together; shown is the latest" in page(auditor, f"{URL}{row.pk}/")


def test_what_a_device_claims_is_shown_as_text(auditor, plant):
    register(plant, root("Stranger").leaf("odd-1"))
    plant.attempts.update(client="<script>alert(1)</script>", entry_name="<b>x</b>")
    row = plant.attempts.get()

    for text in (page(auditor), page(auditor, f"{URL}{row.pk}/")):
        assert "<script>alert" not in text
        assert "<b>x</b>" not in text


def test_empty_list_says_what_will_be_there(auditor):
    assert "Each registration that a device tries is counted here" in page(auditor)


def test_list_states_its_queries(auditor, plant, django_assert_max_num_queries):
    for number in range(5):
        register(plant, CA.leaf(f"pump-{number}"))

    with django_assert_max_num_queries(12):
        page(auditor)
