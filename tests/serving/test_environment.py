"""What the application is told about the peer, and whose word is taken for it."""

import io

import pytest

from dpsportal.serving.environment import ListenerEnvironment


class FakeSocket:
    def peer_certificates(self):
        return (b"leaf", b"issuer")


def environment(peer, trusted_proxies=(), **headers):
    """What a request from `peer` looks like to the application."""
    seen = {}

    def application(environ, start_response):
        seen.update(environ)
        return []

    wrapped = ListenerEnvironment(application, listener="portal", trusted_proxies=trusted_proxies)
    wrapped({"gunicorn.socket": FakeSocket(), "REMOTE_ADDR": peer, **headers}, None)
    return seen


def test_listener_and_certificates_are_set():
    seen = environment("192.0.2.1")

    assert (seen["dps.listener"], seen["dps.peer_certificates"]) == ("portal", (b"leaf", b"issuer"))


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
