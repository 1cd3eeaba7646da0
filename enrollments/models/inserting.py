"""Inserting many rows of which nobody needs the numbers: a third of the work of what compiles each value into SQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
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
    plain, others = _columns(model)
    # Itself, not what looks it up anew with each attribute.
    database = connections[DEFAULT_DB_ALIAS]
    read = attrgetter(*(field.attname for field in plain))

    def prepared(row: models.Model, field: Any) -> Any:
        value = field.pre_save(row, True)
        return None if value is None else field.get_db_prep_save(value, database)

    def stored(row: models.Model) -> list[Any]:
        values = list(read(row))
        if not _AS_IT_IS.issuperset(map(type, values)):
            pairs = zip(values, plain, strict=True)
            values = [one if type(one) in _AS_IT_IS else prepared(row, field) for one, field in pairs]
        return [*values, *(prepared(row, field) for field in others)]

    with database.cursor() as cursor:
        cursor.executemany(_statement(model, ignore_conflicts), [stored(row) for row in rows])


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


@lru_cache
def _columns(model: type[models.Model]) -> tuple[list[Any], list[Any]]:
    """Those that hold plain values, and the others."""
    fields = [field for field in model._meta.local_concrete_fields if not isinstance(field, models.AutoField)]
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
