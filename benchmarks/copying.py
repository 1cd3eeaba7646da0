"""Making many rows of one, in the words that SQLite and PostgreSQL share: past the actions, since it is about reading.

Values are SQL over `i`, the number of the copy, and over the columns of the row that is copied.
"""

from collections.abc import Mapping
from datetime import datetime

from django.core.management.color import no_style
from django.db import connection, models


def digits(number: str, width: int) -> str:
    """A number with zeros before it."""
    return f"substr(CAST({10**width} + ({number}) AS text), 2)"


def digest(number: str, length: int = 64) -> str:
    """What stands for a digest: of its length, another one for each number, and scattered as digests are."""
    # An odd factor modulo a power of two never meets the same remainder twice.
    scattered = f"((({number}) * 2654435761) % 4294967296)"
    return f"{digits(scattered, 10)} || '{'0' * (length - 10)}'"


def moment(start: datetime, seconds: str) -> str:
    """So many seconds after a time."""
    text = start.strftime("%Y-%m-%d %H:%M:%S")
    if connection.vendor == "sqlite":
        return f"datetime('{text}', '+' || ({seconds}) || ' seconds')"
    return f"(TIMESTAMPTZ '{text}+00' + ({seconds}) * INTERVAL '1 second')"


def next_number(model: type[models.Model]) -> int:
    """Above all primary keys that are there."""
    return int(model._default_manager.aggregate(top=models.Max("pk"))["top"] or 0) + 1


def copy_row(row: models.Model, copies: int, changed: Mapping[str, str]) -> int:
    """Add copies of a row, numbered from 1. The primary key of copy `i` is what is returned, plus i."""
    return copy_rows(type(row), f"{int(row.pk)}", copies, changed)


def copy_rows(model: type[models.Model], source: str, copies: int, changed: Mapping[str, str]) -> int:
    """The same of several rows: `source` is the primary key of the one that copy `i` is made of."""
    before = next_number(model) - 1
    columns = [str(field.column) for field in model._meta.local_concrete_fields]
    values = {"id": f"{before} + i", **changed}
    named = ", ".join(f'"{column}"' for column in columns)
    chosen = ", ".join(values.get(column, f'"{column}"') for column in columns)
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            # Without parameters: a remainder is a sign of percent.
            "WITH RECURSIVE number(i) AS "
            f"(SELECT 1 WHERE {int(copies)} > 0 UNION ALL SELECT i + 1 FROM number WHERE i < {int(copies)}) "
            f'INSERT INTO {table} ({named}) SELECT {chosen} FROM number, {table} WHERE "id" = {source}'
        )
        for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
            cursor.execute(statement)
    return before


def analyze() -> None:
    """Tell the planner what is there now."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
