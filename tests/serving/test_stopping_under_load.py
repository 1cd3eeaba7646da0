"""A listener that is reloaded or stopped while clients are at it: no request that was sent is lost.

What counts as lost: a reset, half an answer, or none, after the connection was made. A kept-alive connection that is
closed cleanly before any byte of an answer is not: the client sends that request again (RFC 9112, section 9.3.1), here
on a new connection, where it must be answered.
"""

import os
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.serving.listeners import PATIENT, read_answer, running_listener, wait_until

CLIENTS = 6
REQUEST = b"PUT /sleep?seconds=0.01 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"
PATIENCE = 60


@pytest.fixture(params=["tls", "plain"])
def busy_listener(request, tmp_path, server_certificate):
    certificate, key = server_certificate if request.param == "tls" else (None, None)
    with running_listener(tmp_path, PATIENT, certificate=certificate, key=key, workers=2) as listener:
        assert listener.is_serving()
        yield listener


class Client(threading.Thread):
    """Sends one request after the other until nobody listens any more, or it is told to stop."""

    def __init__(self, listener, stop: threading.Event, *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self.listener, self.stop, self.keeps = listener, stop, keeps
        self.answered = 0
        self.refused = False
        self.lost: list[str] = []
        self.connection: socket.socket | None = None

    def run(self) -> None:
        while not self.stop.is_set() and not self.refused:
            try:
                self.ask()
            except (AssertionError, OSError) as problem:
                self.lost.append(repr(problem))
                self.hang_up()
        self.hang_up()

    def ask(self) -> None:
        if self.connection is not None and self.was_asked_on_kept_connection():
            return
        try:
            raw = self.listener.open()
        except (ConnectionRefusedError, TimeoutError):
            self.refused = True
            return
        self.connection = self.listener.secured(raw)
        self.connection.sendall(REQUEST)
        self.take_answer()

    def was_asked_on_kept_connection(self) -> bool:
        """False where it turned out to be closed."""
        try:
            self.connection.sendall(REQUEST)
            self.take_answer()
        except (BrokenPipeError, ssl.SSLEOFError):  # it has seen the end before it wrote
            self.hang_up()
            return False
        except AssertionError as problem:
            if "closed by the server after b''" not in str(problem):
                raise
            self.hang_up()
            return False
        return True

    def take_answer(self) -> None:
        answer = read_answer(self.connection)
        assert answer.status == 200
        self.answered += 1
        if not self.keeps or answer.headers["Connection"] == "close":
            self.hang_up()

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


@pytest.fixture
def clients(busy_listener):
    stop = threading.Event()
    clients = [Client(busy_listener, stop, keeps=number % 2 == 0) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    assert wait_until(lambda: all(client.answered >= 20 for client in clients), seconds=PATIENCE)
    yield clients
    stop.set()
    for client in clients:
        client.join(PATIENCE)


def workers_of(listener) -> set[str]:
    master = listener.process.pid
    return set(Path(f"/proc/{master}/task/{master}/children").read_text().split())


def test_stopping_loses_no_request(busy_listener, clients):
    busy_listener.process.send_signal(signal.SIGTERM)

    assert busy_listener.process.wait(timeout=PATIENCE) == 0
    for client in clients:
        client.join(PATIENCE)
    assert [client.lost for client in clients] == [[]] * CLIENTS
    assert all(client.refused for client in clients)
    assert "Traceback" not in busy_listener.log()


def test_reloading_loses_no_request_and_turns_nobody_away(busy_listener, clients):
    for _ in range(3):
        before, answered = workers_of(busy_listener), [client.answered for client in clients]

        os.kill(busy_listener.process.pid, signal.SIGHUP)

        assert wait_until(
            lambda before=before: (
                len(workers_of(busy_listener) - before) == 2 and not workers_of(busy_listener) & before
            ),
            seconds=PATIENCE,
        )
        assert wait_until(
            lambda answered=answered: all(
                client.answered >= then + 20 or client.lost or client.refused
                for client, then in zip(clients, answered, strict=True)
            ),
            seconds=PATIENCE,
        )

    assert [(client.lost, client.refused) for client in clients] == [([], False)] * CLIENTS


def can_connect(port: int) -> bool:
    with socket.socket() as knocking:
        # A knock that is not heard is repeated by the system after a second only.
        knocking.settimeout(0.5)
        return not knocking.connect_ex(("127.0.0.1", port))


def test_clients_that_wait_at_the_door_when_it_stops_are_let_in(busy_listener):
    """Connected by the system and accepted by nobody yet, since the workers are held."""
    workers = workers_of(busy_listener)
    for worker in workers:
        os.kill(int(worker), signal.SIGSTOP)
    inside = [busy_listener.open() for _ in range(10)]
    answers: list[int] = []

    def ask(raw: socket.socket) -> None:
        with busy_listener.secured(raw) as connection:
            connection.sendall(REQUEST)
            answers.append(read_answer(connection).status)

    threads = [threading.Thread(target=ask, args=[raw]) for raw in inside]
    for thread in threads:
        thread.start()
    busy_listener.process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: not can_connect(busy_listener.port), seconds=PATIENCE)
    for worker in workers:
        os.kill(int(worker), signal.SIGCONT)
    for thread in threads:
        thread.join(PATIENCE)

    assert answers == [200] * 10
    assert busy_listener.process.wait(timeout=PATIENCE) == 0


def test_who_comes_after_the_door_is_closed_is_refused_and_never_reset(busy_listener):
    with busy_listener.connect() as connection:
        connection.sendall(b"GET /sleep?seconds=4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # Taken by a thread when another one is answered that came later.
        assert busy_listener.is_serving()
        busy_listener.process.send_signal(signal.SIGTERM)

        with pytest.raises(ConnectionRefusedError):
            keep_asking(busy_listener)

        assert read_answer(connection).status == 200


def keep_asking(listener) -> None:
    while True:
        listener.get()
