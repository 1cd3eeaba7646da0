"""What the simulator's tests share: a live installation, and a service that answers as it is told to."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dpsportal.serving.server_certificate import ensure_server_certificate
from enrollments.simulator.client import Endpoint
from enrollments.simulator.pki import PkiFolder
from tests.live import installation


class ScriptedService:
    """Answers over real TLS, one after the other as scripted, the last one for ever. Keeps what it was asked."""

    def __init__(self, folder) -> None:
        self.answers = []
        self.requests = []
        certificate, key = ensure_server_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.ca_file = folder / "tls" / "ca.pem"
        self.endpoint = Endpoint("127.0.0.1", self.server.server_port, "0ne0000ABCD", self.ca_file)

    def will_answer(self, *answers) -> None:
        """Each a status, a body (JSON, or bytes as they are) and headers."""
        self.answers = list(answers)

    def _handler(service):
        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append((self.command, self.path, dict(self.headers), body))
                status, content, headers = (
                    service.answers.pop(0) if len(service.answers) > 1 else service.answers[0]
                )
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_PUT = do_GET = answer

            def log_message(self, *args):
                """Nothing: the test says what it expects."""

        return Handler


@pytest.fixture(scope="session")
def live_listeners(tmp_path_factory):
    """An installation whose device listener runs. Tests share it, so each uses names of its own."""
    with installation(tmp_path_factory.mktemp("live")) as live:
        live.start("device")
        yield live


@pytest.fixture
def service(tmp_path):
    scripted = ScriptedService(tmp_path)
    thread = threading.Thread(target=scripted.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield scripted
    scripted.server.shutdown()
    thread.join()
    scripted.server.server_close()


@pytest.fixture
def folder(tmp_path):
    return PkiFolder(tmp_path / "pki")
