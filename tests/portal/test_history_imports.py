"""Rows that imports made: they name the import, lead to all of it, and are found by it (R1, R15, R17)."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.imports import KEPT, forget_old_imports
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ImportRun
from enrollments.policy.roles import Role
from enrollments.transfer import work
from tests.devices import ALICE, enroll_keys, register, signs
from tests.factories import a_service, a_user
from tests.portal.history_pages import URL, a_row, sentences, shown
from tests.transfer.lists import imported, keys

NAMES = [f"pump-{number}" for number in range(6)]


@pytest.fixture(autouse=True)
def starter(monkeypatch, db):
    """Six lines are three portions, of whoever starts imports."""
    monkeypatch.setattr(work, "CHUNK_LINES", 2)
    a_user(Role.ADMINISTRATOR, None, "alice")


@pytest.fixture
def run(plant) -> ImportRun:
    for name in NAMES:
        enrollment = enroll_keys(plant, name)
        register(plant, signs(plant, name, enrollment.primary_key), name)
    return imported(plant, *[{"registrationId": name, "operation": "disable"} for name in NAMES])


def row_of(name: str) -> HistoryEvent:
    return HistoryEvent.objects.get(event=Event.ENROLLMENT_DISABLED.value, subject_name=name)


def page_of(client: Client, row: HistoryEvent) -> str:
    return client.get(f"{URL}rows/{row.pk}/").content.decode()


def links(text: str) -> dict[str, str]:
    return {
        label: unescape(url) for url, label in re.findall(r'<a [^>]*href="([^"]*)"[^>]*>([^<]+)</a>', text)
    }


def test_rows_and_the_page_of_one_name_the_import_and_lead_to_it(auditor, run):
    page = reverse("portal:import-detail", args=["plant", run.pk])

    of_device = auditor.get("/services/plant/registrations/pump-3/history/", {"event": "shuts-out"})

    (sentence,) = sentences(of_device)[:1]
    assert sentence == "alice disabled individual enrollment pump-3, by import list.jsonl Shut it out"
    assert links(of_device.content.decode())["list.jsonl"] == page
    assert links(page_of(auditor, row_of("pump-3")))["list.jsonl"] == page


def test_when_the_import_is_forgotten_they_lead_to_the_row_that_says_that_it_was_started(auditor, plant, run):
    ImportRun.objects.update(ended_at=timezone.now() - KEPT - timedelta(days=1))
    forget_old_imports(plant)
    started = HistoryEvent.objects.get(event=Event.IMPORT_STARTED.value)

    assert links(page_of(auditor, row_of("pump-3")))["list.jsonl"] == f"{URL}rows/{started.pk}/"
    assert {row.subject_name for row in shown(auditor, by_import=str(run.pk))} >= set(NAMES)


def test_whoever_may_not_see_imports_is_led_to_a_row_of_their_own(plant, run):
    started = HistoryEvent.objects.get(event=Event.IMPORT_STARTED.value)
    alice = User.objects.get(username="alice")
    joined = alice.date_joined
    alice.delete()
    viewer = a_user(Role.VIEWER, plant, "alice")
    User.objects.filter(pk=viewer.pk).update(date_joined=joined)
    client = Client()
    client.force_login(viewer)

    there = links(page_of(client, row_of("pump-3")))

    assert there["list.jsonl"] == f"{URL}rows/{started.pk}/"
    assert client.get(there["list.jsonl"]).status_code == 200
    assert client.get(reverse("portal:import-detail", args=["plant", run.pk])).status_code == 403


def test_in_the_history_of_the_installation_as_well(run):
    client = Client()
    client.force_login(a_user(Role.AUDITOR, None, "anna"))

    text = client.get(f"/history/rows/{row_of('pump-3').pk}/").content.decode()

    assert links(text)["list.jsonl"] == reverse("portal:import-detail", args=["plant", run.pk])
    assert links(text)["all rows of this import"] == f"{URL}?by_import={run.pk}"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"request_id": "import {pk}x 0011"}, id="another number"),
        pytest.param({"request_id": "import 99999 0011"}, id="none that was started"),
        pytest.param({"request_id": "an import {pk} 0011"}, id="not at its beginning"),
        pytest.param({"request_id": "import {pk} 0011", "actor_name": "bob"}, id="not by who started it"),
    ],
)
def test_a_row_that_no_import_made_names_none(auditor, plant, run, more):
    more |= {"request_id": more["request_id"].format(pk=run.pk)}
    row = a_row(plant, "valve", timezone.now(), **more)

    assert "list.jsonl" not in page_of(auditor, row)


def test_a_row_of_another_service_or_from_before_names_none(plant, run):
    other, at = a_service("other"), timezone.now()
    foreign = a_row(other, "valve", at, request_id=f"import {run.pk} 0011")
    client = Client()
    client.force_login(a_user(Role.AUDITOR, other, "anna"))

    text = client.get(f"/services/other/history/rows/{foreign.pk}/").content.decode()

    assert "valve" in text
    assert "list.jsonl" not in text
    assert shown(client, "/services/other/history/", by_import=str(run.pk)) == []


def test_what_the_whole_import_shut_out_is_a_link_away(auditor, plant, run):
    disabled = HistoryEvent.objects.filter(event=Event.ENROLLMENT_DISABLED.value).order_by("pk")
    assert len({row.at for row in disabled}) == 3, "each portion has a time of its own"

    there = links(page_of(auditor, row_of("pump-3")))
    of_portion = auditor.get(there["which devices it let in or shut out"]).content.decode()
    of_all = auditor.get(there["which devices were let in or shut out during the whole import"])

    assert re.search(r"Shut out\s*\(2\)", re.sub(r"<[^>]+>", "", of_portion))
    assert re.search(r"Shut out\s*\(6\)", re.sub(r"<[^>]+>", "", of_all.content.decode()))
    assert of_all.context["said"].at == disabled[0].at - timedelta(microseconds=1)
    assert of_all.context["said"].until == disabled[5].at


def test_of_an_import_that_has_not_ended_the_end_is_now(auditor, plant, run):
    enroll_keys(plant, "later")
    started = HistoryEvent.objects.get(event=Event.IMPORT_STARTED.value)
    columns = {"event": started.event, "subject_kind": "import", "subject_id": "777"}
    a_row(plant, "slow.csv", timezone.now(), **columns)
    row = a_row(plant, "later", timezone.now(), request_id="import 777 0011")

    there = links(page_of(auditor, row))["which devices were let in or shut out during the whole import"]

    assert "until=" not in there


def test_all_rows_of_an_import_and_no_others_are_found(auditor, plant, run):
    between = row_of("pump-3").at
    a_row(plant, "by-somebody-else", between)
    disable_enrollment(plant, enroll_keys(plant, "after").registration_id, actor=ALICE)

    found = shown(auditor, by_import=str(run.pk))

    names = sorted((row.event, row.subject_name) for row in found)
    ends = [("import.ended", "list.jsonl"), ("import.started", "list.jsonl")]
    assert names == [*(("enrollment.disabled", name) for name in NAMES), *ends]
    assert {row.subject_name for row in shown(auditor, by_import=str(run.pk), event="shuts-out")} == set(
        NAMES
    )
    assert shown(auditor, by_import=str(run.pk + 1)) == []
    assert shown(auditor, by_import=f"{run.pk}0") == []


def test_the_page_of_an_import_leads_to_its_rows(auditor, run):
    text = auditor.get(reverse("portal:import-detail", args=["plant", run.pk])).content.decode()

    assert f'href="{URL}?by_import={run.pk}"' in text
    assert 'value="' + str(run.pk) + '"' in auditor.get(URL, {"by_import": run.pk}).content.decode()


@pytest.mark.parametrize("number", ["x", "0", "-1", "1.5", "9" * 30])
def test_what_is_no_number_of_an_import_is_said_and_finds_nothing(auditor, run, number):
    answer = auditor.get(URL, {"by_import": number})

    assert answer.status_code == 200
    assert answer.context["form"].errors
    assert answer.context["rows"] == []


def test_names_of_imports_take_one_query_for_all_rows(auditor, plant, run):
    for number in range(3):
        imported(plant, keys(f"valve-{number}"))
    auditor.get(URL)  # seals what waits

    with CaptureQueriesContext(connection) as queries:
        text = auditor.get(URL).content.decode()

    assert text.count("by import") == len(NAMES) + 3
    of_imports = [one["sql"] for one in queries if "import.started" in one["sql"]]
    assert len(of_imports) == 1


def test_the_page_of_a_row_states_its_queries(auditor, run, django_assert_max_num_queries):
    row = row_of("pump-3")
    page_of(auditor, row)  # seals what waits

    # Four more than of another row, which has eight: which import that is, when it ended, its first row and its last.
    with django_assert_max_num_queries(12):
        page_of(auditor, row)


@pytest.mark.parametrize("ahead", [0, 1], ids=["clocks agree", "the node that started it is a second ahead"])
def test_rows_of_nodes_whose_clocks_differ_are_of_the_import(auditor, plant, ahead):
    at = timezone.now()
    about = {"event": "import.started", "subject_kind": "import", "subject_id": "777"}
    a_row(plant, "slow.csv", at + timedelta(seconds=ahead), **about)
    row = a_row(plant, "pump-1", at, request_id="import 777 0011")

    assert ">slow.csv</a>" in page_of(auditor, row)
    assert {one.subject_name for one in shown(auditor, by_import="777")} == {"slow.csv", "pump-1"}
