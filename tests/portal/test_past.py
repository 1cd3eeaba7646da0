"""Back in time, in the portal: one device, all of a service, the difference, what is taken along, and who may (R17)."""

import csv
import io
import json
import re
import time
from datetime import datetime, timedelta
from functools import partial
from html import unescape
from pathlib import Path

import pytest
from django.conf import settings
from django.http import QueryDict
from django.test import Client
from django.utils import timezone
from django.utils.text import capfirst

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.history import note_export
from enrollments.actions.past import FleetLimits, Limits, look_back
from enrollments.actions.past.walking import may_change_who_comes_in
from enrollments.actions.revocation import deny_device
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.locks import if_nobody_else
from enrollments.policy.reasons import Reason
from enrollments.portal.forms_past import PastForm, in_address
from enrollments.portal.history_rows import rows_of
from enrollments.portal.past import page_of, shown_spells
from enrollments.portal.views import past
from tests.certificates import root, self_signed
from tests.devices import ALICE, demand_proof, enroll_ca, enroll_keys, prove, register
from tests.factories import a_service
from tests.portal.history_pages import a_row
from tests.preview.worlds import HOSTS, PLANT_ALONE, named

URL = "/services/plant/back-in-time/"
CA = root("Plant CA")


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    service = a_service("plant")
    enroll_ca(service, CA, "plant-7")
    for number in range(3):
        register(service, CA.leaf(f"pump-{number}"))
    return service


def page(client: Client, status: int = 200, **query: str) -> str:
    answer = client.get(URL, query)
    assert answer.status_code == status
    return answer.content.decode()


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def now() -> str:
    """A time that has passed: what happened by then counts as made, and what comes after does not."""
    told = in_address(timezone.now())
    while in_address(timezone.now()) <= told:
        time.sleep(0.0005)
    return told


def test_page_without_a_time_asks_for_one(auditor):
    text = page(auditor)

    assert "Look back" in text
    assert 'id="verdict"' not in text


def test_one_device_is_told_with_the_rows_that_made_the_difference(auditor, plant):
    at = now()
    deny_device(plant, "pump-1", actor=ALICE, reason="stolen")

    text = words(page(auditor, at=at, registration_id="pump-1"))

    assert "pump-1 could have registered at" in text
    assert "through enrollment group plant-7" in text
    assert "it would have been let in during one spell" in text.lower()
    assert "alice added, disabled from the start, individual enrollment pump-1" in text
    assert "Reason: stolen" in text
    assert "Row of the history, not yet sealed" in text
    assert "Step by step at that time" in text


def test_row_that_made_the_difference_is_named_by_its_place_and_a_link_away(
    auditor, plant, django_assert_num_queries
):
    at = now()
    disable_enrollment_group(plant, "plant-7", actor=ALICE, reason="recall 12")
    auditor.get("/services/plant/history/")  # that seals what waits
    row = HistoryEvent.objects.select_related("seal").latest("pk")

    html = page(auditor, at=at, registration_id="pump-1")
    (link,) = re.findall(rf'href="([^"]+)">Row #{row.seal.index} of the history<', html)

    answer = auditor.get(link)
    assert answer.context["row"].event == row
    assert f"#{row.seal.index}" in answer.content.decode()
    look = look_back(plant, "pump-1", datetime.fromisoformat(f"{at}Z"))
    with django_assert_num_queries(1):
        assert [one.event for one in shown_spells(plant, look)] == [None, row]


def test_it_is_said_where_a_device_has_proven_more_than_is_looked_at(auditor, plant, monkeypatch):
    renewed = root("Next CA")
    enroll_ca(plant, renewed, "plant-8", predecessor=plant.enrollmentgroups.get())
    register(plant, renewed.leaf("pump-1"))
    assert "has proven more" not in page(auditor, at=now(), registration_id="pump-1")
    monkeypatch.setattr("enrollments.actions.past.attempted.MOST_PROVEN", 1)

    text = words(page(auditor, at=now(), registration_id="pump-1"))

    assert "Not looked at pump-1 has proven more than 40 credentials" in text
    assert "pump-1 could have registered at" in text


def test_what_is_gone_is_named_and_leads_nowhere(auditor, plant):
    at = now()
    delete_enrollment_groups(plant, ["plant-7"], actor=ALICE)

    text = page(auditor, at=at, registration_id="pump-1")

    assert "enrollment group plant-7" in text
    assert "not there any more" in text
    assert "/groups/plant-7/" not in text


