"""One simulated device, against a service that answers as it is told to."""

import threading
import time

import pytest

from dpsportal.serving.server_certificate import ensure_server_certificate
from enrollments.attestation.symmetric_key import TokenSignatureWrong, check_token, key_bytes, read_token
from enrollments.models.enrollments import new_symmetric_key
from enrollments.simulator.client import Device, Endpoint, Interrupted, Outcome, Pace, provision
from enrollments.simulator.credentials import SharedKey, sas_token
from tests.live import free_port

PUMP = Device("pump-1", None)
OPERATION = {"operationId": "5.op", "status": "assigning"}
ACCEPTED = (202, OPERATION, {"Retry-After": "3"})
ASSIGNED = (
    200,
    {
        "operationId": "5.op",
        "status": "assigned",
        "registrationState": {"assignedHub": "hub.example", "deviceId": "p1", "status": "assigned"},
    },
    {},
)
UNAUTHORIZED = (401, {"errorCode": 401002, "trackingId": "t-1", "message": "Unauthorized"}, {})
THROTTLED = (429, {"errorCode": 429001, "message": "Slow down"}, {"Retry-After": "7"})
BROKEN = (503, b"<html>busy</html>", {"Retry-After": "5"})


class Clock:
    """Stands in for the event of a fleet that never stops: waits are noted and not sat through."""

    def __init__(self) -> None:
        self.waits = []

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return False


def told(status, **state):
    return (200, {"operationId": "5.op", "status": status, "registrationState": state}, {})


def run(service, *answers, device=PUMP, **pace):
    service.will_answer(*answers)
    clock = Clock()
    return provision(device, service.endpoint, Pace(stop=clock, **pace)), clock.waits


def test_a_device_registers_then_polls_its_operation_until_it_is_assigned(service):
    still = (202, OPERATION, {"Retry-After": "4"})

    result, waits = run(service, ACCEPTED, still, ASSIGNED)

    assert (result.outcome, result.hub, result.device_id) == (Outcome.ASSIGNED, "hub.example", "p1")
    assert [(method, path) for method, path, _, _ in service.requests] == [
        ("PUT", "/0ne0000ABCD/registrations/pump-1/register?api-version=2021-06-01"),
        *[("GET", "/0ne0000ABCD/registrations/pump-1/operations/5.op?api-version=2021-06-01")] * 2,
    ]
    assert service.requests[0][3] == b'{"registrationId": "pump-1"}'
    assert waits == [3, 4]
    assert 0 < result.register_seconds < result.total_seconds


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [
        ("1", 1),
        ("0", 1),
        ("9999", 300),
        ("soon", 2),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 2),
        ("", 2),
        ("-5", 2),
    ],
)
def test_a_retry_after_is_whole_seconds_within_reason(service, retry_after, waited):
    _, waits = run(service, (202, OPERATION, {"Retry-After": retry_after}), ASSIGNED)

    assert waits == [waited]


def test_a_hurried_device_waits_no_longer_than_it_is_told(service):
    _, waits = run(service, ACCEPTED, ASSIGNED, longest_wait=0.5)

    assert waits == [0.5]


@pytest.mark.parametrize(
    ("answer", "outcome", "detail"),
    [
        (told("disabled"), Outcome.DISABLED, ""),
        (told("failed", errorCode=400208, errorMessage="no hub"), Outcome.FAILED, "400208: no hub"),
        (told("blacklisted"), Outcome.ERROR, "'blacklisted'"),
        ((404, {"errorCode": 404002, "message": "no such operation"}, {}), Outcome.ERROR, "404002"),
        (UNAUTHORIZED, Outcome.UNAUTHORIZED, "401002"),
        ((200, b"not JSON", {}), Outcome.ERROR, "None"),
    ],
)
def test_the_poll_says_what_became_of_it(service, answer, outcome, detail):
    result, _ = run(service, ACCEPTED, answer)

    assert result.outcome is outcome
    assert detail in result.detail


