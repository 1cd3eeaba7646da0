"""Triggers and indexes of the history that are not those that belong there, and rows that indexes do not hold."""

import contextlib
import json
import re
import sqlite3
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.test import Client
from django.utils import timezone

from enrollments.audit import checkpoints
from enrollments.audit.guards import SqliteIndexes, not_as_made, sqlite_indexes, wrong_index
from enrollments.audit.verify_database import verify_database
from enrollments.models import HistoryEvent
from enrollments.policy.roles import Role
from tests.audit.histories import execute, fill
from tests.audit.tampering import (
    EVENT,
    ON_SQLITE,
    SEAL,
    WAITING,
    by_tool,
    copied,
    tampered,
    undone,
)
from tests.factories import a_user

pytestmark = pytest.mark.django_db(transaction=True)
only_sqlite = pytest.mark.skipif(not ON_SQLITE, reason="of SQLite")
only_postgresql = pytest.mark.skipif(ON_SQLITE, reason="of PostgreSQL")

# What is done, and a part of what is said.
ON_BOTH = {
    "an index of some rows": (
        (f"CREATE INDEX mine ON {EVENT} (at) WHERE id <> 6",),
        f"The index mine of {EVENT}, of some rows only, does not belong there."
        if not ON_SQLITE
        else f"The index mine of {EVENT}",
    ),
    "an index of ours for some rows": (
        ("DROP INDEX history_by_way", f"CREATE INDEX history_by_way ON {EVENT} (way) WHERE id <> 6"),
        f"The index history_by_way of {EVENT} is not as it belongs there.",
    ),
}
IGNORES = "WHEN NEW.actor_name = 'mallory' BEGIN SELECT RAISE(IGNORE); END"
OF_SQLITE = {
    "a trigger is gone": (
        ("DROP TRIGGER history_no_update",),
        "The trigger history_no_update ",
    ),
    "a trigger does nothing": (
        (
            "DROP TRIGGER history_events_no_replace",
            f"CREATE TRIGGER history_events_no_replace BEFORE INSERT ON {EVENT} WHEN 0 BEGIN SELECT 1; END",
        ),
        f"The trigger history_events_no_replace of {EVENT} is not as it belongs there.",
    ),
    "a trigger passes over rows": (
        (f"CREATE TRIGGER harmless BEFORE INSERT ON {EVENT} {IGNORES}",),
        f"The trigger harmless of {EVENT} does not belong there.",
    ),
    "a trigger of the table in capitals": (
        (f"CREATE TRIGGER harmless BEFORE INSERT ON {WAITING.upper()} BEGIN SELECT RAISE(IGNORE); END",),
        f"The trigger harmless of {WAITING} does not belong there.",
    ),
}
PASSES_OVER = (
    "CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.actor_name = 'mallory' THEN RETURN NULL; END IF; RETURN NEW; END $$",
    f"CREATE TRIGGER harmless BEFORE INSERT ON {EVENT} FOR EACH ROW EXECUTE FUNCTION harmless()",
)
OF_POSTGRESQL = {
    "a trigger is gone": (
        (f"DROP TRIGGER history_no_change ON {EVENT}",),
        f"The trigger history_no_change of {EVENT} is missing.",
    ),
    "a trigger is switched off": (
        (f"ALTER TABLE {SEAL} DISABLE TRIGGER history_seals_next",),
        f"The trigger history_seals_next of {SEAL} is switched off.",
    ),
    "a trigger only of replicas": (
        (f"ALTER TABLE {SEAL} ENABLE REPLICA TRIGGER history_seals_next",),
        f"The trigger history_seals_next of {SEAL} is switched off.",
    ),
    "a trigger with a condition": (
        (
            f"CREATE OR REPLACE TRIGGER history_no_change BEFORE UPDATE OR DELETE ON {EVENT} FOR EACH ROW "
            "WHEN (OLD.id <> 6) EXECUTE FUNCTION history_is_final()",
        ),
        f"The trigger history_no_change of {EVENT} is not as it belongs there.",
    ),
    "a function does nothing": (
        (
            "CREATE OR REPLACE FUNCTION history_events_typed() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RETURN NEW; END $$",
        ),
        f"The trigger history_events_typed of {EVENT} is not as it belongs there.",
    ),
    "a trigger passes over rows": (PASSES_OVER, f"The trigger harmless of {EVENT} does not belong there."),
    "a rule passes over rows": (
        (f"CREATE RULE harmless AS ON INSERT TO {EVENT} WHERE NEW.id = 6 DO INSTEAD NOTHING",),
        f"The rule harmless of {EVENT} does not belong there.",
    ),
    "some rows are not shown": (
        (f"ALTER TABLE {EVENT} ENABLE ROW LEVEL SECURITY",),
        f"Of {EVENT} the database shows some rows only",
    ),
    "triggers do not act": (
        ("SET LOCAL session_replication_role = replica",),
        "session_replication_role is replica",
    ),
}
CASES = ON_BOTH | (OF_SQLITE if ON_SQLITE else OF_POSTGRESQL)


