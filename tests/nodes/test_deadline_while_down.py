"""A deadline that comes while everything is down: no listener, no command, with PostgreSQL no database server either.

Then both listeners start again, with two workers each, while devices of all entries call already. Whoever is due to be
shut out hears so with the first answer there is, and each schedule leaves one row.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.exchanges import Conversation, Device, Unreachable
from tests.certificates import Minted, root
from tests.live import LiveListeners
from tests.nodes.clusters import Cluster, cluster
from tests.nodes.moved_clock import clock_ahead
from tests.nodes.postgres import Server, children_of, server

LISTENERS = ("device", "portal")
DEVICES_EACH = 8
PATIENCE = 120
# How long before its deadline an entry is scheduled. Where that is too short to stop everything, it is tried with more.
LEADS = (8, 30, 90)


@pytest.fixture
def database(tmp_path) -> Iterator[tuple[str, Server | None]]:
    """The address of a database, and its server if it has one: of the kind that the other tests have, but stoppable."""
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        yield f"sqlite:///{tmp_path / 'shared.sqlite3'}", None
        return
    with server() as running:
        yield running.url, running


@dataclass(frozen=True)
class Scheduled:
    """A group with its schedule, as the action's name and the parameter that takes the time."""

    act: str
    when: str
    before: str
    after: str
    row: str

    @property
    def name(self) -> str:
        return f"{self.act}-{self.when}"


SCHEDULES = [
    Scheduled("disable", "at", "assigned", "disabled", "group.disabled"),
    Scheduled("disable", "until", "disabled", "assigned", "group.enabled"),
    Scheduled("enable", "until", "assigned", "disabled", "group.disabled"),
]


class Installation:
    """One node with two workers for each listener, its groups and their devices."""

    def __init__(self, nodes: Cluster, database_server: Server | None, folder: Path) -> None:
        self.node: LiveListeners = nodes.nodes[0]
        self.nodes, self.database_server = nodes, database_server
        self._since = 0
        self.cas: dict[str, Minted] = {}
        self.devices: dict[str, list[Device]] = {}
        for one in SCHEDULES:
            ca = self.cas[one.name] = root(one.name)
            self.devices[one.name] = []
            for number in range(DEVICES_EACH):
                name = f"{one.name}-{number}"
                credential = CertificateFiles(*ca.leaf(name).write(folder, name))
                self.devices[one.name].append(Device(name, credential))

    def start(self) -> None:
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(self.node.start, LISTENERS))

    def start_database(self) -> None:
        if self.database_server is not None:
            self.database_server.start()

    def schedule(self, seconds: float) -> datetime:
        """Enroll each group anew and schedule it, so many seconds ahead by the clock of the database. Returns when."""
        for name, ca in self.cas.items():
            (self.node.data_dir / f"{name}.pem").write_text(ca.pem)
        told = self.node.python(
            "from datetime import datetime, timedelta\n"
            "from pathlib import Path\n"
            "from enrollments.actions import enrollment_groups as groups\n"
            "from enrollments.attestation.x509 import read_upload\n"
            "from enrollments.audit.actor import Actor, Way\n"
            "from enrollments.models import EnrollmentGroup, ProvisioningService, Slot\n"
            "actor = Actor('cli', 'test', Way.COMMAND_LINE)\n"
            "service = ProvisioningService.objects.get(name='local')\n"
            f"schedules = {[(one.act, one.when, one.name) for one in SCHEDULES]!r}\n"
            "there = set(service.enrollmentgroups.values_list('group_id', flat=True))\n"
            "groups.delete_enrollment_groups(service, sorted(there), actor=actor)\n"
            "for act, _, name in schedules:\n"
            f"    (ca,) = read_upload(Path({str(self.node.data_dir)!r}, f'{{name}}.pem').read_bytes())\n"
            "    spec = groups.GroupSpec(group_id=name, certificates={Slot.PRIMARY: ca}, enabled=act == 'disable')\n"
            "    groups.add_enrollment_group(service, spec, actor=actor)\n"
            "now = ProvisioningService.epoch_and_time(service.pk)[1]\n"
            f"at = (now + timedelta(seconds={seconds})).replace(microsecond=0)\n"
            "for act, when, name in schedules:\n"
            "    getattr(groups, f'{act}_enrollment_group')(service, name, actor=actor, reason='drill', **{when: at})\n"
            "print(at.isoformat())\n"
        )
        (latest,) = self.node.rows(
            "SELECT max(id) AS id FROM enrollments_historyevent WHERE way <> 'schedule'"
        )
        self._since = latest["id"]
        return datetime.fromisoformat(told.strip())

    def shut_down(self) -> None:
        """As an operator stops it: SIGTERM to each listener, whose workers finish and go. The database goes last."""
        processes = [self.node.processes.pop(listener) for listener in LISTENERS]
        workers = [pid for process in processes for pid in children_of(process.pid)]
        assert len(workers) >= 2 * len(LISTENERS)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(PATIENCE) for process in processes] == [0, 0]
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        if self.database_server is not None:
            self.database_server.kill()

    def told_first(self, start: Callable[[], None]) -> dict[str, list[str]]:
        """What each device is told first of all, of all that call while the service starts."""
        everybody = [device for some in self.devices.values() for device in some]
        told: dict[str, str] = {}

        def call(device: Device) -> None:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                try:
                    told[device.registration_id] = told_by(device, self.node)
                except Unreachable:
                    time.sleep(0.02)
                else:
                    return

        threads = [threading.Thread(target=call, args=(device,)) for device in everybody]
        for thread in threads:
            thread.start()
        start()
        for thread in threads:
            thread.join(PATIENCE)
        return {
            name: [told.get(one.registration_id, "nothing") for one in some]
            for name, some in self.devices.items()
        }

    def rows_by_schedule(self) -> list[tuple[str, str]]:
        """Those since the groups were scheduled last."""
        rows = self.node.rows(
            "SELECT subject_name, event FROM enrollments_historyevent WHERE way = 'schedule' AND id > ?",
            self._since,
        )
        return sorted((row["subject_name"], row["event"]) for row in rows)


