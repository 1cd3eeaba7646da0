"""`manage.py simulate`: a fleet of devices that register over real TLS, and what became of them."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
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
    service_named,
)
from enrollments.management.progress import Progress
from enrollments.management.simulate_options import (
    ALL_PROFILES,
    DEFAULT_DEVICES,
    DEFAULT_STORM_SECONDS,
    MOST_RESTLESS,
    POLITE,
    add_simulate_options,
)
from enrollments.models import ProvisioningService
from enrollments.policy.words import counted
from enrollments.simulator.building import (
    SYMMETRIC_GROUP,
    TPM,
    VIRTUAL,
    X509,
    FleetSpec,
    Given,
    UnusableSpec,
    build_fleet,
)
from enrollments.simulator.client import Device, Endpoint, Pace
from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.fleet import run_fleet
from enrollments.simulator.pki import PkiFolder, PkiProblem
from enrollments.simulator.profiles import LONGEST_WAIT, PLAIN, PROFILES
from enrollments.simulator.report import Summary
from enrollments.simulator.storm import Storm
from enrollments.simulator.tpm_structures import TpmRefusal


class Command(DpsCommand):
    help = (
        "Run a fleet of simulated devices against the device API: real TLS, real certificates, SAS tokens and "
        "TPMs, polling that honours Retry-After, in the manner of one client or another. Ends with a table of "
        "outcomes and latencies. Without --enroll the devices take their chances with what is enrolled. With "
        "--storm they never stop. Exit code 1 if no device could reach the service."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_service_option(parser)
        add_simulate_options(parser)

    def act(self, *, service: str, write_pki: Path | None, json: bool, **options: Any) -> None:
        found = service_named(service)
        endpoint = _endpoint(found, options["host"], options["cacert"])
        spec = _spec(options, command_line_actor() if options["enroll"] else None)
        longest_wait = LONGEST_WAIT if options["hurry"] is None else options["hurry"]
        pace = Pace(longest_wait, options["patience"])
        had_key_groups = found.symmetric_key_groups
        with _folder(write_pki) as folder:
            devices = _devices(found, folder, spec)
            if not had_key_groups and ProvisioningService.objects.get(pk=found.pk).symmetric_key_groups:
                self.stderr.write(f"Enrollment groups of service {found} may use symmetric keys from now on.")
            if options["storm"]:
                healthy = _healthy_devices(found, folder, spec, options["healthy"])
                storm = _storm(devices, healthy, endpoint, pace, options)
                self._blow(found, storm, endpoint, json=json)
            else:
                self._fleet(found, devices, endpoint, pace, options["concurrency"], json=json)

    def _fleet(
        self,
        service: ProvisioningService,
        devices: list[Device],
        endpoint: Endpoint,
        pace: Pace,
        concurrency: int,
        *,
        json: bool,
    ) -> None:
        summary, interrupted = self._run(devices, endpoint, pace, concurrency)
        if json:
            self.print_json({"service": service.name, "interrupted": interrupted, **summary.as_json()})
        else:
            if interrupted:
                self.stdout.write(
                    f"Interrupted: {len(summary.results)} of {counted(len(devices), 'device')} done.\n"
                )
            self.stdout.write(summary.as_text())
            if tracking_id := next((one.tracking_id for one in summary.results if one.tracking_id), ""):
                self.stdout.write(f"\nWhy one was refused: manage.py explain --tracking-id {tracking_id}")
        if summary.nobody_reached_the_service:
            raise CommandError(
                f"No device could reach {endpoint}. {summary.results[0].detail}", returncode=REFUSED
            )

    def _blow(self, service: ProvisioningService, storm: Storm, endpoint: Endpoint, *, json: bool) -> None:
        interrupted, progress = False, Progress(sys.stderr)
        try:
            storm.run(progress.tell)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            progress.close()
        beside = storm.healthy if storm.healthy_devices else None
        if json:
            told = {"service": service.name, "interrupted": interrupted, "storm": storm.tally.as_json()}
            self.print_json(told | ({"healthy": beside.as_json()} if beside else {}))
        else:
            self.stdout.write(storm.tally.as_text())
            if beside:
                self.stdout.write(
                    f"\nHealthy devices beside it: {len(storm.healthy_devices)}.\n\n{beside.as_text()}"
                )
        if storm.tally.nobody_answered:
            raise CommandError(f"No device could reach {endpoint}.", returncode=REFUSED)

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
    except (PkiProblem, UnusableSpec, TpmRefusal) as problem:
        called_wrongly(problem.message)


def _healthy_devices(
    service: ProvisioningService, folder: PkiFolder, spec: FleetSpec, number: int | None
) -> list[Device]:
    """They have a PKI of their own: enrolling theirs must not let the devices of the storm in."""
    if not number:
        return []
    healthy = replace(
        spec,
        devices=number,
        prefix=f"{spec.prefix}-healthy" if spec.prefix else "",
        seed=None,
        given=None,
        enroll_as=command_line_actor(),
        profiles=(PLAIN,),
    )
    return _devices(service, PkiFolder(folder.path / "healthy"), healthy)


def _storm(
    devices: list[Device], healthy: list[Device], endpoint: Endpoint, pace: Pace, options: dict[str, Any]
) -> Storm:
    return Storm(
        devices,
        endpoint,
        polite=options["storm"] == POLITE,
        in_flight=options["concurrency"],
        seconds=options["seconds"] or DEFAULT_STORM_SECONDS,
        healthy=healthy,
        healthy_pace=pace,
    )


def _spec(options: dict[str, Any], enroll_as: Actor | None) -> FleetSpec:
    if not options["storm"] and (options["seconds"] or options["healthy"]):
        called_wrongly("--seconds and --healthy go with --storm.")
    if options["storm"] and (options["devices"] or 1) > MOST_RESTLESS:
        called_wrongly(f"A storm has at most {MOST_RESTLESS} devices.")
    if options["allow_key_groups"] and not (options["enroll"] and options["mechanism"] == SYMMETRIC_GROUP):
        called_wrongly("--allow-key-groups goes with --enroll and --mechanism symmetric-group.")
    if options["tpm"] != VIRTUAL and options["mechanism"] != TPM:
        called_wrongly("--tpm goes with --mechanism tpm.")
    cert: Path | None = options["cert"]
    profile: str = options["profile"]
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
        allow_key_groups=options["allow_key_groups"],
        profiles=tuple(PROFILES.values()) if profile == ALL_PROFILES else (PROFILES[profile],),
        tpm=options["tpm"],
    )
