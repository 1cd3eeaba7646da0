"""Exchanges of the clients that are not run: IoT Edge, C, C# and Java, with the assertions that each makes."""

import json

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import add_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.services import change_settings
from enrollments.models import AttestationMechanism, LinkedHub, RegistrationRecord, RegistrationStatus
from tests.certificates import root, self_signed
from tests.device_api.clients import (
    CLIENTS,
    Answer,
    C,
    CSharp,
    GaveUp,
    IotEdge,
    Java,
    JavaRaw,
    Outcome,
    Request,
    Throttled,
    signer,
)
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys

pytestmark = pytest.mark.django_db

EVERY_CLIENT = pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
HUB = "plant.hub.internal"
OTHER_KEY = "b29vb29vb29vb29vb29vb29vb29vb29vb29vb29vb28="


@pytest.fixture
def provision(wire):
    """The whole exchange, as far as the client takes it."""

    def run(client, certificates: tuple[bytes, ...] = ()) -> Outcome:
        operation_id = client.operation_of(wire(client.register(), certificates))
        for _ in range(5):
            outcome = client.outcome_of(wire(client.poll(operation_id), certificates))
            if outcome is not None:
                return outcome
        raise AssertionError("it is still assigning")

    return run


@pytest.fixture
def with_key(service):
    """A device with a key of the kind of client given, enrolled."""

    def make(kind, registration_id: str = "Pump-042", **spec):
        entry = enroll_keys(service, registration_id, **spec)
        return kind(service.id_scope, registration_id, signer(entry.primary_key))

    return make


def ders(leaf) -> tuple[bytes, ...]:
    return tuple(one.der for one in leaf.chain)


# --- The octets -----------------------------------------------------------------------------------
# Held against what the sources say, so that a transcript does not drift towards what the server happens to take. The
# signatures were computed with another program.


def test_octets_of_iot_edge():
    client = IotEdge("0neSCOPE", "Pump:042", signer(b"k" * 32), now=1_700_000_000)

    assert client.register() == Request(
        "PUT",
        "/0neSCOPE/registrations/Pump:042/register?api-version=2021-06-01",
        {
            "content-type": "application/json",
            "authorization": "SharedAccessSignature sr=0nescope%2Fregistrations%2Fpump:042"
            "&sig=8Hgjl8kCV82jzsGoaO7LVHqBcf%2F5Jq7MkXEOuQaAQX4%3D&se=1700000030&skn=registration",
        },
        b'{"registrationId":"Pump:042"}',
    )


def test_octets_of_c():
    client = C("0neSCOPE", "Pump:042", signer(b"k" * 32), now=1_700_000_000)

    assert client.register() == Request(
        "PUT",
        "/0neSCOPE/registrations/Pump%3a042/register?api-version=2021-06-01",
        {
            "UserAgent": "prov_device_client/1.0",
            "Accept": "application/json",
            "Connection": "keep-alive",
            "Content-Type": "application/json; charset=utf-8",
            "Authorization": "SharedAccessSignature sr=0neSCOPE%2fregistrations%2fPump%3a042"
            "&sig=mbGsglS3Gv9Kj3wVYWINLMHplIFfxCANS5x5er%2bcrus%3d&se=1700002400&skn=registration",
        },
        b'{"registrationId":"Pump:042"}',
    )


def test_octets_of_c_sharp():
    client = CSharp("0neSCOPE", "Pump:042", signer(b"k" * 32), now=1_700_000_000)

    request = client.register()

    assert request.target == "/0neSCOPE/registrations/Pump%3A042/register?api-version=2019-03-31"
    assert request.headers["Authorization"] == (
        "SharedAccessSignature sr=0neSCOPE%2Fregistrations%2FPump%253A042"
        "&sig=OyCAP6RaExPcqKKAGP8eILNzhiKrdpuFaWnZoqFflbM%3D&se=1700086400&skn=registration"
    )
    assert request.body == b'{\n  "registrationId": "Pump:042"\n}'


def test_octets_of_java():
    client = Java("0neSCOPE", "Pump:042", signer(b"k" * 32), now=1_700_000_000)

    request, poll = client.register(), client.poll("5.0.0")

    assert request.target == "/0neSCOPE/registrations/Pump:042/register?api-version=2019-03-31"
    assert request.headers["authorization"] == (
        "SharedAccessSignature sr=0neSCOPE%2Fregistrations%2FPump%3A042"
        "&sig=wT7E1%2ByeHiIXO7WiOwoy6yoGF%2BuLfW%2F7N1mhnw7iilI%3D&se=1700003600&skn="
    )
    assert (poll.headers["Content-Length"], poll.body) == ("0", b"")


