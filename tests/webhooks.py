"""A webhook for tests: a real HTTPS server on this machine, which answers as it is told and keeps what it was asked."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import SERVER_AUTH, root


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Webhook:
    """`answer`: status and body of the next answers; a dict is sent as JSON. `before`: called while it is asked."""

    port: int
    ca_file: Path
    answer: tuple[int, Any] = (200, {})
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    drip_seconds: float = 0.0
    drips_headers: bool = False
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/choose"

    def chooses(self, host_name: str, **more: Any) -> None:
        self.answer = (200, {"iotHubHostName": host_name, **more})


@contextmanager
def running_webhook(folder: Path, *, name: str = "localhost") -> Iterator[Webhook]:
    """`name`: what its certificate says that it is."""
    ca = root("Webhook CA")
    server = ca.leaf(name, usages=[SERVER_AUTH], dns_names=[name])
    (folder / "webhook.pem").write_text(server.pem + server.key_pem)
    (folder / "webhook-ca.pem").write_text(ca.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "webhook.pem")
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(lambda: hook))
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    hook = Webhook(listener.server_address[1], folder / "webhook-ca.pem")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def _handler(hook_of: Callable[[], Webhook]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook = hook_of()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told = json.loads(body) if "json" in self.headers["Content-Type"] else body.decode()
            hook.asked.append(Asked(self.path, dict(self.headers), told))
            hook.before()
            status, answer = hook.answer
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            try:
                if hook.drips_headers:
                    for number in range(40):
                        self.wfile.write(
                            b"HTTP/1.1 200 OK\r\n" if not number else f"X-{number}: x\r\n".encode()
                        )
                        time.sleep(0.3)
                self.send_response(status)
                for header, value in {"Content-Length": str(len(raw)), **hook.headers}.items():
                    self.send_header(header, value)
                self.end_headers()
                for octet in range(0, len(raw), 1 if hook.drip_seconds else len(raw) or 1):
                    self.wfile.write(raw[octet : octet + 1] if hook.drip_seconds else raw)
                    time.sleep(hook.drip_seconds)
            except OSError:
                self.close_connection = True  # who asked has given up, which is what some tests are about

        def log_message(self, *_: Any) -> None:
            """Tests look at what was asked, not at a log."""

    return Handler
