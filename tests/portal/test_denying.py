"""Denying a device: question and answer say what becomes of all devices, those with the same key too (R6)."""

import csv
import html
import re

import pytest
from cryptography.fernet import Fernet
from django.urls import reverse

from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.explaining import Question, explain
from enrollments.actions.preview import NO_LIMITS, Preview
from enrollments.actions.revocation import delete_registration, deny_device
from enrollments.hubs import CONNECTORS
from enrollments.models import HistoryEvent, IndividualEnrollment, ProvisioningService
from enrollments.policy.roles import Role
from enrollments.portal import previews
from tests.certificates import root
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_key_group,
    enroll_keys,
    register,
    shows,
    signs,
)
from tests.factories import a_service, a_user
from tests.management.calls import printed_by, refusal_of
from tests.portal.test_registrations import SilentHub

pytestmark = pytest.mark.django_db

CA = root("Plant CA")
TWIN_0 = CA.leaf("twin-0")
TWIN_1 = CA.leaf("twin-1", key=TWIN_0.key)
RECORD = "/services/plant/registrations/twin-0/"
# Each way to deny twin-0, by its certificate.
WAYS = ["registration-deny", "registration-deprovision", "attempt-deny"]


@pytest.fixture
def plant():
    """Two devices have one key; a third one of the same group has its own."""
    service = a_service("plant")
    enroll_ca(service, CA, "plant-7")
    for leaf in (TWIN_0, TWIN_1, CA.leaf("pump-0")):
        register(service, leaf)
    return service


@pytest.fixture
def operator(client, plant):
    client.force_login(a_user(Role.OPERATOR, plant))
    return client


def url_of(plant, way):
    about = plant.attempts.get(registration_key="twin-0").pk if way == "attempt-deny" else "twin-0"
    return reverse(f"portal:{way}", args=["plant", about])


def words(text):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


def question(client, url, **headers):
    answer = client.get(url, headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def addresses(text):
    return [html.unescape(one) for one in re.findall(r'href="(/services/plant/preview/[^"]+)"', text)]


def state():
    return (
        HistoryEvent.objects.count(),
        ProvisioningService.epoch_of(ProvisioningService.objects.get().pk),
        list(IndividualEnrollment.objects.values_list("registration_key", "enabled", "etag")),
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "dialog"])
def test_the_question_counts_and_names_every_device_with_the_key(operator, plant, way, headers):
    before = state()

    text = question(operator, url_of(plant, way), **headers)

    assert "2 known devices will be refused: twin-0, twin-1." in words(text)
    assert "Other devices of its group are not touched" not in text
    assert state() == before


@pytest.mark.parametrize("way", ["registration-deny", "attempt-deny"])
def test_r13_what_stays_at_its_hub_is_told_from_wherever_it_is_denied(operator, plant, way):
    stays = "Hub built-in goes on knowing the device: to take it off there as well, deprovision it."
    assert stays in words(question(operator, url_of(plant, way)))

    operator.post(f"{RECORD}deprovision/")

    assert "No hub holds the device." in words(question(operator, url_of(plant, way)))


@pytest.mark.parametrize("way", WAYS)
def test_what_it_did_is_told_after_it(operator, plant, way):
    answer = operator.post(url_of(plant, way), {"reason": "stolen"}, follow=True)

    assert "2 devices are refused from now on." in words(answer.content.decode())
    assert [register(plant, one).outcome for one in (TWIN_0, TWIN_1)] == ["disabled", "disabled"]
    assert register(plant, CA.leaf("pump-0")).outcome == "assigned"


@pytest.mark.parametrize("way", WAYS)
def test_the_devices_are_in_a_list_with_an_address_and_an_export(operator, plant, way):
    page, export = addresses(question(operator, url_of(plant, way)))

    listed = operator.get(page).content.decode()
    answer = operator.get(export)
    table = list(csv.reader(b"".join(answer.streaming_content).decode().splitlines()))

    assert "Preview: deny device twin-0" in words(listed)
    assert f'href="{RECORD}"' in listed
    assert re.findall(r'<th scope="row"><a[^>]*>([\w-]+)<', listed) == ["twin-0", "twin-1"]
    assert [row[:2] for row in table[1:]] == [["twin-0", "refused"], ["twin-1", "refused"]]
    exported = HistoryEvent.objects.get(subject_name="preview as CSV")
    assert exported.after == {"change": "deny device twin-0"}
    assert not IndividualEnrollment.objects.exists()


def test_the_list_is_paged_and_filtered_by_effect(operator, plant, monkeypatch):
    monkeypatch.setattr(previews.page_of, "__defaults__", (1,))
    url = "/services/plant/preview/?act=deny&device=twin-0&effect=refused"

    first = operator.get(url).content.decode()
    following = html.unescape(re.search(r'rel="next" href="([^"]+)"', first)[1])
    second = operator.get(following).content.decode()

    assert ("twin-0/" in first, "twin-1/" in first) == (True, False)
    assert re.findall(r'<th scope="row"><a[^>]*>([\w-]+)<', second) == ["twin-1"]
    assert f'href="{html.escape(url)}" aria-current="page"' in first
    for text in (first, second):
        assert "/preview/export/?act=deny&amp;device=twin-0&amp;effect=refused" in text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("act=deny", 422),
        ("act=deny&device=", 422),
        ("act=deny&device=%F0%9F%92%A5", 422),
        ("act=deny&attempt=999", 404),
        ("act=deny&attempt=x", 404),
        ("act=deny&attempt=%D9%A1", 404),
        ("act=deny&device=nobody", 200),
    ],
)
def test_an_address_that_names_nobody_is_answered_with_a_sentence(operator, query, status):
    assert operator.get(f"/services/plant/preview/?{query}").status_code == status
    assert operator.get(f"/services/plant/preview/export/?{query}").status_code == status


def test_r1_an_attempt_of_another_service_has_no_preview_here(operator, plant):
    other = a_service("elsewhere")
    register(other, root("Stranger").leaf("odd-1"))

    answer = operator.get(f"/services/plant/preview/?act=deny&attempt={other.attempts.get().pk}")

    assert answer.status_code == 404


def test_who_is_denied_already_is_told_so(operator, plant):
    deny_device(plant, "twin-0", actor=ALICE)
    before = IndividualEnrollment.objects.get().etag

    answer = operator.post(f"{RECORD}deny/", follow=True)

    assert "It was denied already; nothing was changed there." in words(answer.content.decode())
    assert IndividualEnrollment.objects.get().etag == before


def test_nobody_waits_for_a_preview(operator, plant, monkeypatch):
    """It narrows access: the preview is in the question, and nothing rests on it."""

    def fails(*_, **__):
        raise AssertionError("the act needs no preview")

    monkeypatch.setattr("enrollments.portal.preview_changes.preview_of_denying", fails)

    assert operator.post(f"{RECORD}deny/").status_code == 302
    assert not IndividualEnrollment.objects.get().enabled


@pytest.mark.parametrize("act", ["deny", "deprovision"])
def test_r16_shutting_out_works_although_its_preview_cannot_be_worked_out(operator, plant, settings, act):
    entry = enroll_keys(plant, "key-1")
    register(plant, signs(plant, "key-1", entry.primary_key), "key-1")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    url = f"/services/plant/registrations/key-1/{act}/"

    text = words(question(operator, url))
    answer = operator.post(url, follow=True)

    assert "cannot be worked out, because something that is stored cannot be read" in text
    assert "What that changed for the devices could not be worked out." in words(answer.content.decode())
    assert not IndividualEnrollment.objects.without_secrets().get().enabled


def test_what_a_deprovisioning_did_is_told_although_the_hub_is_silent(operator, plant, monkeypatch):
    monkeypatch.setitem(CONNECTORS, "builtin", SilentHub())

    text = words(operator.post(f"{RECORD}deprovision/", follow=True).content.decode())

    assert "Not done: twin-0 is disenrolled" in text
    assert "2 devices are refused from now on." in text


def test_an_attempt_bars_the_key_that_it_proved_although_its_record_is_gone(operator, plant):
    """By its ID too, as long as the attempt is kept."""
    url = url_of(plant, "attempt-deny")
    delete_registration(plant, "twin-0", actor=ALICE)

    by_attempt = words(question(operator, url))
    by_name = words(operator.get("/services/plant/preview/?act=deny&device=twin-0").content.decode())

    assert "2 known devices will be refused: twin-0, twin-1." in by_attempt
    assert "twin-1" in by_name
    operator.post(url)
    assert register(plant, TWIN_1).outcome == "disabled"


def test_who_proved_nothing_may_have_called_a_name_that_nobody_has(operator, plant):
    register(plant, shows(root("Stranger").leaf("ghost-1")), "ghost-1")
    attempt = plant.attempts.get(registration_key="ghost-1")

    text = words(question(operator, reverse("portal:attempt-deny", args=["plant", attempt.pk])))

    assert "No device has registered under that name." in text
    assert "will be refused" not in text


def test_a_viewer_sees_neither_question_nor_preview(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    for url in (f"{RECORD}deny/", "/services/plant/preview/?act=deny&device=twin-0"):
        assert client.get(url).status_code == 403


def test_all_devices_are_examined_where_that_is_asked_for(operator, plant, monkeypatch):
    asked = []

    def preview(service, names, *, limits=None):
        asked.append(limits)
        return Preview(plant.epoch, (), 7 if limits is None else 0)

    monkeypatch.setattr("enrollments.portal.preview_changes.preview_of_denying", preview)
    url = "/services/plant/preview/?act=deny&device=pump-0"

    glance = operator.get(url).content.decode()
    operator.get(f"{url}&everyone=1")

    assert asked == [None, NO_LIMITS]
    assert f'href="{html.escape(url)}&amp;everyone=1"' in glance


def test_the_question_says_by_what_else_the_device_is_known(operator, plant):
    group = enroll_key_group(plant, "keys", enabled=False)
    key = derived_key(group.primary_key, "twin-0")
    assert register(plant, signs(plant, "twin-0", key), "twin-0").outcome == "disabled"
    assert register(plant, signs(plant, "only-key", derived_key(group.primary_key, "only-key")), "only-key")
    by_key = plant.attempts.get(registration_key="twin-0", leaf_thumbprint="")
    alone = plant.attempts.get(registration_key="only-key")
    plant.registrations.filter(registration_key="only-key").delete()

    told = [
        words(question(operator, reverse("portal:attempt-deny", args=["plant", by_key.pk]))),
        words(question(operator, f"{RECORD}deny/")),
    ]
    of_one = words(question(operator, reverse("portal:attempt-deny", args=["plant", alone.pk])))

    for text in told:
        assert (
            "That name has been proven in several ways, none of which is admitted under it any more: "
            "a key derived from that of enrollment group keys; the certificate "
            f"{TWIN_0.parsed.thumbprint_sha256[:8]}…, good until {TWIN_0.parsed.not_after:%Y-%m-%d}."
        ) in text
    assert "in several ways" not in of_one
    assert "It bars this registration ID, whichever key signs for it" in of_one


@pytest.mark.parametrize("is_kept", [True, False])
def test_the_question_says_so_where_it_is_not_kept_whether_a_key_was_its_own(operator, plant, is_kept):
    """Attempts of an older version do not say it, and a disabled individual enrollment may hold that key."""
    group = enroll_key_group(plant, "keys")
    enroll_keys(plant, "twin-0", enabled=False)
    key = derived_key(group.primary_key, "twin-0")
    assert register(plant, signs(plant, "twin-0", key), "twin-0").outcome == "disabled"
    attempts = plant.attempts.filter(registration_key="twin-0", leaf_thumbprint="")
    if not is_kept:
        attempts.update(key_of_group=None)

    told = words(question(operator, reverse("portal:attempt-deny", args=["plant", attempts.get().pk])))

    derived = "a key derived from that of enrollment group keys; the certificate"
    either = f"a key of its own ({attempts.get().key_id[:8]}…) or {derived}"
    assert f"admitted under it any more: {derived if is_kept else either}" in told


class TestAnEntryThatHoldsNothing:
    """Of a device that signs with a key of its group: enabling does not undo the denial, deleting does."""

    SAID = (
        "Individual enrollment lamp-1 holds no credential, so that it admits nobody, enabled or not. Delete it, and "
        "the groups decide again."
    )
    ENTRY = "/services/plant/enrollments/i/lamp-1/"

    @pytest.fixture
    def lamp(self, plant):
        key = derived_key(enroll_key_group(plant, "keys").primary_key, "lamp-1")
        shown = signs(plant, "lamp-1", key)
        assert register(plant, shown, "lamp-1").outcome == "assigned"
        deny_device(plant, "lamp-1", actor=ALICE)
        return shown

    def test_the_page_the_question_and_the_answer_say_so(self, operator, plant, lamp):
        asked = question(operator, f"{self.ENTRY}enable/")
        epoch = re.search(r'name="epoch" value="(\d+)"', asked)[1]

        answer = operator.post(f"{self.ENTRY}enable/", {"reason": "found", "epoch": epoch}, follow=True)

        assert self.SAID in words(asked)
        assert f"Enabled individual enrollment lamp-1. {self.SAID}" in words(answer.content.decode())
        assert f"{self.SAID} Or give it a certificate below." in words(question(operator, self.ENTRY))
        assert register(plant, lamp, "lamp-1").outcome == "unauthorized"

    @pytest.mark.parametrize("enabled", [True, False])
    def test_the_explanation_and_the_record_say_so(self, operator, plant, lamp, enabled):
        plant.individualenrollments.update(enabled=enabled)

        told = explain(plant, Question(registration_id="lamp-1"))

        assert told.note == self.SAID
        assert self.SAID in words(question(operator, "/services/plant/registrations/lamp-1/"))

    def test_the_commands_say_so(self, plant, lamp):
        code, sentence = refusal_of("registrations", "enable", "lamp-1")

        assert code == 1
        assert "enrollments enable" not in sentence
        assert "It holds no credential" in sentence
        assert "manage.py enrollments delete lamp-1 takes it away" in sentence
        assert self.SAID in printed_by("enrollments", "enable", "lamp-1", "--dry-run")

    def test_of_one_that_holds_its_certificate_nothing_is_said(self, operator, plant):
        deny_device(plant, "twin-0", actor=ALICE)

        assert "holds no credential" not in question(operator, "/services/plant/enrollments/i/twin-0/enable/")
        assert "lets it in by what that entry holds" in refusal_of("registrations", "enable", "twin-0")[1]
        assert not explain(plant, Question(registration_id="twin-0")).note

    def test_a_certificate_that_it_does_not_hold_is_not_called_another_one(self, plant, lamp):
        plant.individualenrollments.update(enabled=True)

        told = explain(plant, Question(certificates=(CA.leaf("lamp-1").parsed,)))

        assert "it does not hold the certificate that was shown" in told.steps[1].because
        assert told.note == self.SAID

    def test_deleted_the_groups_decide_again(self, plant, lamp):
        delete_enrollments(plant, ["lamp-1"], actor=ALICE)

        assert register(plant, lamp, "lamp-1").outcome == "assigned"