def test_a_proof_that_is_gone_is_shown_without_a_name_to_look_for(auditor, plant):
    demand_proof(plant)
    row = prove(plant, CA)
    at = now()
    delete_ca_certificate(plant, row.name, actor=ALICE)

    text = page(auditor, at=at, registration_id="pump-1")

    assert "pump-1 could have registered at" in words(text)
    assert "Possession verified" in text
    assert "/ca-certificates/%3F" not in text
    assert f"?{row.pk}" not in text


def test_all_devices_are_told_at_two_times_with_what_differs(auditor, plant):
    at = now()
    deny_device(plant, "pump-1", actor=ALICE)
    between = now()
    disable_enrollment_group(plant, "plant-7", actor=ALICE)

    text = words(page(auditor, at=at))
    assert "3 of 3 known devices could have registered at" in text
    assert "Shut out (3)" in text

    text = words(page(auditor, at=at, until=between, effect="refused"))
    assert "At both times (2)" in text
    assert "Shut out (1)" in text
    assert "pump-1" in text
    assert "pump-0" not in text


def test_it_is_said_since_when_attempts_were_looked_at_and_where_all_are(auditor, plant, monkeypatch):
    at = now()
    assert "Attempts before" not in page(auditor, at=at)
    monkeypatch.setattr(past, "FleetLimits", partial(FleetLimits, attempts=1))

    told = page(auditor, at=at)

    assert "UTC were looked at of devices that seem refused alone" in words(told)
    assert 'everyone=1">Examine all</a> leaves none out' in told
    assert "Attempts before" not in page(auditor, at=at, everyone="1")


def test_the_list_has_pages(auditor, plant, monkeypatch):
    text = page(auditor, at=now())
    assert "1 to 3 of 3 devices" in words(text)

    text = words(page(auditor, at=now(), after="pump-0"))
    assert "2 to 3 of 3 devices" in text


def test_export_is_what_is_filtered_and_leaves_a_row(auditor, plant):
    at = now()
    deny_device(plant, "pump-1", actor=ALICE)

    answer = auditor.get(f"{URL}export/", {"at": at, "effect": "refused"})
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [row["registration ID"] for row in rows] == ["pump-1"]
    assert (rows[0]["then"], rows[0]["later"]) == ("admitted", "disabled")
    row = HistoryEvent.objects.latest("pk")
    assert (row.event, row.after["effect"]) == ("history.exported", "refused")

    answer = auditor.get(f"{URL}export/", {"at": at, "format": "jsonl"})
    lines = [json.loads(line) for line in b"".join(answer.streaming_content).decode().splitlines()]
    assert [one["registration_id"] for one in lines] == ["pump-0", "pump-1", "pump-2"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        pytest.param({"at": ""}, "Give the time that is asked about.", id="no time"),
        pytest.param({"at": "yesterday"}, "Enter a valid date", id="no time at all"),
        pytest.param({"at": "2019-01-01T00:00"}, "nothing is known from before", id="before the history"),
        pytest.param({"at": "2190-01-01T00:00"}, "still to come", id="to come"),
        pytest.param({"registration_id": "a b"}, "is no registration ID", id="no registration ID"),
        pytest.param({"registration_id": "nobody"}, "Nothing is known about", id="unknown device"),
        pytest.param({"until": "2019-01-01T00:00"}, "before the time", id="in the wrong order"),
    ],
)
def test_what_cannot_be_asked_is_said_beside_its_field(auditor, query, sentence):
    assert sentence in words(page(auditor, status=422, **{"at": now(), **query}))


@pytest.mark.parametrize("microsecond", [0, 1, 345_678])
def test_time_at_which_the_history_is_said_to_begin_can_be_asked_about(auditor, plant, microsecond):
    begun = timezone.now().replace(microsecond=microsecond) - timedelta(hours=1)
    a_row(plant, "pump-9", begun, event="import.ended", subject_kind="import")

    text = words(page(auditor, status=422, at=in_address(begun - timedelta(microseconds=1))))
    named = re.search(r"begins at (\S+ \S+) UTC: nothing is known from before", text)

    assert "known devices could have registered at" in words(page(auditor, at=named[1]))


