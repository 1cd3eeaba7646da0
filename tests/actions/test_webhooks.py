"""Custom allocation against a real HTTPS server: what is asked, what answers lead to, and R12 across the call."""

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions import allocation
from enrollments.actions.enrollment_groups import delete_enrollment_groups, disable_enrollment_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment, change_individual_enrollment
from enrollments.actions.hubs import HubSpec, link_hub, unlink_hub
from enrollments.actions.registrations import Outcome, poll_operation, register_device
from enrollments.actions.services import change_settings
from enrollments.errors import Invalid
from enrollments.hubs import allocation_webhook
from enrollments.models import (
    AttestationMechanism,
    HistoryEvent,
    HubDevice,
    LinkedHub,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.policy.reasons import Reason
from tests.actions.test_r12_at_once import PATIENCE, Pause, finish, in_thread
from tests.certificates import root
from tests.devices import ALICE, asks, enroll_ca, enroll_keys, new_service, register, shows, signs
from tests.webhooks import running_webhook

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "a-key-that-nobody-may-read"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_webhook(tmp_path_factory.mktemp("webhook")) as hook:
        yield hook


@pytest.fixture
def webhook(server, settings):
    settings.DPS_WEBHOOK_HOSTS = ["localhost"]
    settings.DPS_WEBHOOK_CA = server.ca_file
    server.asked.clear()
    server.headers, server.before, server.drip_seconds = {}, lambda: None, 0.0
    server.drips_headers = False
    server.chooses("east.hub.internal")
    return server


@pytest.fixture
def service():
    service = new_service()
    for name in ("east", "west"):
        link_hub(service, HubSpec(name=name, host_name=f"{name}.hub.internal"), actor=ALICE)
    return service


@pytest.fixture
def custom(webhook):
    """What makes an entry ask the webhook."""
    return {"allocation_policy": "custom", "webhook_url": f"{webhook.url}?code={KEY}"}


def the_trace():
    return RegistrationAttempt.objects.latest("pk").trace


# --- What it is asked, and what its answer does ------------------------------------------------------


def test_webhook_chooses_the_hub_the_twin_and_a_payload(service, webhook, custom):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    twin = {"tags": {"hall": 3}, "properties": {"desired": {"interval": 5}}}
    webhook.chooses("WEST.hub.internal", initialTwin=twin, payload={"greeting": "hello"})

    answer = register(service, top.leaf("pump-042"))

    assert (answer.outcome, answer.record.hub.name) == (Outcome.ASSIGNED, "west")
    assert HubDevice.objects.get().twin == twin
    assert answer.record.returned_payload == {"greeting": "hello"}
    assert the_trace()[-1]["said"] == "chooses"


@pytest.mark.parametrize(("first", "second"), [(1, True), (False, 0), (1, 1.0)])
def test_another_payload_is_kept_though_python_takes_it_for_the_same(service, webhook, custom, first, second):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    leaf = top.leaf("pump-042")

    for minutes, value in enumerate((first, second)):
        webhook.chooses("west.hub.internal", payload={"on": value})
        register(service, leaf, at=timezone.now() + timedelta(minutes=minutes))

    assert json.dumps(RegistrationRecord.objects.get().returned_payload) == json.dumps({"on": second})


def test_webhook_is_told_what_the_contract_says_and_no_secret(service, webhook, custom):
    entry = enroll_keys(
        service, "pump-042", device_id="first-pump", initial_twin={"tags": {"a": 1}}, **custom
    )
    own = signs(service, "pump-042", entry.primary_key)
    request = replace(asks("pump-042", own), payload={"model": "P7"})

    register_device(service, request)

    (asked,) = webhook.asked
    assert asked.path == f"/choose?code={KEY}"
    assert asked.headers["x-ms-api-version"] == "2021-10-01"
    assert asked.headers["Content-Type"] == "application/json; charset=utf-8"
    individual = asked.body["individualEnrollment"]
    assert (individual["registrationId"], individual["deviceId"]) == ("pump-042", "first-pump")
    assert individual["attestation"] == {"type": "symmetricKey"}
    assert individual["initialTwin"]["tags"] == {"a": 1}
    assert asked.body["deviceRuntimeContext"] == {
        "registrationId": "pump-042",
        "payload": {"model": "P7"},
        "symmetricKey": {},
    }
    assert asked.body["linkedHubs"] == ["plant.hub.internal", "east.hub.internal", "west.hub.internal"]
    sent = json.dumps(asked.body)
    assert not [secret for secret in (entry.primary_key, entry.secondary_key, KEY) if secret in sent]


def test_webhook_of_a_group_is_told_of_certificate_and_current_assignment(service, webhook, custom):
    top = root("Root A")
    hubs = tuple(LinkedHub.objects.filter(name__in=["east", "west"]))
    enroll_ca(service, top, hubs=hubs, **custom)
    leaf = top.leaf("pump-042")
    register(service, leaf)

    register(service, leaf, at=timezone.now() + timedelta(seconds=30))

    first, second = (one.body for one in webhook.asked)
    assert first["enrollmentGroup"]["enrollmentGroupId"] == "root-a"
    assert first["linkedHubs"] == ["east.hub.internal", "west.hub.internal"]
    info = first["deviceRuntimeContext"]["x509"]["certificateInfo"]
    assert info["sha256Thumbprint"] == leaf.parsed.thumbprint_sha256.upper()
    assert "currentIotHubHostName" not in first["deviceRuntimeContext"]
    assert second["deviceRuntimeContext"]["currentIotHubHostName"] == "east.hub.internal"
    assert second["deviceRuntimeContext"]["currentDeviceId"] == "pump-042"


def test_another_answer_moves_the_device_and_its_twin_comes_before_what_would_move(service, webhook, custom):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    leaf = top.leaf("pump-042")
    register(service, leaf)
    HubDevice.objects.update(twin={"tags": {"kept": True}, "properties": {"desired": {}}})

    webhook.chooses("west.hub.internal")
    moved = register(service, leaf, at=timezone.now() + timedelta(seconds=30))

    assert (moved.record.hub.name, moved.record.substatus) == ("west", "deviceDataMigrated")
    assert HubDevice.objects.get().twin["tags"] == {"kept": True}

    webhook.chooses("east.hub.internal", initialTwin={"tags": {"fresh": True}})
    register(service, leaf, at=timezone.now() + timedelta(seconds=60))

    assert HubDevice.objects.get().twin["tags"] == {"fresh": True}


def test_device_that_never_moves_is_asked_about_once(service, webhook, custom):
    top = root("Root A")
    enroll_ca(service, top, reprovisioning_policy="never", **custom)
    leaf = top.leaf("pump-042")

    for minute in range(3):
        answer = register(service, leaf, at=timezone.now() + timedelta(minutes=minute))

    assert (answer.outcome, len(webhook.asked)) == (Outcome.ASSIGNED, 1)


def test_hub_that_is_out_of_allocation_can_be_named_by_a_webhook(service, webhook, custom):
    LinkedHub.objects.filter(name="west").update(apply_allocation_policy=False)
    top = root("Root A")
    enroll_ca(service, top, **custom)
    webhook.chooses("west.hub.internal")

    assert register(service, top.leaf("pump-042")).record.hub.name == "west"


# --- Bad answers ------------------------------------------------------------------------------------------

BAD_ANSWERS = [
    pytest.param((500, b"out of order"), "it answered 500: out of order", id="500"),
    pytest.param((400, {"error": "no"}), 'it answered 400: {"error": "no"}', id="400"),
    pytest.param((302, b""), "it answered 302: nothing", id="redirect"),
    pytest.param((200, b"<html>hello"), "cannot be read", id="no JSON"),
    pytest.param((200, b""), "cannot be read", id="nothing"),
    pytest.param((200, b"\xff\xfe"), "cannot be read", id="no UTF-8"),
    pytest.param((200, []), "names no iotHubHostName", id="a list"),
    pytest.param((200, {"iotHubHostName": 7}), "names no iotHubHostName", id="number for a host"),
    pytest.param((200, {"iotHubHostName": "north.hub.internal"}), "'north.hub.internal'", id="unknown hub"),
    pytest.param((200, {"iotHubHostName": ""}), "not among the hubs", id="empty host"),
    pytest.param(
        (200, {"iotHubHostName": "east.hub.internal", "initialTwin": 7}),
        "its initialTwin",
        id="twin of a number",
    ),
    pytest.param(
        (200, {"iotHubHostName": "east.hub.internal", "initialTwin": {"x": 1}}),
        "its initialTwin",
        id="odd twin",
    ),
    pytest.param(
        (200, {"iotHubHostName": "east.hub.internal", "payload": "x"}), "its payload", id="payload of text"
    ),
    pytest.param((200, b"[" + b" " * 70_000 + b"]"), "longer than 65536 bytes", id="too long"),
]


@pytest.mark.parametrize(("answer", "said"), BAD_ANSWERS)
def test_bad_answer_fails_the_registration_and_the_trace_keeps_what_it_said(
    service, webhook, custom, answer, said
):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    webhook.answer = answer
    webhook.headers = {"Location": "https://localhost:1/elsewhere"} if answer[0] == 302 else {}

    told = register(service, top.leaf("pump-042"))

    assert (told.outcome, told.reason) == (Outcome.FAILED, Reason.WEBHOOK_FAILED)
    step = the_trace()[-1]
    assert (step["rule"], step["said"]) == ("R10", "fails")
    assert said in step["because"]
    assert not HubDevice.objects.exists()
    assert len(webhook.asked) == 1


def test_slow_and_dripping_answers_end_at_the_time_out(service, webhook, custom, settings):
    settings.DPS_WEBHOOK_SECONDS = 1
    top = root("Root A")
    enroll_ca(service, top, **custom)
    webhook.drip_seconds = 0.2

    started = timezone.now()
    told = register(service, top.leaf("pump-042"))

    assert told.reason is Reason.WEBHOOK_FAILED
    assert "within 1 s" in the_trace()[-1]["because"]
    assert timezone.now() - started < timedelta(seconds=4)


def test_webhook_is_believed_by_its_certificate_alone(service, webhook, custom, settings, tmp_path):
    (tmp_path / "other-ca.pem").write_text(root("Other CA").pem)
    settings.DPS_WEBHOOK_CA = tmp_path / "other-ca.pem"
    top = root("Root A")
    enroll_ca(service, top, **custom)

    assert register(service, top.leaf("pump-042")).reason is Reason.WEBHOOK_FAILED
    assert "certificate" in the_trace()[-1]["because"].lower()
    assert webhook.asked == []


def test_certificate_of_another_host_is_not_believed(service, custom, webhook, settings, tmp_path):
    with running_webhook(tmp_path, name="elsewhere.example") as other:
        settings.DPS_WEBHOOK_CA = other.ca_file
        top = root("Root A")
        enroll_ca(service, top, allocation_policy="custom", webhook_url=other.url)

        assert register(service, top.leaf("pump-042")).reason is Reason.WEBHOOK_FAILED
        assert other.asked == []


def test_nobody_listening_is_a_failure(service, webhook, custom):
    top = root("Root A")
    enroll_ca(service, top, allocation_policy="custom", webhook_url=f"https://localhost:9/?code={KEY}")

    assert register(service, top.leaf("pump-042")).reason is Reason.WEBHOOK_FAILED
    assert "could not be reached" in the_trace()[-1]["because"]


def test_host_that_was_taken_off_the_list_is_not_asked_any_more(service, webhook, custom, settings):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]

    assert register(service, top.leaf("pump-042")).reason is Reason.WEBHOOK_FAILED
    assert "DPS_WEBHOOK_HOSTS" in the_trace()[-1]["because"]
    assert webhook.asked == []


