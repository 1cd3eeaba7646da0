"""Explain: by name in the address, by certificates in a post; what is shown, and what never comes back (R3, R17)."""

import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.schedule import as_text
from enrollments.models import HistoryEvent, ProvisioningService, RegistrationAttempt, RegistrationRecord
from enrollments.policy.roles import Role
from tests.certificates import EXPIRED, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_key_group, enroll_keys, enroll_tpm, register, signs
from tests.factories import a_service, a_user

CA = root("Plant CA")
LINE = CA.intermediate("Line 3")
URL = "/services/plant/explain/"


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    service = a_service("plant")
    enroll_ca(service, CA, "plant-7")
    return service


def page(client: Client, status: int = 200, **query: str) -> str:
    answer = client.get(URL, query)
    assert answer.status_code == status
    return answer.content.decode()


def posted(client: Client, status: int = 200, **data: object) -> str:
    answer = client.post(URL, data)
    assert answer.status_code == status
    return answer.content.decode()


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# --- By name ----------------------------------------------------------------------------------------


def test_page_without_a_question_asks_for_one(auditor):
    text = page(auditor)

    assert "By name" in text
    assert "By certificate" in text
    assert 'id="verdict"' not in text


def test_a_form_that_is_sent_empty_is_no_mistake(auditor):
    assert 'id="verdict"' not in page(auditor, registration_id="", tracking_id="", group="", at="")


def test_known_device_is_explained_with_links_to_what_decides(auditor, plant):
    register(plant, LINE.leaf("pump-042"))

    text = page(auditor, registration_id="PUMP-042")

    assert "pump-042 would be admitted" in text
    assert "/services/plant/groups/g/plant-7/" in text
    assert "/services/plant/registrations/pump-042/" in text
    steps = ["Rule R3", "Rule R5", "Rule R7"]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)
    assert text.count("This decides") == 1


def test_path_stands_in_order_with_the_state_of_each_certificate(auditor, plant):
    register(plant, LINE.leaf("pump-042"))
    enroll_ca(plant, LINE, "line-3", enabled=False)

    text = words(page(auditor, registration_id="pump-042"))

    path = text[text.index("The path") : text.index("Step by step")]
    assert path.index("CN=pump-042") < path.index("CN=Line 3") < path.index("CN=Plant CA")
    leaf, rest = path.split("CN=Line 3", 1)
    line, ca = rest.split("CN=Plant CA", 1)
    assert "Device certificate Valid Sent by the device" in leaf
    assert "Barred by enrollment group line-3" in line
    assert "Sent by the device On file here Enrolled in enrollment group line-3" in line
    assert "Valid On file here Enrolled in enrollment group plant-7" in ca
    assert "pump-042 would be told that it is disabled" in text
    assert "enrollment group plant-7 Not asked A disabled group on the chain settles it." in text


def test_tracking_id_tells_what_was_decided_then(auditor, plant):
    answer = register(plant, CA.leaf("pump-042"))
    disable_enrollment_group(plant, "plant-7", actor=ALICE)

    text = page(auditor, tracking_id=f" {answer.tracking_id} ")

    assert "pump-042 was admitted" in text
    assert "What would be answered now" in text
    assert "would be told that it is disabled" in page(auditor, registration_id="pump-042")


@pytest.mark.parametrize("mechanism", ["keys", "tpm"])
def test_device_without_certificate_is_judged_by_what_is_enrolled(auditor, plant, mechanism):
    entry = enroll_keys(plant, "gauge-1") if mechanism == "keys" else enroll_tpm(plant, "gauge-1")

    text = page(auditor, registration_id="gauge-1")

    assert "gauge-1 would be admitted" in text
    assert "The path" not in text
    assert "sig=" not in text
    assert mechanism == "tpm" or entry.primary_key not in text


