"""`manage.py demo_fleet`: brings a service into a state in which every outcome occurs."""

import random
import sys
import time
from argparse import ArgumentParser
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from enrollments.management.addresses import ca_file, host_and_port
from enrollments.management.command import (
    REFUSED,
    DpsCommand,
    command_line_actor,
    seconds,
    service_named,
)
from enrollments.management.progress import Progress
from enrollments.policy.words import counted
from enrollments.simulator.client import Device, Endpoint, Pace, Result, why_not_ready
from enrollments.simulator.demo import DENIED, Part, Plant
from enrollments.simulator.fleet import run_fleet
from enrollments.simulator.pki import PkiFolder
from enrollments.simulator.report import Summary, table

CONCURRENCY = 4
# Somebody is watching: nobody waits the three seconds that a real device would.
PACE = Pace(longest_wait=0.5, patience=30)


class Command(DpsCommand):
    help = (
        "Enroll a small plant in a provisioning service and register its devices over real TLS: admitted, "
        "disabled, unknown and mismatched ones. Waits for the device listener. A second run uses what is there, "
        "and leaves alone what somebody has changed. Certificates and keys are kept in the data folder, in "
        "demo-pki."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--service", default="local", metavar="NAME", help="Default: local.")
        parser.add_argument(
            "--forever", action="store_true", help="Go on: some devices come back in each interval."
        )
        parser.add_argument(
            "--interval", type=seconds, default=15.0, metavar="SECONDS", help="For --forever (default 15)."
        )
        parser.add_argument(
            "--wait",
            type=seconds,
            default=30.0,
            metavar="SECONDS",
            help="How long to wait for the device listener (default 30).",
        )

    def act(self, *, service: str, forever: bool, interval: float, wait: float, json: bool, **_: Any) -> None:
        found = service_named(service)
        host, port = host_and_port(settings.DPS_DEVICE_BIND)
        endpoint = Endpoint(host, port, found.id_scope, ca_file())
        actor = command_line_actor()
        _wait_until_ready(endpoint, wait)
        plant = Plant.kept_in(PkiFolder(Path(settings.DPS_DATA_DIR) / "demo-pki"))
        parts = plant.parts()
        plant.enroll(found, actor)
        try:
            # gauge-01 comes before gauge-04, which wants its device ID; and a denied device was admitted before.
            first = [part for part in parts if part.device.registration_id in (DENIED, "gauge-01")]
            _register([part.device for part in first], endpoint)
            plant.deny_one(found, actor)
            results = _register([part.device for part in parts], endpoint)
            self._report(parts, results, json=json)
            while forever:
                time.sleep(interval)
                _register([part.device for part in _some(parts)], endpoint)
        except KeyboardInterrupt:
            self.stderr.write("Stopped.")

    def _report(self, parts: list[Part], results: dict[Device, Result], *, json: bool) -> None:
        summary = Summary(list(results.values()))
        if json:
            self.print_json(summary.as_json())
            return
        rows = [
            (part.device.registration_id, part.shows, results[part.device].outcome)
            for part in parts
            if part.device in results
        ]
        self.stdout.write(table(("Device", "Shows", "Outcome"), rows))
        self.stdout.write(f"\n{counted(len(rows), 'device')}: {summary.in_brief()}.")
        if tracking_id := next((one.tracking_id for one in summary.results if one.tracking_id), ""):
            self.stdout.write(f"Why one was refused: manage.py explain --tracking-id {tracking_id}")


def _register(devices: list[Device], endpoint: Endpoint) -> dict[Device, Result]:
    """By device and not by registration ID: of two that claim one name, one is lying."""
    progress = Progress(sys.stderr)
    results: dict[Device, Result] = {}
    try:
        with closing(run_fleet(devices, endpoint, PACE, concurrency=CONCURRENCY)) as outcomes:
            for device, result in outcomes:
                results[device] = result
                progress.tell(f"{len(results)} of {len(devices)} devices of the demonstration")
    finally:
        progress.close()
    return results


def _some(parts: list[Part]) -> list[Part]:
    return random.sample(parts, k=random.randint(3, 8))  # noqa: S311  # a demonstration, nothing secret


def _wait_until_ready(endpoint: Endpoint, patience: float) -> None:
    """Until the listener says that it can serve; it may be starting right now, and making its CA file."""
    deadline = time.monotonic() + patience
    while problem := why_not_ready(endpoint):
        if time.monotonic() >= deadline:
            raise CommandError(
                f"The device listener at {endpoint} was not ready within {patience:.0f} s ({problem}). Start it "
                "with make run, or everything at once with make demo.",
                returncode=REFUSED,
            )
        time.sleep(0.3)
