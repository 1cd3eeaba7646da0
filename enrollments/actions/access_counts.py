"""Counting failed authentications at the service API: the first of a window is told at once, the rest added up (R14).

A service counts so many pairs of what was claimed and address in a window, and what is more without its address.
"""

import threading
from collections.abc import Mapping
from datetime import datetime
from itertools import groupby
from time import monotonic

from django.db import connection, transaction

from enrollments import metrics
from enrollments.actions.access_failures import MANY, Claimed, Window, record_first
from enrollments.actions.adding_up import CANNOT_WRITE, SECONDS_BETWEEN, AddedUp, Times, say_not_written
from enrollments.actions.ended_windows import record_ended_windows_if_possible
from enrollments.actions.failure_windows import MOST_ADDRESSES
from enrollments.models import ProvisioningService, SignInFailures
from enrollments.models.locks import in_line

# Of one service in one window: pairs of what was claimed and address, apart for each cause.
MOST_COUNTED = 1000
# Of all services, in the memory of one process.
MOST_ADDED_UP = 1000
# A window with its cause, and the address.
_Pair = tuple[Window, str]


def count_failure(
    service: ProvisioningService, claimed: Claimed, cause: str, address: str, *, at: datetime, times: int = 1
) -> None:
    """`cause`: the code of NotAuthenticated. times: with those before it of which no more was told than to wait.

    Where the history cannot be written that is said, and it is counted: whoever failed is answered all the same.
    """
    if not _TOLD.is_told_first(service, claimed, cause, address, at, times):
        window = Window.at(service, claimed, cause, at)
        _ADDED_UP.add((window, address), Times(times, at), crowded=(window, MANY))


def write_down_failures() -> None:
    """What this process has added up, now: it does so by itself a little later."""
    _ADDED_UP.write_down()


class _Told:
    """Of which failures this process knows that their like was told at once, so that it need not ask each time."""

    def __init__(self) -> None:
        self._number = -1
        # By claim: from which addresses; None where there were so many that no more are told.
        self._addresses: dict[tuple[int, Claimed], set[str] | None] = {}
        self._pause_until = 0.0
        self._lock = threading.Lock()

    def is_told_first(
        self,
        service: ProvisioningService,
        claimed: Claimed,
        cause: str,
        address: str,
        at: datetime,
        times: int,
    ) -> bool:
        number = Window.at(service, claimed, cause, at).number
        if self._knows(number, service.pk, claimed, address) or monotonic() < self._pause_until:
            return False
        try:
            is_first = record_first(service, claimed, cause, address, at, times)
        except CANNOT_WRITE as problem:
            self._pause_until = monotonic() + SECONDS_BETWEEN
            say_not_written(metrics.ACCESS_FAILURES, problem)
            return False
        self._keep(number, service.pk, claimed, address)
        return is_first

    def _knows(self, number: int, service: int, claimed: Claimed, address: str) -> bool:
        with self._lock:
            if number != self._number:
                return False
            addresses = self._addresses.get((service, claimed), set())
            return addresses is None or address in addresses

    def _keep(self, number: int, service: int, claimed: Claimed, address: str) -> None:
        with self._lock:
            if number != self._number:
                self._number, self._addresses = number, {}
            addresses = self._addresses.setdefault((service, claimed), set())
            if addresses is None:
                return
            addresses.add(address)
            if claimed.pk is None or len(addresses) >= MOST_ADDRESSES:
                self._addresses[service, claimed] = None


def _write(counts: Mapping[_Pair, Times]) -> None:
    with in_line(), transaction.atomic():
        by_window = sorted(counts, key=lambda pair: pair[0].all_keys_begin)
        for begins, pairs in groupby(by_window, key=lambda pair: pair[0].all_keys_begin):
            _upsert(_with_room(begins, {pair: counts[pair] for pair in pairs}))
    # Apart: what has been counted is counted, whatever becomes of this.
    record_ended_windows_if_possible(at_once=False)


def _with_room(begins: str, counts: Mapping[_Pair, Times]) -> dict[tuple[str, str], Times]:
    """As rows of the table, which has room for so many of one window."""
    there = set(
        SignInFailures.objects.filter(name_key__startswith=begins, count__gt=0).values_list(
            "name_key", "address"
        )
    )
    rows: dict[tuple[str, str], Times] = {}
    for (window, address), times in counts.items():
        row = (window.key, address)
        if row not in there and len(there) >= MOST_COUNTED:
            row = (window.key, MANY)
        else:
            there.add(row)
        before = rows.get(row)
        rows[row] = times if before is None else before + times
    return rows


def _upsert(rows: Mapping[tuple[str, str], Times]) -> None:
    """In one statement each, so that of several workers none counts what another has counted."""
    table = SignInFailures._meta.db_table
    sql = (
        f"INSERT INTO {table} (name_key, address, window_started_at, count, recorded) "  # noqa: S608  # our own
        "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (name_key, address) DO UPDATE SET "
        f"count = {table}.count + excluded.count, window_started_at = CASE WHEN excluded.window_started_at < "
        f"{table}.window_started_at THEN excluded.window_started_at ELSE {table}.window_started_at END"
    )
    values = [
        (key, address, connection.ops.adapt_datetimefield_value(times.first_at), times.count, False)
        for (key, address), times in sorted(rows.items())
    ]
    with connection.cursor() as cursor:
        cursor.executemany(sql, values)


_TOLD = _Told()
_ADDED_UP: AddedUp[_Pair] = AddedUp(metrics.ACCESS_FAILURES, _write, most=MOST_ADDED_UP)
