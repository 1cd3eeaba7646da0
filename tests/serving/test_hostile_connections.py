"""More bad connections than there are request threads, held open: a good client is served all the same."""

import resource
import socket
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.serving.listeners import PATIENT, read_answer, read_to_end, running_listener, wait_until

# The listeners under test have four request threads.
MANY = 20
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: loc"
HALF_A_BODY = b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"
HALF_A_CHUNK = b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhalf"
PROMISED_BODY = b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
GOODBYE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def held():
    """Connections that stay open until the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="silence"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", id="the beginning of a TLS record"),
    ],
)
def test_clients_that_stop_in_the_handshake_hold_nobody_up(tls_listener, held, said):
    for _ in range(MANY):
        held.enter_context(tls_listener.open()).sendall(said)

    assert tls_listener.is_serving()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="no request"),
        pytest.param(HALF_A_HEAD, id="half a head"),
        pytest.param(HALF_A_BODY, id="half a body"),
        pytest.param(HALF_A_CHUNK, id="half a chunk"),
        pytest.param(PROMISED_BODY, id="a body promised and never sent"),
    ],
)
def test_clients_that_stop_in_a_request_hold_nobody_up(listener, held, said):
    for _ in range(MANY):
        held.enter_context(listener.connect()).sendall(said)

    assert listener.is_serving()


def test_clients_that_do_not_hang_up_hold_nobody_up(listener, held):
    for _ in range(MANY):
        held.enter_context(listener.connect()).sendall(GOODBYE)

    assert listener.is_serving()


def test_clients_that_take_no_answer_hold_nobody_up(listener, held):
    for _ in range(MANY):
        deaf = held.enter_context(listener.connect(receive_buffer=4096))
        deaf.sendall(b"GET /zeros?size=900000 HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert listener.is_serving()


def test_idle_clients_hold_nobody_up(listener, held):
    for _ in range(MANY):
        idle = held.enter_context(listener.connect())
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(idle).headers["Connection"] == "keep-alive"

    assert listener.is_serving()


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="plain HTTP"),
        pytest.param(b"\x00" * 100, id="zeros"),
        pytest.param(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", id="a broken ClientHello"),
        pytest.param(b"\x80\x2e\x01\x00\x02" + b"\x00" * 41, id="SSL 2"),
    ],
)
def test_garbage_at_the_tls_port_gets_no_text_and_leaves_no_traceback(tls_listener, garbage):
    with tls_listener.open() as connection:
        connection.sendall(garbage)
        answer = read_to_end(connection)

    assert b"HTTP" not in answer
    assert len(answer) <= 7  # at most a TLS alert
    assert tls_listener.is_serving()
    assert "Traceback" not in tls_listener.errors()


def test_garbage_within_tls_is_a_bad_request(listener):
    with listener.connect() as connection:
        connection.sendall(b"\x00\x01\x02\r\n\r\n")

        assert read_answer(connection).status == 400
    assert "Traceback" not in listener.errors()


def test_a_reset_in_the_middle_leaves_no_traceback(listener):
    for said in (b"", HALF_A_HEAD, HALF_A_BODY, b"GET /sleep?seconds=0.2 HTTP/1.1\r\nHost: x\r\n\r\n"):
        connection = listener.connect()
        connection.sendall(said)
        reset(connection)
    if listener.tls:
        connection = listener.open()
        connection.sendall(b"\x16\x03\x01")
        reset(connection)

    time.sleep(0.4)
    assert listener.is_serving()
    assert "Traceback" not in listener.errors()


def reset(connection) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()


@pytest.fixture
def narrow_listener(tmp_path):
    """A listener that allows five connections from one address."""
    with running_listener(tmp_path, replace(PATIENT, connections_per_address=5)) as listener:
        yield listener


def test_one_address_has_only_so_many_connections(narrow_listener, held):
    connections = [held.enter_context(narrow_listener.open()) for _ in range(5)]

    with narrow_listener.open() as one_too_many:
        assert read_to_end(one_too_many) == b""
    connections[0].close()

    assert narrow_listener.comes_to_serve()


def test_a_worker_without_descriptors_recovers(tmp_path, held):
    with running_listener(tmp_path, PATIENT) as listener:
        assert listener.is_serving()
        limit_descriptors(listener, 30)
        crowd = [listener.open() for _ in range(60)]
        assert wait_until(lambda: "New clients have to wait" in listener.log(), seconds=20)
        for connection in crowd:
            connection.close()

        assert listener.comes_to_serve()
        assert "Traceback" not in listener.errors()


def test_nothing_is_left_of_connections_that_have_ended(tmp_path, server_certificate):
    certificate, key = server_certificate
    with running_listener(tmp_path, PATIENT, certificate=certificate, key=key) as listener:
        assert listener.is_serving()
        assert wait_until(lambda: descriptors_of(listener) == descriptors_of(listener, after=0.5), seconds=20)
        before = descriptors_of(listener)
        with ExitStack() as all_kinds:
            for said in (b"", HALF_A_HEAD, HALF_A_BODY, PROMISED_BODY, GOODBYE, b"\0\r\n\r\n"):
                all_kinds.enter_context(listener.connect()).sendall(said)
            for said in (b"", b"\x16\x03", b"garbage"):
                all_kinds.enter_context(listener.open()).sendall(said)
            assert listener.is_serving()

        assert wait_until(lambda: descriptors_of(listener) == before, seconds=20)
        # A connection that is still counted would delay the end until the grace period is over.
        listener.process.terminate()
        assert listener.process.wait(timeout=5) == 0


def descriptors_of(listener, after: float = 0.0) -> int:
    time.sleep(after)
    return len(list(Path(f"/proc/{worker_of(listener)}/fd").iterdir()))


def test_announced_bodies_are_bounded_together(tmp_path, held):
    with running_listener(tmp_path, replace(PATIENT, held_bytes=300_000)) as listener:
        announced = b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 120000\r\n\r\n"
        for _ in range(2):
            connection = held.enter_context(listener.connect())
            connection.sendall(announced.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # so it is counted

        with listener.connect() as one_too_many:
            one_too_many.sendall(announced)
            assert read_answer(one_too_many).status == 503
        assert listener.is_serving()
        held.close()

        def has_room() -> bool:
            with listener.connect() as later:
                later.sendall(announced + bytes(120_000))
                return read_answer(later).status == 200

        assert wait_until(has_room, seconds=20)


def worker_of(listener) -> int:
    master = listener.process.pid
    return int(Path(f"/proc/{master}/task/{master}/children").read_text())


def limit_descriptors(listener, number) -> None:
    resource.prlimit(worker_of(listener), resource.RLIMIT_NOFILE, (number, number))