def test_device_that_only_tried_is_led_to_its_attempts_and_to_why(auditor, plant):
    """As the page does that asks what shut it out: it never proved anything."""
    assert register(plant, self_signed("odd-1")).outcome == "unauthorized"

    html = page(auditor, status=422, at=now(), registration_id="odd-1")
    (attempts,) = re.findall(r'href="([^"]+)">(?:(?!</a>).)*Attempts of this name<', html)
    (why,) = re.findall(r'href="([^"?]+\?[^"]+)">(?:(?!</a>).)*Explain<', html)

    (attempt,) = auditor.get(unescape(attempts)).context["page"].rows
    assert attempt.claimed_registration_id == "odd-1"
    said = Reason(attempt.reason).in_words
    assert capfirst(said) in unescape(auditor.get(unescape(why)).content.decode())
    assert "Attempts of this name" not in page(auditor, status=422, at="yesterday", registration_id="odd-1")


def test_too_many_changes_are_refused_with_the_way_out(auditor, plant, monkeypatch):
    at = now()
    deny_device(plant, "pump-1", actor=ALICE)
    deny_device(plant, "pump-2", actor=ALICE)
    monkeypatch.setattr(past, "Limits", lambda: Limits(rows=0))
    monkeypatch.setattr(past, "FleetLimits", lambda: FleetLimits(rows=1))

    for asked, answer in (
        ({"registration_id": "pump-1"}, "pump-1 could have registered at"),
        ({}, "3 of 3 known devices could have registered at"),
    ):
        html = page(auditor, status=409, at=at, **asked)
        assert "manage.py as_of" in words(html)
        (further,) = re.findall(r'href="([^"]+)">Go back over more of them', html)
        assert answer in words(auditor.get(unescape(further)).content.decode())


def test_a_row_of_the_history_leads_to_the_moment_at_which_it_counts(auditor, plant):
    deny_device(plant, "pump-1", actor=ALICE)
    row = HistoryEvent.objects.latest("pk")

    text = words(page(auditor, at=f"{row.at:%Y-%m-%dT%H:%M:%S.%f}", registration_id="pump-1"))

    assert "pump-1 could not have registered" in text


def test_the_history_leads_to_the_moment_of_each_of_its_rows(auditor, plant):
    deny_device(plant, "pump-1", actor=ALICE)

    (row, *_) = auditor.get("/services/plant/history/").context["rows"]
    text = auditor.get(row.own_url, headers={"HX-Request": "true"}).content.decode()

    found = re.search(r'href="(/services/plant/back-in-time/[^"]+)">could it have registered then', text)
    told = words(auditor.get(found[1].replace("&amp;", "&")).content.decode())
    assert "pump-1 could not have registered" in told


def compared_by(auditor: Client) -> str:
    """What the newest row's link to the difference leads to."""
    (row, *_) = auditor.get("/services/plant/history/").context["rows"]
    text = auditor.get(row.own_url).content.decode()
    found = re.search(
        r'href="(/services/plant/back-in-time/[^"]+)">which devices it let in or shut out', text
    )
    return auditor.get(found[1].replace("&amp;", "&")).content.decode()


def test_row_leads_to_what_it_changed_for_all_devices_without_a_time_being_typed(auditor, plant):
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    before = words(compared_by(auditor))
    enable_enrollment_group(plant, "plant-7", actor=ALICE)
    after = words(compared_by(auditor))

    assert "3 of 3 known devices could have registered at" in before
    assert "0 of 3 known devices could have registered at" in after


def test_page_begins_with_who_was_shut_out_and_let_in_and_leads_there(auditor, plant):
    deny_device(plant, "pump-0", actor=ALICE)
    at = now()
    assert "Between these times nobody was shut out or let in." in words(page(auditor, at=at))
    delete_enrollments(plant, ["pump-0"], actor=ALICE)
    for name in ("pump-1", "pump-2"):
        deny_device(plant, name, actor=ALICE)

    html = page(auditor, at=at)

    assert "Between these times 2 were shut out and 1 was let in ." in words(html)
    for link, names in (("2 were shut out", ["pump-1", "pump-2"]), ("1 was let in", ["pump-0"])):
        (url,) = re.findall(rf'href="([^"]+)">{link}<', html)
        shown = auditor.get(unescape(url)).context["page"].rows
        assert [one.registration_id for one in shown] == names


