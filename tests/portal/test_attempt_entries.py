"""Which entry decided an attempt, where it is deleted, and where another one of its name was added since."""

import pytest
from django.test import Client

from enrollments.actions.enrollment_groups import delete_enrollment_groups
from enrollments.actions.kept_attempts import tracking_id_of_latest
from enrollments.models import ProvisioningService, RegistrationAttempt
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, register

CA = root("Plant CA")
ATTEMPTS = "/services/plant/attempts/"
GROUP = "/services/plant/groups/g/plant-7/"


@pytest.fixture
def attempt(plant: ProvisioningService) -> RegistrationAttempt:
    enroll_ca(plant, CA, "plant-7")
    register(plant, CA.leaf("pump-042"))
    return plant.attempts.get()


def page(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def pages(client: Client, attempt: RegistrationAttempt) -> list[str]:
    """Whatever tells who decided it."""
    explained = f"/services/plant/explain/?tracking_id={tracking_id_of_latest(attempt)}"
    urls = f"{ATTEMPTS}{attempt.pk}/", explained, ATTEMPTS, "/services/plant/registrations/pump-042/"
    return [page(client, url) for url in urls]


def test_entry_that_is_still_there_is_linked(auditor, attempt):
    for text in pages(auditor, attempt):
        assert GROUP in text
        assert "(deleted" not in text


def test_deleted_entry_is_named_as_such(auditor, plant, attempt):
    delete_enrollment_groups(plant, ["plant-7"], actor=ALICE)

    for text in pages(auditor, attempt):
        assert GROUP not in text
        assert 'plant-7</span> <span class="quiet">(deleted)</span>' in text


def test_another_of_its_name_has_not_decided_and_says_since_when_it_is_there(auditor, plant, attempt):
    delete_enrollment_groups(plant, ["plant-7"], actor=ALICE)
    enroll_ca(plant, CA, "plant-7")
    since = plant.enrollmentgroups.get().created_at

    own, explained, *lists = pages(auditor, attempt)

    for text in (own, explained, *lists):
        assert f'<a class="id-text" href="{GROUP}">' not in text
        assert f'<a class="step-name" href="{GROUP}">' not in text
    for text in (own, explained):
        assert "(deleted; another of this name was added at <time" in text
        assert f"{since:%Y-%m-%d %H:%M:%S}</time> UTC)" in text
    for text in lists:
        assert "(deleted; another has its name now)" in text


def test_what_the_other_one_decides_leads_to_it(auditor, plant, attempt):
    delete_enrollment_groups(plant, ["plant-7"], actor=ALICE)
    enroll_ca(plant, CA, "plant-7")
    register(plant, CA.leaf("pump-042"))

    former, latter = plant.attempts.order_by("pk")

    assert former == attempt
    assert "(deleted; another" in page(auditor, f"{ATTEMPTS}{former.pk}/")
    assert f'<a class="id-text" href="{GROUP}">' in page(auditor, f"{ATTEMPTS}{latter.pk}/")
