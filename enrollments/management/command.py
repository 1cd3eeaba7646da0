"""What our commands have in common: who acts, the service they are about, and exit codes."""

import json
import os
import pwd
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from enrollments.audit.actor import Actor, Way
from enrollments.errors import DpsError, NotFound
from enrollments.models import ProvisioningService

REFUSED, CALLED_WRONGLY = 1, 2
# The command that is running: what the history names as the program.
_running = ContextVar("running", default="")


class DpsCommand(BaseCommand):
    """A command that ends with 0 when done, 1 when refused and 2 when called wrongly. Override `act`."""

    # The checks load every page and look at the listeners' settings. Nothing wrong there may keep anybody
    # from shutting a device out or finding a cause (R16); `migrate`, with which each start begins, runs them.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON instead of text.")

    def handle(self, *args: Any, **options: Any) -> None:
        _running.set(f"manage.py {type(self).__module__.rpartition('.')[2]}")
        try:
            self.act(**options)
        except DpsError as refusal:
            raise CommandError(refusal.message, returncode=REFUSED) from refusal
        except DatabaseError as failure:
            # R16: what could not be read or written is said, and not called done.
            sentence = f"The database did not do what was asked, and nothing was changed: {failure}"
            raise CommandError(sentence, returncode=REFUSED) from failure

    def act(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError

    def print_json(self, value: object) -> None:
        self.stdout.write(json.dumps(value, indent=2))


def called_wrongly(sentence: str) -> NoReturn:
    raise CommandError(sentence, returncode=CALLED_WRONGLY)


def add_service_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--service", default="", metavar="NAME", help="The provisioning service. Needed if there are several."
    )


def service_named(name: str) -> ProvisioningService:
    """The service of this name; without a name, the only one. Raises NotFound."""
    services = {service.name: service for service in ProvisioningService.objects.all()}
    if name in services:
        return services[name]
    if not services:
        raise NotFound("There is no provisioning service yet: run manage.py first_start to make the first.")
    if not name and len(services) == 1:
        return next(iter(services.values()))
    known = ", ".join(services)
    if name:
        raise NotFound(f"There is no provisioning service {name!r}. There are: {known}.")
    called_wrongly(f"Say which provisioning service is meant, with --service and one of: {known}.")


def command_line_actor() -> Actor:
    """Whoever the operating system says is running this: LOGNAME and USER could be set to anything."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that has no name
        name = f"uid {os.getuid()}"
    return Actor("cli", name, Way.COMMAND_LINE, client=_running.get())


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """For `type=`: argparse turns the error into a message and exit code 2."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and minimum <= int(text) <= maximum):
            raise ArgumentTypeError(f"give a whole number from {minimum} to {maximum}")
        return int(text)

    return read


def moment(text: str) -> datetime:
    """For `type=`: a time as in ISO 8601, such as 2026-05-03T14:00Z. One without a zone is UTC."""
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError("give a time such as 2026-05-03T14:00Z (UTC)") from None


def seconds(text: str) -> float:
    """For `type=`: a number of seconds, fractions included."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 86400:
        raise ArgumentTypeError("give a number of seconds from 0 to 86400")
    return value
