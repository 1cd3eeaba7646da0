"""Rows that still have their hash, and that pages do not find any more: SQLite keeps text as it is given, and filters
look into it."""

import json
import re
from collections.abc import Iterator
from json.encoder import encode_basestring as quoted

import pytest
import rfc8785
from django.db import connection

from enrollments.audit import checkpoints
from enrollments.audit.canonical import MEMBERS, NO_NUMBER, NO_TEXT, link_hash, row_hash
from enrollments.audit.chain import sealed_rows
from enrollments.audit.sealer import seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.models import HistoryEvent, HistorySeal
from tests.audit.histories import execute, fill
from tests.audit.tampering import (
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    by_tool,
    by_us,
    copied,
    found_by_tool,
    tampered,
    updated,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not ON_SQLITE, reason="PostgreSQL has one way to write a time and an object"),
]
ROWS = 30
FORMS = {
    "an escape in a text": ("after", """replace(after, '"disabled"', '"\\u0064isabled"')"""),
    "an escape in a name": ("after", """replace(after, '"status"', '"\\u0073tatus"')"""),
    "no spaces": ("after", "json(after)"),
    "a space ahead": ("after", "' ' || after"),
    "a T": ("at", "replace(at, ' ', 'T')"),
    "a T and a Z": ("at", "replace(at, ' ', 'T') || 'Z'"),
    "a Z": ("at", "at || 'Z'"),
    "decimals that are none": ("at", "at || '.000000'"),
}


@pytest.fixture
def place() -> tuple[int, int]:
    """Place and ID of a row in which each of these can be done."""
    fill(ROWS)
    checkpoints.make_checkpoint()
    rows = HistoryEvent.objects.filter(after={"status": "disabled"}).order_by("-pk")
    row = next(one for one in rows if one.at.microsecond == 0)
    return HistorySeal.objects.get(event=row).index, row.pk


@pytest.mark.parametrize("form", FORMS)
def test_both_take_only_the_form_that_is_written(place, form, tmp_path):
    column, value = FORMS[form]
    change = updated(EVENT, column, value, f"id = {place[1]}")

    with tampered(change):
        ours = by_us(verify_database, [checkpoints.verifier_key()])
    tools = found_by_tool(copied(tmp_path / "copy.sqlite3", change))

    assert (ours, tools) == (place, place)


@pytest.fixture
def lenient_sqlite():
    """As SQLite is from 3.45 on, which makes the same JSON of some bytes as of a text or a number."""

    def json_object(*given):
        as_text = [one.decode() if isinstance(one, bytes) else one for one in given]
        members = (
            f"{quoted(name)}:{json.dumps(value, ensure_ascii=False)}" for name, value in pairs(as_text)
        )
        return "{" + ",".join(members) + "}"

    def pairs(values):
        return zip(values[::2], values[1::2], strict=True)

    connection.ensure_connection()
    connection.connection.create_function("json_object", -1, json_object)
    yield
    connection.connection.create_function("json_object", -1, None)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        *((name, NO_TEXT) for name in MEMBERS if name not in ("id", "service_id")),
        ("service_id", NO_NUMBER),
    ],
)
def test_bytes_are_told_from_text_whatever_sqlite_makes_of_them(place, lenient_sqlite, column, what):
    index, row = place
    assert verify_database([checkpoints.verifier_key()]).ok

    value = f"CAST(COALESCE(\"{column}\", '{{}}') AS BLOB)"
    with tampered(updated(EVENT, column, value, f"id = {row}")):
        problem = verify_database([checkpoints.verifier_key()]).problem

    assert (problem.index, problem.event_id, problem.what) == (index, row, f"it is no row: {what}")


def whatever_it_takes(column: str, change: str) -> Iterator[str]:
    """A change that the table does not allow: its SQL is changed past SQLite, and changed back."""
    with connection.cursor() as cursor:
        (sql,) = cursor.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = %s", [EVENT]
        ).fetchone()
    loose = re.sub(rf'(["\s]{column}"?) (varchar\(\d+\)|text) NOT NULL', r"\1 blob NULL", sql)
    assert loose != sql
    yield "PRAGMA ignore_check_constraints=ON"
    for written, then in ((loose, [change]), (sql, [])):
        yield "PRAGMA writable_schema=ON"
        yield updated(
            "sqlite_master", "sql", f"'{written.replace(chr(39), chr(39) * 2)}'", f"name = '{EVENT}'"
        )
        yield "PRAGMA writable_schema=RESET"
        yield from then
    yield "PRAGMA ignore_check_constraints=OFF"


@pytest.mark.parametrize("value", ["NULL", "5", "1.5"])
@pytest.mark.parametrize(
    "column", [name for name in MEMBERS if name not in ("id", "service_id", "at", "after", "before")]
)
def test_what_is_no_text_and_was_sealed_anew_is_named_by_both(place, column, value, tmp_path):
    """Whoever can write to the database can compute a hash: what no row of this service holds is found by its type."""
    fill(1, first=ROWS)
    seal_everything()
    *_, last = sealed_rows(ROWS + 1)
    row = json.loads(last.form)
    row.setdefault("client", "")
    row[column] = json.loads(value.lower())
    forged = link_hash(last.number, last.previous, row_hash(rfc8785.dumps(row)))
    changes = [
        *whatever_it_takes(column, updated(EVENT, column, value, f"id = {last.event_id}")),
        updated(SEAL, "hash", f"'{forged}'", f'"index" = {last.number}'),
    ]
    with tampered(*changes):
        problem = verify_database([checkpoints.verifier_key()]).problem
    tools = found_by_tool(copied(tmp_path / "copy.sqlite3", *changes))

    assert (problem.index, problem.event_id) == tools == (last.number, last.event_id)
    assert problem.what == f"it is no row: {NO_TEXT}"


@pytest.mark.parametrize("innermost", ["0.5", '"\\u00fc"', "1"])
def test_state_that_is_nested_too_deep_stops_nobody(place, innermost, tmp_path):
    deep = '{"a": ' * 2000 + innermost + "}" * 2000
    values = COLUMNS.replace('"after"', f"'{deep}'")
    execute(f"INSERT INTO {EVENT} ({COLUMNS}) SELECT {values} FROM {EVENT} WHERE id = {place[1]}")
    fill(1, first=ROWS)

    assert seal_everything() == 1
    problem = verify_database([checkpoints.verifier_key()]).problem

    assert (problem.index, problem.event_id) == found_by_tool(copied(tmp_path / "copy.sqlite3"))
    assert "nested too deep" in problem.what


def test_what_waits_in_another_form_is_not_sealed_and_named(place):
    values = COLUMNS.replace('"after"', "json(after)")
    execute(f"INSERT INTO {EVENT} ({COLUMNS}) SELECT {values} FROM {EVENT} WHERE id = {place[1]}")

    assert seal_everything() == 0
    problem = verify_database([checkpoints.verifier_key()]).problem

    assert problem.event_id == HistoryEvent.objects.order_by("pk").last().pk
    assert "written in another way" in problem.what


def test_day_that_no_calendar_has_does_not_stop_a_check(place, tmp_path):
    """Whoever can write to the database has it sealed as any other."""
    values = COLUMNS.replace('"at"', "'2025-02-30 10:00:00'")
    execute(f"INSERT INTO {EVENT} ({COLUMNS}) SELECT {values} FROM {EVENT} WHERE id = {place[1]}")
    assert seal_everything() == 1

    report = verify_database([checkpoints.verifier_key()])

    assert (report.problem, report.late) == (None, 1)
    assert by_tool(copied(tmp_path / "copy.sqlite3")).returncode == 0
