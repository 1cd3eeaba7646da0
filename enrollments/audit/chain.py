"""Reading the sequence of sealed rows, and the rows that wait for their place, exactly as the database holds them."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import OperationalError, connection

from enrollments.audit.canonical import MEMBERS, NOTHING_BEFORE, NotCanonical, row_form
from enrollments.models import HistoryEvent, HistorySeal, UnsealedEvent
from enrollments.models.history import LAST

# Few enough for a processor to have them at hand until they are hashed.
CHUNK = 500
LOOKED_UP_AT_ONCE = 100_000
# Places and IDs begin at 1; a verifier looks below as well, where somebody might hide a row.
LOWEST = -(2**63)
EVENTS, SEALS, WAITING = (model._meta.db_table for model in (HistoryEvent, HistorySeal, UnsealedEvent))


@dataclass(frozen=True, slots=True)
class Head:
    """Where the sequence ends."""

    size: int = 0
    hash: str = NOTHING_BEFORE


class SealedRow(NamedTuple):
    """One seal with the canonical form of its row. `form` is None where there is none: `unreadable` says why.

    `number`: the index, by a name that tuples do not have for something else. `row_hash`: where only that is known.
    """

    number: int
    previous: str
    hash: str
    event_id: int | None
    form: bytes | None
    at: str = ""
    service_id: int | None = None
    unreadable: str = ""
    row_hash: str = ""


def head() -> Head:
    last = HistorySeal.objects.in_place().order_by("-index").values_list("index", "hash").first()
    return Head(*last) if last else Head()


def sealed_rows(last: int, first: int = LOWEST) -> Iterator[SealedRow]:
    """The rows with an index from `first` to `last`, a query per chunk, so that no transaction stays open."""
    sql = (
        f'SELECT s."index", s.previous_hash, s.hash, s.event_id, {columns_as_text()} '  # noqa: S608  # names of our own
        f"FROM {SEALS} s LEFT JOIN {EVENTS} e ON e.id = s.event_id "
        'WHERE s."index" >= %s AND s."index" <= %s ORDER BY s."index" LIMIT %s'
    )
    while chunk := _fetched(sql, [first, last, CHUNK]):
        for index, previous, hash, event_id, *row in chunk:
            form, at, unreadable = None, "", ""
            try:
                form, at = row_form(*row), row[_AT]
            except NotCanonical as problem:
                unreadable = "is gone" if row[_ID] is None else f"is no row: {problem.message}"
            # Past the constructor, which would be a twentieth of a verifier's work.
            seal = (index, previous, hash, event_id, form, at, row[_SERVICE], unreadable, "")
            yield tuple.__new__(SealedRow, seal)
        first = chunk[-1][0] + 1


def waiting_rows(limit: int, first: int = LOWEST) -> list[tuple[int, tuple[Any, ...]]]:
    """The oldest rows from an ID on that wait for a seal: ID, and what `form_of` takes. At most so many.

    Three looks into indexes. Asked for in one join, PostgreSQL may go through the whole history for every batch where
    much is waiting. What is on the list and is no row, or has its seal, holds nobody up.
    """
    oldest = (
        f"SELECT event_id FROM {WAITING} WHERE event_id >= %s AND event_id <= %s "  # noqa: S608  # names of our own
        "ORDER BY event_id LIMIT %s"
    )
    while waiting := {event_id for (event_id,) in _fetched(oldest, [first, LAST, limit])}:
        first = int(max(waiting)) + 1
        sealed = f"SELECT event_id FROM {SEALS} WHERE event_id IN ({_places(waiting)})"  # noqa: S608  # the same
        ids = waiting - {event_id for (event_id,) in _fetched(sealed, sorted(waiting))}
        if not ids:
            continue
        rows = (
            f"SELECT {columns_as_text()} FROM {EVENTS} e "  # noqa: S608  # the same
            f"WHERE e.id >= %s AND e.id <= %s AND e.id IN ({_places(ids)}) ORDER BY e.id"
        )
        if found := _fetched(rows, [min(ids), max(ids), *sorted(ids)]):
            return [(row[_ID], row) for row in found]
    return []


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def form_of(row: Iterable[Any]) -> bytes:
    """Raises NotCanonical."""
    return row_form(*row)


def count_waiting() -> int:
    return UnsealedEvent.objects.count()


def unaccounted(first: int) -> tuple[int | None, int | None]:
    """Of the next rows from an ID on: the last one, and the first that is neither sealed nor waiting; or None."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT MAX(e.id), MIN(CASE WHEN s.event_id IS NULL AND w.event_id IS NULL THEN e.id END) "  # noqa: S608  # ours
            f"FROM (SELECT id FROM {EVENTS} WHERE id >= %s ORDER BY id LIMIT %s) e "
            f"LEFT JOIN {SEALS} s ON s.event_id = e.id LEFT JOIN {WAITING} w ON w.event_id = e.id",
            [first, LOOKED_UP_AT_ONCE],
        )
        last, stranger = cursor.fetchone()
    return last, stranger


