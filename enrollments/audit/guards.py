"""What stands around the rows of the history in the database: its triggers and indexes, and whether they are ours.

Triggers keep rows as they are; pages read rows by indexes. Neither is sealed: both are held against what belongs there.
"""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from django.db import DatabaseError, connection, models

from enrollments.audit.report import Problem
from enrollments.models import HistoryCheckpoint, HistoryEvent, HistorySeal, UnsealedEvent

MODELS: tuple[type[models.Model], ...] = (HistoryEvent, HistorySeal, HistoryCheckpoint, UnsealedEvent)
TABLES = tuple(model._meta.db_table for model in MODELS)
WITH_TRIGGERS = ("0002_history_is_final", "0010_history_seals", "0030_history_takes_what_belongs")
# Whoever can put in one can put in thousands, with long names.
MOST, MAX_NAME = 20, 63
NOT_OURS = "is not as it belongs there"
_SQLITE_TRIGGER = re.compile(
    r"CREATE TRIGGER (?:IF NOT EXISTS )?(?P<name>\w+) (?:BEFORE|AFTER) \w+ ON (?P<table>\w+) .*", re.DOTALL
)
_TRIGGER = re.compile(
    r"CREATE (?:OR REPLACE )?TRIGGER (?P<name>\w+) (?P<when>BEFORE|AFTER) (?P<verbs>\w+(?: OR \w+)*) "
    r"ON (?:\w+\.)?(?P<table>\w+) FOR EACH (?P<level>ROW|STATEMENT) EXECUTE FUNCTION (?:\w+\.)?(?P<function>\w+)\(\)"
)
_FUNCTION = re.compile(
    r"\s*CREATE (?:OR REPLACE )?FUNCTION (\w+)\(\) RETURNS trigger LANGUAGE plpgsql AS \$\$(.*)\$\$\s*",
    re.DOTALL,
)
# By which an index shows that it holds each row once; whether with the right values, `PRAGMA integrity_check` knows.
_COUNTED = "COUNT(*), SUM(rowid % 999983)"
COUNTED_AT_ONCE = 4


class SqliteIndexes(NamedTuple):
    """Indexes of a table that hold the same rows, few enough to be counted in some tenths of a second.

    `condition`: which rows they hold, with the word that begins it; empty where they hold all.
    `beside`: another one that was found to hold these; empty where the table itself is asked.
    """

    table: str
    names: tuple[str, ...]
    condition: str = ""
    beside: str = ""

    def first_wrong(self) -> str | None:
        # In one statement, since rows come meanwhile. COUNT(*) alone would be taken from the smallest index.
        counts = ", ".join(
            f"(SELECT {_COUNTED} FROM {self.table} {_indexed_by(name)} {self.condition})"  # noqa: S608  # our own SQL
            for name in (self.beside, *self.names)
        )
        (found,) = _rows(f"SELECT * FROM {counts}")  # noqa: S608  # the same
        expected, *by_index = zip(found[::2], found[1::2], strict=True)
        return next((name for name, one in zip(self.names, by_index, strict=True) if one != expected), None)


def sqlite_indexes() -> list[SqliteIndexes]:
    """Those that belong here and are here, with all that it takes to count by them. None on PostgreSQL."""
    return list(_sqlite_indexes_here()) if connection.vendor == "sqlite" else []


def _sqlite_indexes_here() -> Iterator[SqliteIndexes]:
    ours = _sqlite_indexes()
    for table in TABLES:
        of_all: list[str] = []
        of_some: list[SqliteIndexes] = []
        for name, sql in _in_schema("index", table):
            if sql != ours.get((table, name), ""):
                continue
            _, where, condition = sql.partition(" WHERE ")
            if where:
                of_some.append(SqliteIndexes(table, (name,), where + condition))
            else:
                of_all.append(name)
        beside = ""
        for begin in range(0, len(of_all), COUNTED_AT_ONCE):
            names = tuple(of_all[begin : begin + COUNTED_AT_ONCE])
            yield SqliteIndexes(table, names, beside=beside)
            beside = names[-1]
        yield from of_some


def _indexed_by(name: str) -> str:
    return f"INDEXED BY {connection.ops.quote_name(name)}" if name else "NOT INDEXED"