def test_key_in_the_url_is_nowhere_to_be_read(service, webhook, custom, caplog):
    caplog.set_level(logging.DEBUG)
    top = root("Root A")
    enroll_ca(service, top, **custom)
    for answer in ((200, {"iotHubHostName": "east.hub.internal"}), (500, b"no")):
        webhook.answer = answer
        register(service, top.leaf("pump-042"), at=timezone.now() + timedelta(seconds=answer[0]))
    enroll_ca(service, root("Root B"), allocation_policy="custom", webhook_url=f"https://localhost:9/?{KEY}")

    kept = json.dumps(
        [
            list(HistoryEvent.objects.values("before", "after")),
            list(RegistrationAttempt.objects.values("trace")),
        ]
    )
    assert KEY not in kept
    assert webhook.url in kept
    assert KEY not in caplog.text


# --- What can be enrolled ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "Give the URL"),
        ("http://localhost/choose", "over HTTPS"),
        ("https:///choose", "over HTTPS"),
        ("ftp://localhost/", "over HTTPS"),
        ("https://elsewhere.example/", "not among the hosts"),
        ("https://localhost.elsewhere.example/", "not among the hosts"),
        ("https://user:secret@localhost/", "no user name"),
        ("https://localhost/#part", "no fragment"),
        ("https://localhost:port/", "cannot be read"),
        ("https://löcalhost/", "ASCII without spaces"),
        ("https://localhost/a b", "ASCII without spaces"),
        ("https://localhost/" + "a" * 1000, "at most 1000 characters"),
    ],
)
def test_url_that_cannot_be_used_is_refused_with_a_sentence(service, webhook, url, said):
    with pytest.raises(Invalid, match=said):
        enroll_keys(service, "pump-042", allocation_policy="custom", webhook_url=url)


