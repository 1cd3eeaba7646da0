"""A fleet that registers all the time, over connections that stay open, from processes of its own."""

import http.client
import json
import multiprocessing
import threading
import time
from collections.abc import Sequence
from itertools import cycle
from multiprocessing.synchronize import Event
from queue import Empty
from typing import Any, NamedTuple
from urllib.parse import quote

from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.exchanges import Device, Endpoint

VERSION = "api-version=2021-06-01"
PROCESSES, THREADS = 2, 10
ANSWER_SECONDS = 30
JOIN_SECONDS = 60
UNREACHABLE = "unreachable"


class Told(NamedTuple):
    """One registration, from its PUT to its outcome: a status, or that of HTTP without one. Times are monotonic."""

    registration_id: str
    began_at: float
    ended_at: float
    what: str


class Fleet:
    """So many registrations a second are begun at most, and each as soon as the one before it in its thread is told."""

    def __init__(self, endpoint: Endpoint, devices: Sequence[Device], *, per_second: float) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._stop = spawning.Event()
        self._queue: Any = spawning.Queue()
        self._told: list[Told] = []
        pause = PROCESSES * THREADS / per_second
        self._processes = [
            spawning.Process(
                target=_drive,
                args=(endpoint, devices[number::PROCESSES], pause, self._stop, self._queue),
                daemon=True,
            )
            for number in range(PROCESSES)
        ]

    def __enter__(self) -> "Fleet":
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + JOIN_SECONDS
        while any(process.is_alive() for process in self._processes) and time.monotonic() < deadline:
            self.told()  # what is not taken out of it holds them up
            time.sleep(0.02)
        for process in self._processes:
            process.kill()

    def told(self) -> list[Told]:
        """All that was told so far."""
        assert all(process.is_alive() for process in self._processes) or self._stop.is_set(), (
            "a process ended"
        )
        while True:
            try:
                self._told.append(self._queue.get_nowait())
            except Empty:
                return self._told


def _drive(endpoint: Endpoint, devices: Sequence[Device], pause: float, stop: Event, queue: Any) -> None:
    def run(lines: list[_Line]) -> None:
        for line in cycle(lines):
            began_at = time.monotonic()
            what = line.register()
            queue.put(Told(line.registration_id, began_at, time.monotonic(), what))
            if stop.wait(max(0.0, began_at + pause - time.monotonic())):
                return

    lines = [_Line(device, endpoint) for device in devices]
    threads = [threading.Thread(target=run, args=(lines[number::THREADS],)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _Line:
    """A device and its connection."""

    def __init__(self, device: Device, endpoint: Endpoint) -> None:
        context = endpoint.context()
        assert isinstance(device.credential, CertificateFiles)
        context.load_cert_chain(device.credential.chain, device.credential.key)
        self._connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=ANSWER_SECONDS, context=context
        )
        self.registration_id = device.registration_id
        self._path = f"/{endpoint.id_scope}/registrations/{device.registration_id}"

    def register(self) -> str:
        try:
            status, body = self._ask("PUT", "register", {"registrationId": self.registration_id})
            while body.get("status") == "assigning":
                status, body = self._ask("GET", f"operations/{quote(body['operationId'])}")
        except (OSError, http.client.HTTPException) as problem:
            self._connection.close()
            return f"{UNREACHABLE}: {problem!r}"
        return str(body.get("status") or status)

    def _ask(
        self, method: str, action: str, body: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        self._connection.request(
            method,
            f"{self._path}/{action}?{VERSION}",
            body=json.dumps(body) if body else None,
            headers={"Content-Type": "application/json"} if body else {},
        )
        answer = self._connection.getresponse()
        text = answer.read()
        told: dict[str, Any] = json.loads(text) if text else {}
        return answer.status, told