def wrong_index(indexes: SqliteIndexes) -> Problem | None:
    """The first of them that does not hold what the others do. Raises DatabaseError at one that cannot be read."""
    try:
        name = indexes.first_wrong()
    except DatabaseError:
        if len(indexes.names) == 1:
            raise
        # Those before it can be.
        one_by_one = (indexes._replace(names=(one,)) for one in indexes.names)
        return next(filter(None, map(wrong_index, one_by_one)), None)
    if name is None:
        return None
    what = (
        f"the index {name} does not hold the rows that its table holds: pages, filters and exports read by "
        "indexes, so rows may be missing from them that are here and sealed. Run audit_verify --indexes, and REINDEX "
        "once you have a copy"
    )
    return Problem(None, None, what)


def compared_indexes() -> Problem | None:
    """Each row of each table looked up in each index, by SQLite itself: as long again as following the rows takes."""
    if connection.vendor != "sqlite":
        return None
    for table in TABLES:
        said = [str(one) for (one,) in _rows(f"PRAGMA integrity_check('{table}')")]
        if said != ["ok"]:
            found = re.fullmatch(r"row (\d+) missing from index .*", said[0])
            row = _nth(int(found[1])) if found and table == HistoryEvent._meta.db_table else None
            what = (
                f"the table {table} and its indexes disagree ({_shown(said[0], 200)}): pages, filters and exports "
                "read by indexes, so rows may be missing from them that are here and sealed"
            )
            return Problem(None, row, what)
    return None


def _nth(number: int) -> int | None:
    """The ID of the row that SQLite counts as this one."""
    sql = f"SELECT id FROM {HistoryEvent._meta.db_table} NOT INDEXED ORDER BY id LIMIT 1 OFFSET %s"  # noqa: S608  # ours
    found = _rows(sql, [number - 1])
    return int(found[0][0]) if found else None


def not_as_made() -> list[str]:
    """A sentence for each trigger and index that is missing, changed, switched off, or does not belong there.

    It does not prove that a row was changed, and somebody who can do that can also change rows.
    """
    found = _of_sqlite() if connection.vendor == "sqlite" else _of_postgresql()
    said: list[str] = []
    for one in found:
        if len(said) == MOST:
            return [*said, "There is more of that kind."]
        said.append(one)
    return said


def _of_sqlite() -> Iterator[str]:
    for table in TABLES:
        if not _in_schema("table", table):
            yield f"{table} is no table."
    yield from _compared("trigger", _sqlite_triggers())
    yield from _compared("index", _sqlite_indexes())


def _compared(kind: str, ours: dict[tuple[str, str], str]) -> Iterator[str]:
    there = {(table, name): sql for table in TABLES for name, sql in _in_schema(kind, table)}
    for (table, name), sql in ours.items():
        if (table, name) not in there:
            yield f"The {kind} {name} of {table} is missing."
        elif there[table, name] != sql:
            yield f"The {kind} {name} of {table} {NOT_OURS}."
    for (table, name), sql in there.items():
        # SQLite makes some itself, for what is unique.
        if (table, name) not in ours and sql:
            yield f"The {kind} {_shown(name)} of {table} does not belong there."


def _in_schema(kind: str, table: str) -> list[tuple[str, str]]:
    """Name and SQL, which is empty where SQLite made it itself. Tables may be named in letters of either case."""
    rows = _rows(
        "SELECT name, COALESCE(sql, '') FROM sqlite_master WHERE type = %s AND lower(tbl_name) = %s ORDER BY name",
        [kind, table],
    )
    return [(str(name), str(sql)) for name, sql in rows]


@cache
def _sqlite_triggers() -> dict[tuple[str, str], str]:
    """By table and name, as SQLite keeps what made them."""
    found = filter(None, map(_SQLITE_TRIGGER.fullmatch, _statements("SQLITE")))
    return {(one["table"], one["name"]): one[0].replace("IF NOT EXISTS ", "", 1) for one in found}


@cache
def _sqlite_indexes() -> dict[tuple[str, str], str]:
    editor = connection.SchemaEditorClass(connection, collect_sql=True)
    return {
        (model._meta.db_table, index.name): str(index.create_sql(model, editor))
        for model in MODELS
        for index in model._meta.indexes
    }