def test_listed_port_is_the_only_one(service, webhook, settings):
    settings.DPS_WEBHOOK_HOSTS = ["localhost:8444"]

    enroll_keys(service, "pump-042", allocation_policy="custom", webhook_url="https://localhost:8444/x")
    with pytest.raises(Invalid, match="not among the hosts"):
        enroll_keys(service, "pump-043", allocation_policy="custom", webhook_url="https://localhost:8445/x")


def test_a_service_cannot_choose_the_policy_of_a_webhook(service):
    with pytest.raises(Invalid):
        change_settings(service, {"allocation_policy": "custom"}, actor=ALICE)


def test_address_alone_keeps_the_key_and_another_address_does_not(service, webhook, custom):
    entry = enroll_keys(service, "pump-042", **custom)

    def change(url):
        current = type(entry).objects.get(pk=entry.pk)
        spec = IndividualSpec(
            mechanism=AttestationMechanism.SYMMETRIC_KEY, allocation_policy="custom", webhook_url=url
        )
        return change_individual_enrollment(
            service, "pump-042", spec, expected_etag=current.etag, actor=ALICE
        ).webhook_query

    assert change(webhook.url) == f"code={KEY}"
    assert change(f"{webhook.url}?code=other") == "code=other"
    assert HistoryEvent.objects.latest("pk").after == {"webhook_query": "(another key)"}
    assert change("https://localhost/other") == ""


