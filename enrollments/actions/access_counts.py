"""Counting failed authentications at the service API: the first of a window is told at once, the rest added up (R14).

A service counts so many pairs of what was claimed and address in a window, and what is more without its address.
"""

import threading
from collections.abc import Mapping
from datetime import datetime
from itertools import groupby

from django.db import connection, transaction

from enrollments import metrics
from enrollments.actions.access_failures import Claimed, Window, record_first
from enrollments.actions.adding_up import AddedUp, Times
from enrollments.actions.ended_windows import record_ended_windows_if_possible
from enrollments.actions.failure_windows import MANY, MOST_ADDRESSES
from enrollments.models import ProvisioningService, SignInFailures
from enrollments.models.locks import in_line

# Of one service in one window: pairs of what was claimed and address, apart for each cause.
MOST_COUNTED = 1000
# Of all services, in the memory of one process.
MOST_ADDED_UP = 1000
# Before the first of a window is told: whoever failed has their answer by then.
SECONDS_BEFORE_FIRST = 0.2
# A window with its cause, and the address.
_Pair = tuple[Window, str]


def count_failure(
    service: ProvisioningService, claimed: Claimed, cause: str, address: str, *, at: datetime, times: int = 1
) -> None:
    """`cause`: the code of NotAuthenticated. times: with those before it of which no more was told than to wait.

    In memory alone. So whoever failed is answered whether or not anything can be written, and in the same time whether
    or not this is told at once: else they could tell which policies there are.
    """
    pair = (Window.at(service, claimed, cause, at), address)
    if _TOLD.is_new(*pair):
        _FIRSTS.add(pair, Times.at(at, times), crowded=pair)
    else:
        _add_up(pair, Times.at(at, times))


def write_down_failures() -> None:
    """What this process has counted, now: it does so by itself a little later."""
    _FIRSTS.write_down()
    _ADDED_UP.write_down()


class _Told:
    """Of which failures this process has seen to it, in this window, that their like is told at once."""

    def __init__(self) -> None:
        self._number = -1
        # By claim: from which addresses; None where there were so many that no more are told.
        self._addresses: dict[tuple[int, Claimed], set[str] | None] = {}
        self._lock = threading.Lock()

    def is_new(self, window: Window, address: str) -> bool:
        """Whether it is the first of its like. It is not, from then on."""
        with self._lock:
            if window.number != self._number:
                self._number, self._addresses = window.number, {}
            addresses = self._addresses.setdefault((window.service, window.claimed), set())
            if addresses is None or address in addresses:
                return False
            addresses.add(address)
            if window.claimed.pk is None or len(addresses) >= MOST_ADDRESSES:
                self._addresses[window.service, window.claimed] = None
            return True


def _tell(counts: Mapping[_Pair, Times]) -> None:
    """Those that no other process has told of are told, and the others added up."""
    with in_line(), transaction.atomic():
        others = {pair: times for pair, times in counts.items() if not record_first(*pair, times)}
    for pair, times in others.items():
        _add_up(pair, times)


def _add_up(pair: _Pair, times: Times) -> None:
    _ADDED_UP.add(pair, times, crowded=(pair[0], MANY))


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
_FIRSTS: AddedUp[_Pair] = AddedUp(
    metrics.ACCESS_FAILURES, _tell, most=MOST_ADDED_UP, seconds=SECONDS_BEFORE_FIRST
)
_ADDED_UP: AddedUp[_Pair] = AddedUp(metrics.ACCESS_FAILURES, _write, most=MOST_ADDED_UP)
