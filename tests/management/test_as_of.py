"""`manage.py as_of`: the past for one device and for all, in words, as JSON and as a file."""

import csv

import pytest
from django.utils import timezone

from enrollments.actions.revocation import deny_device
from enrollments.models import HistoryEvent, ProvisioningService
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, register
from tests.factories import a_service
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def at():
    """A moment before one of two devices was shut out."""
    service = a_service("plant")
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant-7")
    for number in range(2):
        register(service, ca.leaf(f"pump-{number}"))
    before = timezone.now().isoformat()
    deny_device(service, "pump-1", actor=ALICE, reason="stolen")
    return before


def test_one_device_is_told_in_words(at):
    told = printed_by("as_of", at, "--device", "pump-1")

    assert "pump-1 could have registered at" in told
    assert "it would have been let in during one spell, through enrollment group plant-7." in told
    assert "alice added, disabled from the start, individual enrollment pump-1 (row ID" in told


def test_one_device_is_told_as_json(at):
    told = json_of("as_of", at, "--device", "pump-1")

    assert (told["verdict"], told["entry"]) == ("admitted", "enrollment group plant-7")
    assert [one["verdict"] for one in told["spells"]] == ["admitted", "disabled"]
    assert told["spells"][1]["history_row"] == HistoryEvent.objects.latest("pk").pk
    assert told["trace"]


def test_where_a_device_has_proven_more_than_is_looked_at_that_is_told_too(at, monkeypatch):
    service = ProvisioningService.objects.get(name="plant")
    renewed = root("Next CA")
    enroll_ca(service, renewed, "plant-8", predecessor=service.enrollmentgroups.get())
    register(service, renewed.leaf("pump-0"))
    assert "has proven more" not in printed_by("as_of", at, "--device", "pump-0")
    assert json_of("as_of", at, "--device", "pump-0")["has_proven_more"] is False
    monkeypatch.setattr("enrollments.actions.past.attempted.MOST_PROVEN", 1)

    assert "pump-0 has proven more than 40 credentials" in printed_by("as_of", at, "--device", "pump-0")
    assert json_of("as_of", at, "--device", "pump-0")["has_proven_more"] is True


def test_all_devices_are_told_and_written_to_a_file(at, tmp_path):
    file = tmp_path / "devices.csv"

    told = printed_by("as_of", at, "--csv", str(file))

    assert "2 of 2 known devices could have registered at" in told
    assert "1 shut out: pump-1." in told
    rows = {row["registration ID"]: row for row in csv.DictReader(file.open())}
    assert (rows["pump-1"]["then"], rows["pump-1"]["later"]) == ("admitted", "disabled")
    told = json_of("as_of", at)
    assert (told["could_at"], told["could_until"]) == (2, 1)
    (out,) = (one for one in told["devices"] if one["effect"] == "refused")
    assert (out["registration_id"], out["then"], out["later_by"]) == (
        "pump-1",
        "admitted",
        "individual enrollment pump-1",
    )


def test_what_cannot_be_asked_is_refused(at, tmp_path):
    code, sentence = refusal_of("as_of", "2019-01-01")
    assert code == 1
    assert "nothing is known from before" in sentence
    assert refusal_of("as_of", at, "--device", "nobody")[0] == 1
    code, sentence = refusal_of("as_of", at, "--device", "pump-1", "--csv", str(tmp_path / "x.csv"))
    assert (code, sentence) == (2, "--csv writes all devices of a service: leave --device out.")
    _, sentence = refusal_of("as_of", "yesterday")
    assert "give a time such as" in sentence