def test_one_token_of_iot_edge_serves_registration_and_polls():
    client = IotEdge("0neSCOPE", "pump", signer(b"k" * 32))

    assert client.register().headers["authorization"] == client.poll("5.0.0").headers["authorization"]


# --- Admitted -------------------------------------------------------------------------------------


@EVERY_CLIENT
@pytest.mark.parametrize("registration_id", ["Pump-042", "a.b_c:d-7"])
def test_key_is_admitted(kind, with_key, provision, registration_id):
    outcome = provision(with_key(kind, registration_id))

    assert (outcome.status, outcome.hub, outcome.device_id) == ("assigned", HUB, registration_id)


@EVERY_CLIENT
def test_self_signed_certificate_is_admitted(kind, service, provision):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)

    outcome = provision(kind(service.id_scope, "pump-042"), ders(leaf))

    assert (outcome.status, outcome.hub, outcome.device_id) == ("assigned", HUB, "pump-042")


@EVERY_CLIENT
def test_chain_below_an_enrolled_ca_is_admitted(kind, service, provision):
    ca = root("Root A")
    enroll_ca(service, ca)

    outcome = provision(kind(service.id_scope, "pump-042"), ders(ca.intermediate("Line 1").leaf("pump-042")))

    assert (outcome.status, outcome.hub) == ("assigned", HUB)


@EVERY_CLIENT
def test_device_keeps_asking_while_its_hub_is_being_asked(kind, with_key, wire):
    device = with_key(kind)
    operation_id = device.operation_of(wire(device.register()))
    RegistrationRecord.objects.update(status=RegistrationStatus.ASSIGNING, updated_at=timezone.now())

    answer = wire(device.poll(operation_id))

    assert (answer.status, answer.json()["status"]) == (202, "assigning")
    assert answer.json()["registrationState"]["registrationId"] == "Pump-042"
    assert device.outcome_of(answer) is None


@EVERY_CLIENT
def test_key_derived_from_a_groups_key_is_admitted(kind, service, provision):
    change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)
    spec = GroupSpec(group_id="line-7", mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=OTHER_KEY)
    add_enrollment_group(service, spec, actor=ALICE)
    derived = signer(OTHER_KEY)("Pump-042")  # over the ID as the device spells it

    outcome = provision(kind(service.id_scope, "Pump-042", signer(derived)))

    assert (outcome.status, outcome.hub, outcome.device_id) == ("assigned", HUB, "Pump-042")


# --- Not admitted ---------------------------------------------------------------------------------


@EVERY_CLIENT
def test_wrong_key_ends_with_the_code(kind, service, with_key, provision):
    with_key(kind)
    stranger = kind(service.id_scope, "Pump-042", signer(OTHER_KEY))

    with pytest.raises(GaveUp) as gave_up:
        provision(stranger)

    # The client for C reads no code here.
    assert gave_up.value.code == (None if kind is C else 401002)


@EVERY_CLIENT
def test_unknown_certificate_ends_with_the_code(kind, service, provision):
    with pytest.raises(GaveUp) as gave_up:
        provision(kind(service.id_scope, "pump-042"), ders(self_signed("pump-042")))

    assert gave_up.value.code == (None if kind is C else 401002)


@EVERY_CLIENT
def test_unknown_id_scope_ends_with_the_code(kind, provision):
    with pytest.raises(GaveUp) as gave_up:
        provision(kind("0ne00000000", "pump-042", signer(OTHER_KEY)))

    assert gave_up.value.code == (None if kind is C else 404001)


@EVERY_CLIENT
def test_disabled_device_learns_that_it_is(kind, service, with_key, provision):
    device = with_key(kind)
    disable_enrollment(service, "Pump-042", actor=ALICE)

    if kind is IotEdge:
        with pytest.raises(GaveUp, match="unknown variant disabled"):  # it knows no such status
            provision(device)
    else:
        assert provision(device).status == "disabled"


@EVERY_CLIENT
def test_device_that_is_disabled_between_registration_and_poll_learns_it(kind, service, with_key, wire):
    device = with_key(kind)
    operation_id = device.operation_of(wire(device.register()))
    disable_enrollment(service, "Pump-042", actor=ALICE)

    poll = wire(device.poll(operation_id))

    assert (poll.status, poll.json()["status"]) == (200, "disabled")
    assert "assignedHub" not in poll.json()["registrationState"]