def test_device_of_a_key_group_that_never_came_can_be_asked_about(auditor, plant):
    group = enroll_key_group(plant)

    text = page(auditor, registration_id="gauge-77", group="line-9")

    assert "gauge-77 would be admitted" in text
    assert group.primary_key not in text


def test_another_time_shows_what_will_have_expired(auditor, plant):
    register(plant, CA.leaf("pump-042", not_after=timezone.now() + timedelta(days=20)))
    later = timezone.now() + timedelta(days=30)

    text = page(auditor, registration_id="pump-042", at=f"{later:%Y-%m-%dT%H:%M}")

    assert "pump-042 would be refused with 401" in text
    assert re.search("<p>The device certificate expired on [-0-9: ]+ UTC\\.", text)
    assert "with what is enrolled now" in text
    assert "Expired" in text


def test_without_proof_the_page_names_the_entry_and_not_as_deciding(auditor, plant):
    enroll_keys(plant, "gauge-1")
    answer = register(plant, signs(plant, "gauge-1", "a" * 44), "gauge-1")
    attempt = auditor.get(f"/services/plant/attempts/{plant.attempts.get().pk}/").content.decode()

    told = words(page(auditor, tracking_id=answer.tracking_id))

    assert "It concerns individual enrollment gauge-1" in told
    assert "Decided by" not in told
    assert "Entry concerned gauge-1" in words(attempt)


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (3, "with what is enrolled now and scheduled until then</dt>"),
        (-3, "with what is enrolled now</dt>"),
    ],
)
def test_another_time_says_what_of_the_entries_counts(auditor, plant, days, told):
    register(plant, CA.leaf("pump-042"))
    at = timezone.now() + timedelta(days=days)

    text = page(auditor, registration_id="pump-042", at=f"{at:%Y-%m-%dT%H:%M}")

    assert f"As at (UTC), {told}" in text


def test_switch_that_turns_until_then_counts_as_the_form_says(auditor, plant):
    register(plant, CA.leaf("pump-042"))
    now = timezone.now()
    disable_enrollment_group(plant, "plant-7", actor=ALICE, at=now + timedelta(hours=1))
    later = f"{now + timedelta(hours=2):%Y-%m-%dT%H:%M}"

    text = page(auditor, registration_id="pump-042", at=later)

    assert "pump-042 would be told that it is disabled" in text
    assert "at a time to come, switches have turned as scheduled" in text


def test_until_when_it_is_out_is_told(auditor, plant):
    register(plant, CA.leaf("pump-042"))
    then = timezone.now().replace(microsecond=0) + timedelta(hours=1)
    disable_enrollment_group(plant, "plant-7", actor=ALICE, until=then)

    text = words(page(auditor, registration_id="pump-042"))

    assert f"Decided by enrollment group plant-7 , which is disabled until {as_text(then)[:-4]} UTC." in text


@pytest.mark.parametrize(
    ("credential", "because"),
    [
        ("key", "fits neither the primary nor the secondary key"),
        ("certificate", "expired on"),
    ],
)
def test_sentence_of_a_step_ends_once(auditor, plant, credential, because):
    if credential == "key":
        enroll_keys(plant, "gauge-1")
        answer = register(plant, signs(plant, "gauge-1", "a" * 44), "gauge-1")
    else:
        answer = register(plant, CA.leaf("gauge-1", **EXPIRED))

    text = words(page(auditor, tracking_id=answer.tracking_id))

    assert because in text
    assert ".." not in text


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"registration_id": "nobody"}, "Nothing is kept about registration ID nobody"),
        ({"registration_id": "no ID"}, "is no registration ID"),
        ({"tracking_id": "hello"}, "Nothing is kept about the tracking ID"),
        ({"tracking_id": "hello", "registration_id": "pump-042"}, "stands alone"),
        ({"registration_id": "pump-042", "at": "tomorrow"}, "Enter a valid date/time"),
        ({"registration_id": "pump-042", "at": "9999-01-01"}, "Give a time from 1990 to 2200"),
        ({"registration_id": "pump-042", "group": "nowhere"}, "There is no enrollment group nowhere"),
    ],
)
def test_what_cannot_be_answered_says_so_beside_its_field(auditor, query, sentence):
    text = page(auditor, status=422, **query)

    assert sentence in text
    assert 'class="field-errors"' in text
    assert 'id="verdict"' not in text


