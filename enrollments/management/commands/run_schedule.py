"""`manage.py run_schedule`: turn the switches that are due, so that the history says so before anybody asks."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError, close_old_connections

from enrollments.actions.schedule import settle_due
from enrollments.management.command import REFUSED, DpsCommand, seconds
from enrollments.models import ProvisioningService


class Command(DpsCommand):
    help = (
        "Turn the switches of entries whose time has come, and write that into the history. Optional: decisions go "
        "by the database's clock, whether or not this runs. Once, or with --forever again and again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--forever", action="store_true", help="Go on until it is stopped.")
        parser.add_argument(
            "--interval", type=seconds, default=30.0, metavar="SECONDS", help="With --forever: how often. 30."
        )

    def act(self, *, forever: bool, interval: float, json: bool, **_: Any) -> None:
        if not forever:
            self._turn(json=json, says_nothing_was_due=True)
            return
        try:
            while True:
                try:
                    self._turn(json=json, says_nothing_was_due=False)
                except (CommandError, DatabaseError) as failure:
                    # What does not answer now is asked again; a connection that broke is not used again.
                    self.stderr.write(str(failure))
                    close_old_connections()
                time.sleep(interval)
        except KeyboardInterrupt:
            self.stderr.write("Stopped.")

    def _turn(self, *, json: bool, says_nothing_was_due: bool) -> None:
        """A service where this fails does not keep the others from their turn."""
        turned: dict[str, int] = {}
        failures: list[str] = []
        for service in ProvisioningService.objects.all():
            try:
                number = settle_due(service)
            except DatabaseError as failure:
                failures.append(f"What is due in service {service} could not be written: {failure}")
                continue
            if number:
                turned[service.name] = number
        if turned or (says_nothing_was_due and not failures):
            self._report(turned, json=json)
        if failures:
            raise CommandError(" ".join(failures), returncode=REFUSED)

    def _report(self, turned: dict[str, int], *, json: bool) -> None:
        if json:
            self.print_json(turned)
            return
        for service, number in turned.items():
            self.stdout.write(f"{service}: {number} {'switch' if number == 1 else 'switches'} turned")
        if not turned:
            self.stdout.write("Nothing was due.")
