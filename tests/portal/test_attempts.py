"""Attempts: finding one by name, outcome and tracking ID, and reading how it was decided (R3, R14)."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.attempts_forgotten import forget_old_attempts
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.schedule import as_text
from enrollments.actions.services import change_settings
from enrollments.actions.throttled_attempts import write_down_throttled
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import Certificate, HistoryEvent, ProvisioningService
from enrollments.policy.roles import Role
from tests.actions.test_tpm import TpmDevice
from tests.certificates import root
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
    register,
    signs,
)
from tests.factories import a_service, a_user
from tests.portal.walking import pages_of
from tests.soft_tpm import SoftTpm

CA = root("Plant CA")
URL = "/services/plant/attempts/"


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    service = a_service("plant")
    enroll_ca(service, CA, "plant-7")
    return service


def page(client: Client, url: str = URL, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"pump-1", "odd-1"}),
        ({"q": "PUMP"}, {"pump-1"}),
        ({"outcome": "refused"}, {"odd-1"}),
        ({"outcome": "assigned"}, {"pump-1"}),
        ({"q": "pump", "outcome": "refused"}, set()),
        ({"reason": "not_enrolled"}, {"odd-1"}),
        ({"reason": "admitted", "entry": "PLANT-7"}, {"pump-1"}),
        ({"entry": "plant"}, set()),
        ({"address": "198.51.100."}, {"pump-1", "odd-1"}),
        ({"address": "203.0.113.9"}, set()),
        ({"address": "%"}, set()),
        ({"since": "2020-01-01"}, {"pump-1", "odd-1"}),
        ({"since": "2190-01-01"}, set()),
        ({"until": "2020-01-01T00:00"}, set()),
        ({"since": "2020-01-02", "until": "2020-01-01"}, set()),
        ({"reason": "throttled"}, set()),
        ({"outcome": "nonsense"}, set()),
    ],
)
def test_filter(auditor, plant, query, found):
    register(plant, CA.leaf("pump-1"))
    register(plant, root("Stranger").leaf("odd-1"))

    text = page(auditor, **query)

    assert {name for name in ("pump-1", "odd-1") if f">{name}</a>" in text} == found


def test_list_tells_since_when_an_attempt_came(auditor, plant):
    for name in ("pump-1", "pump-2"):
        register(plant, CA.leaf(name))
    first = timezone.now().replace(microsecond=0) - timedelta(minutes=7)
    plant.attempts.filter(claimed_registration_id="pump-1").update(count=2, first_at=first)

    text = page(auditor)

    assert f'First <time datetime="{first:%Y-%m-%dT%H:%M:%SZ}">{first:%Y-%m-%d %H:%M:%S}</time>' in text
    assert text.count("First <time") == 1, "of who came once it is the same"


def test_tracking_id_leads_to_its_attempt(auditor, plant):
    answer = register(plant, root("Stranger").leaf("odd-1"))

    found = auditor.get(URL, {"tracking_id": f" {answer.tracking_id} "})

    assert found["Location"] == f"{URL}{plant.attempts.get().pk}/?tracking_id={answer.tracking_id}"


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

    assert "More of these came within this hour" in page(auditor)
    assert "counted here together; shown is the latest" in page(auditor, f"{URL}{row.pk}/")


def test_what_a_device_claims_is_shown_as_text(auditor, plant):
    register(plant, root("Stranger").leaf("odd-1"))
    plant.attempts.update(client="<script>alert(1)</script>", entry_name="<b>x</b>")
    row = plant.attempts.get()

    for text in (page(auditor), page(auditor, f"{URL}{row.pk}/")):
        assert "<script>alert" not in text
        assert "<b>x</b>" not in text


def test_order_can_be_chosen_and_is_said(auditor, plant):
    for name in ("pump-2", "pump-1"):
        register(plant, CA.leaf(name))

    by_time, by_name = page(auditor), page(auditor, sort="registration_id")

    assert by_time.index(">pump-1</a>") < by_time.index(">pump-2</a>")
    assert by_name.index(">pump-1</a>") < by_name.index(">pump-2</a>")
    assert '<th scope="col" aria-sort="descending"><a id="sort-last"' in by_time
    assert '<th scope="col" aria-sort="ascending"><a id="sort-registration-id"' in by_name


def test_pages_follow_each_other_without_gap_or_repetition(auditor, plant):
    register(plant, CA.leaf("pump-1"))
    row = plant.attempts.get()
    for number in range(60):
        row.pk, row.registration_key = None, f"x-{number}"
        row.save()

    pages = pages_of(auditor, URL)

    seen = [one.pk for page in pages for one in page]
    assert len(pages) > 1
    assert len(seen) == len(set(seen)) == 61


# --- Whose certificate is kept --------------------------------------------------------------------------


def test_certificate_of_who_proved_itself_is_named_also_when_it_was_refused(auditor, plant):
    first, renewed = CA.leaf("pump-1"), CA.leaf("pump-1")
    register(plant, first)
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    register(plant, renewed)
    attempt = plant.attempts.get(outcome="disabled")

    assert Certificate.objects.filter(thumbprint_sha256=renewed.parsed.thumbprint_sha256).exists()
    assert "CN=pump-1<br>" in page(auditor, f"{URL}{attempt.pk}/")


def test_of_a_stranger_the_thumbprint_is_all_that_is_kept_or_told(auditor, plant):
    """Also where another service holds that very certificate: nothing of it shows here (R1)."""
    stranger = root("Elsewhere").leaf("odd-1")
    lab = a_service("lab")
    enroll_ca(lab, stranger.issuer, "lab-1")
    register(lab, stranger)
    register(plant, stranger)

    text = page(auditor, f"{URL}{plant.attempts.get().pk}/")

    assert stranger.parsed.thumbprint_sha256 in text
    assert "CN=odd-1<br>" not in text


# --- Deny -----------------------------------------------------------------------------------------------


@pytest.fixture
def operator(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.OPERATOR, plant))
    return client


def test_deny_of_a_device_below_a_ca_bars_its_name_and_its_key(operator, plant):
    leaf = CA.leaf("pump-1")
    register(plant, leaf)
    url = f"{URL}{plant.attempts.get().pk}/"
    assert "with the certificate that this attempt proved, whose key is then barred" in page(
        operator, f"{url}deny/"
    )

    answer = operator.post(f"{url}deny/", {"reason": "stolen"}, follow=True)

    assert "is denied from now on" in answer.content.decode()
    assert "Deny this device" not in answer.content.decode()
    assert HistoryEvent.objects.get(event="enrollment.added_disabled").reason == "stolen"
    assert register(plant, leaf).outcome == "disabled"
    assert register(plant, CA.leaf("pump-2", key=leaf.key)).outcome == "disabled"
    assert register(plant, CA.leaf("pump-3")).outcome == "assigned"


def test_deny_of_a_device_of_a_key_group_bars_its_name_and_leaves_the_keys(operator, plant):
    group = enroll_key_group(plant)

    def gauge(name):
        return register(plant, signs(plant, name, derived_key(group.primary_key, name)), name).outcome

    assert gauge("gauge-1") == "assigned"
    url = f"{URL}{plant.attempts.get().pk}/deny/"
    question = page(operator, url)
    assert "bars this registration ID, whichever key signs for it" in question
    assert "Other devices of its group are not touched." in question

    operator.post(url)

    assert (gauge("gauge-1"), gauge("gauge-2")) == ("disabled", "assigned")


@pytest.mark.parametrize(("mechanism", "words"), [("keys", "Symmetric key"), ("tpm", "TPM")])
def test_deny_of_a_device_with_an_entry_disables_that_entry_and_says_which(operator, plant, mechanism, words):
    entry = enroll_keys(plant, "gauge-1") if mechanism == "keys" else enroll_tpm(plant, "gauge-1")
    register(plant, PresentedCredential(), "gauge-1")
    url = f"{URL}{plant.attempts.get().pk}/deny/"
    assert f"whatever it shows ({words} is enrolled)" in page(operator, url)

    operator.post(url)

    entry.refresh_from_db()
    assert not entry.enabled
    assert "is disabled already" in page(operator, url)


@pytest.mark.parametrize("is_registered", [True, False])
def test_deny_of_who_proved_nothing_warns_whose_name_it_is(operator, plant, is_registered):
    if is_registered:
        register(plant, CA.leaf("pump-1"))
    register(plant, root("Stranger").leaf("pump-1"))

    question = page(operator, f"{URL}{plant.attempts.get(outcome='refused').pk}/deny/")

    assert "anybody may have called itself pump-1" in question
    assert ("denying shuts that device out as well" in question) is is_registered
    assert ("No device has registered under that name." in question) is not is_registered
    assert ("Hub built-in goes on knowing the device" in question) is is_registered


def test_who_is_out_until_a_time_can_be_denied_for_good(operator, plant):
    enroll_keys(plant, "pump-1")
    then = timezone.now().replace(microsecond=0) + timedelta(days=1)
    disable_enrollment(plant, "pump-1", until=then, actor=ALICE)
    register(plant, CA.leaf("pump-1"))
    url = f"{URL}{plant.attempts.get().pk}/"

    text = page(operator, url)

    assert "Deny this device" in text
    by = "Denied now by individual enrollment pump-1 , which is disabled"
    assert f"{by} until {as_text(then)}" in words(text)

    text = operator.post(f"{url}deny/", follow=True).content.decode()

    assert "Deny this device" not in text
    assert f"{by} Told to the device" in words(text)


def test_whom_a_group_keeps_out_until_a_time_is_told_that_of_the_group(auditor, plant):
    then = timezone.now().replace(microsecond=0) + timedelta(days=1)
    disable_enrollment_group(plant, "plant-7", until=then, actor=ALICE)
    register(plant, CA.leaf("pump-1"))
    url = f"{URL}{plant.attempts.get().pk}/"

    assert f"Group now disabled until {as_text(then)}" in words(page(auditor, url))

    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    assert "Group now" not in page(auditor, url)


def test_row_that_counts_many_cannot_be_denied(operator, plant):
    register(plant, root("Stranger").leaf("odd-1"))
    plant.attempts.update(claimed_registration_id=OVERFLOW_NAME, registration_key=OVERFLOW_NAME)
    url = f"{URL}{plant.attempts.get().pk}/deny/"

    assert operator.get(url).status_code == 409
    assert operator.post(url).status_code == 409
    assert not plant.individualenrollments.exists()


@pytest.mark.parametrize("name", ["a/b", "pump.", "p" * 127 + "."])
def test_who_claimed_what_is_no_registration_id_is_not_offered_to_be_denied(operator, plant, name):
    register(plant, root("Stranger").leaf("odd-1"))
    plant.attempts.update(claimed_registration_id=name, registration_key=name)
    url = f"{URL}{plant.attempts.get().pk}/"

    text = page(operator, url)

    assert "/deny/" not in text
    assert "Deny No device can be admitted under that name." in words(text)
    assert [operator.get(f"{url}deny/").status_code, operator.post(f"{url}deny/").status_code] == [422, 422]
    assert not plant.individualenrollments.exists()


def test_reason_that_is_too_long_denies_nobody(operator, plant):
    register(plant, CA.leaf("pump-1"))

    answer = operator.post(f"{URL}{plant.attempts.get().pk}/deny/", {"reason": "x" * 501})

    assert answer.status_code == 422
    assert not plant.individualenrollments.exists()


def test_auditor_is_not_offered_to_deny(auditor, plant):
    register(plant, CA.leaf("pump-1"))

    assert "Deny this device" not in page(auditor, f"{URL}{plant.attempts.get().pk}/")


def test_detail_states_its_queries(auditor, plant, django_assert_max_num_queries):
    register(plant, CA.leaf("pump-1"))
    url = f"{URL}{plant.attempts.get().pk}/"

    with django_assert_max_num_queries(14):
        page(auditor, url)


def test_history_says_that_old_ones_are_deleted(auditor, plant):
    register(plant, CA.leaf("pump-1"))
    plant.attempts.update(last_at=timezone.now() - timedelta(days=plant.attempts_kept_days + 1))

    forget_old_attempts(plant, actor=ALICE)

    text = page(auditor, "/services/plant/history/", event="attempts.forgotten")
    words = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert (
        "alice deleted old attempts, and records of devices never assigned, in provisioning service plant"
        in words
    )


def test_empty_list_says_what_will_be_there(auditor):
    assert "Each registration that a device tries is counted here" in page(auditor)


def test_list_states_its_queries(auditor, plant, django_assert_max_num_queries):
    for number in range(5):
        register(plant, CA.leaf(f"pump-{number}"))

    with django_assert_max_num_queries(6):
        page(auditor)


# --- What the device was told ------------------------------------------------------------------


def the_attempt(client: Client, plant: ProvisioningService, **which: str) -> str:
    """The page, with its white space as a browser shows it."""
    return " ".join(page(client, f"{URL}{plant.attempts.get(**which).pk}/").split())


@pytest.mark.parametrize(
    ("enabled", "leaf", "told"),
    [
        (True, CA.leaf("pump-1"), "<dd>assigned</dd>"),
        (False, CA.leaf("pump-1"), "<dd>disabled</dd>"),
        (True, root("Stranger").leaf("pump-1"), "<dd>401, the same for every cause</dd>"),
    ],
)
def test_page_says_what_the_device_was_told(auditor, plant, enabled, leaf, told):
    if not enabled:
        disable_enrollment_group(plant, "plant-7", actor=ALICE)
        plant.refresh_from_db()
    register(plant, leaf)

    text = the_attempt(auditor, plant)

    assert f"<dt>Told to the device</dt>{told}" in text
    assert ("Refused in a row, by now</dt><dd>1, told to wait 3 s</dd>" in text) is (
        told != "<dd>assigned</dd>"
    )


def test_tpm_that_is_not_enrolled_hears_404_and_the_page_says_so(auditor, plant):
    TpmDevice(plant, SoftTpm(0)).challenge()

    assert "404, as every TPM that is not enrolled so" in the_attempt(auditor, plant)


def test_failure_is_told_with_a_code(auditor, plant):
    plant.hubs.all().delete()
    register(plant, CA.leaf("pump-1"))

    assert "failed, with a code for the cause" in the_attempt(auditor, plant)


@pytest.mark.parametrize("is_proven", [True, False])
def test_refused_again_and_again_the_page_says_how_long_it_is_told_to_wait(auditor, plant, is_proven):
    if is_proven:
        disable_enrollment_group(plant, "plant-7", actor=ALICE)
    plant.refresh_from_db()
    leaf = (CA if is_proven else root("Stranger")).leaf("odd-1")
    now = timezone.now().replace(minute=30)

    answers = [register(plant, leaf, at=now + timedelta(seconds=second)) for second in range(8)]

    assert [answer.outcome for answer in answers[5:]] == ["throttled"] * 3
    text = the_attempt(auditor, plant)
    assert "<dt>Times</dt><dd>5</dd>" in text
    assert "5, told to wait 48 s; came back too early 3 times more, told so without being judged" in text

    write_down_throttled()

    text = the_attempt(auditor, plant)
    assert "<dt>Times</dt><dd>8</dd>" in text
    assert "5, told to wait 48 s</dd>" in text


@pytest.mark.parametrize("is_judged", [True, False])
def test_device_that_comes_too_often_is_listed_and_explained(auditor, plant, is_judged):
    limit = "registrations_per_minute" if is_judged else "device_registrations_per_minute"
    change_settings(plant, {limit: 1}, actor=ALICE)
    plant.refresh_from_db()
    now = timezone.now().replace(minute=30)
    register(plant, CA.leaf("pump-1"), at=now)
    leaf = CA.leaf("pump-2" if is_judged else "pump-1")
    if not is_judged:
        register(plant, leaf, at=now)
    answers = [register(plant, leaf, at=now + timedelta(seconds=second)) for second in (1, 2)]
    write_down_throttled()

    listed = page(auditor, outcome="throttled", reason="throttled")

    assert {answer.outcome for answer in answers} == {"throttled"}
    assert "It came back too early or too often" in listed
    (attempt,) = plant.attempts.filter(outcome="throttled").order_by("-last_at")[:1]
    text = page(auditor, f"{URL}{attempt.pk}/")
    assert "<dt>Told to the device</dt><dd>429, to wait</dd>" in text
    assert answers[-1].tracking_id in text
    entry, steps = ("plant-7", "of them was used up") if is_judged else ("none", "without being judged")
    assert entry in text.partition("Deciding entry")[2][:200]
    assert steps in text
    explained = page(auditor, "/services/plant/explain/", tracking_id=answers[0].tracking_id)
    assert f"{attempt.claimed_registration_id} was told to wait" in explained
    assert f"{URL}{attempt.pk}/" in explained


def test_one_admission_ends_what_is_remembered(auditor, plant):
    stranger = root("Later enrolled")
    leaf = stranger.leaf("odd-1")
    for _ in range(3):
        register(plant, leaf)
    before = the_attempt(auditor, plant)
    enroll_ca(plant, stranger, "plant-8")
    plant.refresh_from_db()

    assert register(plant, leaf).outcome == "assigned"

    assert "3, told to wait 12 s" in before
    assert "Refused in a row" not in the_attempt(auditor, plant, outcome="refused")


def test_page_can_be_read_where_nothing_is_remembered(auditor, plant, settings, tmp_path):
    register(plant, root("Stranger").leaf("odd-1"))
    (tmp_path / "rates").write_text("no folder")
    settings.DPS_DATA_DIR = tmp_path

    text = the_attempt(auditor, plant)

    assert ("401, the same for every cause" in text, "Refused in a row" in text) == (True, False)


def test_page_of_one_states_its_queries(auditor, plant, django_assert_max_num_queries):
    disable_enrollment_group(plant, "plant-7", actor=ALICE)
    plant.refresh_from_db()
    register(plant, CA.leaf("pump-1"))

    with django_assert_max_num_queries(16):
        the_attempt(auditor, plant)


def test_tracking_id_of_an_earlier_attempt_says_which_of_them_it_is(auditor, plant):
    stranger = root("Stranger").leaf("odd-1")
    now = timezone.now()
    answers = [register(plant, stranger, at=now) for _ in range(3)]

    shown = auditor.get(URL, {"tracking_id": answers[0].tracking_id}, follow=True).content.decode()

    assert "One of 3 such attempts from " in shown
    assert f"{stranger.parsed.thumbprint_sha256[:8]}…" in page(auditor)
    assert "each that was judged took just these steps" in shown
    assert answers[0].tracking_id in shown
    assert "How each was decided" in shown


def test_key_that_a_token_proved_is_named_by_its_identifier(auditor, plant):
    entry = enroll_keys(plant, "press-01")
    register(plant, signs(plant, "press-01", entry.secondary_key), "press-01")

    shown = page(auditor, f"{URL}{plant.attempts.get().pk}/")

    assert "Key proven" in shown
    assert entry.secondary_key_id in shown
    assert entry.secondary_key not in shown
