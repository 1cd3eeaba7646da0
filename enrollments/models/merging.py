"""The first rows of several ranges, each of which an index holds in the order that is wanted."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Q, QuerySet

# SQLite takes 500 parts, and so many look-ups are still faster than sorting what they stand for.
MOST_RANGES = 200


def first_ids(
    rows: QuerySet[Any], ranges: Sequence[Q], column: str, *, descending: bool, limit: int
) -> list[int]:
    """The IDs of the rows that come first by column and ID among all ranges, which must exclude each other.

    Asked in one condition (`event IN (…)`), a database sorts everything that fits before it takes the first rows.
    Asked one by one, it reads no more than `limit` of each.
    """
    direction = "DESC" if descending else "ASC"
    order = (f"-{column}", "-id") if descending else (column, "id")
    parts: list[str] = []
    parameters: list[Any] = []
    for number, one in enumerate(ranges):
        try:
            sql, values = (
                rows.filter(one).order_by(*order).values_list(column, "id")[:limit].query.sql_with_params()
            )
        except EmptyResultSet:
            continue
        parts.append(f"SELECT * FROM ({sql}) AS r{number}")  # noqa: S608  # Django wrote it
        parameters += values
    if not parts:
        return []
    merged = " UNION ALL ".join(parts)
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT id FROM ({merged}) AS merged ORDER BY "{column}" {direction}, id {direction} '  # noqa: S608  # the same
            f"LIMIT {int(limit)}",
            parameters,
        )
        return [pk for (pk,) in cursor.fetchall()]
