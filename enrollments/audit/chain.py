"""Reading the sequence of sealed rows, and the rows that wait for their place, exactly as the database holds them."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import OperationalError, connection

from enrollments.audit.canonical import MEMBERS, NOTHING_BEFORE, NotCanonical, row_form
from enrollments.models import HistoryEvent, HistorySeal, UnsealedEvent

# Few enough for a processor to have them at hand until they are hashed.
CHUNK = 500
LOOKED_UP_AT_ONCE = 100_000
# Places begin at 1; a verifier looks below as well, where somebody might hide a row.
LOWEST, HIGHEST = -(2**63), 2**63 - 1
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
    # SQLite takes text into a column of numbers, and sorts it after all of them: it is nobody's place.
    numbered = HistorySeal.objects.filter(index__lte=HIGHEST)
    last = numbered.order_by("-index").values_list("index", "hash").first()
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


def waiting_rows(limit: int) -> list[tuple[int, tuple[Any, ...]]]:
    """The oldest rows that wait for a seal: ID, and what `form_of` takes. At most so many.

    Three looks into indexes. Asked for in one join, PostgreSQL may go through the whole history for every batch where
    much is waiting.
    """
    last: int = LOWEST
    ids: set[int] = set()
    while not ids:
        oldest = f"SELECT event_id FROM {WAITING} WHERE event_id > %s ORDER BY event_id LIMIT %s"  # noqa: S608  # ours
        waiting = {event_id for (event_id,) in _fetched(oldest, [last, limit])}
        if not waiting:
            return []
        sealed = f"SELECT event_id FROM {SEALS} WHERE event_id IN ({_places(waiting)})"  # noqa: S608  # the same
        last, ids = max(waiting), waiting - {event_id for (event_id,) in _fetched(sealed, sorted(waiting))}
    rows = (
        f"SELECT {columns_as_text()} FROM {EVENTS} e "  # noqa: S608  # the same
        f"WHERE e.id >= %s AND e.id <= %s AND e.id IN ({_places(ids)}) ORDER BY e.id"
    )
    return [(row[_ID], row) for row in _fetched(rows, [min(ids), max(ids), *sorted(ids)])]


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def form_of(row: Iterable[Any]) -> bytes:
    """Raises NotCanonical."""
    return row_form(*row)


def count_waiting() -> int:
    return UnsealedEvent.objects.count()


def unaccounted(after: int) -> tuple[int | None, int | None]:
    """Of the next rows after an ID: the last one's, None where there are no more, and the first that is neither sealed
    nor waiting: it did not come in by the door."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT MAX(e.id), MIN(CASE WHEN s.event_id IS NULL AND w.event_id IS NULL THEN e.id END) "  # noqa: S608  # ours
            f"FROM (SELECT id FROM {EVENTS} WHERE id > %s ORDER BY id LIMIT %s) e "
            f"LEFT JOIN {SEALS} s ON s.event_id = e.id LEFT JOIN {WAITING} w ON w.event_id = e.id",
            [after, LOOKED_UP_AT_ONCE],
        )
        last, stranger = cursor.fetchone()
    return last, stranger


def count_of_no_place() -> int:
    """Seals whose place is no number: somebody put them in."""
    return HistorySeal.objects.exclude(index__lte=HIGHEST).count()


def first_gone_while_waiting() -> int | None:
    return _first(
        f"SELECT MIN(w.event_id) FROM {WAITING} w "  # noqa: S608  # names of our own
        f"WHERE NOT EXISTS (SELECT 1 FROM {EVENTS} e WHERE e.id = w.event_id)"
    )


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


def _first(sql: str) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        (found,) = cursor.fetchone()
    return None if found is None else int(found)
