"""Both listeners start, reload and stop together, whatever happens to one of them."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.serving.listeners import PROJECT_DIR, wait_until

# Stands in for a listener: notes its process and each reload, and ends on SIGTERM and SIGINT.
PROGRAM = textwrap.dedent("""
    import os, pathlib, signal, sys, time
    notes = pathlib.Path(sys.argv[1])
    def note(text):
        with notes.open("a") as file:
            file.write(text + "\\n")
    signal.signal(signal.SIGHUP, lambda *_: note("reload"))
    signal.signal(signal.SIGTERM, lambda *_: (note("SIGTERM"), sys.exit(0)))
    signal.signal(signal.SIGINT, lambda *_: (note("SIGINT"), sys.exit(0)))
    note(str(os.getpid()))
    while True:
        time.sleep(0.05)
""")


@pytest.fixture
def supervised(tmp_path):
    """A supervisor over two small programs, and what those have noted."""
    commands = {name: [sys.executable, "-c", PROGRAM, str(tmp_path / name)] for name in ("portal", "device")}
    program = (
        "import json, sys; from dpsportal.serving.supervisor import supervise; "
        "sys.exit(supervise(json.loads(sys.argv[1])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(commands)],
        cwd=PROJECT_DIR,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_until(lambda: all(len(notes(tmp_path, name)) == 1 for name in commands), seconds=20)
    yield process, tmp_path
    if process.poll() is None:
        process.terminate()
        process.wait(20)


def notes(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().split() if path.exists() else []


def is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has collected yet is not running.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_reaches_both(supervised, number):
    process, folder = supervised

    process.send_signal(number)

    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0
    assert [notes(folder, name)[1:] for name in ("portal", "device")] == [[number.name], [number.name]]


def test_a_reload_reaches_both_and_stops_neither(supervised):
    process, folder = supervised

    process.send_signal(signal.SIGHUP)

    for name in ("portal", "device"):
        assert wait_until(lambda name=name: notes(folder, name)[1:] == ["reload"], seconds=10)
    assert process.poll() is None


@pytest.mark.parametrize(("dies", "other"), [("portal", "device"), ("device", "portal")])
def test_when_one_dies_the_other_is_stopped_and_the_reason_told(supervised, dies, other):
    process, folder = supervised

    os.kill(int(notes(folder, dies)[0]), signal.SIGKILL)

    _, told = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"The {dies} listener ended" in told
    assert notes(folder, other)[1:] == ["SIGTERM"]


def test_nothing_stays_behind_when_the_supervisor_is_killed(supervised):
    process, folder = supervised
    pids = [notes(folder, name)[0] for name in ("portal", "device")]

    process.kill()
    process.wait(10)

    assert wait_until(lambda: not any(map(is_running, pids)), seconds=10)


def test_a_setting_that_cannot_be_read_is_told_once(tmp_path):
    outcome = subprocess.run(
        [sys.executable, "-m", "dpsportal.serving"],
        cwd=PROJECT_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "dpsportal.settings",
            "DPS_WORKERS": "many",
            "DPS_DATA_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert outcome.returncode != 0
    assert outcome.stderr.count("DPS_WORKERS") == 1
    assert "Traceback" not in outcome.stderr
