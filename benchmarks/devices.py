"""Devices as cheap as they can be had: requests in single pieces, over connections that are opened when told."""

import json
import ssl
import time
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, create_connection
from typing import Any, NamedTuple

HOST = "127.0.0.1"
API_VERSION = "2021-06-01"
TIMEOUT_SECONDS = 30
# A device may poll five times in ten seconds, and one that comes back within a second joins what it began before.
REST_SECONDS = 2.5
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
# More requests in a row than it takes to be held back, and longer than a round's requests take.
UNTIL_THROTTLED = 10
THROTTLED_SECONDS = 5


def trusting(ca_file: Path | str) -> ssl.SSLContext:
    """What trusts the listener, to be given a certificate or used as it is."""
    return ssl.create_default_context(cafile=ca_file)


class Unexpected(Exception):
    """The listener answered something else than what was to be measured."""


@dataclass(frozen=True, slots=True)
class Device:
    """`context`: what it opens connections with, its certificate included. `authorization`: its token."""

    registration_id: str
    id_scope: str
    context: ssl.SSLContext = field(repr=False)
    authorization: str = field(default="", repr=False)

    def request(self, method: str, action: str, body: bytes = b"") -> bytes:
        head = [
            f"{method} /{self.id_scope}/registrations/{self.registration_id}/{action}"
            f"?api-version={API_VERSION} HTTP/1.1",
            "Host: localhost",
            "User-Agent: benchmark",
            *([f"Authorization: {self.authorization}"] if self.authorization else []),
            *(["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []),
        ]
        return "\r\n".join([*head, "", ""]).encode() + body

    @property
    def registration(self) -> bytes:
        return self.request("PUT", "register", json.dumps({"registrationId": self.registration_id}).encode())


class Answer(NamedTuple):
    status: int
    retry_after: int
    body: dict[str, Any]


class Line(AbstractContextManager["Line"]):
    """One TLS connection."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        raw = create_connection((HOST, port), timeout=TIMEOUT_SECONDS)
        raw.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw, server_hostname=HOST)

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> Answer:
        self._socket.sendall(request)
        with HTTPResponse(self._socket) as response:
            response.begin()
            body = json.loads(response.read())
            return Answer(response.status, int(response.headers.get("Retry-After", "0")), body)

    def expect(self, status: int, request: bytes) -> dict[str, Any]:
        answer = self.ask(request)
        if answer.status != status:
            raise Unexpected(f"{answer} instead of {status}")
        return answer.body

    def warmed(self) -> "Line":
        """After one request the handshake is over for the listener too."""
        self.expect(200, HEALTH)
        return self

    def register(self, device: Device) -> None:
        """A registration: the PUT, and the poll that ends it."""
        operation = self.expect(202, device.registration)["operationId"]
        told = self.expect(200, device.request("GET", f"operations/{operation}"))
        if told["status"] != "assigned":
            raise Unexpected(f"{device.registration_id} is told {told}")

    def until_throttled(self, device: Device) -> None:
        """Register until the device is throttled, and stays so for as long as it is asked for."""
        for _ in range(UNTIL_THROTTLED):
            answer = self.ask(device.registration)
            if answer.status == 429 and answer.retry_after >= THROTTLED_SECONDS:
                return
            if answer.status == 429:
                time.sleep(answer.retry_after)
        raise Unexpected(f"{device.registration_id} is not throttled")


class Fleet:
    """Devices that take turns, each as often as its limits allow."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self._devices = deque((device, 0.0) for device in devices)

    def take(self, number: int) -> list[Device]:
        """The devices that have rested longest; waits until the last of them has rested enough."""
        taken = [self._devices.popleft() for _ in range(number)]
        time.sleep(max(0.0, max(at for _, at in taken) + REST_SECONDS - time.monotonic()))
        now = time.monotonic()
        self._devices.extend((device, now) for device, _ in taken)
        return [device for device, _ in taken]
