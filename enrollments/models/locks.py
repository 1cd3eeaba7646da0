"""The decision lock: what lets a change and an admission never overlap (R12)."""

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
    with transaction.atomic(durable=True):
        _advisory_lock("pg_advisory_xact_lock", service.pk)
        yield
        service.raise_epoch()


def _advisory_lock(function: str, service_id: int) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s, %s)", [ADVISORY_NAMESPACE, service_id])
