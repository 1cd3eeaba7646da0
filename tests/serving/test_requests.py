"""Requests in every framing that clients use reach the application whole; those out of bounds are refused."""

import hashlib
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving.listeners import read_answer, read_json, read_to_end

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def put(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"PUT / HTTP/1.1", b"Host: localhost", *fields, b"", body])


def put_with_length(body: bytes) -> bytes:
    return put(body, b"Content-Length: %d" % len(body))


def put_in_chunks(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x;of=us\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return put(chunks + b"0\r\nChecksum: none\r\n\r\n", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 100_000, 128 * 1024])
def test_a_body_of_known_length_arrives_whole(listener, size):
    body = bytes(number % 251 for number in range(size))
    with listener.connect() as connection:
        connection.sendall(put_with_length(body))

        assert read_json(connection)["body"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(("size", "of_chunk"), [(0, 1), (500, 1), (100_000, 7000), (100_000, 100_000)])
def test_a_body_in_chunks_arrives_whole(listener, size, of_chunk):
    body = bytes(number % 251 for number in range(size))
    with listener.connect() as connection:
        connection.sendall(put_in_chunks(body, of_chunk))
        assert read_json(connection)["body"] == hashlib.sha256(body).hexdigest()

        connection.sendall(REQUEST)
        assert read_json(connection)["method"] == "GET"


def test_a_request_may_arrive_byte_by_byte(listener):
    request = put_in_chunks(b"abc", 2) + put_with_length(b"defg")
    with listener.connect() as connection:
        for byte in request:
            connection.sendall(bytes([byte]))
            time.sleep(0.001)

        assert [read_json(connection)["body"] for _ in range(2)] == [
            hashlib.sha256(body).hexdigest() for body in (b"abc", b"defg")
        ]


def test_pipelined_requests_are_answered_in_order_and_at_once(listener):
    started = time.monotonic()
    with listener.connect() as connection:
        connection.sendall(
            REQUEST
            + put_with_length(b"one")
            + put_in_chunks(b"two", 2)
            + b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        answers = [read_json(connection) for _ in range(4)]

    assert [answer["path"] for answer in answers] == ["/", "/", "/", "/last"]
    assert answers[2]["body"] == hashlib.sha256(b"two").hexdigest()
    assert time.monotonic() - started < 3


def test_a_body_that_nobody_read_is_not_taken_for_the_next_request(listener):
    body = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    with listener.connect() as connection:
        connection.sendall(put_with_length(body).replace(b"PUT /", b"PUT /unread") + REQUEST)

        assert read_json(connection)["path"] == "/unread"
        assert read_json(connection)["path"] == "/"


def test_a_client_may_close_its_side_after_the_request(listener):
    with listener.connect() as connection:
        connection.sendall(REQUEST)
        if not listener.tls:
            connection.shutdown(1)

        assert read_json(connection)["path"] == "/"


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it_once(listener):
    body = bytes(50_000)
    with listener.connect() as connection:
        connection.sendall(put(b"", b"Content-Length: %d" % len(body), b"Expect: 100-continue"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        answer = read_to_answer(connection)

    assert hashlib.sha256(body).hexdigest().encode() in answer
    assert answer.startswith(b"HTTP/1.1 200")


def read_to_answer(connection) -> bytes:
    """Raw bytes up to the end of the JSON, so that a second interim answer would show."""
    received = b""
    while b"\r\n\r\n{" not in received or not received.endswith(b"}"):
        data = connection.recv(65536)
        assert data
        received += data
    return received


def test_curl_sends_a_large_body(tls_listener, server_certificate, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(bytes(120_000))
    outcome = subprocess.run(
        [
            *("curl", "-sS", "--max-time", "20", "-X", "PUT", "-H", "Expect: 100-continue"),
            *("--cacert", str(server_certificate[0].with_name("ca.pem")), "--data-binary", f"@{body}"),
            f"https://localhost:{tls_listener.port}/",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert hashlib.sha256(body.read_bytes()).hexdigest() in outcome.stdout


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000, 431, id="head of 100 KB"),
        pytest.param(b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 40_000), 431, id="head of 40 KB, complete"),
        pytest.param(put(b"", b"Content-Length: 131073"), 413, id="body one byte too large"),
        pytest.param(
            put(b"", b"Content-Length: 131073", b"Expect: 100-continue"), 413, id="not asked for it"
        ),
        pytest.param(put_in_chunks(bytes(150_000), 9000), 413, id="chunks too many"),
        pytest.param(put_in_chunks(bytes(131_073), 131_073), 413, id="chunk one byte too large"),
        pytest.param(put(b"x", b"Content-Length: 1", b"Content-Length: 1"), 400, id="two lengths"),
        pytest.param(put(b"x", b"Content-Length: +1"), 400, id="length is no number"),
        pytest.param(put(b"x", b"Content-Length: 1,1"), 400, id="list of lengths"),
        pytest.param(put(b"0\r\n\r\n", b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400, id="both"),
        pytest.param(put(b"0\r\n\r\n", b"Transfer-Encoding: gzip, chunked"), 400, id="compressed"),
        pytest.param(put(b"zz\r\n", b"Transfer-Encoding: chunked"), 400, id="chunk without size"),
        pytest.param(put(b"1" * 2000, b"Transfer-Encoding: chunked"), 400, id="endless chunk size"),
        pytest.param(b"GET /\r\n\r\n", 400, id="no version"),
        pytest.param(put(b"", b"Expect: money"), 417, id="unknown expectation"),
    ],
)
def test_a_request_out_of_bounds_is_refused_and_the_connection_closed(listener, request_bytes, status):
    with listener.connect() as connection:
        connection.sendall(request_bytes)
        answer = read_answer(connection)
        assert (answer.status, answer.headers["Connection"]) == (status, "close")

        assert connection.recv(1) == b""
    assert "Traceback" not in listener.errors()


def test_a_refused_body_does_not_take_the_answer_with_it(listener):
    # The client is still sending when it is refused: closing at once would reset the connection.
    with listener.connect() as connection:
        connection.sendall(put(b"", b"Content-Length: 5000000"))
        for _ in range(50):
            connection.sendall(bytes(100_000))

        assert read_answer(connection).status == 413


def test_twenty_requests_at_once(listener):
    started = time.monotonic()
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: listener.get("/sleep?seconds=0.2"), range(20)))

    assert [answer["path"] for answer in answers] == ["/sleep"] * 20
    # Twenty, four at a time.
    assert time.monotonic() - started < 6


@pytest.mark.parametrize("size", [10, 500_000, 5_000_000])
def test_a_large_answer_arrives_whole_and_leaves_the_connection_usable(listener, size):
    with listener.connect() as connection:
        connection.sendall(f"GET /zeros?size={size} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(0.2)  # so that the poller has to send the rest
        assert read_answer(connection).body == bytes(size)

        connection.sendall(REQUEST)
        assert read_json(connection)["path"] == "/"


def test_a_failing_application_is_a_server_error(listener):
    with listener.connect() as connection:
        connection.sendall(b"GET /fail HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert read_answer(connection).status == 500


def test_an_application_that_exits_takes_nobody_with_it(listener):
    with listener.connect() as bystander, listener.connect() as connection:
        bystander.sendall(b"GET /sleep?seconds=0.5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.sendall(b"GET /exit HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert read_to_end(connection) == b""
        assert read_json(bystander)["path"] == "/sleep"
    assert "The application asked to exit" in listener.log()


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(listener):
    with listener.connect() as connection:
        connection.sendall(b"GET /break-off HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_to_end(connection)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: 100000" in head
    assert body == bytes(50_000)
