"""Queries that every registration asks, compiled into SQL once.

Django compiles a query anew each time that it is asked. For one that finds a single row by an index, that takes several
times as long as the database does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, update_wrapper
from inspect import signature
from operator import itemgetter
from typing import Any, Generic, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models import QuerySet, Value
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    ValuesListIterable,
    get_related_populators,
)
from psycopg.sql import Literal

P = ParamSpec("P")
Row = TypeVar("Row")
# How many forms of one query are kept: flags, and lists of other lengths. Lists are filled up, so there are few.
FORMS_KEPT = 64


class _Given(Value):
    """The place of a value that comes with each asking; `position`: within a list."""

    def __init__(self, name: str, position: int | None = None) -> None:
        super().__init__(name)
        self.name, self.position = name, position

    def as_sql(self, *_: Any, **__: Any) -> Any:
        return "%s", (self,)

    def of(self, values: Mapping[str, Any]) -> Any:
        return values[self.name] if self.position is None else values[self.name][self.position]


class Prepared(Generic[P, Row]):
    """A function that makes a QuerySet, turned into one that answers with the rows of it.

    Arguments that are `bool` are part of the query's form. All others are values that are compared with columns of
    their type: str, int, datetime, or a list of them (which must not be empty). The function gets a place holder in
    their stead, and must not look at it. It is called once for each form, so nothing else may decide what it makes.
    """

    def __init__(self, make: Callable[P, "QuerySet[Any, Row]"]) -> None:
        self._make = make
        self._names = tuple(signature(make).parameters)
        self._compiled: dict[object, _Compiled] = {}
        update_wrapper(self, make)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> list[Row]:
        values = dict(zip(self._names, args, strict=False)) | kwargs
        form: list[object] = []
        for name, value in values.items():
            if isinstance(value, bool):
                form.append(value)
            elif isinstance(value, (list, tuple)):
                values[name] = value = _filled_up(value)
                form.append(len(value))
        key = tuple(form)
        compiled = self._compiled.get(key) if FORMS_KEPT else None
        if compiled is None:
            compiled = _Compiled(self._make(**{name: _place(name, value) for name, value in values.items()}))  # type: ignore[call-arg]  # place holders
            if len(self._compiled) < FORMS_KEPT:
                self._compiled[key] = compiled
        return compiled.rows(values)

    def one(self, *args: P.args, **kwargs: P.kwargs) -> Row | None:
        """The first row, if there is any."""
        return next(iter(self(*args, **kwargs)), None)


def _filled_up(values: Sequence[Any]) -> list[Any]:
    """To a power of two, by naming the last once more, so that lists of few lengths are asked about."""
    return [*values, *[values[-1]] * ((1 << (len(values) - 1).bit_length()) - len(values))]


def _place(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_Given(name, position) for position in range(len(value))]
    return _Given(name)


class _Compiled:
    """A statement, and what makes rows of its answer: as ModelIterable and its like do, but found out once."""

    def __init__(self, queryset: Any) -> None:
        compiler = queryset.query.get_compiler(using=DEFAULT_DB_ALIAS)
        self._sql, self._parameters = _with_constants_in_it(*compiler.as_sql())
        # The same on each connection to this database.
        self._converters = list(compiler.get_converters([column for column, _, _ in compiler.select]).items())
        self._row = _MADE_OF[queryset._iterable_class](compiler)

    def rows(self, values: Mapping[str, Any]) -> list[Any]:
        database = connections[DEFAULT_DB_ALIAS]
        parameters = [
            _adapted(one.of(values), database) if isinstance(one, _Given) else one for one in self._parameters
        ]
        with database.cursor() as cursor:
            cursor.execute(self._sql, parameters)
            answer = cursor.fetchall()
        return [self._row(self._converted(row, database)) for row in answer]

    def _converted(self, row: Sequence[Any], database: Any) -> Sequence[Any]:
        converted = list(row)
        for position, (converters, expression) in self._converters:
            for convert in converters:
                converted[position] = convert(converted[position], expression, database)
        return converted


def _with_constants_in_it(sql: str, parameters: Sequence[Any]) -> tuple[str, list[Any]]:
    """On PostgreSQL, with what never changes written into the statement: it plans once for all values.

    Of a place holder it does not know, for one, that it is the value that an index leaves out.
    """
    if connections[DEFAULT_DB_ALIAS].vendor != "postgresql":
        return sql, list(parameters)
    first, *others = _PLACE.split(sql)
    parts, left = [first], []
    for value, text in zip(parameters, others, strict=True):
        if isinstance(value, (str, int)):
            parts.append(Literal(value).as_string().replace("%", "%%"))
        else:
            parts.append("%s")
            left.append(value)
        parts.append(text)
    return "".join(parts), left


# As Django looks for them on SQLite.
_PLACE = re.compile(r"(?<!%)%s")


def _instances(compiler: Any) -> Callable[[Sequence[Any]], models.Model]:
    """What makes instances of a model, with what was joined and annotated."""
    info, select = compiler.klass_info, compiler.select
    model, first, last = info["model"], info["select_fields"][0], info["select_fields"][-1] + 1
    names = [column.target.attname for column, _, _ in select[first:last]]
    related = _populators(info, select, DEFAULT_DB_ALIAS)
    annotations = list(compiler.annotation_col_map.items()) if compiler.annotation_col_map else []

    def instance(row: Sequence[Any]) -> models.Model:
        made: models.Model = model.from_db(DEFAULT_DB_ALIAS, names, row[first:last])
        for populator in related:
            populator.populate(row, made)
        for name, position in annotations:
            setattr(made, name, row[position])
        return made

    return instance


_populators: Any = get_related_populators
_MADE_OF: dict[object, Callable[[Any], Callable[[Sequence[Any]], Any]]] = {
    ModelIterable: _instances,
    ValuesListIterable: lambda _: tuple,
    FlatValuesListIterable: lambda _: itemgetter(0),
}


def _adapted(value: Any, database: Any) -> Any:
    return database.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value


def update_row(row: models.Model, names: tuple[str, ...]) -> bool:
    """Write these fields of a row that is there, found by its primary key; whether it still is.

    names: as the attributes are called that hold what the columns hold: `hub_id`, not `hub`.
    """
    database = connections[DEFAULT_DB_ALIAS]
    sql, fields = _update(type(row), names)
    values = [field.get_db_prep_save(getattr(row, field.attname), database) for field in fields]
    with database.cursor() as cursor:
        cursor.execute(sql, [*values, row.pk])
        return bool(cursor.rowcount)


@lru_cache(maxsize=256)
def _update(model: type[models.Model], names: tuple[str, ...]) -> tuple[str, list[Any]]:
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    by_name = {field.attname: field for field in model._meta.concrete_fields}
    fields: list[Any] = [by_name[name] for name in names]
    setting = ", ".join(f"{quote(field.column)} = %s" for field in fields)
    key: Any = model._meta.pk
    # The names are those of our own tables.
    return f"UPDATE {quote(model._meta.db_table)} SET {setting} WHERE {quote(key.column)} = %s", fields  # noqa: S608
