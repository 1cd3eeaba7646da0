"""A whole installation in processes of its own: real listeners on free ports, with their own data folder."""

import functools
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from dpsportal.serving.supervisor import PROJECT_DIR, listener_command
from enrollments.simulator.client import Device, Endpoint, Pace, Result, provision
from tests.certificates import Minted

ADMIN, ADMIN_PASSWORD = "admin", "correct horse battery staple"
START_SECONDS = 30
HURRIED = Pace(longest_wait=0.05, patience=20)


@dataclass
class LiveListeners:
    """One installation with the service `local` and an administrator. Listeners are started one by one."""

    data_dir: Path
    device_port: int
    portal_port: int
    proxied_port: int
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def ca_file(self) -> Path:
        return self.data_dir / "tls" / "ca.pem"

    @property
    def portal_url(self) -> str:
        return f"http://127.0.0.1:{self.portal_port}"

    @property
    def device_url(self) -> str:
        return f"https://127.0.0.1:{self.device_port}"

    @property
    def proxied_url(self) -> str:
        return f"http://127.0.0.1:{self.proxied_port}"

    @functools.cached_property
    def id_scope(self) -> str:
        return self.json_of("service_info", "--service", "local", "--without-keys")["id_scope"]

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.device_port, self.id_scope, self.ca_file)

    def manage(self, *args: object, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command of manage.py on this installation's data."""
        done = subprocess.run(
            self.command(*args),
            cwd=PROJECT_DIR,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def command(self, *args: object) -> list[str]:
        return [sys.executable, "manage.py", *map(str, args)]

    def json_of(self, *args: object) -> dict:
        return json.loads(self.manage(*args, "--json").stdout)

    def python(self, code: str) -> str:
        """Run Python on this installation's data, in a process of its own, and return what it prints."""
        return self.manage("shell", "--verbosity", "0", "-c", code).stdout

    def rows(self, sql: str, *parameters: object) -> list[dict]:
        """Read the database past the application."""
        url = self.environment.get("DATABASE_URL", f"sqlite:///{self.data_dir / 'db.sqlite3'}")
        if url.startswith("postgres"):
            with closing(psycopg.connect(url, row_factory=dict_row)) as server:
                return server.execute(sql.replace("?", "%s"), parameters).fetchall()
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, parameters)]

    def register(self, device: Device, endpoint: Endpoint | None = None) -> Result:
        """Through the device listener, or through a proxy at another endpoint."""
        return provision(device, endpoint or self.endpoint, HURRIED)

    def enroll_ca(self, group_id: str, ca: Minted, *helpers: Minted) -> None:
        """Enroll a CA as a group of the service `local`, as an upload with the helpers behind it would."""
        bundle = self.data_dir / f"{group_id}.pem"
        bundle.write_text("".join(one.pem for one in (ca, *helpers)))
        self.python(
            "from enrollments.actions.group_specs import GroupSpec\n"
            "from enrollments.actions.enrollment_groups import add_enrollment_group\n"
            "from enrollments.attestation.x509 import read_upload\n"
            "from enrollments.audit.actor import Actor, Way\n"
            "from enrollments.models import ProvisioningService, Slot\n"
            f"ca, *helpers = read_upload(open({str(bundle)!r}, 'rb').read())\n"
            f"spec = GroupSpec(group_id={group_id!r}, certificates={{Slot.PRIMARY: ca}}, helpers=tuple(helpers))\n"
            "service = ProvisioningService.objects.get(name='local')\n"
            "add_enrollment_group(service, spec, actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
        )

    def enroll_keys(self, registration_id: str) -> str:
        """Enroll a device with symmetric keys in the service `local`; the primary one."""
        return self.python(
            "from enrollments.actions.enrollment_specs import IndividualSpec\n"
            "from enrollments.actions.enrollments import add_individual_enrollment\n"
            "from enrollments.audit.actor import Actor, Way\n"
            "from enrollments.models import AttestationMechanism, ProvisioningService\n"
            f"spec = IndividualSpec(registration_id={registration_id!r},\n"
            "                      mechanism=AttestationMechanism.SYMMETRIC_KEY)\n"
            "service = ProvisioningService.objects.get(name='local')\n"
            "actor = Actor('cli', 'test', Way.COMMAND_LINE)\n"
            "print(add_individual_enrollment(service, spec, actor=actor).primary_key)\n"
        ).strip()

    def start(self, listener: str, *, config: str = "") -> None:
        """Start `device`, `portal`, `proxied` or `metrics` and wait until it can serve.

        config: a module with settings for gunicorn, in place of the listener's own.
        """
        if listener == "portal":
            self.manage("collectstatic", "--noinput", "--verbosity", "0")
        with (self.data_dir / f"{listener}.log").open("ab") as log:
            process = self.processes[listener] = subprocess.Popen(
                [*listener_command(listener), *(["--config", f"python:{config}"] if config else [])],
                cwd=PROJECT_DIR,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready(listener):
            assert process.poll() is None, self.log(listener)
            assert time.monotonic() < deadline, self.log(listener)
            time.sleep(0.1)

    def stop(self, listener: str) -> None:
        process = self.processes.pop(listener)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop_in_order(self, listener: str) -> None:
        """As an administrator stops it: what it has begun is done."""
        process = self.processes[listener]
        process.terminate()
        process.wait(20)
        del self.processes[listener]

    def is_ready(self, listener: str) -> bool:
        url = {
            "device": self.device_url,
            "portal": self.portal_url,
            "proxied": self.proxied_url,
            "metrics": f"http://{self.environment.get('DPS_METRICS_BIND')}",
        }[listener]
        try:
            context = ssl.create_default_context(cafile=self.ca_file) if listener == "device" else None
            with urllib.request.urlopen(f"{url}/readyz", timeout=5, context=context) as answer:
                return answer.status == 200
        except OSError:
            return False

    def log(self, listener: str) -> str:
        return (self.data_dir / f"{listener}.log").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def installation(
    data_dir: Path, *, device_port: int = 0, prepared: bool = False, **environment: str
) -> Iterator[LiveListeners]:
    """A new installation, migrated and with its first administrator; no listener runs yet.

    `device_port`: for clients that can be told a host and no port; otherwise any free one. With DPS_TRUSTED_PROXIES it
    has a proxied listener too, which is nothing without. `prepared`: the database is another node's, and needs nothing.
    """
    device_port, portal_port, proxied_port = device_port or free_port(), free_port(), free_port()
    if "DPS_TRUSTED_PROXIES" in environment:
        environment = {"DPS_PROXIED_BIND": f"127.0.0.1:{proxied_port}", **environment}
    # Only what a process needs, so that neither the settings of the suite nor its database are meant.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DPS_")}
    inherited.pop("DATABASE_URL", None)
    live = LiveListeners(
        data_dir,
        device_port,
        portal_port,
        proxied_port,
        {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "dpsportal.settings",
            "DPS_DATA_DIR": str(data_dir),
            "DPS_DEVICE_BIND": f"127.0.0.1:{device_port}",
            "DPS_PORTAL_BIND": f"127.0.0.1:{portal_port}",
            "DPS_WORKERS": "1",
            "DPS_ADMIN_USERNAME": ADMIN,
            "DPS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            **environment,
        },
    )
    if not prepared:
        live.manage("migrate", "--noinput", "--verbosity", "0", "--skip-checks")
        live.manage("first_start")
    try:
        yield live
    finally:
        for listener in list(live.processes):
            live.stop(listener)
