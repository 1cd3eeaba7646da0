"""What the application is told about the peer, and whose word is taken for it."""

import base64
import io

import pytest

from dpsportal.serving.environment import UNTRUSTED_PEER, ListenerEnvironment
from dpsportal.serving.forwarded_certificates import CERTIFICATE_HEADERS

PROXY, STRANGER = "10.0.0.1", "198.51.100.1"
# DER enough to be taken apart; what stands in it is nobody's business here.
LEAF, ISSUER = b"\x30\x04leaf", b"\x30\x06issuer"
HANDED_ON = {
    "HTTP_CLIENT_CERT": f":{base64.b64encode(LEAF).decode()}:",
    "HTTP_CLIENT_CERT_CHAIN": f":{base64.b64encode(ISSUER).decode()}:",
}


class FakeSocket:
    def __init__(self, certificates):
        self.certificates = certificates

    def peer_certificates(self):
        return self.certificates


def environment(peer, trusted_proxies=(), listener="portal", handshake=(b"leaf", b"issuer"), **headers):
    """What a request from `peer` looks like to the application."""
    seen = {}

    def application(environ, start_response):
        seen.update(environ)
        return []

    wrapped = ListenerEnvironment(application, listener=listener, trusted_proxies=trusted_proxies)
    wrapped({"gunicorn.socket": FakeSocket(handshake), "REMOTE_ADDR": peer, **headers}, None)
    return seen


def test_listener_and_certificates_are_set():
    seen = environment("192.0.2.1")

    assert (seen["dps.listener"], seen["dps.peer_certificates"]) == ("portal", (b"leaf", b"issuer"))


@pytest.mark.parametrize(
    ("listener", "serves"), [("portal", "portal"), ("device", "device"), ("proxied", "device")]
)
def test_the_proxied_listener_serves_devices(listener, serves):
    seen = environment(PROXY, [PROXY], listener)

    assert (seen["dps.listener"], seen["dps.listener_name"]) == (serves, listener)


def behind_proxy(peer=PROXY, listener="proxied", handshake=(), **headers):
    return environment(peer, [PROXY], listener, handshake, **headers)


def test_certificates_of_a_believed_proxy_are_the_devices():
    seen = behind_proxy(**HANDED_ON)

    assert seen["dps.peer_certificates"] == (LEAF, ISSUER)
    assert (seen["dps.refusal"], seen["dps.ignored_certificate_headers"]) == (None, ())
    assert not HANDED_ON.keys() & seen.keys()


@pytest.mark.parametrize("headers", [{}, {"HTTP_CLIENT_CERT": "", "HTTP_CLIENT_CERT_CHAIN": ""}])
def test_a_device_without_a_certificate_is_no_error(headers):
    seen = behind_proxy(**headers)

    assert (seen["dps.peer_certificates"], seen["dps.refusal"]) == ((), None)


def test_the_proxy_is_the_peer_and_not_whom_it_names():
    named = behind_proxy(**HANDED_ON, HTTP_X_FORWARDED_FOR=STRANGER)
    names_a_proxy = behind_proxy(STRANGER, **HANDED_ON, HTTP_X_FORWARDED_FOR=PROXY)

    assert (named["dps.peer_certificates"], named["REMOTE_ADDR"]) == ((LEAF, ISSUER), STRANGER)
    assert (names_a_proxy["dps.peer_certificates"], names_a_proxy["REMOTE_ADDR"]) == ((), STRANGER)


@pytest.mark.parametrize("headers", [{}, HANDED_ON], ids=["without headers", "with headers"])
def test_a_stranger_reaches_nothing_behind_a_proxy(headers):
    seen = behind_proxy(STRANGER, **headers)

    assert (seen["dps.refusal"], seen["dps.peer_certificates"]) == (UNTRUSTED_PEER, ())


@pytest.mark.parametrize("header", HANDED_ON)
def test_what_a_believed_proxy_writes_and_nobody_can_read_is_refused(header):
    seen = behind_proxy(**HANDED_ON | {header: f"{HANDED_ON[header]};a=1"})

    assert seen["dps.peer_certificates"] == ()
    assert seen["dps.refusal"].cause == "unreadable certificate"
    assert "holds something else than byte sequences" in seen["dps.refusal"].sentence