def _of_postgresql() -> Iterator[str]:
    ((role,),) = _rows("SELECT current_setting('session_replication_role')")
    if role != "origin":
        yield f"Triggers do not act: session_replication_role is {_shown(role)}."
    ours, functions = _postgresql_triggers()
    there = {
        (str(table), str(name)): (definition, enabled, body, language)
        for table, name, definition, enabled, body, language in _rows(
            "SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled, p.prosrc, l.lanname "
            "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
            "JOIN pg_language l ON l.oid = p.prolang "
            "WHERE NOT t.tgisinternal AND t.tgrelid::regclass::text = ANY(%s) ORDER BY c.relname, t.tgname",
            [list(TABLES)],
        )
    }
    for key, wanted in ours.items():
        table, name = key
        if key not in there:
            yield f"The trigger {name} of {table} is missing."
            continue
        definition, enabled, body, language = there[key]
        if enabled not in ("O", "A"):
            yield f"The trigger {name} of {table} is switched off."
        if _parts(str(definition)) != wanted or (body, language) != (functions[wanted[-1]], "plpgsql"):
            yield f"The trigger {name} of {table} {NOT_OURS}."
    for table, name in there.keys() - ours.keys():
        yield f"The trigger {_shown(name)} of {table} does not belong there."
    yield from _more_of_postgresql()


def _more_of_postgresql() -> Iterator[str]:
    """What else can make rows of a table be passed over, or not be found."""
    tables = [list(TABLES)]
    for table, name in _rows(
        "SELECT ev_class::regclass::text, rulename FROM pg_rewrite WHERE ev_class::regclass::text = ANY(%s)",
        tables,
    ):
        yield f"The rule {_shown(name)} of {table} does not belong there."
    for table, kind, is_secured in _rows(
        "SELECT oid::regclass::text, relkind, relrowsecurity FROM pg_class WHERE oid::regclass::text = ANY(%s)",
        tables,
    ):
        if kind != "r":
            yield f"{table} is no table."
        if is_secured:
            yield f"Of {table} the database shows some rows only (row level security)."
    ours = {
        (model._meta.db_table, index.name): index.condition is not None
        for model in MODELS
        for index in model._meta.indexes
    }
    there = {
        (str(table), str(name)): (is_partial, works)
        for table, name, is_partial, works in _rows(
            "SELECT i.indrelid::regclass::text, c.relname, i.indpred IS NOT NULL, i.indisvalid AND i.indisready "
            "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid::regclass::text = ANY(%s) ORDER BY c.relname",
            tables,
        )
    }
    for (table, name), is_partial in ours.items():
        if (table, name) not in there:
            yield f"The index {name} of {table} is missing."
        elif there[table, name][0] != is_partial:
            yield f"The index {name} of {table} {NOT_OURS}."
    for (table, name), (is_partial, works) in there.items():
        if not works:
            yield f"The index {_shown(name)} of {table} was not finished."
        if is_partial and (table, name) not in ours:
            yield f"The index {_shown(name)} of {table}, of some rows only, does not belong there."


Parts = tuple[str, frozenset[str], str, str, str]


@cache
def _postgresql_triggers() -> tuple[dict[tuple[str, str], Parts], dict[str, str]]:
    """By table and name; and the functions that they call, by name."""
    triggers: dict[tuple[str, str], Parts] = {}
    functions: dict[str, str] = {}
    for statement in _statements("POSTGRESQL"):
        if found := _FUNCTION.fullmatch(statement):
            functions[found[1]] = found[2]
        elif (one := _TRIGGER.fullmatch(statement)) and (parts := _parts(statement)):
            triggers[one["table"], one["name"]] = parts
    return triggers, functions


def _parts(definition: str) -> Parts | None:
    one = _TRIGGER.fullmatch(definition)
    if one is None:
        return None
    return one["when"], frozenset(one["verbs"].split(" OR ")), one["table"], one["level"], one["function"]


def _statements(name: str) -> Iterator[str]:
    """Of the migrations that made the triggers."""
    for migration in WITH_TRIGGERS:
        yield from getattr(importlib.import_module(f"enrollments.migrations.{migration}"), name)


def _rows(sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _shown(name: object, most: int = MAX_NAME) -> str:
    """What anybody may have written, so that it moves no cursor of a terminal."""
    return "".join(one if one.isprintable() else "\ufffd" for one in str(name)[:most])
