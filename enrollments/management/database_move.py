"""Copying an installation into an empty PostgreSQL database, table by table, in one transaction there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.core.management.color import no_style
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic

from enrollments.errors import Conflict
from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService
from enrollments.models.json_columns import for_jsonb

CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows by table, and where the history ends: found to be the same on both sides."""

    tables: dict[str, int]
    history_rows: int
    head: str

    @property
    def rows(self) -> int:
        return sum(self.tables.values())


def move(source: BaseDatabaseWrapper, target: BaseDatabaseWrapper, told: Callable[[str, int], None]) -> Moved:
    """Copy all rows. `told`: hears of each table how many rows are there so far.

    Columns are copied as they are stored: no secret is decrypted, and no key of the installation is needed. In JSON,
    fractions stay fractions, which is part of what the history has sealed. The source cannot be written to meanwhile;
    the target has all of it or nothing. Raises Conflict where the target is in use, or is not the same afterwards.
    """
    with atomic(using=source.alias), atomic(using=target.alias):
        _check_empty(target)
        _check_migrations(source, target)
        tables = {model._meta.db_table: _values(model) for model in _models()}
        with target.cursor() as cursor:
            for table in tables:
                # Rows of the history refuse to be taken away, and each that comes is written down as waiting.
                cursor.execute(f'ALTER TABLE "{table}" DISABLE TRIGGER USER')
            cursor.execute(f"TRUNCATE {', '.join(map(_quoted, tables))}")
        for table, values in tables.items():
            _copy(source, target, table, values, told)
        with target.cursor() as cursor:
            # Whatever points at a row that is not there is found here, before triggers are touched again.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in tables:
                cursor.execute(f'ALTER TABLE "{table}" ENABLE TRIGGER USER')
            for statement in target.ops.sequence_reset_sql(no_style(), _models()):
                cursor.execute(statement)
        return _compared(source, target, list(tables))


def _models() -> list[type[models.Model]]:
    every = apps.get_models(include_auto_created=True)
    return [model for model in every if model._meta.managed and not model._meta.proxy]


def _values(model: type[models.Model]) -> dict[str, Callable[[Any], Any]]:
    """The columns, each with what makes the one database's value of the other's."""
    fields = model._meta.local_concrete_fields
    return {
        field.column: _json if isinstance(field, models.JSONField) else _value
        for field in fields
        if field.column
    }


def _quoted(name: str) -> str:
    return f'"{name}"'


def _check_empty(target: BaseDatabaseWrapper) -> None:
    with target.cursor() as cursor:
        for model in (ProvisioningService, HistoryEvent, apps.get_model("auth", "User")):
            cursor.execute(f'SELECT EXISTS (SELECT 1 FROM "{model._meta.db_table}")')  # noqa: S608  # a table of ours
            if cursor.fetchone()[0]:
                raise Conflict(
                    f"The database to move to is in use: it holds {model._meta.verbose_name_plural}. Give another."
                )


def _check_migrations(source: BaseDatabaseWrapper, target: BaseDatabaseWrapper) -> None:
    applied = []
    for connection in (source, target):
        with connection.cursor() as cursor:
            cursor.execute("SELECT app, name FROM django_migrations")
            applied.append(set(cursor.fetchall()))
    if applied[0] != applied[1]:
        raise Conflict("The two databases are not of one version: run manage.py migrate first, then move.")


def _copy(
    source: BaseDatabaseWrapper,
    target: BaseDatabaseWrapper,
    table: str,
    values: dict[str, Callable[[Any], Any]],
    told: Callable[[str, int], None],
) -> None:
    names = ", ".join(map(_quoted, values))
    done = 0
    with target.cursor() as cursor, cursor.copy(f'COPY "{table}" ({names}) FROM STDIN') as into:
        for row in _rows(source, f'SELECT {names} FROM "{table}"'):  # noqa: S608  # names of our own tables
            into.write_row([made(one) for made, one in zip(values.values(), row, strict=True)])
            done += 1
            if done % CHUNK == 0:
                told(table, done)
    told(table, done)


def _rows(source: BaseDatabaseWrapper, sql: str) -> Iterator[tuple[Any, ...]]:
    with source.cursor() as cursor:
        cursor.execute(sql)
        while chunk := cursor.fetchmany(CHUNK):
            yield from chunk


def _value(value: Any) -> Any:
    """SQLite keeps moments without their zone, which is UTC."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def _json(value: Any) -> Any:
    return for_jsonb(value) if isinstance(value, str) else value


def _compared(source: BaseDatabaseWrapper, target: BaseDatabaseWrapper, tables: list[str]) -> Moved:
    here, there = (_counts(connection, tables) for connection in (source, target))
    for table in tables:
        if here[table] != there[table]:
            raise Conflict(
                f"Table {table} has {here[table]} rows here and {there[table]} there: nothing was moved."
            )
    ends = [_end_of_history(connection) for connection in (source, target)]
    if ends[0] != ends[1]:
        raise Conflict("The history does not end with the same row on both sides: nothing was moved.")
    return Moved(there, *ends[0])


def _counts(connection: BaseDatabaseWrapper, tables: list[str]) -> dict[str, int]:
    counted = {}
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f'SELECT count(*) FROM "{table}"')  # noqa: S608  # a table of ours
            counted[table] = cursor.fetchone()[0]
    return counted


def _end_of_history(connection: BaseDatabaseWrapper) -> tuple[int, str]:
    last = HistorySeal.objects.using(connection.alias).order_by("-index").values_list("index", "hash").first()
    return last or (0, "")