@pytest.fixture
def history() -> None:
    fill(30)
    checkpoints.make_checkpoint()


def test_nothing_is_said_of_what_was_made_here(history, tmp_path):
    assert not_as_made() == []
    counted = [name for indexes in sqlite_indexes() for name in indexes.names]
    assert len(counted) == len(set(counted)) == (12 if ON_SQLITE else 0)
    report = verify_database([checkpoints.verifier_key()], indexes=True)
    assert (report.problem, report.not_as_made) == (None, [])
    if ON_SQLITE:
        done = by_tool(copied(tmp_path / "copy.sqlite3"), "--indexes")
        assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True), done.stdout


@pytest.mark.parametrize("case", CASES)
def test_it_is_said_and_no_row_is_called_wrong(history, case, client: Client):
    client.force_login(a_user(Role.AUDITOR, None))
    checkpoints.make_checkpoint()
    statements, sentence = CASES[case]
    with undone():
        for statement in statements:
            execute(statement)
        report = verify_database([checkpoints.verifier_key()])
        said = StringIO()
        with pytest.raises(CommandError) as refused:
            call_command("audit_verify", stdout=said)
        # No row of the history is written past such a rule, not even the one about a check.
        page = "" if "rule" in case else client.post("/history/checkpoint/check/").content.decode()

    assert report.problem is None
    assert any(sentence in one for one in report.not_as_made), report.not_as_made
    assert refused.value.returncode == 1
    assert "not guarded as it was made to be" in str(refused.value)
    assert sentence in str(refused.value)
    if "rule" not in case:
        assert "not guarded as it was made to be" in page
        assert "Every sealed row is what was sealed" in page


@only_sqlite
@pytest.mark.parametrize("case", ON_BOTH | OF_SQLITE)
def test_tool_says_it_of_a_copy(history, case, tmp_path):
    path = copied(tmp_path / "copy.sqlite3")
    statements, sentence = CASES[case]
    with contextlib.closing(sqlite3.connect(path)) as copy:
        for statement in statements:
            copy.execute(statement)
        copy.commit()

    done = by_tool(path)

    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], told["problem"]) == (1, False, None)
    assert any(sentence in one for one in told["not_as_made"])
    assert "not guarded" in by_tool(path, as_json=False).stdout


def test_row_that_was_changed_is_named_first(history):
    with tampered(f"UPDATE {EVENT} SET actor_name = 'mallory' WHERE id = (SELECT MIN(id) + 4 FROM {EVENT})"):
        with pytest.raises(CommandError, match=r"The history is not as it was sealed\. #5 row ") as refused:
            call_command("audit_verify", stdout=StringIO())
        report = verify_database([checkpoints.verifier_key()])

    assert "guarded" not in str(refused.value)
    assert any("is missing" in one for one in report.not_as_made)


def test_many_strangers_are_not_all_named(history):
    with undone():
        for number in range(30):
            execute(f"CREATE INDEX mine_{number} ON {EVENT} (at) WHERE id <> {number}")
        said = not_as_made()

    assert (len(said), said[-1]) == (21, "There is more of that kind.")


# --- Rows that an index does not hold ----------------------------------------------------------------------------


def written_anew(database: sqlite3.Connection, sql: dict[str, str]) -> None:
    """The SQL of indexes, past SQLite, as whoever has the file can do it."""
    database.execute("PRAGMA writable_schema = ON")
    for name, one in sql.items():
        database.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", [one, name])
    database.execute("PRAGMA writable_schema = RESET")


