"""Registration records: finding them, reading them, and the acts on them (R11, R13)."""

import re
from datetime import timedelta
from html import unescape

import pytest
from cryptography.fernet import Fernet
from django.test import Client
from django.utils import timezone

from enrollments.actions.enrollment_groups import (
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
)
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.name_claims import name_version
from enrollments.actions.revocation import delete_registration, release_registration
from enrollments.actions.schedule import as_text
from enrollments.actions.services import change_settings
from enrollments.errors import HubUnavailable, PreviewOutdated
from enrollments.hubs import CONNECTORS
from enrollments.management.tables import moment
from enrollments.models import (
    HistoryEvent,
    HubDevice,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
    Slot,
)
from enrollments.policy.reasons import Reason
from enrollments.policy.roles import Role
from tests.actions.test_tpm import TpmDevice, enroll_tpm
from tests.certificates import root
from tests.devices import ALICE, derived_key, enroll_ca, enroll_key_group, enroll_keys, register, signs
from tests.factories import a_service, a_user, an_individual
from tests.management.calls import json_of, refusal_of
from tests.portal.entry_forms import entry_form, post
from tests.portal.walking import pages_of
from tests.soft_tpm import SoftTpm
from tests.webhooks import running_webhook

CA = root("Plant CA")
LINE = CA.intermediate("Line 3")
THEN = timezone.now().replace(microsecond=0) + timedelta(days=30)


@pytest.fixture
def plant(service: ProvisioningService) -> ProvisioningService:
    enroll_ca(service, CA, "plant-7")
    return service


@pytest.fixture
def pump(plant: ProvisioningService) -> RegistrationRecord:
    register(plant, LINE.leaf("Pump-042"))
    return RegistrationRecord.objects.get()


URL = "/services/plant/registrations/"


def page(client: Client, url: str = URL, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def confirm(client: Client, path: str, **data: str):
    """Answer a question about a record as it was asked."""
    asked = page(client, f"{URL}{path}")
    hidden = dict(re.findall(r'<input type="hidden" name="(name_version)" value="([^"]*)">', asked))
    return client.post(f"{URL}{path}", {**hidden, **data})


def shown(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def test_list_shows_hub_device_and_deciding_entry(operator, pump):
    text = page(operator)

    assert "Pump-042" in text
    assert "built-in" in text
    assert "/services/plant/groups/g/plant-7/" in text


def test_empty_list_says_what_to_do_next(operator):
    assert "The overview has a command for a first device." in page(operator)


def test_records_of_another_service_are_not_shown(operator, pump):
    lab = a_service("lab")
    enroll_ca(lab, CA, "lab-1")
    register(lab, CA.leaf("bench-1"))

    assert "bench-1" not in page(operator)
    assert operator.get(f"{URL}bench-1/").status_code == 404


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "pump-0"}, {"Pump-042"}),
        ({"q": "PUMP-042"}, {"Pump-042"}),
        ({"q": "042"}, set()),
        ({"q": "%"}, set()),
        ({"status": "assigned"}, {"Pump-042", "gate-1"}),
        ({"status": "disabled"}, {"valve-1"}),
        ({"entry": "group:plant-7"}, {"Pump-042"}),
        ({"entry": "individual:gate-1"}, {"gate-1"}),
        ({"entry": "group:elsewhere"}, set()),
        ({"entry": "nonsense"}, set()),
        ({"q": "gate", "status": "disabled"}, set()),
    ],
)
def test_filter(operator, plant, pump, query, found):
    gate, valve = root("Own").leaf("gate-1"), CA.leaf("valve-1")
    an_individual(plant, "gate-1", leaf=gate)
    register(plant, gate)
    an_individual(plant, "valve-1", leaf=valve, enabled=False)
    register(plant, valve)

    text = page(operator, **query)

    assert {name for name in ("Pump-042", "gate-1", "valve-1") if f"{URL}{name}/" in text} == found


def test_filter_that_cannot_be_read_lists_nothing(operator, pump):
    text = page(operator, status="whatever")

    assert "Pump-042" not in text
    assert "The filter cannot be read" in text


def test_pages_follow_each_other_without_gap_or_repetition(operator, plant, pump):
    for number in range(60):
        RegistrationRecord.objects.create(
            service=plant,
            registration_id=f"x-{number:03}",
            status="disabled",
            mechanism="x509",
            operation_id="op",
            epoch=0,
            created_at=pump.created_at,
            updated_at=pump.updated_at,
        )

    pages = pages_of(operator, URL)

    seen = [one.pk for page in pages for one in page]
    assert len(pages) > 1
    assert len(seen) == len(set(seen)) == 61


def test_list_states_its_queries(operator, plant, django_assert_max_num_queries):
    for number in range(5):
        register(plant, CA.leaf(f"pump-{number}"))

    with django_assert_max_num_queries(5):
        page(operator)


def test_htmx_gets_the_results_only(operator, pump):
    answer = operator.get(URL, headers={"HX-Request": "true"})

    assert answer.content.decode().startswith('<div id="results">')
    assert "HX-Request" in answer["Vary"]


def test_detail_shows_evidence_as_a_path_and_the_last_attempts(operator, pump, plant):
    text = page(operator, f"{URL}pump-042/")

    leaf, issuer = text.index("CN=Pump-042"), text.index("CN=Line 3")
    assert leaf < issuer
    assert pump.leaf_thumbprint in text
    assert f"/services/plant/attempts/{plant.attempts.get().pk}/" in text


def test_viewer_sees_the_record_and_not_the_attempts(client, pump, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    text = page(client, f"{URL}pump-042/")

    assert "Evidence" in text
    assert "Last attempts" not in text
    assert "Deny this device" not in text


def test_question_is_a_page_and_a_dialog(operator, pump):
    whole = page(operator, f"{URL}pump-042/deny/")
    dialog = operator.get(f"{URL}pump-042/deny/", headers={"HX-Request": "true"}).content.decode()

    assert "<html" in whole
    assert dialog.startswith('<form class="dialog-body')
    for text in (whole, dialog):
        assert "A disabled individual enrollment is added for Pump-042" in text
        assert "whose key is then barred under any name" in text
        assert "other devices that have it are refused as well" in text
        assert "Other devices of its group are not touched" not in text
    assert not IndividualEnrollment.objects.exists()


def test_deny_shuts_one_device_out_and_says_why(operator, plant, pump):
    answer = operator.post(f"{URL}pump-042/deny/", {"reason": "stolen"}, follow=True)

    assert "is denied from now on" in answer.content.decode()
    entry = IndividualEnrollment.objects.get()
    assert (entry.registration_id, entry.enabled) == ("Pump-042", False)
    row = HistoryEvent.objects.filter(reason="stolen").get()
    assert (row.actor_name, row.way) == ("some-operator", "portal")
    assert register(plant, LINE.leaf("Pump-042")).outcome == "disabled"
    assert register(plant, LINE.leaf("pump-043")).outcome == "assigned"


def test_deny_of_a_device_with_an_entry_names_that_entry(operator, plant):
    leaf = CA.leaf("gate-1")
    an_individual(plant, "gate-1", leaf=leaf)
    register(plant, leaf)

    assert "Its individual enrollment is disabled, and" in page(operator, f"{URL}gate-1/deny/")
    operator.post(f"{URL}gate-1/deny/")

    assert not IndividualEnrollment.objects.get().enabled
    assert "is disabled already" in page(operator, f"{URL}gate-1/deny/")


def test_disabling_leaves_the_hub_alone_and_the_page_says_so(operator, pump):
    operator.post(f"{URL}pump-042/deny/")

    text = page(operator, f"{URL}pump-042/")
    assert HubDevice.objects.count() == 1
    assert "individual enrollment Pump-042</a> is disabled." in text
    assert "Hub built-in still knows the device" in text
    assert "Deny this device" not in text


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda service: delete_enrollment_groups(service, ["plant-7"], actor=ALICE), id="no group"
        ),
        pytest.param(
            lambda service: change_settings(service, {"proof_of_possession": True}, actor=ALICE),
            id="no proof",
        ),
        pytest.param(lambda service: enroll_keys(service, "Pump-042"), id="another credential is demanded"),
    ],
)
def test_record_of_a_device_that_no_disabled_entry_keeps_out_says_why_and_leads_to_who_did_it(
    operator, plant, pump, change
):
    change(plant)

    text = page(operator, f"{URL}pump-042/")

    assert ">Shut out<" in text
    assert register(plant, LINE.leaf("Pump-042")).outcome == "unauthorized"
    assert Reason(RegistrationAttempt.objects.order_by("-last_at")[0].reason).in_words in unescape(text)
    found = re.search(r'href="([^"]*shuts-out)">Who shut it out, and why<', text)
    assert str(HistoryEvent.objects.order_by("-id")[0].subject_name) in page(operator, found[1])


def test_record_of_a_device_of_a_disabled_group_says_so(operator, plant, pump):
    assert "is refused when it calls again" not in page(operator, f"{URL}pump-042/")

    disable_enrollment_group(plant, "plant-7", actor=ALICE)

    assert "enrollment group plant-7</a> is disabled." in page(operator, f"{URL}pump-042/")


@pytest.mark.parametrize("readable", [True, False], ids=["with its key", "without the encryption key"])
def test_a_device_that_is_out_until_a_time_can_be_denied_for_good(operator, plant, settings, readable):
    keyed = an_individual(plant, "keyed-1", keys=True)
    register(plant, signs(plant, "keyed-1", keyed.primary_key), "keyed-1")
    disable_enrollment(plant, "keyed-1", until=THEN, actor=ALICE)
    if not readable:
        settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    text = page(operator, f"{URL}keyed-1/")

    assert f"individual enrollment keyed-1 is disabled until {as_text(THEN)}." in shown(text)
    assert (">Shut out<" in text, ">Denied<" in text, "Deny this device" in text) == (True, False, True)

    operator.post(f"{URL}keyed-1/deny/")
    text = page(operator, f"{URL}keyed-1/")

    assert (">Shut out<" in text, ">Denied<" in text, "Deny this device" in text) == (False, True, False)
    assert as_text(THEN) not in shown(text)


def test_record_of_a_device_of_a_group_that_is_out_until_a_time_names_the_end(operator, plant, pump):
    disable_enrollment_group(plant, "plant-7", until=THEN, actor=ALICE)

    text = page(operator, f"{URL}pump-042/")

    assert f"enrollment group plant-7 is disabled until {as_text(THEN)}." in shown(text)
    assert "Deny this device" in text
    assert f"which is disabled until {as_text(THEN)}." in refusal_of("registrations", "enable", "Pump-042")[1]
    assert json_of("registrations", "show", "Pump-042")["kept_out_until"] == moment(THEN)


def test_record_states_its_queries(operator, plant, pump, django_assert_num_queries):
    with django_assert_num_queries(23):
        page(operator, f"{URL}pump-042/")
    disable_enrollment_group(plant, "plant-7", until=THEN, actor=ALICE)

    with django_assert_num_queries(23):  # one for until when, in place of who holds the name
        page(operator, f"{URL}pump-042/")


def test_deprovision_disenrolls_and_deregisters(operator, pump):
    question = page(operator, f"{URL}pump-042/deprovision/")
    assert "Then device Pump-042 is deregistered at hub built-in" in question

    answer = operator.post(f"{URL}pump-042/deprovision/", {"reason": "scrapped"}, follow=True)

    assert "is deprovisioned" in answer.content.decode()
    assert not HubDevice.objects.exists()
    pump.refresh_from_db()
    assert (pump.status, pump.hub) == ("disabled", None)
    assert HistoryEvent.objects.get(event="device.deprovisioned").reason == "scrapped"


class SilentHub:
    """A hub of another kind that does not confirm."""

    transactional = False

    def deregister(self, *_: object) -> bool:
        raise HubUnavailable("Hub built-in does not answer.")


def test_deprovision_is_not_called_done_before_the_hub_has_confirmed(operator, pump, monkeypatch):
    monkeypatch.setitem(CONNECTORS, "builtin", SilentHub())

    text = operator.post(f"{URL}pump-042/deprovision/", follow=True).content.decode()

    assert "Not done: Pump-042 is disenrolled, but its hub has not confirmed" in text
    assert "Hub built-in does not answer." in text
    assert "is deprovisioned" not in text
    assert not HistoryEvent.objects.filter(event="device.deprovisioned").exists()
    assert not IndividualEnrollment.objects.get().enabled