# --- R12 across the call ---------------------------------------------------------------------------------


def test_r12_never_asked_inside_a_transaction(service, webhook):
    from django.db import transaction

    question = allocation.Question(webhook.url, "2021-10-01", {}, "")
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a transaction"):
        allocation.ask(question)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        pytest.param(
            lambda s: disable_enrollment_group(s, "root-a", actor=ALICE), Outcome.DISABLED, id="disabled"
        ),
        pytest.param(
            lambda s: delete_enrollment_groups(s, ["root-a"], actor=ALICE), Outcome.UNAUTHORIZED, id="deleted"
        ),
        pytest.param(
            lambda s: add_individual_enrollment(
                s, IndividualSpec(registration_id="pump-042", enabled=False), actor=ALICE
            ),
            Outcome.DISABLED,
            id="denied singly",
        ),
        pytest.param(
            lambda s: unlink_hub(s, s.hubs.get(name="east").pk, actor=ALICE),
            Outcome.FAILED,
            id="hub unlinked",
        ),
    ],
)
def test_r12_change_while_the_webhook_is_asked_counts(service, webhook, custom, change, outcome):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    webhook.before = in_own_connection(lambda: change(service))

    told = register(service, top.leaf("pump-042"))

    assert told.outcome is outcome
    assert not HubDevice.objects.exists()
    record = RegistrationRecord.objects.get()
    assert record.status not in ("assigned", "assigning")
    assert record.reason == told.reason.value


