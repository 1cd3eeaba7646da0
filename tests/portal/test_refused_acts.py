"""A refused act is in the history of what it was about: of an entry, a device, and of several chosen together (R15)."""

import re
from typing import Any

import pytest
from django.test import Client

from enrollments.actions import refusals
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.roles import Role
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.factories import a_service, a_user
from tests.portal.history_pages import shown
from tests.tables import refused_rows

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("entries")]
PLANT = "/services/plant"


@pytest.fixture
def auditor(plant: ProvisioningService) -> Client:
    other = Client()
    other.force_login(a_user(Role.AUDITOR, plant, username="eve"))
    return other


def refusal() -> HistoryEvent:
    (row,) = refused_rows()
    return row


def events(client: Client, url: str) -> list[str]:
    return [row.event for row in shown(client, url)]


@pytest.mark.parametrize(
    ("path", "tabs"),
    [
        ("enrollments/i/PUMP-1/disable/", ("enrollments/i/pump-1/history/", "registrations/pump-1/history/")),
        ("groups/g/plant-7/disable/", ("groups/g/plant-7/history/",)),
        ("registrations/pump-1/deny/", ("registrations/pump-1/history/",)),
    ],
)
def test_refused_act_on_one_object_is_in_its_history(viewer, auditor, path, tabs):
    assert viewer.post(f"{PLANT}/{path}").status_code == 403

    assert refusal().after == {"tried": f"POST {PLANT}/{path}"}
    for tab in tabs:
        assert events(auditor, f"{PLANT}/{tab}")[0] == "action.refused"
    assert "action.refused" not in events(auditor, f"{PLANT}/enrollments/i/pump-2/history/")


def test_sentence_says_what_it_was_refused_on_and_leads_there(viewer, auditor):
    viewer.post(f"{PLANT}/enrollments/i/pump-1/disable/")

    text = auditor.get(f"{PLANT}/history/", {"event": "action.refused"}).content.decode()

    words = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert "some-viewer was refused an act on individual enrollment pump-1" in words
    assert "kind=IndividualEnrollment&amp;subject=%3Dpump-1" in text


def test_refused_act_on_chosen_entries_names_them(viewer, plant):
    pks = list(plant.individualenrollments.values_list("pk", flat=True))
    query = "&".join(f"entry={pk}" for pk in [*pks, 999])

    viewer.post(f"{PLANT}/enrollments/delete/?{query}")

    row = refusal()
    assert (row.subject_kind, row.subject_name) == ("action", f"POST {PLANT}/enrollments/delete/")
    assert row.after == {"kind": "IndividualEnrollment", "names": ["pump-1", "pump-2"]}


@pytest.mark.parametrize("tab", ["enrollments/i/PUMP-1/history/", "registrations/pump-1/history/"])
def test_refused_act_on_chosen_entries_is_in_the_history_of_each(viewer, auditor, plant, tab):
    enroll_device(plant, self_signed("pump-10"), registration_id="pump-10")
    chosen = plant.individualenrollments.exclude(registration_id="pump-10").values_list("pk", flat=True)

    viewer.post(f"{PLANT}/enrollments/delete/?{'&'.join(f'entry={pk}' for pk in chosen)}")

    other = tab.replace("PUMP-1", "pump-10").replace("pump-1/", "pump-10/")
    assert events(auditor, f"{PLANT}/{tab}") == ["action.refused", "enrollment.added"]
    assert events(auditor, f"{PLANT}/{tab}?event=action.refused") == ["action.refused"]
    assert events(auditor, f"{PLANT}/{tab}?event=enrollment.added") == ["enrollment.added"]
    assert events(auditor, f"{PLANT}/{tab}?event=shuts-out") == []
    assert events(auditor, f"{PLANT}/{tab}?reason=nothing") == []
    assert events(auditor, f"{PLANT}/{other}") == ["enrollment.added"]
    assert events(viewer, f"{PLANT}/{tab}") == ["action.refused"], "what one did oneself"


def test_refused_act_on_chosen_groups_is_in_the_history_of_each_and_of_no_device(viewer, auditor, plant):
    enroll_ca(plant, root("Other CA"), "pump-1")
    chosen = plant.enrollmentgroups.values_list("pk", flat=True)

    viewer.post(f"{PLANT}/groups/disable/?{'&'.join(f'entry={pk}' for pk in chosen)}")

    for group in ("plant-7", "pump-1"):
        assert events(auditor, f"{PLANT}/groups/g/{group}/history/")[0] == "action.refused"
    assert events(auditor, f"{PLANT}/registrations/pump-1/history/") == ["enrollment.added"]


def test_refused_act_on_entries_of_the_same_names_elsewhere_is_not_theirs(client, auditor, plant):
    lab = a_service("lab")
    theirs = [enroll_device(lab, self_signed(name), registration_id=name) for name in ("pump-1", "pump-2")]
    client.force_login(a_user(Role.VIEWER, lab, username="zoe"))

    client.post(f"/services/lab/enrollments/delete/?{'&'.join(f'entry={one.pk}' for one in theirs)}")

    assert refusal().after == {"kind": "IndividualEnrollment", "names": ["pump-1", "pump-2"]}
    assert events(auditor, f"{PLANT}/enrollments/i/pump-1/history/") == ["enrollment.added"]


def test_refused_act_on_one_chosen_group_is_in_the_history_of_that(viewer, auditor, plant):
    viewer.post(f"{PLANT}/groups/disable/?entry={plant.enrollmentgroups.get().pk}")

    assert events(auditor, f"{PLANT}/groups/g/plant-7/history/")[0] == "action.refused"


def test_entries_of_another_service_are_not_named(viewer):
    lab = a_service("lab")
    foreign = enroll_device(lab, self_signed("secret-1"), registration_id="secret-1")

    viewer.post(f"{PLANT}/enrollments/delete/?entry={foreign.pk}")

    assert refusal().after is None


def test_refused_denial_of_an_attempt_is_in_the_history_of_its_device(viewer, auditor, plant):
    register(plant, root("Stranger").leaf("odd-1"))
    attempt = plant.attempts.get()

    viewer.post(f"{PLANT}/attempts/{attempt.pk}/deny/")

    assert events(auditor, f"{PLANT}/registrations/odd-1/history/") == ["action.refused"]


def test_row_names_a_bounded_number_and_says_how_many_more(plant, monkeypatch):
    monkeypatch.setattr(refusals, "MAX_NAMED", 3)
    names = tuple(f"pump-{number}" for number in range(5))

    refusals.note_refusal(
        refusals.Tried("POST /x/", "IndividualEnrollment", names), actor=ALICE, service=plant
    )

    assert refusal().after == {"kind": "IndividualEnrollment", "names": list(names[:3]), "further": 2}


def test_name_that_nothing_can_have_is_not_written_into_the_row(plant):
    tried: Any = refusals.Tried("POST /x/", "IndividualEnrollment", ("a\x00b", "x" * 500))

    refusals.note_refusal(tried, actor=ALICE, service=plant)

    assert (refusal().subject_kind, refusal().subject_name, refusal().after) == ("action", "POST /x/", None)
