"""Both verifiers against every way of changing a history: in the database, in a copy of it, and in an export."""

import ast
import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime

import pytest
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from enrollments.actions.history import export_history
from enrollments.actions.history_checks import begin_check
from enrollments.audit import checkpoints, verify
from enrollments.audit.canonical import MEMBERS
from enrollments.audit.chain import head
from enrollments.audit.export import export_lines
from enrollments.audit.notes import BadNote, SigningKey, UnknownSigner
from enrollments.audit.sealer import seal_everything
from enrollments.audit.signed import SignedHere
from enrollments.audit.verify_database import verify_database
from enrollments.audit.verify_export import verify_export
from enrollments.models import HistoryCheckpoint, HistoryEvent, HistorySeal, UnsealedEvent
from tests.audit.histories import execute, fill
from tests.audit.tampering import (
    CHECKPOINT,
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    TOOL,
    ahead_here,
    by_tool,
    by_us,
    found_by_tool,
    tampered,
    undone,
    updated,
    without_triggers,
)
from tests.devices import ALICE, new_service

# `make test-history` sets 100,000; what is tried is the same for any number.
ROWS = int(os.environ.get("DPS_HISTORY_ROWS", "300"))
HIT = ROWS * 2 // 3


@dataclass(frozen=True)
class Tampering:
    """`do`: raw SQL, in which `{row}` is the ID of the row with index HIT. What has to be named: the index, and the
    ID of a row, told by how far it is from that one; None where the row cannot be known any more."""

    name: str
    do: tuple[str, ...]
    index: int | None = HIT
    row: int | None = 0


