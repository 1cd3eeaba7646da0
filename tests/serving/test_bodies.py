"""Bodies through the real listeners to the real applications: framing changes nothing, and refusals speak the
language of those who call there.
"""

import http.client
import json
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from dpsportal.serving.limits import DEVICE_LIMITS, PORTAL_LIMITS
from enrollments.wire.requests import MAX_MESSAGE_BYTES
from tests.certificates import self_signed
from tests.live import ADMIN, ADMIN_PASSWORD, installation
from tests.serving.listeners import read_answer

FRAMINGS = pytest.mark.parametrize("in_chunks", [False, True], ids=["with length", "in chunks"])


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """An installation in which `framed-pump` is enrolled by its certificate."""
    with installation(tmp_path_factory.mktemp("bodies")) as live:
        leaf = self_signed("framed-pump")
        leaf.write(live.data_dir)
        live.python(
            "from enrollments.models import ProvisioningService\n"
            "from enrollments.attestation.x509 import read_upload\n"
            "from enrollments.models import Slot\n"
            "from enrollments.actions.enrollment_specs import IndividualSpec\n"
            "from enrollments.actions.enrollments import add_individual_enrollment\n"
            "from enrollments.audit.actor import Actor, Way\n"
            f"certificate = read_upload({leaf.pem!r})[0]\n"
            "add_individual_enrollment(ProvisioningService.objects.get(name='local'),\n"
            "    IndividualSpec(certificates={Slot.PRIMARY: certificate}),\n"
            "    actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
        )
        live.start("device")
        live.start("portal")
        yield live


def asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, in_chunks: bool, **headers
):
    """The answer, read to its end. http.client writes chunks where the body is an iterator."""
    pieces = (body[start : start + 5000] for start in range(0, len(body), 5000))
    connection.request(
        method, path, body=pieces if in_chunks else body, headers=headers, encode_chunked=in_chunks
    )
    answer = connection.getresponse()
    answer.content = answer.read()
    connection.close()
    return answer


def register(live, body: bytes, in_chunks: bool):
    context = ssl.create_default_context(cafile=live.ca_file)
    context.load_cert_chain(live.data_dir / "device.crt", live.data_dir / "device.key")
    connection = http.client.HTTPSConnection("127.0.0.1", live.device_port, timeout=10, context=context)
    path = f"/{live.id_scope}/registrations/framed-pump/register?api-version=2021-06-01"
    return asked(connection, "PUT", path, body, in_chunks)


@FRAMINGS
@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"registrationId": "framed-pump"}', None, id="good"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"{{{", 400001, id="no JSON"),
        pytest.param(b'{"registrationId": "another-pump"}', 400002, id="another registration ID"),
        pytest.param(b'{"payload": "' + b"x" * MAX_MESSAGE_BYTES + b'"}', 413001, id="over 96 KiB"),
    ],
)
def test_the_device_listener_reads_a_body_however_it_is_framed(live, in_chunks, body, code):
    answer = register(live, body, in_chunks)

    assert answer.status == (code // 1000 if code else 202)
    assert json.loads(answer.content).get("errorCode") == code


@FRAMINGS
def test_the_portal_listener_reads_a_form_however_it_is_framed(live, in_chunks):
    form = f"username={ADMIN}&password={ADMIN_PASSWORD.replace(' ', '+')}&csrfmiddlewaretoken={'x' * 32}".encode()
    connection = http.client.HTTPConnection("127.0.0.1", live.portal_port, timeout=10)

    answer = asked(
        connection,
        *("POST", "/sign-in/", form, in_chunks),
        **{"Cookie": f"csrftoken={'x' * 32}", "Content-Type": "application/x-www-form-urlencoded"},
    )

    assert (answer.status, answer.headers["Location"]) == (302, "/")


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def answer_of_device_listener(live, request: bytes):
    with socket.create_connection(("127.0.0.1", live.device_port), timeout=10) as raw:
        context = ssl.create_default_context(cafile=live.ca_file)
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(request)
            return read_answer(connection)


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        pytest.param(
            head("PUT /x HTTP/1.1", "Host: x", f"Content-Length: {DEVICE_LIMITS.body_bytes + 1}"),
            413001,
            id="body too large",
        ),
        pytest.param(head("GET /x HTTP/1.1", "Host: x", f"X: {'x' * 40_000}"), 431000, id="head too large"),
        pytest.param(head(f"GET /{'x' * 5000} HTTP/1.1", "Host: x"), 414000, id="address too long"),
        pytest.param(head("PUT /x HTTP/1.1", "Content-Length: 1,1"), 400000, id="length unclear"),
        pytest.param(head("GET /x HTTP/1.1", "no field"), 400000, id="no header field"),
        pytest.param(head("what"), 400000, id="no request line"),
        pytest.param(head("PUT /x HTTP/1.1", "Host: x", "Expect: money"), 417000, id="expectation"),
    ],
)
def test_what_the_device_listener_itself_refuses_has_the_error_body(live, request_bytes, code):
    answer = answer_of_device_listener(live, request_bytes)

    assert (answer.status, answer.headers["x-ms-error-code"]) == (code // 1000, str(code))
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    told = json.loads(answer.body)
    assert set(told) == {"errorCode", "message", "trackingId", "timestampUtc"}
    assert told["errorCode"] == code
    assert told["message"]
    assert abs(datetime.fromisoformat(told["timestampUtc"]) - datetime.now(UTC)) < timedelta(minutes=1)
    lines = [json.loads(line) for line in live.log("device").splitlines()]
    logged = [line for line in lines if line.get("tracking_id") == told["trackingId"]]
    assert [(line["status"], line["peer"]) for line in logged] == [(code // 1000, "127.0.0.1")]


def test_one_field_may_be_as_long_as_a_chain_of_certificates(live):
    """Only the head as a whole is bounded: behind a proxy, one field carries all the certificates."""
    request = head("GET /x HTTP/1.1", "Host: x", f"X: {'x' * 20_000}")

    assert answer_of_device_listener(live, request).status == 404


def test_people_are_told_the_limit_of_a_form_and_the_way_out(live):
    request = head("POST /sign-in/ HTTP/1.1", "Host: x", f"Content-Length: {PORTAL_LIMITS.body_bytes + 1}")
    with socket.create_connection(("127.0.0.1", live.portal_port), timeout=10) as connection:
        connection.sendall(request)
        answer = read_answer(connection)

    assert (answer.status, answer.headers["Content-Type"]) == (413, "text/html; charset=utf-8")
    assert "larger than 1 MiB" in answer.body.decode()
    assert "go back and choose a smaller file" in answer.body.decode()
