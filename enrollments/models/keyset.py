"""Rows in the order of a key, without OFFSET: where one page ended the next begins, however many there are."""

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

# Registration IDs and group IDs are ASCII (R2): this is greater than all that one may go on with.
AFTER_EVERY_ID = "\x7f"
FIRST_PAGE, PAGE = 200, 900


def starting_with(column: str, prefix: str) -> Q:
    """Rows whose key (see registration_key) begins like this, found by an index.

    On PostgreSQL LIKE uses one that sorts byte by byte, which entries have (migration 0021).
    """
    if connection.vendor == "sqlite":
        # LIKE would ignore case here and therefore the index; the columns compare byte by byte.
        return Q(**{f"{column}__gte": prefix, f"{column}__lt": prefix + AFTER_EVERY_ID})
    return Q(**{f"{column}__startswith": prefix})


def pages_of(rows: QuerySet[Any], key: str, *columns: str, limit: int = 0) -> Iterator[list[tuple[Any, ...]]]:
    """All rows, or the first `limit`, as tuples of the key and these columns. The key is unique among them.

    No transaction stays open between pages: what exists throughout comes once, whatever else is written meanwhile.
    The first page is short, so that whoever looks on sees something at once.
    """
    after, left = "", limit
    for size in chain([FIRST_PAGE], repeat(PAGE)):
        size = min(size, left) if limit else size
        page = list(rows.filter(**{f"{key}__gt": after}).order_by(key).values_list(key, *columns)[:size])
        if page:
            yield page
        left -= len(page)
        if len(page) < size or (limit and left <= 0):
            return
        after = page[-1][0]