AT_HIT = f'"index" = {HIT}'
VALUES = {
    "at": "'2026-01-01 00:00:00.000001'" if ON_SQLITE else "'2026-01-01 00:00:00.000001+00'",
    "before": """'{{"status":"forged"}}'""",
    "after": """'{{"status":"forged"}}'""",
    "service_id": "999",
}
# Little by little: what a column holds already, and something on it.
SLIGHTLY = {
    "reason with a space": updated(EVENT, "reason", "reason || ' '", "id = {row}"),
    "actor in capitals": updated(EVENT, "actor_name", "upper(actor_name)", "id = {row}"),
    "object with an accent of its own": updated(
        EVENT, "subject_name", "subject_name || '\u0301'", "id = {row}"
    ),
    "one more digit of the object's ID": updated(EVENT, "subject_id", "subject_id || '0'", "id = {row}"),
    "another service, or one": updated(EVENT, "service_id", "COALESCE(service_id, 0) + 1", "id = {row}"),
    "no service, or one": updated(
        EVENT, "service_id", "CASE WHEN service_id IS NULL THEN 1 END", "id = {row}"
    ),
    **{
        f"one more detail in {name}": updated(
            EVENT,
            name,
            f"""json_set(COALESCE("{name}", '{{{{}}}}'), '$.more', 1)"""
            if ON_SQLITE
            else f"""COALESCE("{name}", '{{{{}}}}'::jsonb) || '{{{{"more": 1}}}}'::jsonb""",
            "id = {row}",
        )
        for name in ("before", "after")
    },
    **{
        f"{name} for none, or none": updated(
            EVENT,
            name,
            f"""CASE WHEN "{name}" IS NULL THEN '{{{{}}}}' END""" + ("" if ON_SQLITE else "::jsonb"),
            "id = {row}",
        )
        for name in ("before", "after")
    },
    "a microsecond": updated(
        EVENT,
        "at",
        "substr(at, 1, 19) || '.' || substr('000000' || (1 + substr(at || '.000000', 21, 6)) % 1000000, -6)"
        if ON_SQLITE
        else "at + interval '1 microsecond'",
        "id = {row}",
    ),
    **(
        {
            f"{name} as the bytes of its text": updated(EVENT, name, f"CAST({name} AS BLOB)", "id = {row}")
            for name in ("at", "actor_name", "subject_name", "client", "way")
        }
        if ON_SQLITE
        else {}
    ),
    "the seal's hash in capitals": updated(SEAL, "hash", "upper(hash)", AT_HIT),
    "the hash before cut short": updated(SEAL, "previous_hash", "substr(previous_hash, 2)", AT_HIT),
}
TAMPERINGS = [
    *(Tampering(f"slightly: {name}", (statement,)) for name, statement in SLIGHTLY.items()),
    Tampering(
        "a seal of another row",
        (updated(SEAL, "event_id", f"event_id + {10 * ROWS}", AT_HIT),),
        row=10 * ROWS,
    ),
    Tampering("a seal far behind", (updated(SEAL, "index", f'"index" + {10 * ROWS}', AT_HIT),), row=None),
    Tampering("a seal before all", (updated(SEAL, "index", '-"index"', AT_HIT),), index=1, row=None),
    *(
        Tampering(f"flip {name}", (updated(EVENT, name, VALUES.get(name, "'forged'"), "id = {row}"),))
        for name in MEMBERS
        if name != "id"
    ),
    Tampering("client taken away", (updated(EVENT, "client", "''", "id = {row}"),)),
    Tampering("client put in", (updated(EVENT, "client", "'x'", "id = {row}"),)),
    Tampering("another ID", (updated(EVENT, "id", "900000000", "id = {row}"),)),
    Tampering("delete the row", (f"DELETE FROM {EVENT} WHERE id = {{row}}",)),
    Tampering("delete the seal", (f"DELETE FROM {SEAL} WHERE {AT_HIT}",), row=None),
    Tampering(
        "delete both",
        (f"DELETE FROM {EVENT} WHERE id = {{row}}", f"DELETE FROM {SEAL} WHERE {AT_HIT}"),
        row=None,
    ),
    Tampering(
        "delete both and close the gap",
        (
            f"DELETE FROM {EVENT} WHERE id = {{row}}",
            f"DELETE FROM {SEAL} WHERE {AT_HIT}",
            updated(SEAL, "index", '-"index"', f'"index" > {HIT}'),
            updated(SEAL, "index", '-"index" - 1', '"index" < 0'),
        ),
        row=1,
    ),
    Tampering(
        "two rows change places",
        (
            updated(SEAL, "event_id", "-event_id", f'"index" IN ({HIT}, {HIT + 1})'),
            updated(SEAL, "event_id", "1 - event_id", AT_HIT),
            updated(SEAL, "event_id", "-1 - event_id", f'"index" = {HIT + 1}'),
        ),
        row=1,
    ),
    Tampering("another hash", (updated(SEAL, "hash", f"'{'a' * 64}'", AT_HIT),)),
    Tampering("another previous hash", (updated(SEAL, "previous_hash", f"'{'a' * 64}'", AT_HIT),)),
    Tampering(
        "cut off the end",
        (f"DELETE FROM {EVENT} WHERE id >= {{row}}", f'DELETE FROM {SEAL} WHERE "index" >= {HIT}'),
        row=None,
    ),
    Tampering("cut off the seals", (f'DELETE FROM {SEAL} WHERE "index" >= {HIT}',), row=None),
    Tampering(
        "a place below the first",
        (updated(SEAL, "index", "0", '"index" = 1'),),
        index=1,
        row=None,
    ),
    Tampering(
        "insert a row",
        (
            f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT id + {10 * ROWS}, {COLUMNS} FROM {EVENT} WHERE id = {{row}}",
        ),
        index=None,
        row=10 * ROWS,
    ),
    Tampering(
        "insert a row with a seal and make room for it",
        (
            f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT id + {10 * ROWS}, {COLUMNS} FROM {EVENT} WHERE id = {{row}}",
            updated(SEAL, "index", '-"index"', f'"index" >= {HIT}'),
            updated(SEAL, "index", '1 - "index"', '"index" < 0'),
            f'INSERT INTO {SEAL} ("index", event_id, previous_hash, hash) SELECT {HIT}, {{row}} + {10 * ROWS},'
            f' previous_hash, hash FROM {SEAL} WHERE "index" = {HIT + 1}',
        ),
        row=10 * ROWS,
    ),
]
if ON_SQLITE:
    TAMPERINGS += [
        Tampering(
            "bytes that are no text", (updated(EVENT, "reason", "CAST(x'ff41' AS TEXT)", "id = {row}"),)
        ),
        Tampering("bytes", (updated(EVENT, "reason", "x'41'", "id = {row}"),)),
        Tampering(
            "a character that ends texts", (updated(EVENT, "reason", "reason || char(0)", "id = {row}"),)
        ),
        Tampering("a seal whose place is text", (updated(SEAL, "index", "'x'", AT_HIT),), row=None),
        Tampering(
            "a seal whose place is a fraction", (updated(SEAL, "index", '"index" - 0.5', AT_HIT),), row=None
        ),
        Tampering("a hash of bytes", (updated(SEAL, "hash", "CAST(hash AS BLOB)", AT_HIT),)),
        Tampering(
            "a name twice",
            (updated(EVENT, "after", """'{{"status":"x","status":"disabled"}}'""", "id = {row}"),),
        ),
        Tampering("null as JSON", (updated(EVENT, "after", "'null'", "id = {row}"),)),
        Tampering("no JSON", (updated(EVENT, "after", "'{{'", "id = {row}"),)),
        Tampering("no time", (updated(EVENT, "at", "'2026-01-01T00:00:00'", "id = {row}"),)),
    ]