def test_r12_answer_for_an_entry_that_was_changed_meanwhile_does_not_count(service, webhook, custom):
    entry = enroll_keys(service, "pump-042", **custom)

    def change():
        current = type(entry).objects.get(pk=entry.pk)
        spec = IndividualSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY, iot_edge=True, **custom)
        change_individual_enrollment(service, "pump-042", spec, expected_etag=current.etag, actor=ALICE)

    webhook.before = in_own_connection(change)

    told = register(service, signs(service, "pump-042", entry.primary_key), "pump-042")

    assert told.reason is Reason.WEBHOOK_FAILED
    assert "changed while it was asked" in the_trace()[-1]["because"]


def test_r12_unrelated_change_does_not_ask_again(service, webhook, custom):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    webhook.before = in_own_connection(lambda: enroll_ca(service, root("Root B")))

    assert register(service, top.leaf("pump-042")).outcome is Outcome.ASSIGNED
    assert len(webhook.asked) == 1


def test_second_registration_while_the_webhook_is_asked_joins_the_first(service, webhook, custom):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    leaf = top.leaf("pump-042")
    pause = Pause()
    webhook.before = pause._wait

    thread, results = in_thread(lambda: register(service, leaf))
    assert pause.reached.wait(PATIENCE)
    second = register(service, leaf)
    polled = poll_operation(service, second.operation_id, asks("pump-042", shows(leaf)))
    pause.go_on.set()
    finish(thread)

    assert (second.outcome, polled.outcome) == (Outcome.ASSIGNING, Outcome.ASSIGNING)
    assert results[0].operation_id == second.operation_id
    done = poll_operation(service, second.operation_id, asks("pump-042", shows(leaf)))
    assert (done.outcome, len(webhook.asked)) == (Outcome.ASSIGNED, 1)


def test_webhooks_that_hang_leave_threads_for_other_devices(service, webhook, custom):
    """Who comes while as many calls are under way as one host may have is told to come again, and fails nothing."""
    top = root("Root A")
    enroll_ca(service, top, **custom)
    earlier = register(service, top.leaf("pump-999")).record
    webhook.asked.clear()
    pause = Pause()
    webhook.before = lambda: pause.go_on.wait(PATIENCE)
    leaves = [top.leaf(f"pump-{n}") for n in range(allocation_webhook.CALLS_TO_A_HOST)]
    threads = [in_thread(lambda leaf=leaf: register(service, leaf))[0] for leaf in leaves]
    while len(webhook.asked) < len(leaves):
        assert any(thread.is_alive() for thread in threads)

    told = register(service, top.leaf("pump-999"), at=timezone.now() + timedelta(seconds=30))
    is_free_elsewhere = allocation_webhook.has_room("https://elsewhere.example/choose")
    pause.go_on.set()
    finish(*threads)

    assert told.outcome is Outcome.THROTTLED
    assert is_free_elsewhere
    assert RegistrationRecord.objects.get(pk=earlier.pk).status == "assigned"
    assert allocation_webhook.has_room(webhook.url)


def test_headers_that_drip_end_at_the_time_out(service, webhook, custom, settings):
    settings.DPS_WEBHOOK_SECONDS = 1
    webhook.drips_headers = True
    top = root("Root A")
    enroll_ca(service, top, **custom)

    started = timezone.now()
    told = register(service, top.leaf("pump-042"))

    assert told.reason is Reason.WEBHOOK_FAILED
    assert "within 1 s" in the_trace()[-1]["because"]
    assert timezone.now() - started < timedelta(seconds=3)


def in_own_connection(change):
    """A change by somebody else, while the webhook is answering."""

    def run() -> None:
        thread, results = in_thread(lambda: (change(), True)[1])
        finish(thread)
        assert results == [True]

    return run


def test_epoch_is_the_ground_of_the_record(service, webhook, custom):
    top = root("Root A")
    enroll_ca(service, top, **custom)
    webhook.before = in_own_connection(lambda: enroll_ca(service, root("Root B")))

    told = register(service, top.leaf("pump-042"))

    assert told.record.epoch == ProvisioningService.epoch_of(service.pk)