def test_release_lets_the_name_pass(operator, pump):
    assert "held through enrollment group plant-7" in page(operator, f"{URL}pump-042/release/")

    confirm(operator, "pump-042/release/", reason="new supplier")

    pump.refresh_from_db()
    assert pump.owner_group is None
    assert HistoryEvent.objects.get(event="registration.released").reason == "new supplier"


def test_name_held_by_another_entry_fails_until_released(operator, plant, pump):
    """R11, seen from the page: another supplier's CA issues a name that is taken."""
    other = root("Other supplier")
    enroll_ca(plant, other, "supplier-2")
    taker = other.leaf("Pump-042")
    assert register(plant, taker).outcome == "failed"
    assert "release the registration ID" in page(operator, f"{URL}pump-042/")
    contested = plant.attempts.get(reason="name_held_by_other_entry")
    assert "The name belongs to a device" in page(operator, f"/services/plant/attempts/{contested.pk}/")

    confirm(operator, "pump-042/release/")

    assert register(plant, taker).outcome == "assigned"


@pytest.mark.parametrize("act", ["release", "delete"])
def test_freeing_a_name_says_who_gets_it(operator, plant, pump, act):
    assert "No other device is known to want it." in page(operator, f"{URL}pump-042/{act}/")
    other = root("Other supplier")
    enroll_ca(plant, other, "supplier-2")
    for _ in range(2):
        register(plant, other.leaf("Pump-042"))

    text = page(operator, f"{URL}pump-042/{act}/")

    assert "It is held through enrollment group plant-7." in text
    assert (
        "A device that enrollment group supplier-2 admits was refused the name 2 times, the last time at"
        in text
    )
    disable_enrollment_group(plant, "supplier-2", actor=ALICE)
    assert "No other device is known to want it." in page(operator, f"{URL}pump-042/{act}/")


@pytest.mark.parametrize("act", ["release", "delete"])
def test_freeing_a_name_rests_on_what_was_looked_at(operator, plant, pump, act):
    """R12: neither what has changed of the entries, nor who holds the name by now, was agreed to."""
    asked = page(operator, f"{URL}pump-042/{act}/")
    seen = re.findall(r'name="name_version" value="([^"]*)"', asked)[0]
    other = root("Other supplier")
    enroll_ca(plant, other, "supplier-2")
    events = HistoryEvent.objects.count()

    for given in (seen, ""):
        answer = operator.post(f"{URL}pump-042/{act}/", {"name_version": given})

        assert answer.status_code == 409
        assert "changed after the question was asked, so nothing was done" in answer.content.decode()
    pump.refresh_from_db()
    assert (pump.owner_group.group_id, HistoryEvent.objects.count()) == ("plant-7", events)


@pytest.mark.parametrize("act", [release_registration, delete_registration], ids=["release", "delete"])
def test_a_name_that_went_to_another_holder_is_not_freed_from_under_it(plant, pump, act):
    """A device takes it over without a change of the service: the epoch alone does not tell."""
    seen = name_version(pump)
    RegistrationRecord.objects.update(owner_group=enroll_ca(plant, root("Other"), "supplier-2"))
    pump.refresh_from_db()
    epoch = name_version(pump).partition("-")[0]

    with pytest.raises(PreviewOutdated):
        act(plant, "pump-042", actor=ALICE, expected_name=f"{epoch}-{seen.partition('-')[2]}")

    assert RegistrationRecord.objects.get().owner_group_id == pump.owner_group_id
    act(plant, "pump-042", actor=ALICE, expected_name=name_version(pump))


def test_page_of_a_contested_name_leads_to_both_ways_out(client, operator, plant, pump):
    other = root("Other supplier")
    enroll_ca(plant, other, "supplier-2")
    assert 'aria-label="Warning"' not in page(operator, f"{URL}pump-042/")
    register(plant, other.leaf("Pump-042"))

    text = page(operator, f"{URL}pump-042/")

    assert f'hx-get="{URL}Pump-042/release/" hx-target="#dialog">release the registration ID</a>' in text
    assert "name plant-7 as the predecessor of the new group" in text
    contested = plant.attempts.get(reason="name_held_by_other_entry")
    attempt = page(operator, f"/services/plant/attempts/{contested.pk}/")
    assert f'<a href="{URL}Pump-042/">registration record</a>' in attempt
    client.force_login(a_user(Role.AUDITOR, plant))
    assert "an operator can release the registration ID" in page(client, f"{URL}pump-042/")


