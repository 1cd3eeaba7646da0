"""Inserting many rows of which nobody needs the numbers, and changing many: without what makes SQL of each value.

A third of the work.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

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


Model = TypeVar("Model", bound=models.Model)


def made(model: type[Model], **values: Any) -> Model:
    """A row to be, by the names of its columns: half of the work of calling the model with them."""
    columns = [
        values.pop(name) if name in values else default if make is None else make()
        for name, default, make in _defaults(model)
    ]
    if values:
        raise TypeError(f"{model.__name__} has no {', '.join(values)}")
    return model(*columns)


def insert_all(rows: Sequence[models.Model], *, ignore_conflicts: bool = False) -> None:
    """As bulk_create does it, without setting primary keys, and with one time for all that are made now.

    ignore_conflicts: what is there already stays.
    """
    if not rows:
        return
    model = type(rows[0])
    plain, others = _columns(model)
    # Itself, not what looks it up anew with each attribute.
    database = connections[DEFAULT_DB_ALIAS]
    stored = _stored(plain, others, database)
    with database.cursor() as cursor:
        cursor.executemany(_statement(model, ignore_conflicts), [stored(row) for row in rows])


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
        cursor.executemany(_update(type(rows[0]), tuple(columns)), [[*stored(row), row.pk] for row in rows])


def _stored(
    plain: list[Any], others: list[Any], database: BaseDatabaseWrapper
) -> Callable[[models.Model], list[Any]]:
    """From a row to what the database is given for these columns. `plain`: two or more."""
    read = attrgetter(*(field.attname for field in plain))
    now = timezone.now()
    ways = [_way(field, database, now) for field in others]

    def prepared(value: Any, row: models.Model, field: Any) -> Any:
        if isinstance(value, models.TextChoices):
            return value.value
        return field.get_db_prep_save(field.pre_save(row, True), database)

    def stored(row: models.Model) -> list[Any]:
        values = list(read(row))
        if not _AS_IT_IS.issuperset(map(type, values)):
            pairs = zip(values, plain, strict=True)
            values = [one if type(one) in _AS_IT_IS else prepared(one, row, field) for one, field in pairs]
        values += [way(row) for way in ways]
        return values

    return stored


def _way(field: Any, database: BaseDatabaseWrapper, now: datetime) -> Callable[[models.Model], Any]:
    """From a row to what the database is given for this field."""
    name, kind = field.attname, type(field)
    if kind is not models.DateTimeField:
        # What an encrypted column holds as it is. Of JSON an empty text is a value like any other.
        empty = None if kind is models.JSONField else ""

        def other(row: models.Model) -> Any:
            value = field.pre_save(row, True)
            return value if value is None or value == empty else field.get_db_prep_save(value, database)

        return other
    adapted = lru_cache(maxsize=64)(lambda moment: field.get_db_prep_save(moment, database))
    if field.auto_now or field.auto_now_add:

        def this_moment(row: models.Model) -> Any:
            setattr(row, name, now)
            return adapted(now)

        return this_moment

    def moment(row: models.Model) -> Any:
        value = getattr(row, name)
        return None if value is None else adapted(value)

    return moment


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
def _defaults(model: type[models.Model]) -> list[tuple[str, Any, Callable[[], Any] | None]]:
    """Of each column what it is where nobody says, or what makes that."""
    return [
        (field.attname, None, field.get_default)
        if field.has_default() and callable(field.default)
        else (field.attname, field.get_default(), None)
        for field in model._meta.concrete_fields
    ]


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
