"""Rows that still have their hash, and that pages do not find any more: SQLite keeps text as it is given, and filters
look into it."""

import json
from json.encoder import encode_basestring as quoted

import pytest
from django.db import connection

from enrollments.audit import chain, checkpoints
from enrollments.audit.canonical import MEMBERS, NO_NUMBER, NO_TEXT
from enrollments.audit.sealer import seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.models import HistoryEvent, HistorySeal
from tests.audit.histories import execute, fill
from tests.audit.tampering import (
    COLUMNS,
    EVENT,
    ON_SQLITE,
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
    chain._written_by_sqlite.cache_clear()
    yield
    connection.connection.create_function("json_object", -1, None)
    chain._written_by_sqlite.cache_clear()


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
