"""What whoever owns the database can do to a history, and what both verifiers say of it."""

import contextlib
import importlib
import importlib.util
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from enrollments.audit import ahead, checkpoints
from enrollments.audit.canonical import MEMBERS
from enrollments.audit.notes import VerifierKey
from enrollments.audit.report import Report
from enrollments.audit.verify import Check
from tests.audit.histories import execute

TOOL = Path(__file__).parents[2] / "tools" / "verify_history.py"
ON_SQLITE = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
EVENT, SEAL = "enrollments_historyevent", "enrollments_historyseal"
CHECKPOINT, WAITING = "enrollments_historycheckpoint", "enrollments_unsealedevent"
COLUMNS = ", ".join(f'"{name}"' for name in MEMBERS if name != "id")


def loaded_tool() -> Any:
    """The auditor's tool as a module, a new one each time: whoever changes it changes it for nobody else."""
    spec = importlib.util.spec_from_file_location("verify_history", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def updated(table: str, column: str, value: str, where: str) -> str:
    return f'UPDATE {table} SET "{column}" = {value} WHERE {where}'


# Last what was added first.
WITH_TRIGGERS = ("0030_history_takes_what_belongs", "0010_history_seals", "0002_history_is_final")


def without_triggers(*names: str) -> Iterator[str]:
    """Of these migrations, of all where none is named."""
    for name in names or WITH_TRIGGERS:
        migration = importlib.import_module(f"enrollments.migrations.{name}")
        yield from migration.SQLITE_BACK if ON_SQLITE else migration.POSTGRESQL_BACK


def with_triggers() -> Iterator[str]:
    for name in reversed(WITH_TRIGGERS):
        migration = importlib.import_module(f"enrollments.migrations.{name}")
        yield from migration.SQLITE if ON_SQLITE else migration.POSTGRESQL


@contextlib.contextmanager
def tampered(*statements: str) -> Iterator[None]:
    """The database as it is after these statements, its triggers gone; afterwards as before."""
    with undone():
        for statement in (*without_triggers(), *statements):
            execute(statement)
        yield


class _Here(Executor):
    """No other process, which could not see what a transaction has written: each thing is done when it is given out."""

    def submit(self, function, /, *args, **named):
        done: Future = Future()
        done.set_result(function(*args, **named))
        return done


@contextlib.contextmanager
def ahead_here(check: Check, keys: list[VerifierKey], own: list[str]) -> Iterator[ahead.Ahead]:
    """As processes_ahead, in this process, however short the history is."""
    ahead._take(keys, own, check.kept)
    yield ahead.Ahead(_Here(), 2, check.until)


@contextlib.contextmanager
def undone() -> Iterator[None]:
    atomic = transaction.atomic()
    atomic._from_testcase = True  # what seals in here believes that it is the outermost
    with atomic:
        yield
        transaction.set_rollback(True)


def key() -> str:
    return str(checkpoints.verifier_key())


def by_us(check: Callable[..., Report], *arguments: object) -> tuple[int | None, int | None] | None:
    found = check(*arguments).problem
    return (found.index, found.event_id) if found else None


def by_tool(
    path: Path, *more: str, keys: tuple[str, ...] = (), as_json: bool = True
) -> subprocess.CompletedProcess[str]:
    given_keys = [part for one in keys or (key(),) for part in ("--key", one)]
    form = ["--json"] if as_json else []
    command = [sys.executable, "-I", str(TOOL), str(path), *given_keys, *form, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def found_by_tool(path: Path, *more: str) -> tuple[int | None, int | None] | None:
    done = by_tool(path, *more)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    return (report["problem"]["index"], report["problem"]["event_id"]) if report["problem"] else None


def copied(path: Path, *statements: str) -> Path:
    """A copy of the database as a file, after these statements, which no trigger hindered."""
    with contextlib.closing(sqlite3.connect(path)) as target:
        connection.ensure_connection()
        connection.connection.backup(target)
        target.execute("PRAGMA ignore_check_constraints=ON")
        for statement in (*without_triggers(), *statements, *with_triggers()):
            target.execute(statement)
        target.commit()
        target.execute("PRAGMA journal_mode=DELETE")
    return path
