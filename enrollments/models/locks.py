"""The decision lock: what lets a change and an admission never overlap (R12)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from enrollments.models.services import ProvisioningService

# First half of PostgreSQL's two-part advisory key; the second is the service.
ADVISORY_NAMESPACE = 0x0D95


@contextmanager
def admission_lock(service: ProvisioningService) -> Iterator[None]:
    """A transaction that shares the lock: admissions run beside each other, never beside a change.

    The lock is the first statement of the transaction, by itself: a snapshot taken before or together with the
    wait would show the state from before it. On SQLite the transaction itself is the lock (BEGIN IMMEDIATE).
    """
    with transaction.atomic(durable=True):
        _advisory_lock("pg_advisory_xact_lock_shared", service.pk)
        yield


@contextmanager
def change_lock(service: ProvisioningService) -> Iterator[None]:
    """A transaction that owns the lock, and raises the service's epoch: for whatever decisions read.

    Returns control to the caller only after every admission that was being judged has committed.
    """
    with sole_lock(service):
        yield
        service.raise_epoch()


@contextmanager
def sole_lock(service: ProvisioningService) -> Iterator[None]:
    """A transaction that owns the lock, for who finds out only inside whether anything has to change.

    Whoever then changes something raises the epoch. If everybody did who looked, judgements would be made again for
    nothing.
    """
    with transaction.atomic(durable=True):
        _advisory_lock("pg_advisory_xact_lock", service.pk)
        yield


def take_turn(service: ProvisioningService, registration_key: str) -> None:
    """Until the transaction ends, nobody else registers under this ID: what is read next is current (R10, R11).

    Locking the record's row would not do: the first registration has none yet, and PostgreSQL reads a row again
    after waiting for it, but not the rows that were joined to it.
    """
    if connection.vendor == "postgresql":
        digest = hashlib.sha256(f"{service.pk}\n{registration_key}".encode()).digest()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(%s)", [int.from_bytes(digest[:8], "big", signed=True)]
            )


def take_turn_with_people() -> None:
    """Until the transaction ends, nobody else changes people: two administrators may remove each other at once."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [ADVISORY_NAMESPACE, 0])


def _advisory_lock(function: str, service_id: int) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s, %s)", [ADVISORY_NAMESPACE, service_id])
