"""The proxied listener as it runs: what a proxy hands on counts, from nobody else and in no other spelling."""

import base64
import http.client
import json
import socket
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from tests.certificates import root
from tests.serving.listeners import Answer, read_answer

# Loopback has many addresses: the installation trusts one of them.
PROXY, STRANGER = "127.0.0.1", "127.0.0.2"


@pytest.fixture(scope="session")
def ca(behind_proxies):
    ca = root("Listener Root")
    behind_proxies.enroll_ca("listener-root", ca)
    return ca


def sequence(der: bytes) -> str:
    return f":{base64.b64encode(der).decode()}:"


def handed_on(leaf) -> list[str]:
    """The headers of RFC 9440 for a leaf and the intermediates above it."""
    first, *others = [sequence(one.der) for one in leaf.chain]
    return [f"Client-Cert: {first}", *([f"Client-Cert-Chain: {', '.join(others)}"] if others else [])]


def ask(live, registration_id: str, *headers: str, peer: str = PROXY, path: str = "") -> Answer:
    path = path or f"/{live.id_scope}/registrations/{registration_id}/register?api-version=2021-06-01"
    with socket.create_connection(
        ("127.0.0.1", live.proxied_port), 10, source_address=(peer, 0)
    ) as connection:
        head = [
            f"PUT {path} HTTP/1.1",
            "Host: devices.example.org",
            "Content-Length: 0",
            *headers,
            "",
            "",
        ]
        connection.sendall("\r\n".join(head).encode("latin-1"))
        return read_answer(connection)


def code(answer: Answer) -> int:
    return json.loads(answer.body)["errorCode"]


def log_lines(live) -> list[dict]:
    return [json.loads(line) for line in live.log("proxied").splitlines()]


def test_what_a_proxy_hands_on_is_the_devices_proof(behind_proxies, ca):
    leaf = ca.intermediate("Lower").leaf("listener-1")

    assert ask(behind_proxies, "listener-1", *handed_on(leaf)).status == 202


def test_without_certificates_the_same_device_is_unauthorized(behind_proxies, ca):
    assert code(ask(behind_proxies, "listener-2")) == 401002


@pytest.mark.parametrize("path", ["", "/", "/nothing", "/healthz/"])
def test_a_stranger_reaches_nothing(behind_proxies, ca, path):
    answer = ask(behind_proxies, "listener-3", *handed_on(ca.leaf("listener-3")), peer=STRANGER, path=path)

    body = json.loads(answer.body)
    assert (answer.status, body["errorCode"]) == (403, 403001)
    assert answer.headers["x-ms-request-id"] == body["trackingId"]
    assert "you are none of them" in body["message"]


@pytest.mark.parametrize("peer", [PROXY, STRANGER])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_to_everybody(behind_proxies, path, peer):
    connection = http.client.HTTPConnection(
        "127.0.0.1", behind_proxies.proxied_port, timeout=10, source_address=(peer, 0)
    )
    with closing(connection):
        connection.request("GET", path, headers={"Client-Cert": "unreadable"})
        assert connection.getresponse().status == 200


def test_what_cannot_be_read_is_refused_with_a_sentence(behind_proxies, ca):
    answer = ask(behind_proxies, "listener-4", *handed_on(ca.leaf("listener-4")), "Client-Cert: :AAAA:")

    assert (answer.status, code(answer)) == (400, 400006)
    sentence = "Client-Cert is no structured field as RFC 9440 has it."
    assert json.loads(answer.body)["message"] == sentence
    assert sentence in [line.get("refused") for line in log_lines(behind_proxies)]


@pytest.mark.parametrize("spelling", ["Client_Cert", "CLIENT_CERT", "Client_Cert ", "client_Cert"])
def test_another_spelling_of_the_name_is_not_the_header(behind_proxies, ca, spelling):
    """WSGI makes HTTP_CLIENT_CERT of it: what a client writes so would pass a proxy that overwrites Client-Cert."""
    # A name of its own for each, so that none is told to wait for what the others did.
    name = f"listener-5-{spelling.encode().hex()}"
    certificate = sequence(ca.leaf(name).der)

    alone = ask(behind_proxies, name, f"{spelling}: {certificate}")
    beside_an_empty_one = ask(behind_proxies, name, "Client-Cert: ", f"{spelling}: {certificate}")

    # With a space before the colon it is no header at all (RFC 9112, section 5.1).
    expected = 400 if spelling.endswith(" ") else 401
    assert (alone.status, beside_an_empty_one.status) == (expected, expected)