def sealed_twice(first: int, last: int) -> tuple[int, int, int] | None:
    """Among these IDs, the first that has two seals, and the first and last place of these."""
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT event_id, MIN("index"), MAX("index") FROM {SEALS} '  # noqa: S608  # names of our own
            "WHERE event_id >= %s AND event_id <= %s GROUP BY event_id HAVING COUNT(*) > 1 ORDER BY event_id LIMIT 1",
            [first, last],
        )
        found: tuple[int, int, int] | None = cursor.fetchone()
    return found


def count_of_no_place(after: int) -> int:
    """Seals behind a place whose own place is none that there can be: somebody put them in."""
    return HistorySeal.objects.out_of_place().filter(index__gt=after).count()


def first_wrong_on_the_list() -> tuple[Any, bool] | None:
    """What is on the list of those that wait and should not be: the first that is no row, or else the first that has
    its seal; and whether it is the latter."""
    gone = _first(
        f"SELECT MIN(w.event_id) FROM {WAITING} w "  # noqa: S608  # names of our own
        f"WHERE NOT EXISTS (SELECT 1 FROM {EVENTS} e WHERE e.id = w.event_id)"
    )
    if gone is not None:
        return gone, False
    sealed = _first(f"SELECT MIN(w.event_id) FROM {WAITING} w JOIN {SEALS} s ON s.event_id = w.event_id")  # noqa: S608  # the same
    return None if sealed is None else (sealed, True)


def first_that_cannot_be_sealed() -> tuple[int, str] | None:
    """Of the oldest rows that wait, the first that no row of this service can be, and why."""
    for event_id, row in waiting_rows(CHUNK):
        try:
            form_of(row)
        except NotCanonical as problem:
            return event_id, problem.message
    return None


_ID, _AT, _SERVICE = (MEMBERS.index(name) for name in ("id", "at", "service_id"))


def columns_as_text() -> str:
    """The columns of a row as text, none of them turned into an object that forgets how it was written."""
    if connection.vendor == "postgresql":
        special = {
            "at": "to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            "before": "e.before::text",
            "after": "e.after::text",
        }
    else:
        # Otherwise Django turns it into a datetime.
        special = {"at": "CAST(e.at AS TEXT)"}
    # A quotation mark around each, since "before" and "after" are words of SQL.
    return ", ".join(special.get(name, f'e."{name}"') for name in MEMBERS)


def _fetched(sql: str, parameters: list[int]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())
        except OperationalError:
            if connection.vendor != "sqlite":
                raise
        with _bytes_that_are_no_text():
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())


@contextmanager
def _bytes_that_are_no_text() -> Iterator[None]:
    """SQLite takes any bytes for text. A verifier must name the row that holds them, not break off there."""
    plain, connection.connection.text_factory = connection.connection.text_factory, _lenient
    try:
        yield
    finally:
        connection.connection.text_factory = plain


def _lenient(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _first(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        (found,) = cursor.fetchone()
    return found