def test_predecessor_that_is_named_in_the_form_lets_the_names_pass(operator, plant, pump):
    """R11: the change of a CA, as the page of the contested name says it."""
    other = root("Other supplier")
    enroll_ca(plant, other, "supplier-2")
    assert register(plant, other.leaf("Pump-042")).outcome == "failed"
    group = plant.enrollmentgroups.by_group_id("supplier-2")
    form = entry_form(expected_etag=group.etag, predecessor="plant-7")

    assert post(operator, "groups/g/supplier-2/", form).status_code == 302

    assert register(plant, other.leaf("Pump-042")).outcome == "assigned"
    assert "may come back through this group" in page(operator, "/services/plant/groups/g/supplier-2/")


def test_record_of_a_tpm_says_what_it_proved_itself_with(operator, plant):
    tpm = SoftTpm(0)
    enroll_tpm(plant, tpm)
    device = TpmDevice(plant, tpm)
    device.challenge()
    assert device.prove(1).outcome == "assigned"

    record = page(operator, f"{URL}press-01/")
    hub = plant.hubs.get()
    identity = page(operator, f"/services/plant/hubs/{hub.pk}/devices/press-01/")

    assert "the device proved itself with its TPM, whose endorsement key stands in" in record
    assert "A symmetric key that was delivered to its TPM" in identity


@pytest.mark.django_db(transaction=True)
def test_failed_record_says_what_the_webhook_said(client, settings, tmp_path):
    plant = a_service("plant")
    with running_webhook(tmp_path) as webhook:
        settings.DPS_WEBHOOK_HOSTS, settings.DPS_WEBHOOK_CA = ["localhost"], webhook.ca_file
        webhook.answer = (500, {"error": "no <b>capacity</b>"})
        enroll_ca(plant, CA, "plant-7", allocation_policy="custom", webhook_url=f"{webhook.url}?code=secret")
        assert register(plant, LINE.leaf("Pump-042")).outcome == "failed"
    client.force_login(a_user(Role.OPERATOR, plant))
    attempt = plant.attempts.get()

    record, decided = page(client, f"{URL}pump-042/"), page(client, f"/services/plant/attempts/{attempt.pk}/")

    said = "It answered 500: {&quot;error&quot;: &quot;no &lt;b&gt;capacity&lt;/b&gt;&quot;}."
    assert "Not assigned: the allocation webhook gave no usable answer." in record
    assert (said in record, said in decided) == (True, True)
    assert f'<a href="/services/plant/attempts/{attempt.pk}/">How it was decided</a>' in record
    assert "Fails" in decided
    assert "secret" not in record + decided
    client.force_login(a_user(Role.VIEWER, plant))
    assert "capacity" not in page(client, f"{URL}pump-042/")


def test_delete_removes_the_record_only(operator, pump):
    question = page(operator, f"{URL}pump-042/delete/")
    assert "Hub built-in still knows the device, no entry changes" in question

    answer = confirm(operator, "pump-042/delete/")

    assert answer["Location"] == URL
    assert not RegistrationRecord.objects.exists()
    assert HubDevice.objects.count() == 1


@pytest.mark.parametrize("act", ["delete", "deny", "deprovision", "release"])
def test_reason_that_is_too_long_is_refused_and_nothing_happens(operator, pump, act):
    before = HistoryEvent.objects.count()

    answer = confirm(operator, f"pump-042/{act}/", reason="x" * 501)

    assert answer.status_code == 422
    assert "at most 500 characters" in answer.content.decode()
    assert HistoryEvent.objects.count() == before


@pytest.mark.parametrize("act", ["delete", "deny", "deprovision", "release"])
def test_record_that_is_gone_is_not_found(operator, pump, act):
    RegistrationRecord.objects.all().delete()

    assert operator.post(f"{URL}pump-042/{act}/").status_code == 404