@EVERY_CLIENT
def test_failed_assignment_is_told_with_code_and_message(kind, with_key, provision):
    device = with_key(kind)
    LinkedHub.objects.update(apply_allocation_policy=False)

    outcome = provision(device)

    assert (outcome.status, outcome.code) == ("failed", 400208)
    assert outcome.message == "No linked hub is eligible for this device."


@EVERY_CLIENT
def test_device_that_comes_too_often_learns_when_to_come_back(kind, service, with_key, provision, wire):
    change_settings(service, {"device_registrations_per_minute": 1}, actor=ALICE)
    device = with_key(kind)
    provision(device)

    answer = wire(device.register())

    with pytest.raises(Throttled) as throttled:
        device.operation_of(answer)
    # The client for C reads the status alone.
    assert throttled.value.code == (None if kind is C else 429001)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


# --- The parsers themselves -----------------------------------------------------------------------
# A parser that took anything would make every test above pass.

ASSIGNED = {
    "registrationId": "pump",
    "status": "assigned",
    "assignedHub": HUB,
    "deviceId": "pump",
    "substatus": "initialAssignment",
    "createdDateTimeUtc": "2026-01-02T03:04:05.1234567Z",
    "lastUpdatedDateTimeUtc": "2026-01-02T03:04:05Z",
}


def told(status: str, state: dict | None, code: int = 200, **more: object) -> Answer:
    message = {"operationId": "5.0.0", "status": status, "registrationState": state, **more}
    return Answer(code, {}, _json(message))


def _json(message: dict) -> bytes:
    return json.dumps(message).encode()


@EVERY_CLIENT
def test_parser_takes_a_complete_result(kind):
    outcome = kind("0neSCOPE", "pump").outcome_of(told("assigned", ASSIGNED | {"x509": {}}))

    assert (outcome.status, outcome.hub, outcome.device_id) == ("assigned", HUB, "pump")


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (IotEdge, {"assignedHub": None}),
        (IotEdge, {"deviceId": None}),
        (C, {"assignedHub": None}),
        (C, {"deviceId": None}),
        (CSharp, {"status": "Assigned"}),
        (CSharp, {"createdDateTimeUtc": "yesterday"}),
        (Java, {"registrationId": None}),
        (Java, {"status": None}),
        (Java, {"createdDateTimeUtc": None}),
        (Java, {"lastUpdatedDateTimeUtc": "2026-01-02T03:04:05.12345678Z"}),
        (Java, {"substatus": None}),
        (Java, {"payload": [1]}),
        (Java, {"x509": {"certificateInfo": {"subjectName": "CN=pump"}}}),
    ],
)
def test_parser_refuses_an_incomplete_result(kind, state):
    with pytest.raises(GaveUp):
        kind("0neSCOPE", "pump").outcome_of(told("assigned", ASSIGNED | state))


@pytest.mark.parametrize("kind", [IotEdge, CSharp])
def test_parser_takes_nothing_but_202_to_a_registration(kind):
    answer = Answer(200, {}, _json({"operationId": "5.0.0", "status": "assigning", "errorCode": 1}))

    with pytest.raises(GaveUp):
        kind("0neSCOPE", "pump").operation_of(answer)


@pytest.mark.parametrize("kind", [IotEdge, JavaRaw])
def test_parser_needs_the_registration_id_while_assigning(kind):
    client = kind("0neSCOPE", "pump")

    assert (
        client.outcome_of(told("assigning", {"registrationId": "pump", "status": "assigning"}, 202)) is None
    )
    with pytest.raises(GaveUp):
        client.outcome_of(told("assigning", {"status": "assigning"}, 202))


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Unauthorized"},
        {"errorCode": "401002", "message": "Unauthorized"},
        {"errorCode": 401002},
        {"errorCode": 401002, "code": 401002, "message": "Unauthorized"},
    ],
)
def test_parser_of_iot_edge_needs_a_number_and_a_message_once_each(error):
    with pytest.raises(GaveUp) as gave_up:
        IotEdge("0neSCOPE", "pump").operation_of(Answer(401, {}, _json(error)))

    assert gave_up.value.code is None


@pytest.mark.parametrize("flaw", [{"status": "unassigned"}, {"keyName": None}, {"authenticationKey": None}])
def test_parser_of_c_refuses_a_challenge_with_a_flaw(flaw):
    challenge = {"message": "x", "authenticationKey": "YQ==", "keyName": "registration"}
    client = C("0neSCOPE", "pump")

    assert client.challenge_of(Answer(401, {}, _json(challenge))) == b"a"
    with pytest.raises(GaveUp):
        client.challenge_of(Answer(401, {}, _json(challenge | flaw)))
