"""Each phase of a connection has its time, from its beginning: what drips in does not prolong it."""

import time

import pytest

from tests.serving.listeners import read_answer, read_to_end

# The strict listeners give one second to each phase; sweeps and a busy machine may add to it.
AT_LEAST, AT_MOST = 0.8, 4
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def seconds_until_closed(connection) -> float:
    started = time.monotonic()
    assert read_to_end(connection) == b""
    return time.monotonic() - started


def drip_until_closed(connection) -> None:
    for _ in range(100):
        try:
            connection.sendall(b"x")
        except OSError:  # closed or reset, whichever comes first
            return
        time.sleep(0.1)
    pytest.fail("the connection is never closed")


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"])
def test_a_handshake_that_is_not_finished_is_dropped(strict_tls_listener, said):
    with strict_tls_listener.open() as connection:
        connection.sendall(said)

        assert AT_LEAST < seconds_until_closed(connection) < AT_MOST


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="no request"),
        pytest.param(b"GET / HTTP/1.1\r\nHo", id="half a head"),
        pytest.param(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", id="half a body"),
        pytest.param(
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nh", id="half a chunk"
        ),
    ],
)
def test_a_request_that_is_not_finished_is_dropped(strict_listener, said):
    with strict_listener.connect() as connection:
        connection.sendall(said)

        assert AT_LEAST < seconds_until_closed(connection) < AT_MOST


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: ", id="head"),
        pytest.param(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", id="body"),
    ],
)
def test_dripping_does_not_renew_the_time(strict_listener, beginning):
    started = time.monotonic()
    with strict_listener.connect() as connection:
        connection.sendall(beginning)
        drip_until_closed(connection)

    assert AT_LEAST < time.monotonic() - started < AT_MOST + 1


def test_an_idle_connection_is_dropped_and_a_busy_one_is_not(strict_listener):
    with strict_listener.connect() as connection:
        for _ in range(3):
            connection.sendall(REQUEST)
            assert read_answer(connection).status == 200
            time.sleep(0.5)

        assert seconds_until_closed(connection) < AT_MOST


def test_a_client_that_does_not_hang_up_is_dropped(strict_plain_listener):
    with strict_plain_listener.connect() as connection:
        connection.sendall(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
        read_answer(connection)
        started = time.monotonic()
        drip_until_closed(connection)

    assert time.monotonic() - started < AT_MOST


def test_a_slow_application_has_no_deadline_of_the_client(strict_listener):
    with strict_listener.connect() as connection:
        connection.sendall(b"GET /sleep?seconds=2 HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert read_answer(connection).status == 200


def test_a_client_that_takes_no_answer_is_dropped(strict_plain_listener):
    with strict_plain_listener.connect() as connection:
        connection.sendall(b"GET /zeros?size=20000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(3)

        assert len(read_to_end(connection)) < 20_000_000