@pytest.mark.parametrize("peer", [PROXY, STRANGER], ids=["proxy", "stranger"])
@pytest.mark.parametrize("listener", ["device", "portal"])
def test_elsewhere_the_handshake_alone_counts_and_the_headers_are_noted(listener, peer):
    seen = behind_proxy(peer, listener, (b"own leaf",), **HANDED_ON)

    assert (seen["dps.peer_certificates"], seen["dps.refusal"]) == ((b"own leaf",), None)
    assert seen["dps.ignored_certificate_headers"] == ("Client-Cert", "Client-Cert-Chain")
    assert not HANDED_ON.keys() & seen.keys()


@pytest.mark.parametrize("header", CERTIFICATE_HEADERS[2:])
@pytest.mark.parametrize("peer", [PROXY, STRANGER], ids=["proxy", "stranger"])
@pytest.mark.parametrize("listener", ["device", "portal", "proxied"])
def test_relatives_are_believed_nowhere(listener, peer, header):
    key = "HTTP_" + header.upper().replace("-", "_")

    seen = behind_proxy(peer, listener, **{key: HANDED_ON["HTTP_CLIENT_CERT"]})

    assert (seen["dps.peer_certificates"], seen["dps.ignored_certificate_headers"]) == ((), (header,))
    assert key not in seen


@pytest.mark.parametrize("trusted", [[], ["192.0.2.0/24"]], ids=["nobody", "somebody else"])
def test_nobody_is_believed_who_is_not_named(trusted):
    seen = environment(PROXY, trusted, "proxied", (), **HANDED_ON)

    assert (seen["dps.refusal"], seen["dps.peer_certificates"]) == (UNTRUSTED_PEER, ())


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param("10.0.0.1", "198.51.100.7", "198.51.100.7", id="one proxy"),
        pytest.param("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7", id="two proxies"),
        pytest.param(
            "10.0.0.1", "203.0.113.9,198.51.100.7", "198.51.100.7", id="the client added one itself"
        ),
        pytest.param("10.0.0.1", "2001:db8::1", "2001:db8::1", id="IPv6"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="nothing named"),
        pytest.param("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1", id="not an address"),
        pytest.param("198.51.100.1", "203.0.113.9", "198.51.100.1", id="no proxy of ours"),
        pytest.param("127.0.0.1", "203.0.113.9", "127.0.0.1", id="loopback is no exception"),
    ],
)
def test_the_address_is_the_one_that_a_believed_proxy_names(peer, forwarded_for, address):
    seen = environment(peer, ["10.0.0.0/24"], HTTP_X_FORWARDED_FOR=forwarded_for)

    assert seen["REMOTE_ADDR"] == address


@pytest.mark.parametrize(("peer", "believed"), [("10.0.0.1", True), ("198.51.100.1", False)])
def test_forwarding_headers_of_strangers_are_removed(peer, believed):
    headers = {
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_HOST": "portal.example",
        "HTTP_FORWARDED": "proto=https",
        "HTTP_X_OTHER": "stays",
    }
    seen = environment(peer, ["10.0.0.1"], **headers)

    assert seen["HTTP_X_OTHER"] == "stays"
    for name in headers.keys() - {"HTTP_X_OTHER"}:
        assert (name in seen) is believed


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("application/json; charset=utf-8", "application/json"),
        ("text/plain;CHARSET=hex", "text/plain"),
        ("multipart/form-data; charset=utf-7; boundary=x", "multipart/form-data; boundary=x"),
        ("application/json", "application/json"),
        ("", ""),
    ],
)
def test_no_client_chooses_the_codec(sent, seen):
    assert environment("192.0.2.1", CONTENT_TYPE=sent)["CONTENT_TYPE"] == seen


def test_a_body_in_chunks_is_handed_on_with_its_length():
    # gunicorn's own input puts the chunks together; what it reads from stands in for it here.
    seen = environment(
        "192.0.2.1", HTTP_TRANSFER_ENCODING="chunked", **{"wsgi.input": io.BytesIO(b"all of it")}
    )

    assert seen["CONTENT_LENGTH"] == "9"
    assert seen["wsgi.input"].read() == b"all of it"
    assert "HTTP_TRANSFER_ENCODING" not in seen
