"""Inserting many rows of which nobody needs the numbers, and changing many: without what makes SQL of each value.

A third of the work.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState
from django.utils import timezone

from enrollments.models.json_columns import JsonColumn
from enrollments.policy.words import counted

CACHE_KIB = 64 * 1024
# 64 MB, as large as the log of an import becomes anyway.
LOG_PAGES = 16 * 1024
# Values of these types stand in the database as they are, in columns that make nothing else of them.
_AS_IT_IS = frozenset({str, int, bool, type(None)})
_PLAIN_COLUMNS = frozenset(
    {
        models.CharField,
        models.TextField,
        models.BooleanField,
        models.BigIntegerField,
        models.PositiveIntegerField,
        models.ForeignKey,
    }
)


class NotWritten(DatabaseError):
    """The database took rows and did not keep them: a trigger passed over them, and said nothing."""

    def __init__(self, model: type[models.Model], rows: int) -> None:
        super().__init__(f"the database passed over {counted(rows, 'new row')} of {model._meta.db_table}")


Model = TypeVar("Model", bound=models.Model)
# What a row holds, by the names of its attributes.
Columns = dict[str, Any]


def made(model: type[Model], **values: Any) -> Model:
    """A row to be, by the names of its columns: a tenth of the work of calling the model with them.

    It is what calling the model would make of it, as far as nobody listens to the making of such rows.
    """
    defaults, making = _defaults(model)
    columns = {**defaults, **values}
    if len(columns) != len(defaults):
        raise TypeError(f"{model.__name__} has no {', '.join(values.keys() - defaults.keys())}")
    for name, make in making:
        if name not in values:
            columns[name] = make()
    row = model.__new__(model)
    row.__dict__.update(columns, _state=ModelState())
    return row


def numbers_by(
    model: type[models.Model], column: str, values: Iterable[str], *, stay: bool = False, **same: int
) -> dict[str, int]:
    """Primary keys of the rows that have one of these values in a column, by their values, which are unique.

    same: columns by their attribute names, in which all of them have this value. As values_list gives it, without what
    it makes of each value first. stay: nobody deletes these rows before this transaction ends, which refers to them.
    """
    key: Any = model._meta.pk
    return dict(rows_by(model, (column, key.attname), values, stay=stay, **same))


def rows_by(
    model: type[models.Model],
    columns: Sequence[str],
    values: Iterable[str],
    *,
    stay: bool = False,
    **same: int,
) -> list[tuple[Any, ...]]:
    """The same with these columns, as the database has them. The first of them is the one with the values."""
    asked = list(values)
    if not asked:
        return []
    quote: Any = connection.ops.quote_name
    fields = {one.attname: one for one in model._meta.concrete_fields}
    places = ", ".join(["%s"] * len(asked))
    conditions = [f"{quote(fields[name].column)} = %s" for name in same]
    names = [quote(fields[name].column) for name in columns]
    conditions.append(f"{names[0]} IN ({places})")
    sql = (
        f"SELECT {', '.join(names)} "  # noqa: S608  # names of our own
        f"FROM {quote(model._meta.db_table)} WHERE {' AND '.join(conditions)}"
    )
    if stay and connection.vendor == "postgresql":
        sql += " FOR KEY SHARE"
    with connection.cursor() as cursor:
        cursor.execute(sql, [*same.values(), *asked])
        return list(cursor.fetchall())


def insert_all(rows: Sequence[models.Model], *, ignore_conflicts: bool = False) -> None:
    """As bulk_create does it, without setting primary keys, and with one time for all that are made now.

    ignore_conflicts: what is there already stays. Raises NotWritten.
    """
    if not rows:
        return
    model = type(rows[0])
    plain, others = _columns(model)
    # Itself, not what looks it up anew with each attribute.
    database = connections[DEFAULT_DB_ALIAS]
    stored = _stored(plain, others, database)
    with database.cursor() as cursor:
        cursor.executemany(_statement(model, ignore_conflicts), [stored(row.__dict__) for row in rows])
        written = cursor.rowcount
    if written != len(rows) and not ignore_conflicts:
        raise NotWritten(model, len(rows) - written)


def insert_one(row: Model) -> Model:
    """One row, with its primary key. As `save` does it, which breaks off where the database passes over it.

    Raises NotWritten.
    """
    model = type(row)
    plain, others = _columns(model)
    database = connections[DEFAULT_DB_ALIAS]
    key: Any = model._meta.pk
    sql = f"{_statement(model, False)} RETURNING {database.ops.quote_name(key.column)}"
    with database.cursor() as cursor:
        cursor.execute(sql, _stored(plain, others, database)(row.__dict__))
        written = cursor.fetchone()
    if written is None:
        raise NotWritten(model, 1)
    row.pk = written[0]
    row._state.adding, row._state.db = False, database.alias
    return row


def update_all(rows: Iterable[models.Model], columns: Sequence[str]) -> None:
    """Write these columns of rows that are there, as `save` does with update_fields. `columns`: two plain ones or more.

    What holds the time of the last change holds that of this one.
    """
    rows = list(rows)
    if not rows:
        return
    plain, others = _some_columns(type(rows[0]), tuple(columns))
    database = connections[DEFAULT_DB_ALIAS]
    stored = _stored(plain, others, database)
    with database.cursor() as cursor:
        cursor.executemany(
            _update(type(rows[0]), tuple(columns)), [[*stored(row.__dict__), row.pk] for row in rows]
        )


def _stored(
    plain: list[Any], others: list[Any], database: BaseDatabaseWrapper
) -> Callable[[Columns], list[Any]]:
    """From what a row holds to what the database is given for these columns. `plain`: two or more.

    Not by the row's attributes: Django looks each number of another row up in Python.
    """
    read = itemgetter(*(field.attname for field in plain))
    now = timezone.now()
    ways = [_way(field, database, now) for field in others]

    def prepared(value: Any, field: Any) -> Any:
        if isinstance(value, models.TextChoices):
            return value.value
        return field.get_db_prep_save(value, database)

    def stored(columns: Columns) -> list[Any]:
        values = list(read(columns))
        if not _AS_IT_IS.issuperset(map(type, values)):
            pairs = zip(values, plain, strict=True)
            values = [one if type(one) in _AS_IT_IS else prepared(one, field) for one, field in pairs]
        values += [way(columns) for way in ways]
        return values

    return stored


def _way(field: Any, database: BaseDatabaseWrapper, now: datetime) -> Callable[[Columns], Any]:
    """From what a row holds to what the database is given for this field."""
    name, kind = field.attname, type(field)
    if kind is not models.DateTimeField:
        if issubclass(kind, JsonColumn):
            return _way_of_json(field, database)

        def other(columns: Columns) -> Any:
            value = columns[name]
            # An encrypted column holds an empty text as it is.
            return value if value is None or value == "" else field.get_db_prep_save(value, database)

        return other
    adapted = lru_cache(maxsize=64)(lambda moment: field.get_db_prep_save(moment, database))
    if field.auto_now or field.auto_now_add:

        def this_moment(columns: Columns) -> Any:
            columns[name] = now
            return adapted(now)

        return this_moment

    def moment(columns: Columns) -> Any:
        value = columns[name]
        return None if value is None else adapted(value)

    return moment


def _way_of_json(field: Any, database: BaseDatabaseWrapper) -> Callable[[Columns], Any]:
    """What most rows have is written once: the default, where it holds nothing but objects that are empty in the end.

    Of such values alone, those that Python takes for equal are equal.
    """
    name = field.attname
    usual = field.get_default() if field.has_default() else None
    written = field.get_db_prep_save(usual, database) if _is_empty(usual) else None

    def json(columns: Columns) -> Any:
        value = columns[name]
        if value is None:
            return None
        if written is not None and value == usual:
            return written
        return field.get_db_prep_save(value, database)

    return json


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_empty, value.values()))


def count_again(*tables: type[models.Model]) -> None:
    """After many rows, have PostgreSQL look at these tables: what it has planned for few rows is planned anew.

    It does so by itself, a minute later.
    """
    if connection.vendor != "postgresql":
        return
    names = ", ".join(connection.ops.quote_name(one._meta.db_table) for one in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {names}")


@contextmanager
def room_for_many() -> Iterator[None]:
    """On SQLite, this connection keeps more of the database in memory meanwhile, and more of its changes in the log.

    Digests stand in the indexes in no order: with the little that is usual, a page is written and read again for each,
    and what one transaction has changed is copied into the database before the next changes half of it again.
    """
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        usual = [
            (name, int(cursor.execute(f"PRAGMA {name}").fetchone()[0]))
            for name in ("cache_size", "wal_autocheckpoint")
        ]
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            for name, value in usual:
                cursor.execute(f"PRAGMA {name} = {value}")


@lru_cache
def _defaults(model: type[models.Model]) -> tuple[dict[str, Any], list[tuple[str, Callable[[], Any]]]]:
    """Of each column what it is where nobody says; and what makes that, where it is made anew for each."""
    fields = model._meta.concrete_fields
    making = [
        (field.attname, field.get_default)
        for field in fields
        if field.has_default() and callable(field.default)
    ]
    made_anew = {name for name, _ in making}
    return {
        field.attname: None if field.attname in made_anew else field.get_default() for field in fields
    }, making


@lru_cache
def _columns(model: type[models.Model]) -> tuple[list[Any], list[Any]]:
    """Those that hold plain values, and the others."""
    return _in_two(
        [field for field in model._meta.local_concrete_fields if not isinstance(field, models.AutoField)]
    )


@lru_cache
def _some_columns(model: type[models.Model], names: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    by_name = {field.attname: field for field in model._meta.local_concrete_fields}
    return _in_two([by_name[name] for name in names])


def _in_two(fields: list[Any]) -> tuple[list[Any], list[Any]]:
    plain = [field for field in fields if type(field) in _PLAIN_COLUMNS]
    return plain, [field for field in fields if type(field) not in _PLAIN_COLUMNS]


@lru_cache
def _statement(model: type[models.Model], ignore_conflicts: bool) -> str:
    quote = connection.ops.quote_name
    plain, others = _columns(model)
    names = [quote(field.column) for field in (*plain, *others)]
    places = ", ".join(["%s"] * len(names))
    ending = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    # The names are those of our own tables.
    return f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(names)}) VALUES ({places}){ending}"  # noqa: S608


@lru_cache
def _update(model: type[models.Model], names: tuple[str, ...]) -> str:
    quote = connection.ops.quote_name
    plain, others = _some_columns(model, names)
    key: Any = model._meta.pk
    columns = ", ".join(f"{quote(field.column)} = %s" for field in (*plain, *others))
    # As above.
    return f"UPDATE {quote(model._meta.db_table)} SET {columns} WHERE {quote(key.column)} = %s"  # noqa: S608