def test_an_unauthorized_device_does_not_try_again_and_keeps_the_tracking_id(service):
    result, waits = run(service, UNAUTHORIZED)

    assert (result.outcome, result.tracking_id) == (Outcome.UNAUTHORIZED, "t-1")
    assert len(service.requests) == 1
    assert waits == []


@pytest.mark.parametrize(("trouble", "wait"), [(THROTTLED, 7), (BROKEN, 5)])
def test_trouble_that_passes_is_waited_for(service, trouble, wait):
    result, waits = run(service, trouble, ACCEPTED, trouble, ASSIGNED)

    assert result.outcome is Outcome.ASSIGNED
    assert waits == [wait, 3, wait]


@pytest.mark.parametrize(("trouble", "outcome"), [(THROTTLED, Outcome.THROTTLED), (BROKEN, Outcome.ERROR)])
def test_trouble_that_stays_ends_after_three_tries(service, trouble, outcome):
    result, _ = run(service, trouble)

    assert result.outcome is outcome
    assert len(service.requests) == 3


@pytest.mark.parametrize("body", [{"status": "assigning"}, {"operationId": 5}, b"", [1]])
def test_an_acceptance_without_an_operation_is_an_error(service, body):
    result, _ = run(service, (202, body, {}))

    assert result.outcome is Outcome.ERROR
    assert "operationId" in result.detail


def test_a_device_does_not_poll_for_ever(service):
    service.will_answer(ACCEPTED)

    result = provision(PUMP, service.endpoint, Pace(longest_wait=0.01, patience=0.2))

    assert result.outcome is Outcome.ERROR
    assert "still assigning" in result.detail


def test_without_a_listener_the_service_is_unreachable(service):
    nobody = Endpoint("127.0.0.1", free_port(), "0ne0000ABCD", service.ca_file)

    result = provision(PUMP, nobody, Pace(stop=Clock()))

    assert result.outcome is Outcome.UNREACHABLE
    assert "refused" in result.detail
    assert result.total_seconds is None


def test_a_service_that_another_ca_vouches_for_is_not_spoken_to(service, tmp_path):
    service.will_answer(ASSIGNED)
    ensure_server_certificate(tmp_path / "other")
    impostor = Endpoint("127.0.0.1", service.endpoint.port, "0ne0000ABCD", tmp_path / "other/tls/ca.pem")

    result = provision(PUMP, impostor, Pace(stop=Clock()))

    assert result.outcome is Outcome.UNREACHABLE
    assert "certificate verify failed" in result.detail
    assert service.requests == []


def test_a_stopped_fleet_lets_no_device_wait(service):
    service.will_answer((202, OPERATION, {"Retry-After": "300"}))
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()

    with pytest.raises(Interrupted):
        provision(PUMP, service.endpoint, Pace(stop=stop))

    assert time.monotonic() - started < 10


def test_a_shared_key_is_shown_as_a_token_that_the_key_proves(service):
    key, other = new_symmetric_key(), new_symmetric_key()

    run(service, UNAUTHORIZED, device=Device("Pump:1", SharedKey(key)))

    _, path, headers, _ = service.requests[0]
    token = read_token(headers["Authorization"])
    asked = {"id_scope": "0ne0000ABCD", "registration_id": "Pump:1", "now": time.time()}
    check_token(token, keys=[key_bytes(key)], **asked)
    with pytest.raises(TokenSignatureWrong):
        check_token(token, keys=[key_bytes(other)], **asked)
    assert path.startswith("/0ne0000ABCD/registrations/Pump%3A1/register?")


def test_a_token_is_as_the_contract_computes_it(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1795439729 - 3600)

    token = sas_token("0neSCOPE", "ok-pl-tcp", "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=")

    assert token == (
        "SharedAccessSignature sr=0neSCOPE%2Fregistrations%2Fok-pl-tcp"
        "&sig=YGo7JZa3eXnftREEc3FRHhIF1r38cAyKrBwpVNKQkxs%3D&se=1795439729"
    )


def test_a_key_is_not_shown_when_a_device_is_printed():
    key = new_symmetric_key()

    assert key not in repr(Device("pump-1", SharedKey(key)))