WHICH = "which devices it let in or shut out"


def test_row_that_can_change_nothing_offers_no_difference(auditor, plant):
    row = note_export("who could have registered, as CSV", {}, actor=ALICE, service=plant)
    assert WHICH not in auditor.get(f"/services/plant/history/rows/{row.pk}/").content.decode()

    deny_device(plant, "pump-1", actor=ALICE)
    row = HistoryEvent.objects.latest("pk")
    assert WHICH in auditor.get(f"/services/plant/history/rows/{row.pk}/").content.decode()


@pytest.mark.parametrize(
    ("event", "kind", "before", "may"),
    [
        ("enrollment.added", "IndividualEnrollment", None, True),
        ("group.disabled", "EnrollmentGroup", {"enabled": True}, True),
        ("service.changed", "ProvisioningService", {"proof_of_possession": False}, True),
        ("service.changed", "ProvisioningService", {"symmetric_key_groups": False}, True),
        ("service.changed", "ProvisioningService", {"attempts_kept_days": 30}, False),
        ("ca_certificate.verified", "CaCertificate", None, True),
        ("ca_certificate.added", "CaCertificate", None, False),
        ("registration.released", "RegistrationRecord", {"held_by": "a"}, True),
        ("device.deprovisioned", "RegistrationRecord", {"held_by": "a"}, True),
        ("device.assigned", "RegistrationRecord", {"entry": "a"}, False),
        ("keys.revealed", "EnrollmentGroup", None, False),
        ("history.checked", "history", None, False),
        ("action.refused", "refused:EnrollmentGroup", None, False),
        ("import.started", "import", None, False),
    ],
)
def test_what_may_change_who_comes_in_is_told_by_the_row(event, kind, before, may):
    row = HistoryEvent(event=event, subject_kind=kind, before=before)

    assert may_change_who_comes_in(row) is may


def test_row_of_one_act_on_many_entries_tells_of_all_that_the_act_did(auditor, plant):
    for number in (0, 1):
        deny_device(plant, f"pump-{number}", actor=ALICE)
    delete_enrollments(plant, ["pump-0", "pump-1"], actor=ALICE)

    told = words(compared_by(auditor))
    assert "1 of 3 known devices could have registered at" in told
    assert "Let in (2)" in told


def test_time_within_a_microsecond_of_a_change_is_taken_as_it_is(auditor, plant):
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    at = HistoryEvent.objects.latest("pk").at
    told = [in_address(at - timedelta(microseconds=1)), in_address(at)]

    html = page(auditor, at=told[0], until=told[1])

    assert f"{at - timedelta(microseconds=1):%Y-%m-%d %H:%M:%S.%f}" in html
    assert "3 of 3 known devices could have registered at" in words(html)
    assert "UTC: 0" in words(html)


@pytest.mark.parametrize(
    ("told", "kind"),
    [("2026-05-01T10:00:00.123", "datetime-local"), ("2026-05-01T10:00:00.123456", "text")],
)
def test_field_shows_a_time_that_browsers_can_show(told, kind):
    form = PastForm(QueryDict(f"at={told}"))

    assert f'type="{kind}"' in str(form["at"])
    assert f'value="{told}"' in str(form["at"])
    assert form.is_valid()
    assert in_address(form.chosen["at"]) == told


def test_before_a_switch_that_turned_by_itself_is_before_it_was_due(plant):
    at = timezone.now()
    due = at.replace(microsecond=0) - timedelta(minutes=3)
    before = {"status": "disabled", "until": f"{due:%Y-%m-%d %H:%M:%S} UTC"}
    event = a_row(plant, "pump-1", at, way="schedule", event="enrollment.enabled", before=before)

    (row,) = rows_of([event], plant)

    assert row.just_before == due - timedelta(microseconds=1)


def test_pages_of_a_device_lead_here(auditor, plant):
    enroll_keys(plant, "key-1")

    for url in ("/services/plant/registrations/pump-1/", "/services/plant/enrollments/i/key-1/"):
        answer = auditor.get(url)
        found = re.search(r'href="(/services/plant/back-in-time/\?[^"]+)"', answer.content.decode())
        assert found
        assert auditor.get(found[1].replace("&amp;", "&")).status_code == 200