@pytest.fixture
def history() -> str:
    """A sealed history and the note that was signed of it."""
    fill(ROWS)
    seal_everything()
    return checkpoints.make_checkpoint().note


def row_at_hit() -> int:
    return HistorySeal.objects.get(pk=HIT).event_id


def wanted(row: int) -> dict[str, tuple[int | None, int | None]]:
    return {one.name: (one.index, None if one.row is None else row + one.row) for one in TAMPERINGS}


# --- In the database ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("portion", [verify.PORTION, ROWS // 7], ids=["in one", "in portions"])
@pytest.mark.parametrize("is_ahead", [False, True], ids=["alone", "after others"])
def test_database_verifier_names_every_tampering(history, portion, is_ahead, monkeypatch):
    monkeypatch.setattr(verify, "PORTION", portion)
    if is_ahead:
        monkeypatch.setattr("enrollments.audit.ahead.processes_ahead", ahead_here)
        monkeypatch.setattr("enrollments.audit.ahead.PORTION", ROWS // 9)
    found = {}
    row = row_at_hit()
    for one in TAMPERINGS:
        if ON_SQLITE and one.name == "no JSON":
            continue  # the column's own constraint keeps that off
        with tampered(*(statement.format(row=row) for statement in one.do)):
            found[one.name] = by_us(verify_database, [checkpoints.verifier_key()])

    assert found == {name: place for name, place in wanted(row).items() if name in found}
    assert len(found) >= 43
    assert verify_database([checkpoints.verifier_key()]).ok


@pytest.mark.django_db
def test_gap_that_is_longer_than_a_portion_is_found(history, monkeypatch):
    monkeypatch.setattr(verify, "PORTION", 10)
    with tampered(f'DELETE FROM {SEAL} WHERE "index" > 20 AND "index" < 200', f"DELETE FROM {CHECKPOINT}"):
        assert by_us(verify_database, [checkpoints.verifier_key()]) == (21, None)


@pytest.mark.django_db
def test_checkpoints_are_counted_by_who_signed_them_in_whatever_portions(history, monkeypatch):
    monkeypatch.setattr(verify, "PORTION", 7)
    fill(9, seed=3)
    latest = checkpoints.make_checkpoint().note

    report = verify_database([checkpoints.verifier_key()], [history], [history, latest])

    assert (report.ok, report.checkpoints, report.signed) == (True, 5, ROWS + 9)
    assert report.signers == {checkpoints.verifier_key().name: 5}


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite")
def test_tool_names_every_tampering_of_a_copy(history, tmp_path):
    whole, copy = tmp_path / "whole.sqlite3", tmp_path / "copy.sqlite3"
    with contextlib.closing(sqlite3.connect(whole)) as target:
        connection.ensure_connection()
        connection.connection.backup(target)
        for statement in without_triggers():
            target.execute(statement)
        target.execute("PRAGMA journal_mode=DELETE")
        target.commit()
    row, found = row_at_hit(), {}
    for one in TAMPERINGS:
        shutil.copy(whole, copy)
        with contextlib.closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA ignore_check_constraints=ON")
            for statement in one.do:
                database.execute(statement.format(row=row))
            database.commit()
        found[one.name] = found_by_tool(copy)

    assert found == wanted(row)
    assert found_by_tool(whole) is None
    report = json.loads(by_tool(whole).stdout)
    assert (report["rows"], report["signed_rows"], report["waiting"]) == (ROWS, ROWS, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite")
def test_tool_reads_a_copy_from_before_the_client_was_kept(tmp_path):
    fill(20, clients=("",))
    seal_everything()
    copy = tmp_path / "old.sqlite3"
    with contextlib.closing(sqlite3.connect(copy)) as target:
        connection.ensure_connection()
        connection.connection.backup(target)
        for statement in without_triggers():
            target.execute(statement)
        target.execute(f"ALTER TABLE {EVENT} DROP COLUMN client")
        target.execute("PRAGMA journal_mode=DELETE")
        target.commit()

    assert found_by_tool(copy) is None
    assert json.loads(by_tool(copy).stdout)["rows"] == 20


@pytest.mark.django_db
def test_end_that_was_cut_off_with_its_checkpoints_is_missed_only_without_one_kept_elsewhere(
    history, tmp_path
):
    keys = [checkpoints.verifier_key()]
    cut = [f"DELETE FROM {EVENT} WHERE id >= {row_at_hit()}", f'DELETE FROM {SEAL} WHERE "index" >= {HIT}']

    with tampered(*cut, f"DELETE FROM {CHECKPOINT}"):
        assert verify_database(keys).ok
        assert by_us(verify_database, keys, [history]) == (HIT, None)


@pytest.mark.django_db
def test_history_that_was_rewritten_and_sealed_anew_is_found_by_what_was_signed(history):
    """Whoever owns the database, but not the key, can make seals that fit. They cannot make the checkpoint fit."""
    keys = [checkpoints.verifier_key()]
    with tampered(
        f"UPDATE {EVENT} SET actor_name = 'mallory' WHERE id = {row_at_hit()}",
        f"INSERT INTO enrollments_unsealedevent SELECT event_id FROM {SEAL}",
        f"DELETE FROM {SEAL}",
    ):
        seal_everything()

        problem = verify_database(keys).problem
        execute(f"DELETE FROM {CHECKPOINT}")
        assert verify_database(keys).ok
        assert by_us(verify_database, keys, [history]) == (ROWS, None)

    assert problem.index == ROWS
    assert f"from #1 to #{ROWS}" in problem.what


@pytest.mark.django_db
def test_checkpoints_narrow_down_where_a_history_was_rewritten():
    keys, notes = [checkpoints.verifier_key()], []
    for seed in range(3):
        fill(10, seed=seed)
        notes.append(checkpoints.make_checkpoint().note)
    row = HistorySeal.objects.get(pk=15).event_id
    with tampered(
        f"UPDATE {EVENT} SET actor_name = 'mallory' WHERE id = {row}",
        f"INSERT INTO enrollments_unsealedevent SELECT event_id FROM {SEAL}",
        f"DELETE FROM {SEAL}",
    ):
        seal_everything()
        problem = verify_database(keys).problem

    assert problem.index == 20
    assert "from #11 to #20" in problem.what


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change", ["size = size - 1", "head = 'f'", "note = replace(note, 'form', 'farm')", "note = 'x'"]
)
def test_checkpoint_in_the_database_that_was_changed_is_found(history, change):
    with tampered(f"UPDATE {CHECKPOINT} SET {change}"):
        problem = verify_database([checkpoints.verifier_key()]).problem

    assert "is not what was signed" in problem.what


@pytest.mark.django_db
def test_checkpoint_by_a_former_key_is_checked_where_that_is_given(history, settings):
    former = checkpoints.verifier_key()
    settings.DPS_HISTORY_KEY = "A" * 43 + "="
    fill(1)
    checkpoints.make_checkpoint()
    now = checkpoints.verifier_key()

    report = verify_database([now])

    assert report.ok
    assert (report.checkpoints, len(report.notices)) == (1, 1)
    assert len(verify_database([now], own=[history]).notices) == 2
    assert former.name in report.notices[0]
    assert verify_database([now, former]).checkpoints == 2
    with pytest.raises(UnknownSigner):
        verify_database([now], [history])


@pytest.mark.django_db
def test_rows_that_wait_are_no_fault_and_are_counted(history):
    fill(4)

    report = verify_database([checkpoints.verifier_key()])

    assert (report.ok, report.rows, report.waiting) == (True, ROWS, 4)


@pytest.mark.django_db
def test_row_that_was_taken_away_before_it_was_sealed_is_found(history):
    fill(4)
    gone = UnsealedEvent.objects.order_by("pk").first().pk

    with tampered(f"DELETE FROM {EVENT} WHERE id = {gone}"):
        assert by_us(verify_database, [checkpoints.verifier_key()]) == (None, gone)


@pytest.mark.django_db
def test_row_that_was_put_in_by_the_door_and_dated_back_is_pointed_out(history):
    row = HistoryEvent.objects.order_by("pk").first()
    row.pk, row._state.adding, row.at = None, True, row.at.replace(year=2025)
    row.save()
    seal_everything()

    report = verify_database([checkpoints.verifier_key()])

    assert report.ok
    assert f"#{ROWS + 1} (row {row.pk})" in report.notices[0]


SMALL = 12
TEXT_COLUMNS = [name for name in MEMBERS if name not in ("id", "at", "service_id", "before", "after")]
STATES = st.none() | st.dictionaries(
    st.text("ab", min_size=1, max_size=2), st.integers() | st.text("xy"), max_size=2
)
NEW_VALUES = {
    **{
        name: st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
        for name in TEXT_COLUMNS
    },
    "id": st.integers(10**6, 10**9),
    "service_id": st.none() | st.integers(1, 4),
    "at": st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda at: at.strftime("%Y-%m-%d %H:%M:%S.%f")),
    "before": STATES,
    "after": STATES,
}