def test_nothing_of_another_service_is_explained(auditor):
    lab = a_service("lab")
    enroll_ca(lab, CA, "lab-1")
    answer = register(lab, CA.leaf("bench-1"))

    for query in ({"registration_id": "bench-1"}, {"tracking_id": answer.tracking_id}, {"group": "lab-1"}):
        text = page(auditor, status=200 if "group" in query else 422, **query)
        assert 'id="verdict"' not in text
        assert "lab-1</" not in text


def test_group_is_drawn_with_what_stands_above_and_its_latest_devices(auditor, plant):
    enroll_ca(plant, LINE, "line-3")
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    enroll_ca(plant, root("Elsewhere"), "elsewhere")
    register(plant, LINE.leaf("pump-042"))

    text = words(page(auditor, group="line-3"))

    assert "Enrollment group line-3" in text
    path = text[: text.index("By name")]
    assert path.index("CN=Line 3 Enrolled CA") < path.index("CN=Plant CA")
    assert "Barred by enrollment group plant-7" in path


def test_group_is_drawn_as_of_the_time_that_is_asked_about(auditor, plant):
    enroll_ca(plant, LINE, "line-3")
    now = timezone.now()
    disable_enrollment_group(plant, "plant-7", actor=ALICE, at=now + timedelta(days=1))

    told = words(page(auditor, group="line-3", at="2190-01-01T00:00"))

    path = told[: told.index("By name")]
    assert "scheduled until then 2190-01-01 00:00:00" in path
    assert path.count("Expired") == 2
    assert "Barred by enrollment group plant-7" in path
    assert "Give a time from 1990 to 2200" in page(auditor, status=422, group="line-3", at="9999-01-01T00:00")


def test_of_who_proved_nothing_no_other_time_is_told_and_no_answer_of_now_is_offered(auditor, plant):
    answer = register(plant, self_signed("stray-3"))

    for query in ({"registration_id": "stray-3"}, {"tracking_id": answer.tracking_id}):
        assert "stray-3 was refused" in page(auditor, **query)
        assert "What would be answered now" not in page(auditor, **query)
    refused = page(auditor, status=422, registration_id="stray-3", at="2030-01-01T00:00")
    assert "No credential of stray-3 is known" in refused
    assert 'id="verdict"' not in refused


# --- By certificate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "text"])
def test_chain_is_judged_from_a_file_and_from_text(auditor, how):
    chain = LINE.leaf("pump-9").chain_pem()
    data = (
        {"chain_upload": SimpleUploadedFile("chain.pem", chain.encode())}
        if how == "file"
        else {"chain_pem": chain}
    )

    text = posted(auditor, **data)

    assert "pump-9 would be admitted" in text
    assert "BEGIN CERTIFICATE" in text, "the chain can be asked about again, at another time"


def test_expired_intermediate_is_marked_and_the_cause_told(auditor):
    expired = CA.intermediate("Old line", **EXPIRED)

    text = words(posted(auditor, chain_pem=expired.leaf("pump-9").chain_pem()))

    assert "pump-9 would be refused with 401" in text
    assert "CN=Old line 1 signature above Expired" in text
    assert "expired on" in text


def test_chain_can_be_asked_about_under_another_name_and_at_another_time(auditor):
    chain = CA.leaf("pump-9", not_after=timezone.now() + timedelta(days=20)).chain_pem()

    assert "common name is not the registration ID" in posted(
        auditor, chain_pem=chain, registration_id="pump-8"
    )
    assert "would be refused" in posted(
        auditor, chain_pem=chain, at=f"{timezone.now() + timedelta(days=30):%Y-%m-%d}"
    )


