"""A listener that is told to stop finishes what it has begun, and does not wait for those who have not."""

import hashlib
import os
import signal
import time

import pytest

from tests.serving import pki
from tests.serving.listeners import (
    PATIENT,
    client_context,
    read_json,
    read_to_end,
    running_listener,
    wait_until,
)


@pytest.fixture(params=["tls", "plain"])
def own_listener(request, tmp_path, server_certificate):
    certificate, key = server_certificate if request.param == "tls" else (None, None)
    with running_listener(tmp_path, PATIENT, certificate=certificate, key=key) as listener:
        assert listener.is_serving()
        yield listener


def test_a_request_that_is_being_answered_gets_its_answer(own_listener):
    with own_listener.connect() as connection:
        connection.sendall(b"GET /sleep?seconds=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)

        own_listener.process.send_signal(signal.SIGTERM)

        assert read_json(connection)["path"] == "/sleep"
        connection.close()
        assert own_listener.process.wait(timeout=8) == 0
    assert "Traceback" not in own_listener.log()


def test_clients_that_only_wait_do_not_delay_the_end(own_listener):
    idle, silent, half = own_listener.connect(), own_listener.open(), own_listener.connect()
    idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    read_json(idle)
    half.sendall(b"GET / HTT")

    own_listener.process.send_signal(signal.SIGTERM)

    assert own_listener.process.wait(timeout=8) == 0
    for connection in (idle, silent, half):
        assert read_to_end(connection) == b""
        connection.close()


def test_clients_that_go_on_while_it_stops_do_not_delay_the_end_either(own_listener):
    connection = own_listener.connect()
    connection.sendall(b"PUT / HTTP/1.1\r\n")

    own_listener.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    # A new phase begins, which would have a minute otherwise.
    connection.sendall(b"Host: localhost\r\nContent-Length: 100\r\n\r\n")

    assert own_listener.process.wait(timeout=8) == 0
    connection.close()


def test_an_interrupt_ends_it_quickly(own_listener):
    with own_listener.connect():
        own_listener.process.send_signal(signal.SIGINT)

        assert own_listener.process.wait(timeout=5) == 0


def test_a_reload_reads_the_certificate_again(tmp_path, server_certificate):
    files = [tmp_path / "server.pem", tmp_path / "server.key"]
    for source, target in zip(server_certificate, files, strict=True):
        target.write_bytes(source.read_bytes())
    with running_listener(tmp_path, PATIENT, certificate=files[0], key=files[1]) as listener:
        assert listener.is_serving()
        renewed = pki.issue("renewed")
        for file in files:
            pki.write_chain(file, renewed)

        os.kill(listener.process.pid, signal.SIGHUP)

        assert wait_until(lambda: served_certificate(listener) == pki.digest(renewed), seconds=10)
        assert listener.is_serving()


def served_certificate(listener) -> str:
    with listener.connect(client_context()) as connection:
        return hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()