@pytest.mark.django_db
@hypothesis(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_any_column_of_any_row_is_found(data):
    with undone():
        fill(SMALL)
        seal_everything()
        index = data.draw(st.integers(1, SMALL))
        column = data.draw(st.sampled_from(MEMBERS))
        row = HistorySeal.objects.get(pk=index).event_id
        was = HistoryEvent.objects.values_list(column, flat=True).get(pk=row)
        value = data.draw(NEW_VALUES[column])
        is_same = value == (was.strftime("%Y-%m-%d %H:%M:%S.%f") if column == "at" else was)
        if column in ("before", "after") and value is not None:
            value = json.dumps(value)
        if column == "at" and not ON_SQLITE:
            value += "+00"
        with connection.cursor() as cursor:
            for statement in without_triggers():
                cursor.execute(statement)
            cursor.execute(f'UPDATE {EVENT} SET "{column}" = %s WHERE id = %s', [value, row])

        problem = verify_database([checkpoints.verifier_key()]).problem
    if is_same and column != "at":
        assert problem is None
    elif not is_same:
        assert (problem.index, problem.event_id) == (index, row)


# --- In an export ------------------------------------------------------------------------------------------------


def changed(lines: list[bytes]) -> dict[str, list[bytes]]:
    """Exports with one fault each, in the line of index HIT."""
    at, rows, end = HIT - 1, lines[:-1], lines[-1:]
    line = rows[at]
    flipped = line.replace(b'"way":"portal"', b'"way":"pOrtal"')
    assert flipped != line
    return {
        "flip": [*rows[:at], flipped, *rows[at + 1 :], *end],
        "flip the hash": [*rows[:at], line.replace(b'"hash":"', b'"hash":"0')[:-1], *rows[at + 1 :], *end],
        "delete": [*rows[:at], *rows[at + 1 :], *end],
        "insert": [*rows[:at], rows[at - 1], *rows[at:], *end],
        "reorder": [*rows[:at], rows[at + 1], line, *rows[at + 2 :], *end],
        "truncate": [*rows[:at], *end],
        "truncate all": rows[:at],
        "half a line": [*rows[:at], line[: len(line) // 2]],
        "spaces": [*rows[:at], line.replace(b'"seal":', b'"seal": '), *rows[at + 1 :], *end],
        "no seal": [*rows[:at], line.split(b',"seal"')[0] + b"}\n", *rows[at + 1 :], *end],
        "more after the end": [*lines, line],
    }


@pytest.mark.django_db
def test_both_verifiers_name_every_tampering_of_an_export(history, tmp_path):
    lines = list(export_lines(HistoryCheckpoint.objects.get()))
    path = tmp_path / "export.jsonl"
    keys = [checkpoints.verifier_key()]
    ours, tools = {}, {}
    for name, these in changed(lines).items():
        path.write_bytes(b"".join(these))
        with path.open("rb") as file:
            problem = verify_export(file, keys).problem
        ours[name] = problem.index if problem else None
        done = by_tool(path)
        told = json.loads(done.stdout)["problem"]
        tools[name] = told["index"] or (HIT if f"line {HIT} " in told["what"] else told["what"])

    assert ours == dict.fromkeys(ours, HIT) | {"more after the end": ROWS + 1}
    assert {name: where for name, where in tools.items() if where != HIT} == {
        "truncate all": "the export was cut off: it ends without a checkpoint",
        "more after the end": f"line {ROWS + 2} is no line of an export, or comes after its end",
    }


@pytest.mark.django_db
def test_both_verifiers_name_the_row_of_an_export_as_well(history, tmp_path):
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(changed(list(export_lines(HistoryCheckpoint.objects.get())))["flip"]))

    with path.open("rb") as file:
        assert by_us(verify_export, file, [checkpoints.verifier_key()]) == (HIT, row_at_hit())
    assert found_by_tool(path) == (HIT, row_at_hit())


@pytest.mark.django_db
def test_export_as_written_is_whole_for_both(history, tmp_path):
    path, note = tmp_path / "export.jsonl", tmp_path / "checkpoint.txt"
    path.write_bytes(b"".join(export_lines(HistoryCheckpoint.objects.get())))
    note.write_text(history + "\n" + history)

    with path.open("rb") as file:
        ours = verify_export(file, [checkpoints.verifier_key()], [history])
    tools = json.loads(by_tool(path, "--checkpoint", str(note)).stdout)

    assert (ours.ok, ours.rows, ours.head) == (True, ROWS, tools["head"])
    assert (tools["ok"], tools["rows"], tools["signed_rows"]) == (True, ROWS, ROWS)
    first = json.loads(path.read_bytes().splitlines()[0])
    assert list(first) == ["event", "seal"]
    assert first["event"]["subject_name"] == "pump-000000"


@pytest.mark.django_db
def test_export_that_is_older_than_a_checkpoint_kept_elsewhere_is_called_cut_off(history, tmp_path):
    path, note = tmp_path / "export.jsonl", tmp_path / "later.txt"
    path.write_bytes(b"".join(export_lines(HistoryCheckpoint.objects.get())))
    fill(3, seed=1)
    later = checkpoints.make_checkpoint().note
    note.write_text(later)

    with path.open("rb") as file:
        assert by_us(verify_export, file, [checkpoints.verifier_key()], [later])[0] == ROWS + 1
    assert found_by_tool(path, "--checkpoint", str(note)) == (ROWS + 1, None)


@pytest.mark.django_db
def test_export_signed_by_somebody_else_proves_nothing(history, tmp_path):
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(export_lines(HistoryCheckpoint.objects.get())))
    other = SigningKey(b"m" * 32)
    forged = HistoryCheckpoint.objects.get()
    forged.note = other.signed(history.partition("\n\n")[0] + "\n")
    signed_by_other = b"".join(export_lines(forged))

    with pytest.raises(UnknownSigner):
        verify_export(io.BytesIO(signed_by_other), [checkpoints.verifier_key()])
    path.write_bytes(signed_by_other)
    done = by_tool(path)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (2, False)
    # The same name and key hash over a signature by another key.
    lying = history[:-20] + "A" * 15 + history[-5:]
    with pytest.raises(BadNote):
        verify_export(io.BytesIO(), [checkpoints.verifier_key()], [lying])
    kept = tmp_path / "kept.txt"
    kept.write_text(lying)
    assert by_tool(path, "--checkpoint", str(kept)).returncode == 1


@pytest.mark.django_db
def test_export_of_one_service_shows_nothing_of_others_and_is_proved_all_the_same(tmp_path):
    plant = new_service("plant")
    fill(60, service_ids=(plant.pk, plant.pk + 1, None))
    path = tmp_path / "export.jsonl"

    checkpoint, lines = export_history(plant, actor=ALICE)
    path.write_bytes(b"".join(lines))

    rows = [json.loads(line) for line in path.read_bytes().splitlines()[:-1]]
    shown = [one["event"] for one in rows if "event" in one]
    assert {one["service_id"] for one in shown} == {plant.pk}
    assert shown[-1]["event"] == "history.exported"
    assert len(rows) == checkpoint.size > len(shown) + 30
    assert f"service-{plant.pk + 1}" not in path.read_text()
    with path.open("rb") as file:
        report = verify_export(file, [checkpoints.verifier_key()])
    assert (report.ok, report.opaque) == (True, len(rows) - len(shown))
    assert found_by_tool(path) is None
    hidden = next(number for number, one in enumerate(rows) if "event" not in one)
    broken = path.read_bytes().splitlines(keepends=True)
    broken[hidden] = broken[hidden].replace(rows[hidden]["row_hash"].encode(), b"0" * 64)
    path.write_bytes(b"".join(broken))
    with path.open("rb") as file:
        assert by_us(verify_export, file, [checkpoints.verifier_key()])[0] == hidden + 1
    assert found_by_tool(path)[0] == hidden + 1


# --- The tool ----------------------------------------------------------------------------------------------------


def test_tool_needs_the_standard_library_and_cryptography_alone():
    names = set()
    for node in ast.walk(ast.parse(TOOL.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}

    assert names - set(sys.stdlib_module_names) == {"cryptography"}


@pytest.mark.parametrize("given_key", ["x", "a+b+c", "dpsportal+00000000+AAAA"])
def test_tool_says_that_it_was_called_wrongly(tmp_path, given_key):
    assert by_tool(tmp_path / "nothing", keys=(given_key,)).returncode == 2


@pytest.mark.django_db
def test_tool_says_what_it_cannot_read(tmp_path):
    assert by_tool(tmp_path / "nothing").returncode == 2
    (tmp_path / "half").write_bytes(b"SQLite format 3\0" + b"x" * 100)
    assert by_tool(tmp_path / "half").returncode == 2
    (tmp_path / "text").write_text("hello\n")
    assert by_tool(tmp_path / "text").returncode == 1


def test_tool_says_what_it_lacks(tmp_path):
    """Without the packages of a site there is no cryptography: nothing was checked, which is not that it is wrong."""
    command = [sys.executable, "-I", "-S", str(TOOL), str(tmp_path / "history.jsonl"), "--key", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("It needs Python's package cryptography")


def begun(monkeypatch) -> tuple[verify.Check, list]:
    """A check of 60 rows, of which a first portion was looked at."""
    fill(60)
    checkpoints.make_checkpoint()
    monkeypatch.setattr(verify, "PORTION", 7)
    keys = [checkpoints.verifier_key()]
    check = begin_check()
    check.go_on(SignedHere(keys))
    return check, keys


@pytest.mark.django_db
def test_rows_and_checkpoints_that_come_while_it_is_checked_are_no_fault(monkeypatch):
    """A check takes minutes, and a checkpoint is signed every ten of them."""
    check, keys = begun(monkeypatch)
    fill(5)
    checkpoints.make_checkpoint()
    check = verify.Check.from_before(check.to_go_on_later())

    while not check.done:
        check.go_on(SignedHere(keys))

    assert check.report.problem is None
    assert check.report.rows == check.report.signed == head().size
    assert check.report.checkpoints == 2


@pytest.mark.django_db
def test_what_is_cut_off_while_it_is_checked_is_found(monkeypatch):
    check, keys = begun(monkeypatch)
    with tampered(f'DELETE FROM {SEAL} WHERE "index" > 50'):
        while not check.done:
            check.go_on(SignedHere(keys))

    assert "the history was cut off" in str(check.report.problem)
