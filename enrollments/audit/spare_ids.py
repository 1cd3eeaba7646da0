"""IDs for history rows where the database has none to give any more.

SQLite gives a row the ID after the greatest. Whoever puts in one at the end of all numbers, or notes the next as
waiting, has it refuse every row from then on, and with it every change. Nobody must be kept from shutting a device out
by that (R16): such a row gets an ID after those of ours, and the verifiers name what was put in.
"""

import sqlite3

from django.db import DatabaseError, connection, transaction

from enrollments.audit.chain import EVENTS, SEALS, WAITING
from enrollments.models.history import LAST

# Whatever stands beyond, we have not put there.
_FAR = LAST // 2
_IS_TAKEN = " OR ".join(
    f"EXISTS (SELECT 1 FROM {table} WHERE {column} = n)"  # noqa: S608  # names of our own
    for table, column in ((EVENTS, "id"), (SEALS, "event_id"), (WAITING, "event_id"))
)
_FREE = (
    f"WITH RECURSIVE n(n) AS (SELECT COALESCE(CAST(MAX(id) AS INTEGER), 0) + 1 FROM {EVENTS} "  # noqa: S608  # the same
    f"WHERE id BETWEEN 1 AND {_FAR} UNION ALL SELECT n + 1 FROM n WHERE {_IS_TAKEN}) SELECT MAX(n) FROM n"
)


def can_be_chosen(problem: DatabaseError) -> bool:
    """After a row was refused: whether another can be tried in this transaction, under an ID that we choose.

    There is none after the greatest (SQLITE_FULL), or something forbids the next (SQLITE_CONSTRAINT). SQLite undoes
    the one statement that failed; and whoever writes is alone, so that nobody else chooses the same.
    """
    code: int = getattr(problem.__cause__, "sqlite_errorcode", 0)
    is_of_its_id = code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT)
    return connection.vendor == "sqlite" and is_of_its_id and connection.connection.in_transaction


def spare_id() -> int:
    """Ask only where `can_be_chosen`."""
    transaction.set_rollback(False)
    with connection.cursor() as cursor:
        cursor.execute(_FREE)
        return int(cursor.fetchone()[0])