def test_asking_stores_nothing(auditor, plant):
    before = HistoryEvent.objects.count()

    posted(auditor, chain_pem=self_signed("pump-9").pem)

    assert HistoryEvent.objects.count() == before
    assert not RegistrationAttempt.objects.exists()
    assert not RegistrationRecord.objects.exists()


@pytest.mark.parametrize("how", ["file", "text"])
def test_private_key_is_refused_and_never_comes_back(auditor, how):
    device = self_signed("pump-9")
    both = device.pem + device.key_pem
    data = (
        {"chain_upload": SimpleUploadedFile("both.pem", both.encode())}
        if how == "file"
        else {"chain_pem": both}
    )

    text = posted(auditor, status=422, **data)

    assert "This contains a private key" in text
    assert "PRIVATE KEY" not in text
    assert device.key_pem.splitlines()[1] not in text
    assert 'id="verdict"' not in text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "Choose a file, or paste the certificates as text."),
        ({"chain_pem": "hello"}, "It is not shown again here in case it was a key."),
        ({"chain_pem": "x" * 70_000}, "more than 64 KiB"),
        ({"chain_pem": self_signed("one", "two").pem}, "2 common names"),
    ],
)
def test_what_is_no_chain_is_said_and_does_not_come_back(auditor, data, sentence):
    text = posted(auditor, status=422, **data)

    assert sentence in text
    assert "hello" not in text
    assert "xxxx" not in text


def test_names_in_certificates_are_shown_as_text(auditor):
    odd = self_signed("<script>alert(1)</script>")

    text = posted(auditor, chain_pem=odd.pem, registration_id="pump-9")

    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


# --- Everywhere -------------------------------------------------------------------------------------


def test_htmx_gets_the_part_that_changes(auditor, plant):
    register(plant, CA.leaf("pump-042"))

    answer = auditor.get(URL, {"registration_id": "pump-042"}, headers={"HX-Request": "true"})

    assert answer.content.decode().startswith('<div id="explain"')
    assert "HX-Request" in answer["Vary"]


def test_viewer_is_offered_no_explanation(client, plant):
    register(plant, CA.leaf("pump-042"))
    client.force_login(a_user(Role.VIEWER, plant))

    for address in ("", "registrations/pump-042/", "groups/g/plant-7/"):
        assert "/explain/" not in client.get(f"/services/plant/{address}").content.decode()
    assert client.get(URL).status_code == 403


@pytest.mark.parametrize(
    ("address", "question"),
    [
        ("registrations/pump-042/", "?registration_id=pump-042"),
        ("groups/g/plant-7/", "?group=plant-7"),
        ("enrollments/i/gauge-1/", "?registration_id=gauge-1"),
    ],
)
def test_each_page_of_a_device_or_entry_leads_to_its_explanation(auditor, plant, address, question):
    register(plant, CA.leaf("pump-042"))
    enroll_keys(plant, "gauge-1")

    assert f'href="{URL}{question}"' in auditor.get(f"/services/plant/{address}").content.decode()


def test_an_attempt_leads_to_its_explanation_by_the_tracking_id_of_the_latest(auditor, plant):
    stranger = self_signed("odd-1")
    for _ in range(2):
        answer = register(plant, stranger)

    text = auditor.get(f"/services/plant/attempts/{plant.attempts.get().pk}/").content.decode()

    assert f'href="{URL}?tracking_id={answer.tracking_id}"' in text


def test_page_states_its_queries(auditor, plant, django_assert_max_num_queries):
    register(plant, LINE.leaf("pump-042"))

    # Two for what it proved at attempts since, one for what is enrolled for it.
    with django_assert_max_num_queries(19):
        page(auditor, registration_id="pump-042")
