"""R12 with real processes: two workers, devices that register 50 times a second, and a command that shuts them out."""

import threading
import time
from itertools import count

import pytest

from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from tests.certificates import root
from tests.live import LiveListeners, installation

CALLERS = 8
PER_SECOND = 50
# So many devices that none comes as often as to be held back for it, neither admitted nor refused.
DEVICES = 200
BEFORE, AFTER = 40, 100
PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with installation(tmp_path_factory.mktemp("two-workers"), DPS_WORKERS="2") as live:
        live.python(
            "from enrollments.models import ProvisioningService\n"
            "ProvisioningService.objects.update(device_registrations_per_minute=60, registrations_per_minute=1000000)\n"
        )
        live.start("device")
        yield live


def enroll(live: LiveListeners, folder, name: str) -> list[Device]:
    """A CA enrolled as a group, and devices below it."""
    ca = root(name)
    live.enroll_ca(name, ca)
    devices = []
    for number in range(DEVICES):
        chain, key = ca.leaf(f"{name}-{number}").write(folder, f"device-{number}")
        devices.append(Device(f"{name}-{number}", CertificateFiles(chain, key)))
    return devices


class Caller(threading.Thread):
    """Registers one device after the other, in turn with the other callers, and notes what each was told and when."""

    def __init__(
        self, live: LiveListeners, devices: list[Device], turns: count, stop: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.live, self.devices, self.turns, self.stop = live, devices, turns, stop
        self.told: list[tuple[float, Outcome, str]] = []

    def run(self) -> None:
        began = time.monotonic()
        while not self.stop.is_set():
            turn = next(self.turns)
            # As often as all of them together are to call, or as often as this machine lets them.
            self.stop.wait(max(0.0, began + turn / PER_SECOND - time.monotonic()))
            asked_at = time.monotonic()
            result = self.live.register(self.devices[turn % len(self.devices)])
            self.told.append((asked_at, result.outcome, result.detail))


def test_nothing_is_admitted_by_any_worker_once_the_command_has_answered(two_workers, tmp_path):
    devices, turns, stop = enroll(two_workers, tmp_path, "racing"), count(), threading.Event()
    callers = [Caller(two_workers, devices, turns, stop) for _ in range(CALLERS)]

    def told() -> list[tuple[float, Outcome, str]]:
        return [one for caller in callers for one in caller.told]

    def wait_for(number: int, since: float) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sum(asked_at >= since for asked_at, *_ in told()) < number:
            assert all(caller.is_alive() for caller in callers), "a caller ended"
            assert time.monotonic() < deadline, f"{len(told())} answers"
            time.sleep(0.02)

    for caller in callers:
        caller.start()
    wait_for(BEFORE, since=0.0)
    two_workers.manage("disable", "group", "racing", "--service", "local", "--reason", "drill")
    answered_at = time.monotonic()
    wait_for(AFTER, since=answered_at)
    stop.set()
    for caller in callers:
        caller.join(PATIENCE_SECONDS)

    before = [outcome for asked_at, outcome, _ in told() if asked_at < answered_at]
    after = [(outcome, detail) for asked_at, outcome, detail in told() if asked_at >= answered_at]
    assert before.count(Outcome.ASSIGNED) >= BEFORE // 2
    assert {outcome for outcome, _ in after} == {Outcome.DISABLED}, after
