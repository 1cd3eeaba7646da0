"""Bodies through the real listeners to the real applications: how one is framed changes nothing about its answer."""

import http.client
import json
import ssl

import pytest

from enrollments.device_api.messages import MAX_MESSAGE_BYTES
from tests.certificates import self_signed
from tests.live import ADMIN, ADMIN_PASSWORD, installation

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
            "from enrollments.actions.enrollments import IndividualSpec, add_individual_enrollment\n"
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
