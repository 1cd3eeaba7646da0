"""TLS without a network: what happens when a client does not take what it is sent."""

import socket
import ssl

import pytest
from cryptography.hazmat.primitives import serialization

from dpsportal.serving.buffered_socket import WAIT_TO_READ, WAIT_TO_WRITE, WouldBlock
from dpsportal.serving.tls import TlsSocket, UnusableCertificate, server_context
from tests.serving import pki
from tests.serving.listeners import client_context


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    for side in (near, far):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    yield near, far
    near.close()
    far.close()


def test_a_handshake_waits_for_a_client_that_does_not_read(pair, tmp_path):
    ca = pki.issue("ca")
    leaf = pki.issue("localhost", issuer=ca)
    # A chain so long that it does not fit into the buffers between the two.
    many = [pki.issue(f"intermediate-{number}", issuer=ca, key=ca[1]) for number in range(60)]
    chain = pki.write_chain(tmp_path / "server.pem", leaf, *many)
    (tmp_path / "server.key").write_bytes(
        leaf[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = TlsSocket(
        pair[0], server_context(chain, tmp_path / "server.key"), unsent_bytes=1000, sending_seconds=1
    )
    pair[1].setblocking(False)
    client = client_context().wrap_socket(pair[1], server_hostname="localhost", do_handshake_on_connect=False)

    waits = []
    for _ in range(200):
        if shakes_hands(client.do_handshake) and shakes_hands(server.handshake, waits):
            break
        shakes_hands(server.handshake, waits)
    else:
        pytest.fail("the handshake does not end")

    assert waits[0] == WAIT_TO_WRITE
    assert waits[-1] == WAIT_TO_READ
    client.close()


def shakes_hands(side, waits=None) -> bool:
    try:
        side()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    except WouldBlock as blocked:
        waits.append(blocked.events)
        return False
    return True


def test_files_that_cannot_serve_are_named_with_the_reason(tmp_path):
    mine = pki.write_chain(tmp_path / "mine.pem", pki.issue("mine"))
    other = pki.write_chain(tmp_path / "other.pem", pki.issue("other"))
    empty = tmp_path / "empty.pem"
    empty.touch()

    server_context(mine, mine)
    for certificate, key, reason in [(mine, other, "key values mismatch"), (empty, mine, "no start line")]:
        with pytest.raises(UnusableCertificate) as refused:
            server_context(certificate, key)
        assert f"{certificate} with the key {key}: " in str(refused.value)
        assert reason in str(refused.value)
