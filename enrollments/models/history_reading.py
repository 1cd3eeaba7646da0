"""Rows of the history as they can be read, whatever somebody with access to the database put into their columns."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from django.db import DataError, OperationalError, connections, models
from django.db.models import DateTimeField, Func, JSONField
from django.db.models.fields.json import KeyTransform
from django.db.models.query import ModelIterable
from django.db.models.sql.compiler import SQLCompiler
from django.utils.dateparse import parse_datetime

from enrollments.models.json_columns import JsonColumn

CANNOT_BE_READ = "cannot be read"
# What a database, or its adapter, raises for a row that it cannot hand over.
UNREADABLE = (OperationalError, DataError, ValueError, OverflowError)
# What SQLite says of what is in a column, and not of the database as a whole.
_OF_A_COLUMN = ("Could not decode to UTF-8", "malformed JSON")
PORTION = 100
# JSON with fewer brackets is not nested too deep for what is done with it.
FEW_BRACKETS = 200


def of_a_row(problem: Exception) -> None:
    """Raises it again where it is not of what a row holds: a database that is locked, gone or too slow (UNREADABLE)."""
    if isinstance(problem, OperationalError) and not any(said in str(problem) for said in _OF_A_COLUMN):
        raise problem


class UnreadableState(dict[str, Any]):
    """Stands for `before` or `after` that is no state of an object. It reads like an empty one."""


class StateColumn(JsonColumn):
    """An object as it was, or nothing. Anything else is read as an UnreadableState."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if value is None or isinstance(expression, KeyTransform):
            return super().from_db_value(value, expression, connection)
        try:
            found = super().from_db_value(value, expression, connection)
            if _is_intricate(value):
                json.dumps(found, ensure_ascii=False).encode()
        except (ValueError, TypeError, RecursionError):
            return UnreadableState()
        return found if found is None or isinstance(found, dict) else UnreadableState()


def _is_intricate(value: str | bytes) -> bool:
    """Whether it may hold half a character, or be nested deep."""
    text = value if isinstance(value, str) else value.decode()
    return "\\u" in text or text.count("[") + text.count("{") > FEW_BRACKETS


class IfJson(Func):
    """A column of JSON; nothing where it holds something else, which SQLite refuses to look into."""

    arity = 1
    output_field = JSONField()
    template = "%(expressions)s"

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **extra: Any) -> tuple[str, Any]:
        template = "CASE WHEN typeof(%(expressions)s) = 'text' AND json_valid(%(expressions)s) THEN %(expressions)s END"
        return self.as_sql(compiler, connection, template=template, **extra)


def mark_unreadable(row: models.Model, names: Collection[str], values: Collection[Any]) -> frozenset[str]:
    """The columns of a row that hold what theirs cannot; something that pages can show stands in their place."""
    wrong = _unreadable(type(row), tuple(names), tuple(map(type, values)))
    for name in wrong:
        field = row._meta.get_field(name)
        if isinstance(field, models.CharField):
            row.__dict__[name] = CANNOT_BE_READ
        elif not isinstance(field, JSONField):
            row.__dict__[name] = None
    return wrong


@lru_cache(maxsize=256)
def _unreadable(model: type[models.Model], names: tuple[str, ...], kinds: tuple[type, ...]) -> frozenset[str]:
    """Asked for each row, of which nearly all are alike."""
    pairs = ((model._meta.get_field(name), kind) for name, kind in zip(names, kinds, strict=True))
    return frozenset(field.name for field, kind in pairs if not _fits(field, kind))


def _fits(field: Any, kind: type) -> bool:
    if field.primary_key:
        return True
    if kind is type(None):
        return bool(field.null)
    if isinstance(field, models.CharField):
        return issubclass(kind, str)
    if isinstance(field, JSONField):
        return kind is not UnreadableState
    return kind is (datetime if isinstance(field, DateTimeField) else int)


if TYPE_CHECKING:
    _ModelIterable = ModelIterable[Any]
else:
    _ModelIterable = ModelIterable


class ReadableRows(_ModelIterable):
    """Rows as any query reads them. From one that the database does not hand over on, each is read for itself."""

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for row in super().__iter__():
                read += 1
                yield row
        except UNREADABLE as problem:
            of_a_row(problem)
            yield from self._by_themselves(read)

    def _by_themselves(self, read: int) -> Iterator[Any]:
        queryset: Any = self.queryset
        numbers = queryset._chain().select_related(None).values_list("pk", flat=True)[read:]
        portion = []
        for pk in numbers.iterator(chunk_size=PORTION) if self.chunked_fetch else numbers:
            portion.append(pk)
            if len(portion) == PORTION:
                yield from self._read(portion)
                portion = []
        yield from self._read(portion)

    def _read(self, pks: list[Any]) -> Iterator[Any]:
        if not pks:
            return
        try:
            rows = {row.pk: row for row in self._plain(pks)}
        except UNREADABLE as problem:
            of_a_row(problem)
            if len(pks) > 1:
                for pk in pks:
                    yield from self._read([pk])
                return
            found = _as_it_stands(self.queryset.model, "pk", pks[0], self.queryset.db)
            if found is not None:
                self._with_related(found)
                yield found
            return
        yield from (rows[pk] for pk in pks if pk in rows)

    def _plain(self, pks: list[Any]) -> list[Any]:
        queryset: Any = cast(Any, self.queryset)._chain()
        queryset._iterable_class = ModelIterable
        queryset.query.clear_limits()
        queryset.query.clear_ordering(force=True)
        return list(queryset.filter(pk__in=pks))

    def _with_related(self, row: models.Model) -> None:
        """With its seal, where that is read with the rows."""
        asked = self.queryset.query.select_related
        for name in asked if isinstance(asked, dict) else ():
            relation: Any = row._meta.get_field(name)
            related = _as_it_stands(relation.related_model, relation.field.name, row.pk, self.queryset.db)
            relation.set_cached_value(row, related)


def _as_it_stands(model: type[models.Model], name: str, value: Any, using: str) -> Any:
    """The first row of which the column has that value, each of its columns by itself; None where there is none."""
    connection = connections[using]
    quote: Callable[[Any], str] = connection.ops.quote_name
    fields = model._meta.concrete_fields
    by: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
    columns = ", ".join(
        f"CAST({quote(field.column)} AS TEXT)" if isinstance(field, DateTimeField) else quote(field.column)
        for field in fields
    )
    with connection.cursor() as cursor, _bytes_where_no_text(connection):
        cursor.execute(
            f"SELECT {columns} FROM {quote(model._meta.db_table)} WHERE {quote(by.column)} = %s LIMIT 1",  # noqa: S608  # names of our own
            [value],
        )
        found = cursor.fetchone()
    if found is None:
        return None
    values = [_value(field, one, connection) for field, one in zip(fields, found, strict=True)]
    return model.from_db(using, [field.attname for field in fields], values)


def _value(field: Any, value: Any, connection: Any) -> Any:
    if isinstance(field, DateTimeField):
        return _moment(value)
    read = getattr(field, "from_db_value", None)
    return read(value, None, connection) if read is not None else value


def _moment(text: Any) -> datetime | None:
    try:
        moment = parse_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment is None or moment.tzinfo is None:
        return moment and moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None


@contextmanager
def _bytes_where_no_text(connection: Any) -> Iterator[None]:
    """SQLite takes any bytes for text, and hands over text alone."""
    if connection.vendor != "sqlite":
        yield
        return
    plain, connection.connection.text_factory = connection.connection.text_factory, _text_or_bytes
    try:
        yield
    finally:
        connection.connection.text_factory = plain


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
