"""`manage.py explain`."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.registrations import Outcome
from enrollments.actions.schedule import as_text
from enrollments.models import HistoryEvent, RegistrationAttempt, RegistrationRecord
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
    new_service,
    register,
    signs,
)
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def ca(service):
    ca = root("Plant")
    enroll_ca(service, ca)
    return ca


def rules(explained) -> list[tuple[str, str]]:
    return [(step["rule"], step["said"]) for step in explained["trace"]]


def test_a_chain_is_followed_step_by_step(service, ca, tmp_path):
    certificates, _ = ca.intermediate("Line").leaf("pump-1").write(tmp_path)

    explained = json_of("explain", "--certificate", str(certificates))

    assert (explained["registration_id"], explained["verdict"]) == ("pump-1", "admit")
    assert explained["entry"] == "enrollment group plant"
    assert rules(explained) == [("R3", "proves"), ("R5", "has no say"), ("R7", "admits")]
    assert "2 steps above" in explained["trace"][2]["because"]


def test_a_barring_intermediate_is_named(service, ca, tmp_path):
    line = ca.intermediate("Line")
    enroll_ca(service, line, enabled=False)
    certificates, _ = line.leaf("pump-1").write(tmp_path)

    text = printed_by("explain", "--certificate", str(certificates))

    assert "enrollment group line: bars" in text
    assert text.endswith(
        "Verdict: disabled (an enrollment group to which its chain or key leads is disabled), decided by enrollment "
        "group line\n"
    )


def test_a_certificate_can_be_judged_under_another_name(service, ca, tmp_path):
    certificates, _ = ca.leaf("pump-1").write(tmp_path)

    explained = json_of("explain", "--certificate", str(certificates), "--registration-id", "pump-2")

    assert (explained["verdict"], explained["reason"]) == ("unauthorized", "common_name_differs")


def test_explaining_changes_nothing(service, ca, tmp_path):
    certificates, _ = ca.leaf("pump-1").write(tmp_path)
    before = HistoryEvent.objects.count()

    printed_by("explain", "--certificate", str(certificates))

    assert HistoryEvent.objects.count() == before
    assert not RegistrationRecord.objects.exists()
    assert not RegistrationAttempt.objects.exists()


def test_a_tracking_id_leads_to_the_cause(service, ca):
    answer = register(service, self_signed("stranger"))
    assert answer.outcome is Outcome.UNAUTHORIZED

    explained = json_of("explain", "--tracking-id", answer.tracking_id)
    text = printed_by("explain", "--tracking-id", answer.tracking_id)

    assert (explained["registration_id"], explained["reason"]) == ("stranger", "not_enrolled")
    assert explained["from"]["address"] == "198.51.100.20"
    assert rules(explained)[0] == ("R3", "proves nothing")
    assert "Verdict: unauthorized" in text
    assert "test device" in text


def test_a_tracking_id_of_another_service_leads_nowhere(service, ca):
    new_service("lab")
    answer = register(service, self_signed("stranger"))

    code, sentence = refusal_of("explain", "--service", "lab", "--tracking-id", answer.tracking_id)

    assert code == 1
    assert "Nothing is kept" in sentence


def test_a_known_device_is_judged_anew_by_what_it_showed_last(service, ca):
    line = ca.intermediate("Line")
    register(service, line.leaf("pump-1"))
    enroll_ca(service, line, enabled=False)

    explained = json_of("explain", "--registration-id", "PUMP-1")

    assert explained["basis"] == "the chain with which it proved itself last"
    assert (explained["verdict"], explained["entry"]) == ("disabled", "enrollment group line")


@pytest.mark.parametrize(("enabled", "verdict"), [(True, "admit"), (False, "disabled")])
@pytest.mark.parametrize("mechanism", ["x509", "symmetric"])
def test_a_device_that_never_came_is_judged_by_what_is_enrolled(service, mechanism, enabled, verdict):
    if mechanism == "x509":
        enroll_device(service, self_signed("meter-1"), enabled=enabled)
    else:
        enroll_keys(service, "meter-1", enabled=enabled)

    explained = json_of("explain", "--registration-id", "meter-1")

    assert explained["verdict"] == verdict
    assert explained["entry"] == "individual enrollment meter-1"


def test_no_key_is_printed(service):
    entry = enroll_keys(service, "gauge-1")

    text = printed_by("explain", "--registration-id", "gauge-1")

    assert entry.primary_key not in text
    assert "sig=" not in text


def test_a_device_without_any_credential_of_its_own_is_explained_by_its_last_attempt(service):
    keys = enroll_keys(service, "gauge-1")
    register(service, signs(service, "gauge-9", keys.primary_key), "gauge-9")

    explained = json_of("explain", "--registration-id", "gauge-9")

    assert (explained["basis"], explained["verdict"]) == ("one attempt", "unauthorized")


def test_a_tpm_is_judged_as_if_it_had_answered(service):
    enroll_tpm(service, "press-01")

    explained = json_of("explain", "--registration-id", "press-01")

    assert (explained["verdict"], explained["entry"]) == ("admit", "individual enrollment press-01")


def test_a_device_that_a_group_with_keys_would_know_can_be_asked_about(service):
    enroll_key_group(service)

    explained = json_of("explain", "--registration-id", "gauge-7", "--group", "line-9")

    assert (explained["verdict"], explained["entry"]) == ("admit", "enrollment group line-9")


@pytest.mark.parametrize(("at", "verdict"), [("2031-03-01T12:00", "unauthorized"), ("2026-12-01", "admit")])
def test_another_time_shows_what_will_have_expired(service, tmp_path, at, verdict):
    ca = root("Plant", not_after=datetime(2040, 1, 1, tzinfo=UTC))
    enroll_ca(service, ca)
    leaf = ca.leaf(
        "pump-1", not_before=datetime(2025, 1, 1, tzinfo=UTC), not_after=datetime(2031, 1, 1, tzinfo=UTC)
    )
    certificates, _ = leaf.write(tmp_path)

    explained = json_of("explain", "--certificate", str(certificates), "--at", at)

    assert (explained["verdict"], explained["at"][:10]) == (verdict, at[:10])


def test_the_path_and_the_deciding_step_are_marked(service, ca, tmp_path):
    certificates, _ = ca.intermediate("Line").leaf("pump-1").write(tmp_path)

    text = printed_by("explain", "--certificate", str(certificates))

    assert (
        "    CN=Line: sent, valid\n    CN=Plant: valid, enrolled in enrollment group plant, possession not verified\n"
        in text
    )
    assert "enrollment group plant: admits (this decides)" in text


def test_without_proof_no_entry_is_said_to_have_decided(service):
    until = (timezone.now() + timedelta(days=20)).replace(microsecond=0)
    enroll_device(service, self_signed("pump-7", not_after=until))
    later = (timezone.now() + timedelta(days=30)).isoformat()

    text = printed_by("explain", "--registration-id", "pump-7", "--at", later)

    assert "the certificate CN=pump-7: proves nothing (this decides)" in text
    assert text.endswith(
        f"Verdict: unauthorized (the device certificate expired on {until:%Y-%m-%d %H:%M:%S} UTC), concerning "
        "individual enrollment pump-7\n"
    )
    assert "decided by" not in text


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        ([], 2, "Give --certificate, --tracking-id, --registration-id or --group"),
        (["--registration-id", "nobody"], 1, "Nothing is kept about registration ID nobody"),
        (["--registration-id", "not an ID"], 2, "is no registration ID"),
        (["--tracking-id", "x", "--registration-id", "y"], 2, "stands alone"),
        (["--group", "nowhere"], 1, "There is no enrollment group nowhere"),
        (["--group", "nowhere", "--at", "9000-01-01"], 2, "Give a time from 1990 to 2200"),
        (["--tracking-id", "not-a-uuid"], 1, "Nothing is kept"),
        (["--certificate", "no-such-file"], 2, "cannot be read"),
        (["--registration-id", "x", "--at", "tomorrow"], 2, "give one such as 2030-03-01"),
        (["--registration-id", "x", "--at", "9000-01-01"], 2, "Give a time from 1990 to 2200"),
    ],
)
def test_what_cannot_be_explained_is_said(service, options, code, sentence):
    refused, said = refusal_of("explain", *options)

    assert refused == code
    assert sentence in said


def test_a_group_alone_is_told_by_what_stands_above_it_at_the_time_that_is_asked_about(service):
    ca = root("Plant", not_after=datetime(2036, 1, 1, tzinfo=UTC))
    line = ca.intermediate("Line", not_after=datetime(2040, 1, 1, tzinfo=UTC))
    enroll_ca(service, ca)
    enroll_ca(service, line)

    text = printed_by("explain", "--group", "LINE", "--at", "2037-01-01")
    told = json_of("explain", "--group", "line")

    assert text.startswith(
        "Enrollment group line in service plant\nAt               2037-01-01T00:00:00+00:00\n"
    )
    assert "    CN=Line: valid, enrolled in enrollment group line," in text
    assert "    CN=Plant: expired, enrolled in enrollment group plant," in text
    assert [[one["validity"] for one in chain] for chain in told["chains"]] == [["valid", "valid"]]


def test_a_group_with_keys_has_nothing_above_it(service):
    enroll_key_group(service)

    assert "give --registration-id with it" in printed_by("explain", "--group", "line-9")


def test_of_who_proved_nothing_no_other_time_is_told(service):
    register(service, self_signed("stray-3"))

    code, sentence = refusal_of("explain", "--registration-id", "stray-3", "--at", "2030-01-01")

    assert code == 2
    assert sentence.startswith("No credential of stray-3 is known, so nothing can be judged at another time.")
    assert "one attempt" in printed_by("explain", "--registration-id", "stray-3")


@pytest.mark.parametrize("what", ["text", "key", "two names"])
def test_files_that_hold_no_such_chain_are_refused(service, tmp_path, what):
    device = self_signed("one", "two")
    texts = {"text": "hello", "key": device.pem + device.key_pem, "two names": device.pem}
    sentences = {"text": "no certificate", "key": "private key", "two names": "2 common names"}
    file = tmp_path / "file"
    file.write_text(texts[what])

    code, sentence = refusal_of("explain", "--certificate", str(file))

    assert code == (2 if what == "two names" else 1)
    assert sentences[what] in sentence


def test_a_time_to_come_counts_what_is_scheduled_and_what_expires(service, ca, tmp_path):
    pump = ca.leaf("pump-1", not_after=timezone.now() + timedelta(days=20))
    certificates, _ = pump.write(tmp_path)
    now = timezone.now()
    disable_enrollment_group(service, "plant", at=now + timedelta(days=5), actor=ALICE)
    rows = HistoryEvent.objects.count()

    def at(days):
        moment = (now + timedelta(days=days)).isoformat()
        explained = json_of("explain", "--certificate", str(certificates), "--at", moment)
        assert explained["at"] == moment
        return explained["verdict"], explained["reason"]

    assert [at(days) for days in (4, 6, 21)] == [
        ("admit", "admitted"),
        ("disabled", "group_disabled"),
        ("unauthorized", "leaf_refused"),
    ]
    assert HistoryEvent.objects.count() == rows


def test_a_token_is_made_for_the_time_that_is_asked_about(service):
    enroll_keys(service, "pump-1")
    until = timezone.now() + timedelta(days=5)
    disable_enrollment(service, "pump-1", until=until, actor=ALICE)

    before, after = (
        json_of("explain", "--registration-id", "pump-1", "--at", (until + span).isoformat())
        for span in (timedelta(days=-1), timedelta(days=1))
    )

    assert (before["verdict"], after["verdict"]) == ("disabled", "admit")
    end = service.individualenrollments.get().switches_at
    assert (before["disabled_until"], after["disabled_until"]) == (end.isoformat(), None)
    text = printed_by("explain", "--registration-id", "pump-1")
    assert f"decided by individual enrollment pump-1, which is disabled until {as_text(end)}\n" in text


def test_now_is_explained_as_the_device_would_be_answered_once_what_is_due_is_recorded(
    service, ca, database_clock, tmp_path
):
    certificates, _ = ca.leaf("pump-1").write(tmp_path)
    disable_enrollment_group(service, "plant", until=database_clock.ahead(hours=1), actor=ALICE)
    database_clock.set_to(database_clock.ahead(hours=1))
    rows = HistoryEvent.objects.count()

    assert json_of("explain", "--certificate", str(certificates))["verdict"] == "admit"
    assert HistoryEvent.objects.count() == rows
