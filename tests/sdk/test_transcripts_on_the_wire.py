"""Transcripts of clients that are not run, as octets on a TLS connection: our own listener has to read them."""

import base64
import http.client
import socket
import ssl
from pathlib import Path

import pytest

from tests.certificates import root
from tests.device_api.clients import CLIENTS, Answer, Client, Request, signer

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def connect(live):
    def open_one(chain: tuple[Path, Path] | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=live.ca_file)
        if chain:
            context.load_cert_chain(*chain)
        raw = socket.create_connection(("127.0.0.1", live.device_port), timeout=10)
        return context.wrap_socket(raw, server_hostname="localhost")

    return open_one


def exchange(connection: ssl.SSLSocket, request: Request) -> Answer:
    """One request and its answer, on a connection that stays open for the next."""
    headers = {"Host": "localhost", **request.headers}
    if request.body:
        headers["Content-Length"] = str(len(request.body))
    lines = [
        f"{request.method} {request.target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + request.body)
    answer = http.client.HTTPResponse(connection, method=request.method)
    answer.begin()
    return Answer(answer.status, dict(answer.headers), answer.read())


def provision(client: Client, connection: ssl.SSLSocket):
    operation_id = client.operation_of(exchange(connection, client.register()))
    return client.outcome_of(exchange(connection, client.poll(operation_id)))


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
def test_octets_of_a_device_with_a_key(live, prepare, connect, kind):
    name = f"Wire:{kind.__name__}"
    prepare(
        "spec = IndividualSpec(registration_id=name, primary_key=key,"
        " mechanism=AttestationMechanism.SYMMETRIC_KEY)\n"
        "add_individual_enrollment(service, spec, actor=ALICE)",
        name=name,
        key=KEY,
    )

    with connect() as connection:
        outcome = provision(kind(live.id_scope, name, signer(KEY)), connection)

    assert (outcome.status, outcome.hub, outcome.device_id) == ("assigned", "local.hub.internal", name)


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
def test_octets_of_a_device_with_a_certificate(live, prepare, connect, tmp_path, kind):
    ca = root(f"wire-ca-{kind.__name__}")
    prepare(
        "add_enrollment_group(service, GroupSpec(group_id=name, certificates=held(pem)), actor=ALICE)",
        name=ca.parsed.common_names[0],
        pem=ca.pem,
    )
    leaf = ca.intermediate("line").leaf(f"wire-{kind.__name__}")

    with connect(leaf.write(tmp_path)) as connection:
        outcome = provision(kind(live.id_scope, f"wire-{kind.__name__}"), connection)

    assert (outcome.status, outcome.hub) == ("assigned", "local.hub.internal")
