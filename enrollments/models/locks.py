"""The decision lock: what lets a change and an admission never overlap (R12)."""

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from enrollments.models.services import ProvisioningService

# First half of PostgreSQL's two-part advisory key; the second is the service.
ADVISORY_NAMESPACE = 0x0D95
# In place of a service.
_HISTORY, _REFUSED_LOOKS = -1, -2


@contextmanager
def admission_lock(service: ProvisioningService, registration_key: str = "") -> Iterator[None]:
    """A transaction that shares the lock: admissions run beside each other, never beside a change.

    registration_key: of a device that has proven itself. Nobody else registers under this ID meanwhile (R10, R11).
    Whoever has not yet proven anything takes no turn at it, and makes nobody wait for theirs (R14). Locking the
    record's row would not do: the first registration has none yet, and PostgreSQL reads a row again after waiting for
    it, but not the rows that were joined to it.

    The locks are the first statement of the transaction, by itself: a snapshot taken before or together with the
    wait would show the state from before it. On SQLite the transaction itself is the lock (BEGIN IMMEDIATE).
    """
    with in_line(), transaction.atomic(durable=True):
        if connection.vendor == "postgresql" and registration_key:
            with connection.cursor() as cursor:
                # From left to right, so that all who wait for each other do so in one order.
                cursor.execute(
                    "SELECT pg_advisory_xact_lock_shared(%s, %s), pg_advisory_xact_lock(%s)",
                    [ADVISORY_NAMESPACE, service.pk, _turn_at(service, registration_key)],
                )
        else:
            _advisory_lock("pg_advisory_xact_lock_shared", service.pk)
        yield


@contextmanager
def in_line() -> Iterator[None]:
    """On SQLite, wait in line for the one transaction that may write: threads and processes come in turn.

    SQLite has its waiters look again from time to time, ten times a second in the end. While others write one after the
    other, whoever waits so finds it taken for longer than a device has patience. Here whoever comes first waits for the
    turn and has the door closed behind it; the next one is let in when it has had its turn, so nobody is overtaken by
    those who come again and again. Whoever has the turn may take it again: what is done after a commit, for one.
    """
    place = None if _running.has_turn else _place_in_line()
    if place is None:
        yield
        return
    turn = _locked(f"{place}-turn-of-writers", first=f"{place}-line-of-writers")
    _running.has_turn = True
    try:
        yield
    finally:
        _running.has_turn = False
        os.close(turn)


def _locked(path: str, *, first: str = "") -> int:
    """A descriptor that owns the lock of this file until it is closed. `first`: whose lock is owned while waiting."""
    door = _locked(first) if first else None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    finally:
        if door is not None:
            os.close(door)


@contextmanager
def if_nobody_else(path: Path) -> Iterator[bool]:
    """Whether nobody else on this machine is in here, by a lock on this file; nobody waits."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _place_in_line() -> str | None:
    """None where there is no line: databases with locks of their own, one in memory, and inside of a transaction."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return None
    name = str(connection.settings_dict["NAME"])
    return None if "mode=memory" in name or name == ":memory:" else name


class _Running(threading.local):
    rehearsal = False
    # The service whose change lock this thread owns, and when it first did something of which a row tells.
    changing: int | None = None
    changed_at: datetime | None = None
    # On SQLite, whether it is this thread's turn to write.
    has_turn = False


_running = _Running()


@contextmanager
def rehearsal() -> Iterator[None]:
    """Changes that are made inside are taken back at the end, history and epoch included: to see what they would do.

    It takes no lock that admissions wait for but the one that SQLite has, so it must be short. Whoever owns the change
    lock may rehearse too, and so may whoever rehearses: what is made inside is then taken back first.
    """
    is_inner = _running.rehearsal
    _running.rehearsal = True
    try:
        with transaction.atomic(durable=_running.changing is None and not is_inner):
            yield
            transaction.set_rollback(True)
    finally:
        _running.rehearsal = is_inner


def is_rehearsed() -> bool:
    """Whether what this thread changes now is taken back."""
    return _running.rehearsal


@contextmanager
def change_lock(service: ProvisioningService, *, raises_epoch: bool = True) -> Iterator[None]:
    """A transaction that owns the lock, and raises the service's epoch: for whatever decisions read.

    raises_epoch: False for what no decision about a device reads, and for who finds out only inside whether anything
    has to change, and then raises it. The epoch ends back-off and outdates previews.

    Returns control to the caller only after every admission that was being judged has committed. Whoever owns it may
    take it again: an act that consists of others takes it first, and all of them commit together or not at all.
    """
    if _running.rehearsal or _running.changing == service.pk:
        with transaction.atomic():
            yield
            if raises_epoch:
                service.raise_epoch()
        return
    with in_line(), transaction.atomic(durable=True):
        _advisory_lock("pg_advisory_xact_lock", service.pk)
        _running.changing = service.pk
        try:
            yield
        finally:
            _running.changing = _running.changed_at = None
        if raises_epoch:
            service.raise_epoch()


def moment_of_change() -> datetime:
    """Now; or for whoever owns a change lock, when it was asked first: what is done under it is done at one time.

    Nobody is admitted in between, so no time in between has a state of its own.
    """
    if _running.changing is None:
        return timezone.now()
    if _running.changed_at is None:
        _running.changed_at = timezone.now()
    return _running.changed_at


def _turn_at(service: ProvisioningService, registration_key: str) -> int:
    digest = hashlib.sha256(f"{service.pk}\n{registration_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def take_turn_with_people() -> None:
    """Until the transaction ends, nobody else changes people: two administrators may remove each other at once."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [ADVISORY_NAMESPACE, 0])


def take_turn_with_refused_looks() -> None:
    """Until the transaction ends, nobody else notes one: two at a time would not see each other's row."""
    _advisory_lock("pg_advisory_xact_lock", _REFUSED_LOOKS)


def _advisory_lock(function: str, service_id: int) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s, %s)", [ADVISORY_NAMESPACE, service_id])


def wait_for_history_turn(*, wait: bool) -> bool:
    """Until the transaction ends, nobody else seals the history or signs it; whether the turn was had.

    The first statement of its transaction, by itself, so that what is read next is what the former sealer left.
    """
    if connection.vendor != "postgresql":
        return True
    function = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s, %s)", [ADVISORY_NAMESPACE, _HISTORY])
        (answer,) = cursor.fetchone()
    return wait or bool(answer)


@contextmanager
def without_waiting(wait: bool) -> Iterator[None]:
    """On SQLite, where the transaction is the lock: a transaction that begins in here does not wait for another.

    It raises OperationalError instead, unless `wait` is true.
    """
    if wait or connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {int(patience)}")


def is_locked(problem: DatabaseError) -> bool:
    """Whether SQLite says no more than that somebody else is writing."""
    code: int | None = getattr(problem.__cause__, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY
