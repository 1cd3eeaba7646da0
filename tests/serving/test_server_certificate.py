"""The certificate that the device listener has before anybody has bought one."""

import datetime
import multiprocessing
import ssl
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from dpsportal.serving import server_certificate
from dpsportal.serving.server_certificate import ensure_server_certificate


def read(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_it_is_made_once_and_kept(tmp_path):
    paths = ensure_server_certificate(tmp_path)
    files = {path: path.read_bytes() for path in (tmp_path / "tls").iterdir()}

    assert ensure_server_certificate(tmp_path) == paths
    assert {path: path.read_bytes() for path in (tmp_path / "tls").iterdir()} == files


def test_keys_are_for_their_owner_alone(tmp_path):
    ensure_server_certificate(tmp_path)

    for name in ("server.key", "ca.key"):
        assert stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "accepted"), [("localhost", True), ("127.0.0.1", True), ("::1", True), ("example.org", False)]
)
def test_a_client_that_trusts_the_ca_accepts_it_for_this_machine_only(tmp_path, name, accepted):
    certificate, key = ensure_server_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    assert shakes_hands(client, server, name) is accepted


def shakes_hands(client, server, name) -> bool:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


def test_the_chain_is_p256_and_not_valid_for_too_long(tmp_path):
    certificate = read(ensure_server_certificate(tmp_path)[0])

    assert certificate.public_key().curve.name == "secp256r1"
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < datetime.timedelta(days=398)


def test_it_is_renewed_before_it_expires_by_the_same_ca(tmp_path, monkeypatch):
    monkeypatch.setattr(server_certificate, "SERVER_LIFE", datetime.timedelta(days=13))
    old = read(ensure_server_certificate(tmp_path)[0])
    trusted = (tmp_path / "tls" / "ca.pem").read_bytes()
    monkeypatch.undo()

    new = read(ensure_server_certificate(tmp_path)[0])

    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert (tmp_path / "tls" / "ca.pem").read_bytes() == trusted
    new.verify_directly_issued_by(x509.load_pem_x509_certificate(trusted))


@pytest.mark.parametrize("lost", ["server.pem", "server.key", "ca.pem", "ca.key"])
@pytest.mark.parametrize("how", ["missing", "broken"])
def test_what_is_lost_or_broken_is_made_again(tmp_path, lost, how):
    ensure_server_certificate(tmp_path)
    path = tmp_path / "tls" / lost
    path.unlink() if how == "missing" else path.write_text("half a fi")

    assert_usable(tmp_path, *ensure_server_certificate(tmp_path))


def assert_usable(data_dir, certificate, key):
    ca = read(data_dir / "tls" / "ca.pem")
    read(certificate).verify_directly_issued_by(ca)
    own_key = serialization.load_pem_private_key(key.read_bytes(), None)
    assert own_key.public_key() == read(certificate).public_key()


def test_processes_that_start_together_agree(tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        pool.map(ensure_server_certificate, [tmp_path] * 8)

    assert_usable(tmp_path, *ensure_server_certificate(tmp_path))
