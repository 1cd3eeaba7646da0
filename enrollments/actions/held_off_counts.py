"""Sign-ins that are tried while held off: no password is looked at, none costs a write, and all are counted (R15).

A process adds them up in memory. In the table they stand apart from the failures, so none of them makes a hold-off
longer, nor one of a name into one of the whole address.
"""

from collections.abc import Mapping
from datetime import datetime

from django.db import connection, transaction

from enrollments import metrics
from enrollments.actions.adding_up import AddedUp, Times
from enrollments.actions.failure_windows import MANY
from enrollments.actions.sign_in_failures import NAME_NOT_KEPT
from enrollments.models import SignInFailures
from enrollments.models.locks import in_line

# In the memory of one process: pairs of name and address.
MOST_ADDED_UP = 1000
# Key of a name, and the address.
_Pair = tuple[str, str]


def count_held_off(name_key: str, address: str, *, at: datetime, is_own: bool) -> None:
    """`is_own`: held off is this very name. Where it is the address, whatever names are tried there are not kept."""
    pair = (name_key if is_own else NAME_NOT_KEPT, address)
    _HELD_OFF.add(pair, Times.at(at), crowded=(NAME_NOT_KEPT, MANY))


def write_down_held_off() -> None:
    """What this process has counted, now: it does so by itself a little later. Raises where it cannot be written."""
    _HELD_OFF.write_down()


def _write(counts: Mapping[_Pair, Times]) -> None:
    """In one statement each, so that of several workers none counts what another has counted.

    A window that was told in the meantime begins anew, and is told again.
    """
    table = SignInFailures._meta.db_table
    later = f"{table}.last_at IS NULL OR {table}.last_at < excluded.last_at"
    sql = (
        f"INSERT INTO {table} (name_key, address, window_started_at, count, held_off, last_at, recorded) "  # noqa: S608  # our own
        "VALUES (%s, %s, %s, 0, %s, %s, %s) ON CONFLICT (name_key, address) DO UPDATE SET "
        f"held_off = {table}.held_off + excluded.held_off, "
        f"last_at = CASE WHEN {later} THEN excluded.last_at ELSE {table}.last_at END"
    )
    adapt = connection.ops.adapt_datetimefield_value
    values = [
        (key, address, adapt(times.first_at), times.count, adapt(times.last_at), False)
        for (key, address), times in sorted(counts.items())
    ]
    with in_line(), transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(sql, values)


_HELD_OFF: AddedUp[_Pair] = AddedUp(metrics.HELD_OFF, _write, most=MOST_ADDED_UP)
