"""Inserting many rows of which nobody needs the numbers: a third of the work of what compiles each value into SQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections, models

CACHE_KIB = 64 * 1024
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


def insert_all(rows: Sequence[models.Model], *, ignore_conflicts: bool = False) -> None:
    """As bulk_create does it, without setting primary keys. ignore_conflicts: what is there already stays."""
    if not rows:
        return
    model = type(rows[0])
    columns = [(field, field.attname, type(field) in _PLAIN_COLUMNS) for field in _columns(model)]
    # Itself, not what looks it up anew with each attribute.
    database = connections[DEFAULT_DB_ALIAS]

    def stored(row: models.Model, field: Any, attribute: str, plain: bool) -> Any:
        if plain and type(value := getattr(row, attribute)) in _AS_IT_IS:
            return value
        return field.get_db_prep_save(field.pre_save(row, True), database)

    values = [[stored(row, *column) for column in columns] for row in rows]
    with database.cursor() as cursor:
        cursor.executemany(_statement(model, ignore_conflicts), values)


@contextmanager
def room_for_many() -> Iterator[None]:
    """On SQLite, this connection keeps more of the database in memory meanwhile.

    Digests stand in the indexes in no order: with the little that is usual, a page is written and read again for each.
    """
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        (usual,) = cursor.execute("PRAGMA cache_size").fetchone()
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA cache_size = {int(usual)}")


def _columns(model: type[models.Model]) -> list[Any]:
    return [field for field in model._meta.local_concrete_fields if not isinstance(field, models.AutoField)]


@lru_cache
def _statement(model: type[models.Model], ignore_conflicts: bool) -> str:
    quote = connection.ops.quote_name
    names = [quote(field.column) for field in _columns(model)]
    places = ", ".join(["%s"] * len(names))
    ending = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    # The names are those of our own tables.
    return f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(names)}) VALUES ({places}){ending}"  # noqa: S608
