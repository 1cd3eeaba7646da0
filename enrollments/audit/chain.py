"""Reading the sequence of sealed rows, and the rows that wait for their place, exactly as the database holds them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from json.encoder import encode_basestring as quoted
from typing import Any, NamedTuple

from django.db import DataError, OperationalError, connection

from enrollments.audit.canonical import (
    MEMBERS,
    NO_NUMBER,
    NO_TEXT,
    NOTHING_BEFORE,
    NotCanonical,
    StateForm,
    joined_form,
    moment,
    moments,
    own_state_form,
    row_form,
    state_form,
)
from enrollments.models import HistoryEvent, HistorySeal, UnsealedEvent
from enrollments.models.history import LAST

# Few enough for a processor to have them at hand until they are hashed.
CHUNK = 500
LOOKED_UP_AT_ONCE = 100_000
NUMBERS = ("id", "service_id")
ANOTHER_ID = "its seal names another ID"
TWICE = "there are several rows of this ID"
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


def sealed_rows(last: int, after: int | None = None) -> Iterator[SealedRow]:
    """The rows with an index beyond `after` (from the first on, however low) up to `last`.

    A query per chunk, so that no transaction stays open. A chunk does not end between rows of one place, and the next
    begins right behind it, whatever is there: nothing hides between them.
    """
    way, more = _written_by_sqlite() or _column_by_column(), True
    while more:
        beyond = ("", []) if after is None else (' AND s."index" > %s', [after])
        sql = (
            f'SELECT s."index", s.previous_hash, s.hash, s.event_id, e.id, e.service_id, {way.columns}, {_at()} '  # noqa: S608  # names of our own
            f"FROM {SEALS} s LEFT JOIN {EVENTS} e ON e.id = s.event_id "
            f'WHERE s."index" <= %s{beyond[0]} ORDER BY s."index" LIMIT %s'
        )
        try:
            chunk = fetched(sql, [last, *beyond[1], CHUNK + 1])
        except (OperationalError, DataError):
            if way.rows is _of_columns:
                raise
            # Of bytes where text belongs SQLite makes no JSON, nor of a text that is too long: the row that holds them
            # has to be named.
            way = _column_by_column()
            continue
        more = len(chunk) > CHUNK
        if more and chunk[-1][0] != chunk[-2][0]:
            chunk.pop()
        yield from way.rows(chunk)
        if chunk:
            after = chunk[-1][0]


def _of_columns(chunk: list[tuple[Any, ...]]) -> Iterator[SealedRow]:
    state = _state_form()
    for index, previous, hash, event_id, id, service_id, *columns, at in chunk:
        form, unreadable = None, ""
        try:
            if id != event_id:
                raise NotCanonical(ANOTHER_ID)
            form = row_form(state, *columns)
        except NotCanonical as problem:
            unreadable = _unreadable(id, problem)
        # Past the constructor, which would be a twentieth of a verifier's work.
        seal = (index, previous, hash, event_id, form, at if form else "", service_id, unreadable, "")
        yield tuple.__new__(SealedRow, seal)


def _of_parts(chunk: list[tuple[Any, ...]]) -> Iterator[SealedRow]:
    """The same, and a loop of its own, since this is most of a verifier's work."""
    made = moments([row[-1] for row in chunk]) or repeat("")
    for parts, of_at in zip(chunk, made, strict=False):
        index, previous, hash, event_id, id, service_id, is_text, begin, after, before, end, at = parts
        form, unreadable = None, ""
        try:
            if id != event_id:
                raise NotCanonical(ANOTHER_ID)
            if not (service_id is None or type(service_id) is int):
                raise NotCanonical(NO_NUMBER)
            if is_text != 1:
                raise NotCanonical(NO_TEXT)
            form = joined_form(begin, after, of_at or moment(at), before, end)
        except NotCanonical as problem:
            unreadable = _unreadable(id, problem)
        seal = (index, previous, hash, event_id, form, at if form else "", service_id, unreadable, "")
        yield tuple.__new__(SealedRow, seal)


def _unreadable(id: int | None, problem: NotCanonical) -> str:
    return "is gone" if id is None else f"is no row: {problem.message}"


class _Way(NamedTuple):
    """What to select of a row beside its seal and time, and what makes rows of what was selected."""

    columns: str
    rows: Callable[[list[tuple[Any, ...]]], Iterator[SealedRow]]


