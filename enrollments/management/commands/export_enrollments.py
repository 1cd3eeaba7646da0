"""`manage.py export_enrollments`: enrollments and groups as a list that an import takes."""

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from enrollments.management.command import (
    DpsCommand,
    add_service_option,
    called_wrongly,
    command_line_actor,
    service_named,
)
from enrollments.models import ImportFormat, ProvisioningService
from enrollments.transfer.exporting import export_entries


class Command(DpsCommand):
    help = (
        "Write the groups and individual enrollments of a service as a list that import_enrollments takes, here or in "
        "another installation. That it was exported is recorded in the history."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_service_option(parser)
        parser.add_argument("--format", choices=ImportFormat.values, default=ImportFormat.JSON_LINES.value)
        parser.add_argument("--only", choices=("groups", "individuals"), help="Default: both.")
        parser.add_argument(
            "--with-keys",
            action="store_true",
            help="With symmetric keys and queries of webhooks, in clear: a disclosure, recorded as one. "
            "Without, an import elsewhere says which entries lack them.",
        )
        parser.add_argument(
            "--out",
            type=Path,
            metavar="FILE",
            help="A file that is not there yet; nobody else may read it. Default: print.",
        )

    def act(
        self, *, service: str, format: str, only: str | None, with_keys: bool, out: Path | None, **_: Any
    ) -> None:
        found = service_named(service)
        if out is None:
            for piece in _pieces(found, format, only, with_keys):
                self.stdout.write(piece.decode(), ending="")
        else:
            # The file first: what cannot be written anywhere was not exported, as the history has it.
            with _new_file(out) as file:
                file.writelines(_pieces(found, format, only, with_keys))
        if with_keys:
            self.stderr.write(
                f"{out or 'The list'} holds keys in clear: whoever has it can come in as any of its devices. "
                "The history has it as a disclosure.",
                style_func=str,
            )


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """For its owner alone; gone again if it was not written to its end."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        called_wrongly(f"{path} cannot be written: {problem.strerror}")
    whole = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        whole = True
    finally:
        if not whole:
            path.unlink()


def _pieces(service: ProvisioningService, format: str, only: str | None, with_keys: bool) -> Iterator[bytes]:
    return export_entries(
        service,
        ImportFormat(format),
        groups=None if only == "individuals" else service.enrollmentgroups.all(),
        individuals=None if only == "groups" else service.individualenrollments.all(),
        with_secrets=with_keys,
        filters={},
        actor=command_line_actor(),
    )
