"""What the database holds, to see afterwards what an act has changed."""

import json

from django.apps import apps
from django.db import connection

from enrollments.models import HistoryEvent


def tables() -> dict[str, str]:
    """All rows of all tables, by the name of the model."""
    rows = {}
    for model in apps.get_models(include_auto_created=True):
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{model._meta.db_table}"')
            rows[model.__name__] = json.dumps(sorted(map(repr, cursor.fetchall())))
    return rows


def changed_tables(before: dict[str, str]) -> set[str]:
    """Those that hold something else now."""
    return {name for name, rows in tables().items() if rows != before[name]}


def refused_rows() -> list[HistoryEvent]:
    """What was refused, in its order (R15)."""
    return list(HistoryEvent.objects.filter(event="action.refused").order_by("pk"))