def hidden_from_indexes(database: sqlite3.Connection, row: int, *names: str) -> None:
    """Indexes, all where none is named, made anew without a row, and then called what they were called."""
    indexes = dict(
        database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql <> ''", [EVENT]
        ).fetchall()
    )
    for name, sql in indexes.items():
        if names and name not in names:
            continue
        database.execute(f'DROP INDEX "{name}"')
        made, _, condition = sql.partition(" WHERE ")
        database.execute(f"{made} WHERE id <> {row}" + (f" AND ({condition})" if condition else ""))
    written_anew(database, indexes)


def under_another_value(database: sqlite3.Connection, row: int) -> None:
    """An index that has the row, among those of another way: it is of another expression, and says that it is not."""
    name = "history_by_way"
    ((sql,),) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", [name]).fetchall()
    database.execute(f"DROP INDEX {name}")
    database.execute(
        f"CREATE INDEX {name} ON {EVENT} (service_id, (CASE id WHEN {row} THEN 'device' ELSE way END), at)"
    )
    written_anew(database, {name: sql})


def open_copy(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


@only_sqlite
def test_both_say_that_indexes_lack_a_row(history, tmp_path):
    # Of service 9002.
    row = HistoryEvent.objects.order_by("pk")[4].pk
    path = copied(tmp_path / "copy.sqlite3")
    with contextlib.closing(open_copy(path)) as copy:
        hidden_from_indexes(copy, row)
        page = f"SELECT COUNT(*) FROM {EVENT} WHERE service_id = 9002 AND way = 'portal'"
        counts = [
            copy.execute(page.replace("WHERE", way)).fetchone()[0] for way in ("WHERE", "NOT INDEXED WHERE")
        ]
    done, by_row = by_tool(path), by_tool(path, "--indexes")

    assert counts[0] < counts[1]
    assert (done.returncode, by_row.returncode) == (1, 1)
    problem, named = (json.loads(one.stdout)["problem"] for one in (done, by_row))
    assert re.match(r"the index history_by_\w+ does not hold the rows that its table holds", problem["what"])
    assert named["event_id"] == row

    with as_the_database(path):
        ours = verify_database([checkpoints.verifier_key()]).problem
    assert re.match(r"the index history_by_\w+ does not hold the rows that its table holds", ours.what)


@only_sqlite
def test_both_name_the_same_index_first(history, tmp_path):
    names = ("history_by_way", "history_shut_out_by_change")
    row = HistoryEvent.objects.create(
        event="ca_certificate.deleted", before={"verified": True}, at=timezone.now(), way="cli"
    )
    checkpoints.make_checkpoint()
    path = copied(tmp_path / "copy.sqlite3")
    with contextlib.closing(open_copy(path)) as copy:
        hidden_from_indexes(copy, row.pk, *names)
    tools = json.loads(by_tool(path).stdout)["problem"]["what"]
    with as_the_database(path):
        ours = verify_database([checkpoints.verifier_key()]).problem.what
        each = [wrong_index(one) for one in sqlite_indexes() if set(one.names) & {*names}]

    assert ours.startswith(f"the index {names[0]} does not hold")
    assert tools.startswith(f"the index {names[0]} does not hold")
    assert all(each)
    assert len(each) == 2


@only_sqlite
def test_index_that_cannot_be_read_hides_none_that_lacks_a_row(history, tmp_path):
    path = copied(tmp_path / "copy.sqlite3")
    with contextlib.closing(open_copy(path)) as copy:
        hidden_from_indexes(copy, HistoryEvent.objects.order_by("pk")[5].pk, "history_by_way")
    with as_the_database(path):
        found = wrong_index(SqliteIndexes(EVENT, ("history_by_kind", "history_by_way", "gone")))
        with pytest.raises(DatabaseError):
            wrong_index(SqliteIndexes(EVENT, ("history_by_kind", "gone", "history_by_way")))

    assert found is not None
    assert "history_by_way" in found.what


@only_sqlite
def test_both_find_a_row_under_another_value_where_indexes_are_compared(history, tmp_path):
    row = HistoryEvent.objects.order_by("pk")[5].pk
    path = copied(tmp_path / "copy.sqlite3")
    with contextlib.closing(open_copy(path)) as copy:
        under_another_value(copy, row)
    named = json.loads(by_tool(path, "--indexes").stdout)["problem"]

    with as_the_database(path):
        ours = verify_database([checkpoints.verifier_key()], indexes=True).problem

    assert (named["event_id"], ours.event_id) == (row, row)
    assert "may be missing from them" in ours.what


@contextlib.contextmanager
def as_the_database(path: Path):
    """This file is what the service reads meanwhile."""
    usual = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = str(path)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = usual
