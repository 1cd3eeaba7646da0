"""`python -m dpsportal.serving` as people start it, with both real listeners."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dpsportal.serving.server_certificate import ensure_server_certificate
from tests.serving.listeners import PROJECT_DIR, wait_until


class Service:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"portal": free_port(), "device": free_port()}
        self.process: subprocess.Popen

    def start(self, **variables: str) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dpsportal.serving"],
                cwd=PROJECT_DIR,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": "tests.serving.bare_settings",
                    "DPS_DATA_DIR": str(self.folder / "data"),
                    "DPS_PORTAL_BIND": f"127.0.0.1:{self.ports['portal']}",
                    "DPS_DEVICE_BIND": f"localhost:{self.ports['device']}",
                    "DPS_WORKERS": "1",
                    **variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, listener: str, page="who", body: bytes | None = None, **headers: str) -> dict:
        scheme, context = ("https", self.trusting()) if listener == "device" else ("http", None)
        url = f"{scheme}://localhost:{self.ports[listener]}/{page}"
        request = urllib.request.Request(url, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return json.load(response)

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "data" / "tls" / "ca.pem")

    def answers(self) -> bool:
        serves = {"portal": "portal", "device": "device", "proxied": "device"}
        try:
            return all(self.ask(listener)["listener"] == serves[listener] for listener in self.ports)
        except (OSError, urllib.error.URLError):
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path)
    yield service
    if service.process.poll() is None:
        service.process.terminate()
        service.process.wait(20)


@pytest.fixture
def running(service):
    service.start()
    assert wait_until(service.answers, seconds=30), service.log()
    return service


def processes_of(service) -> list[int]:
    """Everything that was started with this service's data folder."""
    mark = f"DPS_DATA_DIR={service.folder / 'data'}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


def test_both_listeners_serve_and_say_nothing(running):
    device, portal = running.ask("device"), running.ask("portal")

    assert device == {"listener": "device", "certificates": 0, "secure": True, "peer": "127.0.0.1", "body": 0}
    assert portal == {
        "listener": "portal",
        "certificates": 0,
        "secure": False,
        "peer": "127.0.0.1",
        "body": 0,
    }
    assert running.log() == ""


def test_the_bounds_of_the_two_listeners_differ(running):
    body = bytes(400_000)

    assert running.ask("portal", body=body)["body"] == len(body)
    with pytest.raises(urllib.error.HTTPError) as refused:
        running.ask("device", body=body)
    assert refused.value.code == 413


def test_forwarding_headers_are_believed_from_nobody(running):
    said = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"}

    assert running.ask("portal", **said) == running.ask("portal")


def test_forwarding_headers_are_believed_from_a_trusted_proxy(service):
    service.start(DPS_TRUSTED_PROXIES="127.0.0.0/8")
    assert wait_until(service.answers, seconds=30), service.log()
    told = service.ask("portal", **{"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"})

    assert (told["peer"], told["secure"]) == ("198.51.100.7", True)


def test_a_third_listener_is_started_for_proxies_where_it_is_configured(service):
    service.ports["proxied"] = free_port()
    service.start(
        DPS_PROXIED_BIND=f"127.0.0.1:{service.ports['proxied']}", DPS_TRUSTED_PROXIES="127.0.0.1,192.0.2.7"
    )
    assert wait_until(service.answers, seconds=30), service.log()
    told = service.ask("proxied", **{"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https"})

    assert told == {
        "listener": "device",
        "certificates": 0,
        "secure": True,
        "peer": "198.51.100.7",
        "body": 0,
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_within_seconds_and_leaves_nothing_behind(running, number):
    assert len(processes_of(running)) >= 5

    running.process.send_signal(number)

    # Below the 10 seconds after which gunicorn kills a worker that hangs. Most of the time that is needed on a busy
    # machine goes to five interpreters that put themselves away.
    assert running.process.wait(timeout=9) == 0
    assert processes_of(running) == []
    assert running.log() == ""


def test_killed_it_leaves_nothing_behind(running):
    running.process.kill()
    running.process.wait(10)

    assert wait_until(lambda: processes_of(running) == [], seconds=10)


def test_a_reload_goes_unnoticed(running):
    before = set(processes_of(running))

    running.process.send_signal(signal.SIGHUP)

    assert wait_until(lambda: len(set(processes_of(running)) - before) == 2, seconds=15)
    assert running.answers()
    assert running.process.poll() is None


def test_a_reload_with_a_certificate_that_cannot_serve_changes_nothing(service):
    (service.folder / "data").mkdir()
    files = ensure_server_certificate(service.folder / "data")
    service.start(DPS_TLS_CERT=str(files[0]), DPS_TLS_KEY=str(files[1]))
    assert wait_until(service.answers, seconds=30), service.log()
    before = processes_of(service)
    files[0].write_text("half a certifi")

    service.process.send_signal(signal.SIGHUP)

    assert wait_until(lambda: "Not reloaded" in service.log(), seconds=10)
    assert service.answers()
    assert processes_of(service) == before


def test_a_port_that_is_taken_ends_everything_and_is_named(service):
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", service.ports["device"]))
        squatter.listen()
        service.start()

        assert service.process.wait(timeout=30) == 1

    assert "The device listener ended" in service.log()
    assert str(service.ports["device"]) in service.log()
    assert processes_of(service) == []


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"DPS_TRUSTED_PROXIES": "gateway"}, "DPS_TRUSTED_PROXIES holds 'gateway'"),
        (
            {"DPS_PROXIED_BIND": "127.0.0.1:8444"},
            "DPS_TRUSTED_PROXIES is empty: DPS_PROXIED_BIND serves only",
        ),
        ({"DPS_PROXIED_BIND": "8444"}, "DPS_PROXIED_BIND is '8444': give host:port"),
        ({"DPS_TLS_CERT": __file__}, "DPS_TLS_KEY is missing"),
        ({"DPS_TLS_CERT": __file__, "DPS_TLS_KEY": __file__}, "DPS_TLS_CERT cannot be used"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(service, variables, told):
    service.start(**variables)

    assert service.process.wait(timeout=30) == 1
    assert told in service.log()
    assert "Traceback" not in service.log()
