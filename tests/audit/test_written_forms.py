"""Rows that still have their hash, and that pages do not find any more: SQLite keeps text as it is given, and filters
look into it."""

import pytest

from enrollments.audit import checkpoints
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