def test_questions_do_not_grow_with_the_devices(auditor, plant, django_assert_max_num_queries):
    at = now()
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    with django_assert_max_num_queries(74):
        page(auditor, at=at)
    for number in range(3, 12):
        register(plant, CA.leaf(f"pump-{number}"))
    with django_assert_max_num_queries(74):
        page(auditor, at=at)


class TestExamineAll:
    """Devices below a CA that constrains names share with nobody what lies above them: each is judged by itself."""

    @pytest.fixture
    def at(self, plant, monkeypatch):
        """Before one of three such devices was shut out. At a glance one class is looked at, and no device alone."""
        monkeypatch.setattr(past, "FleetLimits", lambda: FleetLimits(singly=0))
        ca = root("Plant 9 CA", extensions=[(PLANT_ALONE, True)])
        enroll_ca(plant, ca, "plant-9")
        for number in range(3):
            register(plant, ca.leaf(f"valve-{number}", extensions=[named(HOSTS[0])]))
        at = now()
        deny_device(plant, "valve-1", actor=ALICE)
        return at

    def test_page_leads_to_all_and_so_do_its_tabs_its_pages_and_its_exports(self, auditor, plant, at):
        glance = page(auditor, at=at)
        assert "3</strong> known devices <strong>were not examined" in glance
        assert "3 of 3 known devices could have registered at" in words(glance)
        (every_url,) = re.findall(r'href="([^"]+)">Examine all', glance)

        every = auditor.get(unescape(every_url)).content.decode()

        assert "not examined" not in every
        assert "6 of 6 known devices could have registered at" in words(every)
        assert "UTC: 6" in words(every)
        (tab,) = re.findall(r'href="([^"]+)">Shut out', every)
        assert "valve-1" in auditor.get(unescape(tab)).content.decode()
        for export in re.findall(r'href="([^"]+/export/[^"]+)"', every):
            assert "everyone=1" in export
            told = b"".join(auditor.get(unescape(export)).streaming_content).decode()
            assert told.count("valve-") >= 3
        (device,) = re.findall(r'href="([^"]+)">valve-1<', every)
        assert "everyone" not in device, "of one device all is told at a glance"

    def test_next_page_is_of_all_of_them_and_they_are_examined_once(self, auditor, plant, at, monkeypatch):
        worked_out = []
        compare = past.compare

        def noting(*args, **more):
            worked_out.append(more["limits"])
            return compare(*args, **more)

        monkeypatch.setattr(past, "compare", noting)
        monkeypatch.setattr(past, "page_of", partial(page_of, size=2))

        first = page(auditor, at=at, everyone="1")
        (following,) = re.findall(r'rel="next" href="([^"]+)"', first)
        text = words(auditor.get(unescape(following)).content.decode())

        assert "3 to 4 of 6 devices" in text
        assert len(worked_out) == 1
        deny_device(plant, "valve-2", actor=ALICE)
        page(auditor, at=at, everyone="1")
        assert len(worked_out) == 2, "something was changed in the service"

    def test_difference_of_a_row_leads_to_all_as_well(self, auditor, plant, at):
        glance = compared_by(auditor)
        assert "3</strong> known devices <strong>were not examined" in glance
        (every_url,) = re.findall(r'href="([^"]+)">Examine all', glance)

        every = words(auditor.get(unescape(every_url)).content.decode())

        assert "6 of 6 known devices could have registered at" in every
        assert "Shut out (1)" in every

    def test_they_are_examined_for_one_page_at_a_time_previews_included(self, auditor, plant, at):
        with if_nobody_else(Path(settings.DPS_DATA_DIR) / "examining-all"):
            for more in ({}, {"registration_id": "valve-1"}):
                assert "load this page again when it is done" in page(
                    auditor, status=409, at=at, everyone="1", **more
                )
            page(auditor, at=at)
            assert auditor.get(f"{URL}export/", {"at": at, "everyone": "1"}).status_code == 409
        page(auditor, at=at, everyone="1")

    def test_where_nobody_was_examined_it_is_not_said_that_nobody_is_known(self, auditor, plant, at):
        plant.registrations.filter(registration_id__startswith="pump").delete()

        text = words(page(auditor, at=at))

        assert "known devices were not examined" in text
        assert "No device of this service is known" not in text