def test_another_spelling_adds_nothing_to_what_the_proxy_wrote(behind_proxies, ca):
    leaf, other = ca.leaf("listener-6"), ca.leaf("listener-7")

    own_name = ask(behind_proxies, "listener-6", *handed_on(leaf), f"Client_Cert: {sequence(other.der)}")
    others_name = ask(behind_proxies, "listener-7", *handed_on(leaf), f"Client_Cert: {sequence(other.der)}")

    assert (own_name.status, others_name.status) == (202, 401)


def test_a_trailer_is_no_header(behind_proxies, ca):
    certificate = sequence(ca.leaf("listener-8").der)
    path = f"/{behind_proxies.id_scope}/registrations/listener-8/register?api-version=2021-06-01"
    request = (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Client-Cert\r\n\r\n"
        f"2\r\n{{}}\r\n0\r\nClient-Cert: {certificate}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", behind_proxies.proxied_port), 10) as connection:
        connection.sendall(request.encode())
        answer = read_answer(connection)

    assert code(answer) == 401002


def test_a_long_chain_of_large_certificates_fits(behind_proxies, ca):
    issuer = ca
    for depth in range(6):
        names = [f"{'x' * 60}.{number}.example.org" for number in range(20)]
        issuer = issuer.intermediate(f"Large {depth}", dns_names=names)
    headers = handed_on(issuer.leaf("listener-9"))

    assert len(headers[1]) > 8190
    assert ask(behind_proxies, "listener-9", *headers).status == 202


def test_more_than_ten_certificates_are_refused(behind_proxies, ca):
    lower = ca.intermediate("Lower still")
    others = [ca.intermediate(f"CA {number}") for number in range(9)]

    def status(*chain):
        members = ", ".join(sequence(one.der) for one in chain)
        leaf = f"Client-Cert: {sequence(lower.leaf('listener-10').der)}"
        return ask(behind_proxies, "listener-10", leaf, f"Client-Cert-Chain: {members}").status

    assert status(lower, *others[:8]) == 202
    assert status(lower, *others) == 401


def test_a_header_too_large_to_be_a_chain_is_refused_by_the_listener(behind_proxies):
    assert ask(behind_proxies, "listener-11", f"Client-Cert: :{'A' * 61_500}:").status == 400
    assert ask(behind_proxies, "listener-11", f"Client-Cert: :{'A' * 70_000}:").status == 431


def test_what_is_ignored_is_counted_and_in_the_log(behind_proxies, ca):
    headers = handed_on(ca.leaf("listener-12"))

    ask(behind_proxies, "listener-12", *headers, peer=STRANGER)
    ask(behind_proxies, "listener-12", "X-Forwarded-Client-Cert: Hash=00", "X-Forwarded-For: 198.51.100.9")

    rows = behind_proxies.rows(
        "SELECT * FROM enrollments_ignoredcertificateheader WHERE listener = 'proxied'"
    )
    last = {row["header"]: row["last_address"] for row in rows}
    assert last["Client-Cert"] == STRANGER
    assert last["X-Forwarded-Client-Cert"] == "198.51.100.9"
    logged = [line.get("ignored_certificate_headers") for line in log_lines(behind_proxies)]
    assert ["Client-Cert"] in logged and ["X-Forwarded-Client-Cert"] in logged


def test_the_device_listener_believes_no_header_of_the_same_proxy(behind_proxies, ca):
    (certificate,) = handed_on(ca.leaf("listener-13"))
    name, value = certificate.split(": ")
    url = f"{behind_proxies.device_url}/{behind_proxies.id_scope}/registrations/listener-13/register"
    request = urllib.request.Request(
        f"{url}?api-version=2021-06-01", method="PUT", headers={name: value}, data=b"{}"
    )

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10, context=behind_proxies.endpoint.context())

    assert refused.value.code == 401
    rows = behind_proxies.rows("SELECT * FROM enrollments_ignoredcertificateheader WHERE listener = 'device'")
    assert [(row["header"], row["count"]) for row in rows] == [("Client-Cert", 1)]
