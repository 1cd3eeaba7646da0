"""`manage.py simulate`: a fleet of devices that register over real TLS, and what became of them."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from enrollments.audit.actor import Actor
from enrollments.management.addresses import ca_file, host_and_port
from enrollments.management.command import (
    REFUSED,
    DpsCommand,
    add_service_option,
    called_wrongly,
    command_line_actor,
    seconds,
    service_named,
    whole_number,
)
from enrollments.management.progress import Progress
from enrollments.models import ProvisioningService
from enrollments.simulator.building import (
    MIXED,
    SYMMETRIC,
    X509,
    FleetSpec,
    Given,
    UnusableSpec,
    build_fleet,
)
from enrollments.simulator.client import LONGEST_WAIT, Device, Endpoint, Pace
from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.fleet import run_fleet
from enrollments.simulator.pki import PkiFolder, PkiProblem
from enrollments.simulator.report import Summary

DEFAULT_DEVICES = 10


class Command(DpsCommand):
    help = (
        "Run a fleet of simulated devices against the device API: real TLS, real certificates and SAS "
        "tokens, polling that honours Retry-After. Ends with a table of outcomes and latencies. Without "
        "--enroll the devices take their chances with what is enrolled. Exit code 1 if no device could "
        "reach the service."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_service_option(parser)
        _add_fleet_options(parser)
        _add_file_options(parser)
        _add_target_options(parser)

    def act(self, *, service: str, write_pki: Path | None, json: bool, **options: Any) -> None:
        found = service_named(service)
        endpoint = _endpoint(found, options["host"], options["cacert"])
        spec = _spec(options, command_line_actor() if options["enroll"] else None)
        longest_wait = LONGEST_WAIT if options["hurry"] is None else options["hurry"]
        with _folder(write_pki) as folder:
            devices = _devices(found, folder, spec)
            summary, interrupted = self._run(
                devices, endpoint, Pace(longest_wait, options["patience"]), options["concurrency"]
            )
        if json:
            self.print_json({"service": found.name, "interrupted": interrupted, **summary.as_json()})
        else:
            if interrupted:
                self.stdout.write(
                    f"Interrupted: {len(summary.results)} of {len(devices)} devices are done.\n"
                )
            self.stdout.write(summary.as_text())
            if tracking_id := next((one.tracking_id for one in summary.results if one.tracking_id), ""):
                self.stdout.write(f"\nWhy one was refused: manage.py explain --tracking-id {tracking_id}")
        if summary.nobody_reached_the_service:
            raise CommandError(
                f"No device could reach {endpoint}. {summary.results[0].detail}", returncode=REFUSED
            )

    def _run(
        self, devices: list[Device], endpoint: Endpoint, pace: Pace, concurrency: int
    ) -> tuple[Summary, bool]:
        summary, progress = Summary(), Progress(sys.stderr)
        try:
            with closing(run_fleet(devices, endpoint, pace, concurrency=concurrency)) as results:
                for _, result in results:
                    summary.add(result)
                    progress.tell(f"{len(summary.results)} of {len(devices)}: {summary.in_brief()}")
        except KeyboardInterrupt:
            return summary, True
        finally:
            progress.close()
        return summary, False


def _add_fleet_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--devices", type=whole_number(1, 100_000), metavar="N", help="How many (default 10)."
    )
    parser.add_argument(
        "--mechanism", choices=(X509, SYMMETRIC, MIXED), default=X509, help="mixed: every other one each."
    )
    parser.add_argument(
        "--enroll",
        action="store_true",
        help="Enroll them first: the root in a group PREFIX-root, devices with symmetric keys one by one.",
    )
    parser.add_argument(
        "--prefix",
        default="",
        help="Registration IDs are PREFIX-0001 and so on (default: that of the fleet in the folder of --write-pki, "
        "else by chance).",
    )
    parser.add_argument(
        "--intermediates",
        type=whole_number(0, 100),
        default=0,
        metavar="N",
        help="How many intermediate CAs stand between root and devices, side by side.",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="Makes prefix, order and the devices' intermediates the same again. Keys are always random.",
    )


def _add_file_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--write-pki",
        type=Path,
        metavar="DIR",
        help="Keep certificates, keys and the prefix in this folder, for curl or for the same fleet again: what is "
        "there is used, what is missing is made.",
    )
    parser.add_argument("--cert", type=Path, metavar="FILE", help="The certificate of one device, PEM.")
    parser.add_argument("--key", type=Path, metavar="FILE", help="Its key (default: in the same file).")
    parser.add_argument("--chain", type=Path, metavar="FILE", help="Intermediates to be sent along, PEM.")
    parser.add_argument(
        "--issue", action="store_true", help="--cert is a CA certificate: make the devices below it."
    )


def _add_target_options(parser: ArgumentParser) -> None:
    parser.add_argument("--host", metavar="HOST:PORT", help="The device API (default: DPS_DEVICE_BIND).")
    parser.add_argument(
        "--cacert",
        type=Path,
        metavar="FILE",
        help="The CA of its certificate (default: this installation's).",
    )
    parser.add_argument(
        "--concurrency", type=whole_number(1, 200), default=8, metavar="N", help="Devices at a time."
    )
    parser.add_argument(
        "--hurry",
        type=seconds,
        metavar="SECONDS",
        help="Wait no longer than this where Retry-After says so. For demonstrations: real devices must not.",
    )
    parser.add_argument(
        "--patience",
        type=seconds,
        default=120,
        metavar="SECONDS",
        help="A device that has no outcome by then counts as an error (default 120).",
    )


@contextmanager
def _folder(kept: Path | None) -> Iterator[PkiFolder]:
    if kept is None:
        with TemporaryDirectory(prefix="dpsportal-simulator-") as passing:
            yield PkiFolder(Path(passing))
        return
    try:
        folder = PkiFolder(kept)
    except OSError as problem:
        called_wrongly(f"--write-pki {kept} cannot be used: {problem.strerror or problem}")
    yield folder


def _endpoint(service: ProvisioningService, host: str | None, cacert: Path | None) -> Endpoint:
    try:
        name, port = host_and_port(host or settings.DPS_DEVICE_BIND)
    except ValueError:
        called_wrongly(f"--host {host} cannot be read: give host:port.")
    endpoint = Endpoint(name, port, service.id_scope, cacert or ca_file())
    try:
        endpoint.context()
    except OSError as problem:
        if cacert:
            called_wrongly(f"--cacert {cacert} cannot be used: {problem.strerror or problem}")
        raise CommandError(
            f"{endpoint.ca_file} cannot be used: {problem.strerror or problem}. The device listener makes it "
            "when it starts for the first time; --cacert names another one.",
            returncode=REFUSED,
        ) from None
    return endpoint


def _devices(service: ProvisioningService, folder: PkiFolder, spec: FleetSpec) -> list[Device]:
    try:
        return build_fleet(service, folder, spec)
    except (PkiProblem, UnusableSpec) as problem:
        called_wrongly(problem.message)


def _spec(options: dict[str, Any], enroll_as: Actor | None) -> FleetSpec:
    cert: Path | None = options["cert"]
    given = None
    if cert is None:
        if options["key"] or options["chain"] or options["issue"]:
            called_wrongly("--key, --chain and --issue need --cert.")
    else:
        if options["mechanism"] != X509:
            called_wrongly("--cert goes with --mechanism x509.")
        if options["intermediates"]:
            called_wrongly("--intermediates goes with a PKI that is made on the fly, not with --cert.")
        if not options["issue"] and (options["devices"] or 1) != 1:
            called_wrongly("--cert is the certificate of one device: leave --devices out, or add --issue.")
        given = Given(CertificateFiles(cert, options["key"] or cert), options["chain"], options["issue"])
    return FleetSpec(
        devices=options["devices"] or DEFAULT_DEVICES,
        mechanism=options["mechanism"],
        prefix=options["prefix"],
        intermediates=options["intermediates"],
        seed=options["seed"],
        given=given,
        enroll_as=enroll_as,
    )
