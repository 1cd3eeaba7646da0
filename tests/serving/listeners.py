"""Real listeners in processes of their own, and a client that can misbehave on purpose."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dpsportal.serving.limits import Limits

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent

# Nothing that a test holds open is freed by a deadline: what is served is served in spite of it.
PATIENT = Limits(
    handshake_seconds=60,
    head_seconds=60,
    body_seconds=60,
    idle_seconds=60,
    sending_seconds=60,
    closing_seconds=60,
)
STRICT = Limits(
    handshake_seconds=1, head_seconds=1, body_seconds=1, idle_seconds=1, sending_seconds=1, closing_seconds=1
)
# How long a good client may have to wait on a busy machine before we say that it is not served.
SERVED_SECONDS = 3

CONFIGURATION = """
import socket
from pathlib import Path
from dpsportal.serving import departure
from dpsportal.serving.limits import Limits
from dpsportal.serving.worker import ListenerWorker

bind = "127.0.0.1:0"
worker_class = ListenerWorker
workers = {workers}
threads = 4
graceful_timeout = 10
loglevel = "info"
accesslog = None
control_socket_disable = True
forwarded_allow_ips = ""

def post_fork(server, worker):
    worker.limits = Limits(**{limits!r})

def when_ready(server):
    departure.prepare(server)
    # Small, so that a large answer does not vanish in the buffers of the system.
    server.LISTENERS[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    draft = Path({port_file!r} + ".new")
    draft.write_text(str(server.LISTENERS[0].getsockname()[1]))
    draft.rename({port_file!r})
"""


@dataclass
class Listener:
    process: subprocess.Popen
    port: int
    log_file: Path
    tls: bool

    def log(self) -> str:
        return self.log_file.read_text()

    def errors(self) -> str:
        """What is in the log beyond the failures that a test of the application's errors asked for."""
        return "\n".join(part for part in self.log().split("\n[") if "as the test asked" not in part)

    def open(self, receive_buffer: int | None = None) -> socket.socket:
        """A TCP connection, nothing said."""
        connection = socket.socket()
        connection.settimeout(10)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def connect(self, context: ssl.SSLContext | None = None, session=None, **options) -> socket.socket:
        """A connection ready for a request: with the handshake done, if this listener speaks TLS."""
        return self.secured(self.open(**options), context, session)

    def secured(
        self, connection: socket.socket, context: ssl.SSLContext | None = None, session=None
    ) -> socket.socket:
        if not self.tls:
            return connection
        context = context or client_context()
        return context.wrap_socket(connection, server_hostname="localhost", session=session)

    def get(self, path="/", context: ssl.SSLContext | None = None) -> dict:
        with self.connect(context) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return read_json(connection)

    def is_serving(self) -> bool:
        """Whether a good client, new to the listener, is answered in time."""
        started = time.monotonic()
        assert self.get()["path"] == "/"
        return time.monotonic() - started < SERVED_SECONDS

    def comes_to_serve(self) -> bool:
        """Whether a good client is served, as soon as the listener has noticed what others gave back."""

        def answers() -> bool:
            try:
                return self.get()["path"] == "/"
            except (AssertionError, OSError):
                return False

        return wait_until(answers, seconds=20)


@contextmanager
def running_listener(folder: Path, limits: Limits, *, certificate=None, key=None, threads=4, workers=1):
    port_file, log_file, configuration = folder / "port", folder / "log", folder / "gunicorn_configuration.py"
    text = CONFIGURATION.format(limits=asdict(limits), workers=workers, port_file=str(port_file))
    if certificate:
        text += textwrap.dedent(f"""
            certfile = {str(certificate)!r}
            keyfile = {str(key)!r}
        """)
    configuration.write_text(text)
    port_file.unlink(missing_ok=True)
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", str(configuration), "tests.serving.wsgi_app"],
            cwd=PROJECT_DIR,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: port_file.exists() or process.poll() is not None, seconds=30)
        assert port_file.exists(), log_file.read_text()
        yield Listener(process, int(port_file.read_text()), log_file, tls=certificate is not None)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def client_context(*, chain: Path | None = None, version=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Weak client keys must be ours to refuse, not the client library's.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    if chain:
        context.load_cert_chain(chain)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes


def read_answer(connection: socket.socket) -> Answer:
    """One answer and not a byte more: pipelined ones may follow. Interim answers before it are skipped."""
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            assert byte, f"closed by the server after {head!r}"
            head += byte
        status_line, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        status = int(status_line.split()[1])
        if status >= 200:
            return Answer(status, headers, _read_exactly(connection, int(headers["Content-Length"])))


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = connection.recv(min(size - len(received), 65536))
        assert data, f"closed by the server after {len(received)} of {size} bytes"
        received += data
    return bytes(received)


def read_json(connection: socket.socket) -> dict:
    answer = read_answer(connection)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server closes; a reset counts as closing."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except (ConnectionResetError, ssl.SSLError):
        pass
    return received


def wait_until(condition, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())
