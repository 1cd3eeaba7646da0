"""`manage.py export_history`: the history with what proves it, as JSON Lines."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from enrollments.actions.history import export_history
from enrollments.management.command import DpsCommand, called_wrongly, command_line_actor, service_named


class Command(DpsCommand):
    help = (
        "Write the history with its seals as JSON Lines, the oldest row first, with a signed checkpoint at the end. "
        "audit_verify and tools/verify_history.py check it. That it was exported is itself the last row in it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--service",
            default="",
            metavar="NAME",
            help="Only the rows of this service; of all others only the hashes, which keep the chain whole.",
        )
        parser.add_argument(
            "--out", type=Path, metavar="FILE", help="A file that is not there yet. Default: print."
        )

    def act(self, *, service: str, out: Path | None, **_: Any) -> None:
        found = service_named(service) if service else None
        if out is None:
            lines = export_history(found, actor=command_line_actor())[1]
            for line in lines:
                self.stdout.write(line.decode(), ending="")
            return
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as problem:
            called_wrongly(f"{out} cannot be written: {problem.strerror}")
        whole = False
        try:
            with os.fdopen(descriptor, "wb") as file:
                lines = export_history(found, actor=command_line_actor())[1]
                file.writelines(lines)
            whole = True
        finally:
            if not whole:
                out.unlink()
