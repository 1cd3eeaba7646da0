"""Break glass (R12, R15, R16): whatever else is down, the command line shuts devices out at once."""

import itertools
import os
import pwd
import subprocess
from dataclasses import dataclass

import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.enrolling import leaf_of
from tests.live import ADMIN, ADMIN_PASSWORD, LiveListeners, installation

NUMBERS = itertools.count(1)
LOCK_OUT = f"""
from enrollments.actions.sign_in import LockedOut, WrongPassword, sign_in
for _ in range(50):
    try:
        sign_in({ADMIN!r}, "wrong", address="127.0.0.1")
    except WrongPassword:
        continue
    except LockedOut:
        break
try:
    sign_in({ADMIN!r}, {ADMIN_PASSWORD!r}, address="127.0.0.1")
except LockedOut:
    print("locked out")
"""
FLOOD = """
import itertools
from enrollments.actions.sign_in import WrongPassword, sign_in
for number in itertools.count():
    try:
        sign_in(f"nobody-{number}", "wrong", address=f"2001:db8::{number % 65536:x}")
    except WrongPassword:
        print(number, flush=True)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """An installation with its device listener alone: the portal is down."""
    with installation(tmp_path_factory.mktemp("break-glass")) as live:
        live.start("device")
        yield live


@dataclass(frozen=True)
class Fleet:
    """Two devices below an enrolled CA."""

    live: LiveListeners
    group: str
    devices: list[Device]

    def outcomes(self) -> list[Outcome]:
        return [self.live.register(device).outcome for device in self.devices]


@pytest.fixture
def fleet(running, tmp_path):
    """A fleet of this test's own, both devices of which are admitted."""
    prefix = f"fleet-{next(NUMBERS)}"
    running.manage(
        *("simulate", "--enroll", "--devices", 2, "--hurry", 0),
        *("--prefix", prefix, "--write-pki", tmp_path),
    )
    folder = tmp_path / "devices"
    devices = [
        Device(name, CertificateFiles(folder / f"{name}.pem", folder / f"{name}.key"))
        for name in (f"{prefix}-0001", f"{prefix}-0002")
    ]
    enrolled = Fleet(running, f"{prefix}-root", devices)
    assert enrolled.outcomes() == [Outcome.ASSIGNED] * 2
    return enrolled


def the_row(live, event, name) -> dict:
    (row,) = live.rows(
        "SELECT * FROM enrollments_historyevent WHERE event = ? AND subject_name = ?", event, name
    )
    return row


def test_with_the_portal_down_a_group_is_shut_out_and_the_history_says_who_and_why(running, fleet):
    assert not running.is_ready("portal")

    done = running.manage("disable", "group", fleet.group, "--service", "local", "--reason", "CA key leaked")

    assert f"Enrollment group {fleet.group} of local is disabled from now on." in done.stdout
    assert fleet.outcomes() == [Outcome.DISABLED] * 2
    row = the_row(running, "group.disabled", fleet.group)
    assert (row["actor_kind"], row["way"], row["reason"]) == ("cli", "command line", "CA key leaked")
    assert row["actor_name"] == pwd.getpwuid(os.getuid()).pw_name


def test_one_device_of_a_group_is_shut_out_and_its_sibling_is_not(running, fleet):
    name = fleet.devices[0].registration_id
    without = running.manage("disable", "individual", name, "--reason", "stolen", check=False)
    assert without.returncode == 1
    assert fleet.outcomes() == [Outcome.ASSIGNED] * 2

    running.manage("disable", "individual", name, "--reason", "stolen", "--deny")

    assert fleet.outcomes() == [Outcome.DISABLED, Outcome.ASSIGNED]
    (held,) = running.rows("SELECT spki_sha256 FROM enrollments_heldcertificate WHERE role = 'device'")
    assert held["spki_sha256"] == leaf_of(fleet.devices[0].credential).spki_sha256
    assert the_row(running, "enrollment.added_disabled", name)["reason"] == "stolen"


def test_the_last_administrator_being_locked_out_keeps_nobody_from_shutting_out(running, fleet):
    assert "locked out" in running.python(LOCK_OUT)

    running.manage("disable", "group", fleet.group, "--reason", "locked out of the portal")

    assert fleet.outcomes() == [Outcome.DISABLED] * 2


def test_a_flood_of_sign_ins_keeps_nobody_from_shutting_out(running, fleet):
    flood = subprocess.Popen(
        running.command("shell", "--verbosity", "0", "-c", FLOOD),
        cwd=PROJECT_DIR,
        env=running.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert flood.stdout.readline() == "0\n"

        running.manage("disable", "group", fleet.group, "--reason", "under attack")

        assert flood.poll() is None
        assert fleet.outcomes() == [Outcome.DISABLED] * 2
    finally:
        flood.kill()
        flood.communicate()


def test_with_every_listener_down_it_holds_from_the_next_start_on(running, fleet):
    running.stop("device")

    running.manage("disable", "group", fleet.group, "--reason", "before anybody is let in again")

    running.start("device")
    assert fleet.outcomes() == [Outcome.DISABLED] * 2


def test_settings_that_contradict_each_other_keep_nobody_from_shutting_out(
    running, fleet, tmp_path, monkeypatch
):
    certificate = tmp_path / "lonely.pem"
    certificate.write_text("a certificate without its key")
    monkeypatch.setitem(running.environment, "DPS_TLS_CERT", str(certificate))
    assert running.manage("check", check=False).returncode == 1

    running.manage("disable", "group", fleet.group, "--reason", "half-configured")

    assert fleet.outcomes() == [Outcome.DISABLED] * 2


def test_a_database_that_does_not_answer_is_said_and_not_called_done(running, monkeypatch):
    monkeypatch.setitem(running.environment, "DATABASE_URL", "sqlite:////no/such/folder/db.sqlite3")

    done = running.manage("disable", "group", "plant", "--reason", "test", check=False)

    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_cannot_forge_who_did_it(running, fleet, monkeypatch):
    for variable in ("LOGNAME", "USER"):
        monkeypatch.setitem(running.environment, variable, "somebody-else")

    running.manage("disable", "group", fleet.group, "--reason", "test")

    name = the_row(running, "group.disabled", fleet.group)["actor_name"]
    assert name == pwd.getpwuid(os.getuid()).pw_name != "somebody-else"
