"""`manage.py move_database`: take an installation from SQLite to PostgreSQL, and show that all of it arrived."""

import os
import socket
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from dpsportal.env import env_database
from enrollments.errors import Conflict
from enrollments.management.command import DpsCommand, called_wrongly
from enrollments.management.database_move import Moved, move
from enrollments.management.progress import Progress

TARGET = "move_database_target"


class Command(DpsCommand):
    help = (
        "Copy everything from the SQLite database into an empty PostgreSQL one, compare the two, and verify the "
        "history there. Stop the service first; afterwards set DATABASE_URL and start it. The SQLite file stays as it "
        "is. Killed half-way, the new database is as empty as before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--to",
            required=True,
            metavar="URL",
            help="postgres://user@host/name. Other users of this machine can read a command line: leave the password "
            "to PGPASSWORD or ~/.pgpass.",
        )

    def act(self, *, to: str, json: bool, **_: Any) -> None:
        if connection.vendor != "sqlite":
            called_wrongly(
                "This moves an installation away from SQLite; between PostgreSQL servers use pg_dump."
            )
        if not to.startswith(("postgres://", "postgresql://")):
            called_wrongly("--to takes the address of a PostgreSQL database: postgres://user@host/name.")
        for bind in (settings.DPS_PORTAL_BIND, settings.DPS_DEVICE_BIND):
            if _answers(bind):
                raise Conflict(
                    f"Something listens at {bind}. Stop the service first: what it wrote during the move would be lost."
                )
        _manage(to, "migrate", "--noinput", "--verbosity", "0")
        progress = Progress(self.stderr)  # type: ignore[arg-type]  # it writes, flushes and knows of terminals
        with _opened(to) as target:
            moved = move(connection, target, lambda table, rows: progress.tell(f"{table}: {rows:,} rows"))
        progress.close()
        _manage(to, "audit_verify")
        if json:
            self.print_json(
                {
                    "rows": moved.rows,
                    "tables": moved.tables,
                    "history_rows": moved.history_rows,
                    "head": moved.head,
                }
            )
        else:
            self.stdout.write(_as_text(moved))


def _as_text(moved: Moved) -> str:
    return "\n".join(
        [
            f"Moved {moved.rows:,} rows of {len(moved.tables)} tables; both sides have the same numbers.",
            f"The history ends with row {moved.history_rows:,}, {moved.head or 'which is none'}, on both sides, and "
            "every row there is what was sealed.",
            "Set DATABASE_URL to the new database for the service and for every command, then start the service.",
        ]
    )


@contextmanager
def _opened(url: str) -> Iterator[BaseDatabaseWrapper]:
    connections.settings[TARGET] = connections.configure_settings(
        {"default": {}, TARGET: env_database("--to", url)}
    )[TARGET]
    target = connections[TARGET]
    try:
        yield target
    finally:
        target.close()
        del connections[TARGET]
        del connections.settings[TARGET]


def _manage(url: str, *command: str) -> None:
    """Run a command on the new database, in a process that knows no other. Raises Conflict with what it says."""
    done = subprocess.run(  # ourselves
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *command],
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [*done.stdout.splitlines(), *done.stderr.splitlines()] or ["It did not say why."]
        raise Conflict(f"manage.py {command[0]} failed on the database to move to: {said[-1]}")


def _answers(bind: str) -> bool:
    host, _, port = bind.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1):
            return True
    except OSError:
        return False