def told_by(device: Device, node: LiveListeners) -> str:
    """The outcome of one registration. The PUT of one that is admitted says `assigning`, and its poll the rest."""
    talk = Conversation(device, node.endpoint)
    answer = talk.register()
    while answer.body.get("status") == "assigning":
        answer = talk.poll(str(answer.body["operationId"]))
    return str(answer.body.get("status") or answer.status)


@pytest.fixture
def installed(database, tmp_path) -> Iterator[Installation]:
    url, database_server = database
    with cluster(tmp_path, url, nodes=1, DPS_WORKERS="2") as nodes:
        yield Installation(nodes, database_server, tmp_path)


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """The server of PostgreSQL may run as somebody who sees nothing of pytest's own folders."""
    with tempfile.TemporaryDirectory(prefix="dpsportal-clock-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


BEFORE = {one.name: [one.before] * DEVICES_EACH for one in SCHEDULES}
AFTER = {one.name: [one.after] * DEVICES_EACH for one in SCHEDULES}
ROWS = sorted((one.name, one.row) for one in SCHEDULES)


def test_time_that_passes_while_everything_is_down_has_come_with_the_first_answer(installed):
    installed.start()
    for lead in LEADS:
        deadline = installed.schedule(lead)
        in_time = installed.told_first(lambda: None)
        installed.shut_down()
        if datetime.now(UTC) < deadline - timedelta(seconds=0.5):
            break
        installed.start_database()
        installed.start()
    else:
        pytest.fail(f"this machine does not stop the service within {LEADS[-1]} seconds")
    assert in_time == BEFORE

    time.sleep((deadline - datetime.now(UTC)).total_seconds() + 0.1)
    installed.start_database()

    assert installed.rows_by_schedule() == []
    assert installed.told_first(installed.start) == AFTER
    assert installed.rows_by_schedule() == ROWS
    assert installed.nodes.history_verifies()


def test_clock_that_is_moved_across_it_while_everything_is_down_counts_with_the_first_answer(
    installed, readable_folder, monkeypatch
):
    installed.start()
    installed.schedule(3600)
    assert installed.told_first(lambda: None) == BEFORE
    installed.shut_down()
    moved = clock_ahead(readable_folder, 3700)

    installed.node.environment.update(moved)
    with monkeypatch.context() as environment:
        for name, value in moved.items():
            environment.setenv(name, value)
        installed.start_database()

    assert installed.rows_by_schedule() == []
    assert installed.told_first(installed.start) == AFTER
    assert installed.rows_by_schedule() == ROWS
    assert installed.nodes.history_verifies()