def _column_by_column() -> _Way:
    return _Way(columns_as_text(), _of_columns)


@cache
def _written_by_sqlite() -> _Way | None:
    """SQLite escapes texts as RFC 8785 wants it, and hands over few long ones in half the time of many short ones.

    None on PostgreSQL, and where this SQLite writes JSON in another way.
    """
    if connection.vendor != "sqlite":
        return None
    odd = "".join(map(chr, range(0x100))) + "\u2028\ufffe\U0001f600"
    if fetched("SELECT json_object(%s, %s, 'n', NULL, 'i', 9)", [odd, odd]) != [
        (f'{{{quoted(odd)}:{quoted(odd)},"n":null,"i":9}}',)
    ]:
        return None
    begin, end = MEMBERS[: MEMBERS.index("after")], MEMBERS[MEMBERS.index("before") + 1 :]
    # Numbers are below any text, bytes above, and NULL is neither. Without the plus a number would be compared as text.
    is_text = " AND ".join(
        f"+{_column(name)} >= '' AND +{_column(name)} < x''" for name in (*begin, *end) if name not in NUMBERS
    )
    return _Way(
        f"{is_text}, {_json_object(begin)}, {_column('after')}, {_column('before')}, {_json_object(end)}",
        _of_parts,
    )


def _json_object(names: Iterable[str]) -> str:
    members = ", ".join(f"'{name}', {_column(name)}" for name in names)
    return f"json_object({members})"


def waiting_rows(limit: int, after: int = 0) -> list[tuple[int, tuple[Any, ...]]]:
    """The oldest rows beyond an ID that wait for a seal: ID, and what `forms_of` takes. At most so many IDs.

    Three looks into indexes. Asked for in one join, PostgreSQL may go through the whole history for every batch where
    much is waiting. What is on the list and is no row, or has its seal, or an ID that no row can have, holds nobody up.
    """
    oldest = (
        f"SELECT event_id FROM {WAITING} WHERE event_id > %s AND event_id <= %s "  # noqa: S608  # names of our own
        "ORDER BY event_id LIMIT %s"
    )
    while waiting := fetched(oldest, [after, LAST, limit]):
        after = waiting[-1][0]
        ids = {event_id for (event_id,) in waiting if type(event_id) is int}
        if ids:
            sealed = f"SELECT event_id FROM {SEALS} WHERE event_id IN ({_places(ids)})"  # noqa: S608  # the same
            ids -= {event_id for (event_id,) in fetched(sealed, sorted(ids))}
        if not ids:
            continue
        rows = (
            f"SELECT {columns_as_text()} FROM {EVENTS} e "  # noqa: S608  # the same
            f"WHERE e.id >= %s AND e.id <= %s AND e.id IN ({_places(ids)}) ORDER BY e.id"
        )
        if found := fetched(rows, [min(ids), max(ids), *sorted(ids)]):
            return [(row[_ID], row) for row in found]
    return []


def forms_of(rows: Iterable[tuple[int, tuple[Any, ...]]]) -> Iterator[tuple[int, bytes | None, str]]:
    """Of rows that wait: the ID, and the form that is to be sealed, or why there is none."""
    rows = list(rows)
    times = Counter(event_id for event_id, _ in rows)
    for event_id, row in rows:
        if times[event_id] > 1:
            yield event_id, None, TWICE
            continue
        try:
            yield event_id, form_of(row), ""
        except NotCanonical as problem:
            yield event_id, None, problem.message


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def form_of(row: Iterable[Any]) -> bytes:
    """Raises NotCanonical."""
    return row_form(_state_form(), *row)


def _state_form() -> StateForm:
    """PostgreSQL writes JSON itself, in one way; SQLite keeps the text that it is given."""
    return state_form if connection.vendor == "postgresql" else own_state_form


def count_waiting() -> int:
    return UnsealedEvent.objects.count()


def unaccounted(after: int) -> tuple[Any, Any]:
    """Of the next rows beyond an ID: the last one, and the first that is neither sealed nor waiting; or None."""
    ((last, stranger),) = fetched(
        "SELECT MAX(e.id), MIN(CASE WHEN s.event_id IS NULL AND w.event_id IS NULL THEN e.id END) "  # noqa: S608  # ours
        f"FROM (SELECT id FROM {EVENTS} WHERE id > %s ORDER BY id LIMIT %s) e "
        f"LEFT JOIN {SEALS} s ON s.event_id = e.id LEFT JOIN {WAITING} w ON w.event_id = e.id",
        [after, LOOKED_UP_AT_ONCE],
    )
    return last, stranger


