"""What a client presents in the handshake reaches the application: all of it, as sent, and nothing else."""

import ssl
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.serving import pki
from tests.serving.listeners import client_context, read_json

VERSIONS = [
    pytest.param(ssl.TLSVersion.TLSv1_2, id="TLS 1.2"),
    pytest.param(ssl.TLSVersion.TLSv1_3, id="TLS 1.3"),
]


@pytest.fixture(scope="module")
def chain():
    root = pki.issue("root")
    upper = pki.issue("upper", issuer=root)
    lower = pki.issue("lower", issuer=upper)
    return [pki.issue("pump-042", issuer=lower), lower, upper, root]


@pytest.mark.parametrize("version", VERSIONS)
def test_leaf_and_chain_arrive_in_the_order_sent(tls_listener, chain, tmp_path, version):
    leaf, lower, upper, root = chain
    # Not the order of issuing: what counts is how they were sent.
    context = client_context(
        chain=pki.write_chain(tmp_path / "chain.pem", leaf, upper, root, lower), version=version
    )

    answer = tls_listener.get(context=context)

    assert answer["certificates"] == [pki.digest(each) for each in (leaf, upper, root, lower)]
    assert (answer["listener"], answer["scheme"]) == ("device", "https")


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate_is_fine_and_hands_over_none(tls_listener, version):
    assert tls_listener.get(context=client_context(version=version))["certificates"] == []


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(lambda: pki.issue("stranger"), id="self-signed"),
        pytest.param(lambda: pki.issue("old", not_after=pki.NOW - pki.ONE_DAY), id="expired"),
        pytest.param(lambda: pki.issue("orphan", issuer=pki.issue("gone")), id="issuer unknown"),
        pytest.param(lambda: pki.issue("weak", key=rsa.generate_private_key(65537, 1024)), id="RSA-1024"),
    ],
)
def test_the_handshake_accepts_what_the_application_will_judge(tls_listener, tmp_path, leaf):
    stranger = leaf()
    context = client_context(chain=pki.write_chain(tmp_path / "leaf.pem", stranger))

    assert tls_listener.get(context=context)["certificates"] == [pki.digest(stranger)]


@pytest.mark.parametrize(("sent", "handed_on"), [(50, 50), (150, 100)])
def test_an_excess_of_certificates_arrives_so_that_the_application_can_refuse_it(
    tls_listener, tmp_path, sent, handed_on
):
    ca = pki.issue("ca")
    issued = [pki.issue(f"device-{number}", issuer=ca, key=ca[1]) for number in range(sent)]
    context = client_context(chain=pki.write_chain(tmp_path / "many.pem", *issued))

    assert tls_listener.get(context=context)["certificates"] == [
        pki.digest(each) for each in issued[:handed_on]
    ]


def test_headers_cannot_pretend_to_be_certificates(tls_listener):
    with tls_listener.connect() as connection:
        connection.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\ndps.peer_certificates: forged\r\n"
            b"Dps-Peer-Certificates: forged\r\nX-Client-Cert: forged\r\ndps.listener: portal\r\n\r\n"
        )
        answer = read_json(connection)

    assert (answer["certificates"], answer["listener"]) == ([], "device")


def test_a_plain_listener_has_no_certificates(plain_listener):
    answer = plain_listener.get()

    assert (answer["certificates"], answer["scheme"]) == ([], "http")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_never_resumed(tls_listener, chain, tmp_path, version):
    context = client_context(chain=pki.write_chain(tmp_path / "chain.pem", *chain), version=version)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with tls_listener.connect(context) as connection:
        connection.sendall(request)
        read_json(connection)
        session = connection.session

    with tls_listener.connect(context, session=session) as connection:
        connection.sendall(request)
        answer = read_json(connection)
        assert not connection.session_reused

    assert answer["certificates"] == [pki.digest(each) for each in chain]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_cannot_come_back_with_a_session(tls_listener, tmp_path, version):
    # TLS 1.3 hands out tickets all the same: they must be worth nothing.
    session = tmp_path / "session.pem"
    first = s_client(tls_listener, version, "-sess_out", str(session))

    again = s_client(tls_listener, version, *(["-sess_in", str(session)] if session.exists() else []))

    for outcome in (first, again):
        assert b'"path": "/"' in outcome
        assert b"New, TLSv1" in outcome
        assert b"Reused" not in outcome


@pytest.mark.parametrize(
    ("option", "served"),
    [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)],
)
def test_only_current_versions_of_tls_are_spoken(tls_listener, option, served):
    outcome = s_client(tls_listener, option, "-cipher", "DEFAULT@SECLEVEL=0")

    assert (b'"path": "/"' in outcome) is served


def s_client(listener, *options) -> bytes:
    outcome = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.port}", "-ign_eof", *options],
        input=b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    return outcome.stdout
