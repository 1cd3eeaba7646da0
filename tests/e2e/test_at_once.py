"""R12 with real processes: two workers that keep registering devices, and a command that shuts them out."""

import threading

import pytest

from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from tests.certificates import root
from tests.live import installation


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with installation(tmp_path_factory.mktemp("two-workers"), DPS_WORKERS="2") as live:
        live.python(
            "from enrollments.models import ProvisioningService\n"
            "ProvisioningService.objects.update(device_registrations_per_minute=60)\n"
        )
        live.start("device")
        yield live


def enroll(live, folder, name: str) -> list[Device]:
    """A CA enrolled as a group, and devices below it."""
    ca = root(name)
    live.enroll_ca(name, ca)
    devices = []
    for number in range(4):
        chain, key = ca.leaf(f"{name}-{number}").write(folder, f"device-{number}")
        devices.append(Device(f"{name}-{number}", CertificateFiles(chain, key)))
    return devices


def test_nothing_is_admitted_by_any_worker_once_the_command_has_answered(two_workers, tmp_path):
    devices = enroll(two_workers, tmp_path, "racing")
    answered, stop = threading.Event(), threading.Event()
    before: list[Outcome] = []
    after: list[Outcome] = []

    def keep_registering(device: Device) -> None:
        while not stop.is_set():
            late = answered.is_set()
            outcome = two_workers.register(device).outcome
            if late:
                after.append(outcome)
            elif not answered.is_set():
                before.append(outcome)
            stop.wait(0.2)  # as often as one device may register, while the command starts

    threads = [threading.Thread(target=keep_registering, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    while len(before) < 8 and any(thread.is_alive() for thread in threads):
        threading.Event().wait(0.05)
    two_workers.manage("disable", "group", "racing", "--service", "local", "--reason", "drill")
    answered.set()
    while len(after) < 20 and any(thread.is_alive() for thread in threads):
        threading.Event().wait(0.05)
    stop.set()
    for thread in threads:
        thread.join(30)

    assert Outcome.ASSIGNED in before
    assert len(after) >= 20
    # Whoever comes too often is held back without being judged, and not let in either.
    assert set(after) - {Outcome.THROTTLED} == {Outcome.DISABLED}