def test_device_can_be_found_and_shut_out_without_the_encryption_key(operator, plant, settings):
    """R16: secrets that nobody can decrypt hinder nobody in shutting a device out."""
    keyed = an_individual(plant, "keyed-001", keys=True)
    register(plant, signs(plant, "keyed-001", keyed.primary_key), "keyed-001")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    assert "keyed-001" in page(operator)
    assert "keyed-001" in page(operator, f"{URL}keyed-001/")
    device = HubDevice.objects.defer("primary_key", "secondary_key").get()
    assert "Symmetric keys" in page(operator, f"/services/plant/hubs/{device.hub_id}/devices/keyed-001/")

    operator.post(f"{URL}keyed-001/deprovision/")

    assert not IndividualEnrollment.objects.defer("primary_key", "secondary_key").get().enabled
    assert not HubDevice.objects.exists()


def test_what_is_kept_of_a_symmetric_key_is_told(operator, plant):
    keyed = an_individual(plant, "keyed-001", keys=True)
    register(plant, signs(plant, "keyed-001", keyed.primary_key), "keyed-001")
    group = enroll_key_group(plant)
    register(plant, signs(plant, "keyed-002", derived_key(group.primary_key, "keyed-002")), "keyed-002")
    proven = plant.attempts.values_list("registration_key", "key_id")

    own, derived = (shown(page(operator, f"{URL}{name}/")) for name in ("keyed-001", "keyed-002"))

    assert "of which a fingerprint and what identifies it are kept" in own
    assert f"Key proven{dict(proven)['keyed-001']}" in own
    assert "Key of its group" not in own
    assert f"Key of its group, from which its own is derived{dict(proven)['keyed-002']}" in derived
    assert "Key proven" in derived
    RegistrationRecord.objects.update(key_ids="", key_fingerprint="")
    assert "of which this record keeps nothing." in shown(page(operator, f"{URL}keyed-001/"))


class TestWhoseNameAnotherEntryHoldsSinceAChange:
    """R11: its group has another CA, and a new group with the former one would admit it."""

    @pytest.fixture
    def held(self, pump):
        group = pump.service.enrollmentgroups.get()
        spec = GroupSpec(certificates={Slot.PRIMARY: root("New CA").parsed})
        change_enrollment_group(pump.service, group.group_id, spec, expected_etag=group.etag, actor=ALICE)
        enroll_ca(pump.service, CA, "plant-8")
        return pump

    def test_it_is_shut_out_before_it_tries(self, operator, held):
        text = shown(page(operator, f"{URL}Pump-042/"))

        assert "Shut out" in text
        assert "its registration ID is held through enrollment group plant-7" in text
        assert "Release the registration ID" in text
        assert "Who shut it out, and why" in text

    def test_and_after_it_tried_in_one_sentence(self, operator, held):
        assert register(held.service, LINE.leaf("Pump-042")).outcome == "failed"
        text = shown(page(operator, f"{URL}Pump-042/"))

        assert "its registration ID is held through enrollment group plant-7" in text
        assert "asked for this name" not in text

    def test_a_viewer_is_told_too(self, client, held):
        client.force_login(a_user(Role.VIEWER, held.service))

        assert "is held through enrollment group plant-7" in shown(page(client, f"{URL}Pump-042/"))

    def test_released_it_is_not(self, operator, held):
        release_registration(held.service, "Pump-042", actor=ALICE)

        assert "Shut out" not in shown(page(operator, f"{URL}Pump-042/"))

    def test_the_commands_name_the_way_in(self, held):
        code, sentence = refusal_of("registrations", "enable", "Pump-042")

        assert code == 1
        assert "registrations release Pump-042" in sentence


def test_who_holds_its_name_is_not_shut_out_by_a_stranger_who_asks_for_it(operator, pump):
    other = root("Other CA")
    enroll_ca(pump.service, other, "other")
    assert register(pump.service, other.leaf("Pump-042")).outcome == "failed"

    text = shown(page(operator, f"{URL}Pump-042/"))

    assert "Shut out" not in text
    assert "asked for this name, and was not given it" in text
