"""Back in time, in the portal: who was shut out with what it had shown last, and whose a name was (R11)."""

import csv
import io
import json
import re
from html import unescape

import pytest

from enrollments.actions.certificates import parsed
from enrollments.actions.enrollment_groups import change_enrollment_group, disable_enrollment_group
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.past import FleetLimits
from enrollments.models import HistoryEvent, Slot
from enrollments.portal.views import past
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.factories import a_service
from tests.portal.test_past import now, page, words

pytestmark = pytest.mark.django_db


@pytest.fixture
def plant(db):
    return a_service("plant")


@pytest.fixture
def renewed(plant):
    """A device that has come below one CA, and then below the one that follows it."""
    old, new = root("RN-1"), root("RN-2")
    enroll_ca(plant, old, "rn-1")
    enroll_ca(plant, new, "rn-2", predecessor=plant.enrollmentgroups.get())
    leaves = old.leaf("pump-1"), new.leaf("pump-1")
    for leaf in leaves:
        assert register(plant, leaf).outcome == "assigned"
    return leaves


def linked(html: str, words_of_link: str) -> str:
    (link,) = re.findall(rf'href="([^"]+)">{words_of_link}', html)
    return unescape(link)


def test_a_record_leads_to_who_shut_its_device_out(auditor, plant, renewed):
    disable_enrollment_group(plant, "rn-2", actor=ALICE, reason="CA 2 stolen")
    assert [register(plant, leaf).outcome for leaf in renewed] == ["failed", "disabled"]

    record = auditor.get("/services/plant/registrations/pump-1/").content.decode()
    (link,) = re.findall(r'href="([^"]+)"[^>]*>Who shut it out', record)
    text = words(auditor.get(unescape(link)).content.decode())

    assert "It could have come in, and was shut out, 1 time" in text
    assert "CA 2 stolen" in text
    assert "At no time" not in text


class TestBothCouldCome:
    @pytest.fixture(autouse=True)
    def free(self, plant, renewed):
        """An older certificate that is refused by no name: both CAs may have it."""
        first, second = (plant.enrollmentgroups.get(group_id=name) for name in ("rn-1", "rn-2"))
        pem = first.certificates.get().certificate.pem
        spec = GroupSpec(certificates={Slot.PRIMARY: parsed(pem)}, predecessor=second)
        change_enrollment_group(plant, "rn-1", spec, expected_etag=first.etag, actor=ALICE)
        disable_enrollment_group(plant, "rn-2", actor=ALICE)

    def test_the_history_of_the_device_names_the_other_one_too(self, auditor):
        url = "/services/plant/registrations/pump-1/history/"

        text = words(auditor.get(url, {"event": "shuts-out"}).content.decode())

        assert "was shut out, 1 time" in text
        assert "By another credential that is known of it, it could still have come in" in text

    def test_the_row_tells_of_it_with_the_numbers_of_who_could(self, auditor):
        row = HistoryEvent.objects.filter(event="group.disabled").latest("pk")
        html = auditor.get(f"/services/plant/history/rows/{row.pk}/").content.decode()

        text = words(auditor.get(linked(html, "which devices it let in or shut out")).content.decode())

        assert "1 of 1 known devices could have registered" in text
        assert "Shut out (1)" in text
        assert "1 of those that were shut out were so by what they had shown last." in text
        assert re.search(r"Otherwise it could have come in by the certificate \(SHA-256 \w+\), through", text)

    def test_the_page_of_the_device_says_it(self, auditor):
        text = words(page(auditor, at=now(), registration_id="pump-1"))
        assert "with what it had shown last" not in text

        row = HistoryEvent.objects.filter(event="group.disabled").latest("pk")
        html = auditor.get(f"/services/plant/history/rows/{row.pk}/").content.decode()
        fleet = auditor.get(linked(html, "which devices it let in or shut out")).content.decode()
        alone = words(auditor.get(linked(fleet, "pump-1")).content.decode())
        assert "pump-1 was shut out with what it had shown last" in alone


def test_a_name_that_another_entry_held_is_told_of_one_and_of_all(auditor, plant, monkeypatch):
    first, second = root("A"), root("B")
    enroll_ca(plant, first, "a")
    enroll_ca(plant, second, "b")
    assert register(plant, first.leaf("q-1")).outcome == "assigned"
    assert register(plant, second.leaf("q-1")).outcome == "failed"
    disable_enrollment_group(plant, "a", actor=ALICE)
    at = now()

    alone = words(page(auditor, at=at, registration_id="q-1"))
    assert "could not have registered" in alone
    assert "its name was held through enrollment group a" in alone
    assert "R11" in alone
    fleet = words(page(auditor, at=at))
    assert "0 of 1 known devices could have registered" in fleet
    assert "by enrollment group b, while enrollment group a held the name" in fleet
    assert "Too many registration IDs" not in fleet

    enroll_device(plant, root("Other").leaf("x-1"))
    assert register(plant, second.leaf("y-1")).outcome == "assigned"
    monkeypatch.setattr(past, "FleetLimits", lambda: FleetLimits(names=0))
    assert "Too many registration IDs were assigned" in words(page(auditor, at=at))


def exported(client, at, **asked):
    answer = client.get("/services/plant/back-in-time/export/", {"at": at, **asked})
    return b"".join(answer.streaming_content).decode()


def test_an_export_says_of_whom_it_was_not_asked_whose_the_name_was(auditor, plant, monkeypatch):
    first, second = root("A"), root("B")
    enroll_ca(plant, first, "a")
    enroll_ca(plant, second, "b", enabled=False)
    assert register(plant, first.leaf("q-1")).outcome == "assigned"
    assert register(plant, second.leaf("q-2")).outcome == "disabled"
    at = now()
    enroll_device(plant, root("Other").leaf("x-1"))
    assert register(plant, first.leaf("y-1")).outcome == "assigned"

    rows = csv.DictReader(io.StringIO(exported(auditor, at)))
    assert {row["not asked"] for row in rows} == {""}

    monkeypatch.setattr(past, "FleetLimits", lambda: FleetLimits(names=0))
    rows = csv.DictReader(io.StringIO(exported(auditor, at)))
    told = {row["registration ID"]: row["not asked"] for row in rows}
    assert told["q-1"].startswith("whose its name was (R11)")
    assert told["q-2"] == ""
    lines = map(json.loads, exported(auditor, at, format="jsonl").splitlines())
    assert {one["registration_id"]: one["not_asked"] for one in lines} == told
