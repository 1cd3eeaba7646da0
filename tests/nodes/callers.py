"""Devices that come one after the other, each over connections of its own, to one node after the other."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle
from pathlib import Path

from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.exchanges import Answer, Conversation, Device, Endpoint, Unreachable
from tests.certificates import Minted

UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Told:
    """What a device heard: a status of a registration, that of HTTP for an error, or nothing at all."""

    registration_id: str
    asked_at: float
    what: str
    state: dict


class Caller(threading.Thread):
    """Registers the devices that it is given, each until it knows its outcome, until it is told to stop."""

    def __init__(
        self, endpoints: list[Endpoint], devices: Iterator[Device], *, first: int = 0, pause: float = 0.0
    ) -> None:
        super().__init__(daemon=True)
        self._endpoints = cycle([*endpoints[first:], *endpoints[:first]])
        self._devices, self._pause = devices, pause
        self.stop = threading.Event()
        self.told: list[Told] = []

    def run(self) -> None:
        for device in self._devices:
            operation = ""
            while not self.stop.wait(self._pause):
                talk = Conversation(device, next(self._endpoints))
                answer = self._heard(device, partial(talk.poll, operation) if operation else talk.register)
                operation = str(answer.body.get("operationId", "")) if answer is not None else operation
                if answer is not None and not _is_under_way(answer):
                    break
            if self.stop.is_set():
                return

    def _heard(self, device: Device, ask: Callable[[], Answer]) -> Answer | None:
        asked_at = time.time()
        try:
            answer = ask()
        except Unreachable:
            self.told.append(Told(device.registration_id, asked_at, UNREACHABLE, {}))
            self.stop.wait(0.05)
            return None
        what = str(answer.body.get("status") or answer.status)
        self.told.append(
            Told(device.registration_id, asked_at, what, answer.body.get("registrationState") or {})
        )
        return answer


def _is_under_way(answer: Answer) -> bool:
    """A device that is to come back: not decided, or the service is in trouble."""
    return answer.body.get("status") == "assigning" or answer.status >= 500


def everything_told(callers: list[Caller]) -> list[Told]:
    return [one for caller in callers for one in list(caller.told)]


_numbers = count(1)


def new_devices(ca: Minted, folder: Path) -> Iterator[Device]:
    """One after the other below the CA, without end."""
    for number in _numbers:
        name = f"pump-{number}"
        yield Device(name, CertificateFiles(*ca.leaf(name).write(folder, name)))