def sealed_twice(after: int, last: int) -> tuple[Any, Any, Any] | None:
    """Among these IDs, the first that has two seals, and the first and last place of these."""
    # Without the places, an index is all that is read of the seals.
    twice = fetched(
        f"SELECT event_id FROM {SEALS} "  # noqa: S608  # names of our own
        "WHERE event_id > %s AND event_id <= %s GROUP BY event_id HAVING COUNT(*) > 1 ORDER BY event_id LIMIT 1",
        [after, last],
    )
    for (event_id,) in twice:
        sql = f'SELECT MIN("index"), MAX("index") FROM {SEALS} WHERE event_id = %s'  # noqa: S608  # the same
        return event_id, *fetched(sql, [event_id])[0]
    return None


def count_of_no_place(after: int) -> int:
    """Seals behind a place whose own place is none that there can be: somebody put them in."""
    return HistorySeal.objects.out_of_place().filter(index__gt=after).count()


def count_up_to(place: int) -> int:
    """All seals but those behind a place: also what has none."""
    ((count,),) = fetched(
        f'SELECT (SELECT COUNT(*) FROM {SEALS}) - (SELECT COUNT(*) FROM {SEALS} WHERE "index" > %s)',  # noqa: S608  # ours
        [place],
    )
    return int(count)


def first_of_no_id() -> tuple[bool, Any] | None:
    """The first ID that no row of the history can have: whether it is that of a row, or on the list of those that
    wait; and the ID. A fraction that no row of the list has is found where it has no seal, or by its seal."""
    for table, column in ((EVENTS, "id"), (WAITING, "event_id")):
        wrong = [f"{column} IS NULL", f"{column} < 1", f"{column} > {LAST}"]
        if table == WAITING and connection.vendor == "sqlite":
            wrong.append(f"typeof({column}) <> 'integer'")
        # Each by itself is one look into an index, which they are not together.
        for condition in wrong:
            sql = f"SELECT {column} FROM {table} WHERE {condition} ORDER BY {column} LIMIT 1"  # noqa: S608  # our own names
            for (found,) in fetched(sql, []):
                return table == EVENTS, found
    return None


def first_wrong_on_the_list() -> tuple[int, str] | None:
    """What is on the list of those that wait and should not be: the first that is no row, or else the first that has
    its seal, or else the first that is there twice; and what is wrong with it."""
    of_list = f"SELECT MIN(w.event_id) FROM {WAITING} w"  # noqa: S608  # names of our own
    faults = {
        "it is gone, and had no seal yet": (
            f"{of_list} WHERE NOT EXISTS (SELECT 1 FROM {EVENTS} e WHERE e.id = w.event_id)"  # noqa: S608  # the same
        ),
        "it is on the list of rows that wait for their seal, and has it": (
            f"{of_list} JOIN {SEALS} s ON s.event_id = w.event_id"
        ),
        "it waits for its seal more than once, or there are several rows of this ID": (
            f"SELECT MIN(t.event_id) FROM (SELECT w.event_id FROM {WAITING} w JOIN {EVENTS} e ON e.id = w.event_id "  # noqa: S608  # the same
            "GROUP BY w.event_id HAVING COUNT(*) > 1) t"
        ),
    }
    for fault, sql in faults.items():
        ((found,),) = fetched(sql, [])
        if found is not None:
            return found, fault
    return None


_ID = MEMBERS.index("id")


def columns_as_text() -> str:
    """The columns of a row as text, none of them turned into an object that forgets how it was written."""
    special = {"at": _at()}
    if connection.vendor == "postgresql":
        special |= {"before": "e.before::text", "after": "e.after::text"}
    return ", ".join(special.get(name, _column(name)) for name in MEMBERS)


def _at() -> str:
    if connection.vendor == "postgresql":
        return "replace(to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), '.000000', '')"
    # Otherwise Django turns it into a datetime. Bytes are no time, though they may say one.
    return "CASE typeof(e.at) WHEN 'text' THEN CAST(e.at AS TEXT) END"


def _column(name: str) -> str:
    # A quotation mark around each, since "before" and "after" are words of SQL.
    return f'e."{name}"'


def fetched(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows as the database holds them, also where that is no text."""
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
