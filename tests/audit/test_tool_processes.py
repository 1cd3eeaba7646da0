"""What the tool has other processes look at is what it would have found by itself: the same report, the same words."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from enrollments.audit import checkpoints
from enrollments.audit.export import export_lines
from enrollments.models import HistoryCheckpoint, HistorySeal
from tests.audit import test_between_chunks as chunks
from tests.audit import test_impossible_ids as ids
from tests.audit import test_verify as whole
from tests.audit import test_what_is_taken as taken
from tests.audit import test_written_forms as forms
from tests.audit.histories import execute, fill
from tests.audit.tampering import (
    CHECKPOINT,
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    TOOL,
    by_tool,
    key,
    loaded_tool,
    updated,
)
from tests.audit.test_hostile_input import ends, rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite"),
]
tool = loaded_tool()

ROWS = 120
Found = dict[str, Any] | tuple[str, int | None, int | None]


def checked(path: Path, *kept: str, excerpt: Path | None = None) -> Found:
    """The report and what is pointed out of rows, or what is wrong."""
    source, keys, notes = tool.whole(path), [tool.Key(key())], [(note, "kept") for note in kept]
    try:
        if excerpt:
            report = tool.verify_excerpt(tool.Excerpt(excerpt), source, keys, notes)
        else:
            report = tool.verify(source, keys, notes)
    except tool.Wrong as wrong:
        return str(wrong), wrong.index, wrong.event_id
    except sqlite3.Error as error:
        return str(error), None, None
    return report | {"hidden": source.hidden, "late": getattr(source, "late", []), "read": source.read}


class Asked(tool.Helpers):
    """As processes would answer, without starting any: what they would be sent, and would send, goes through JSON."""

    def start(self) -> None:
        self.processes, self.threads = [MagicMock()], ThreadPoolExecutor(1)
        self.asked = {name: self.ask(name) for name in self.source.others()}

    def said(self, question: Iterable[object]) -> Any:
        path, is_export = self.source.path, isinstance(self.source, tool.Export)
        source = tool.Export(path) if is_export else tool.DatabaseAhead(path, by_row=True)
        answer = tool.answered(source, set(json.loads(json.dumps([*self.places]))), question)
        answers.append((question, answer))
        return json.loads(json.dumps(answer))


answers: list[tuple[Any, Any]] = []


@pytest.fixture
def small(monkeypatch) -> Callable[[int, int], None]:
    """Portions of so many rows, or bytes, of however short a history."""

    def of(rows: int, bytes: int = 2000) -> None:
        monkeypatch.setattr(tool, "LEAST_ROWS", 1)
        monkeypatch.setattr(tool, "PORTION_ROWS", rows)
        monkeypatch.setattr(tool, "LEAST_BYTES", 1)
        monkeypatch.setattr(tool, "PORTION_BYTES", bytes)
        monkeypatch.setattr(tool, "processors", lambda: 2)

    return of


@pytest.fixture
def both(small, monkeypatch) -> Callable[..., tuple[Found, Found]]:
    """Read by this process alone, and in portions that others have looked at."""
    helpers = tool.Helpers

    def found(path: Path, *kept: str, rows: int = 7, **more: Any) -> tuple[Found, Found]:
        monkeypatch.setattr(tool, "LEAST_ROWS", 10**9)
        monkeypatch.setattr(tool, "LEAST_BYTES", 10**9)
        monkeypatch.setattr(tool, "Helpers", helpers)
        alone = checked(path, *kept, **more)
        small(rows)
        monkeypatch.setattr(tool, "Helpers", Asked)
        answers.clear()
        return alone, checked(path, *kept, **more)

    return found


def in_order() -> int:
    """How many portions were found in order."""
    return sum(len(question) == 2 and answer is not None for question, answer in answers)


def agree(
    both: Callable[..., tuple[Found, Found]], copy: Callable[..., Path], cases: dict[str, Any], **more: Any
) -> set:
    """Nothing is named in another way; the names of what was found wrong."""
    differ, wrong = {}, set()
    for name, statements in cases.items():
        alone, together = both(copy(*statements), **more)
        if alone != together:
            differ[name] = alone, together
        if isinstance(alone, tuple):
            wrong.add(name)
    assert differ == {}
    return wrong


# --- Copies of the database --------------------------------------------------------------------------------------


@pytest.mark.parametrize("portion", [1, 20, 200])
def test_every_tampering_is_named_in_the_same_words(copy, both, portion):
    fill(whole.ROWS)
    checkpoints.make_checkpoint()
    row = whole.row_at_hit()
    cases = {one.name: [statement.format(row=row) for statement in one.do] for one in whole.TAMPERINGS}
    if portion == 1:
        cases = dict(list(cases.items())[::5])

    assert agree(both, copy, cases, rows=portion) == set(cases)
    alone, together = both(copy(), rows=portion)
    assert alone == together
    assert together["rows"] == whole.ROWS
    assert in_order() == -(-whole.ROWS // portion)
    # Triggers are gone in these copies. What else is looked at was in order beside all rows.
    assert dict(answers)[("left_over",)] == dict(answers)[("count_by_indexes",)] == whole.ROWS


@pytest.mark.parametrize("portion", [100, 600])
def test_nothing_hides_between_portions(copy, both, portion):
    fill(chunks.ROWS, seed=1)
    checkpoints.make_checkpoint()
    cases = {name: statements for name, (statements, _) in chunks.CASES.items()}
    cases |= {f"a row twice at {place}": chunks.second_row(place) for place in chunks.PLACES}

    assert agree(both, copy, cases, rows=portion) == set(cases)


def test_ids_that_no_row_can_have_are_named_in_the_same_words(copy, both):
    fill(20, clients=("",))
    fill(1)
    checkpoints.make_checkpoint()
    cases = {
        name: [statement.replace("subject_name = 'pump-042'", "id > 0") for statement in statements]
        for name, (statements, _) in ids.WAYS.items()
    }

    assert agree(both, copy, cases) == set(cases)


def test_what_the_database_refuses_is_named_in_the_same_words(copy, both):
    fill(taken.SEALED)
    checkpoints.make_checkpoint()
    fill(taken.WAITS, seed=3)
    cases = {name: [taken.REFUSED[name]] for name in taken.PUT_IN}

    assert agree(both, copy, cases) == set(cases)


def test_forms_that_are_not_written_are_named_in_the_same_words(copy, both):
    fill(forms.ROWS)
    checkpoints.make_checkpoint()
    cases = {name: [updated(EVENT, *change, "id > 3")] for name, change in forms.FORMS.items()}

    assert agree(both, copy, cases) == set(cases)


def test_checkpoints_and_ends_are_held_against_it_in_the_same_words(copy, both):
    notes = []
    for seed in range(4):
        fill(ROWS // 4, seed=seed)
        notes.append(checkpoints.make_checkpoint().note)
    gone = [f"DELETE FROM {CHECKPOINT}"]
    for cut in (0, 1, 29, 30, 31, ROWS - 1):
        statements = [
            f'DELETE FROM {EVENT} WHERE id IN (SELECT event_id FROM {SEAL} WHERE "index" > {cut})',
            f'DELETE FROM {SEAL} WHERE "index" > {cut}',
            *gone,
        ]
        for note in (notes[0], notes[-1]):
            alone, together = both(copy(*statements), note)
            assert alone == together
    assert both(copy(), *notes)[1]["checkpoints"] == 8

    # Sealed anew from one row on: the checkpoints in what the processes looked at tell.
    other = copy(*gone)
    rewritten = resealed(other, 40)
    assert rewritten == ROWS
    alone, together = both(other, *notes)
    assert alone == together
    assert "something from #31 to #60" in together[0]
    assert both(other)[0] == both(other)[1] != together


def resealed(path: Path, first: int, before: str = "") -> int:
    """A row says something else, and all seals from it on fit each other; how many seals there are.

    before: the hash that the first of these seals follows, if not the one that it did.
    """
    where = f'id = (SELECT event_id FROM {SEAL} WHERE "index" = {first})'
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(updated(EVENT, "reason", "'forged'", where))
        database.commit()
        rows = list(tool.Database(path).rows())
        for index, previous, _, row, *_ in rows[first - 1 :]:
            before = before or previous
            hash = tool.seal_hash(index, before, row)
            seal = f'UPDATE {SEAL} SET previous_hash = ?, hash = ? WHERE "index" = ?'
            database.execute(seal, (before, hash, index))
            before = hash
        database.commit()
    return len(rows)


@pytest.mark.parametrize("first", [20, 21, 22, 41])
def test_portions_that_fit_themselves_alone_are_not_joined(copy, both, first):
    """Portions of 20 rows: from the first of one on, all is sealed anew, behind another hash or another row."""
    fill(ROWS)
    checkpoints.make_checkpoint()
    gone = [f"DELETE FROM {CHECKPOINT}"]
    other = copy(*gone)
    resealed(other, first, "a" * 64)
    assert (
        both(other, rows=20)
        == (
            (
                f"#{first} row {HistorySeal.objects.get(pk=first).event_id}: its seal does not follow the one before",
                first,
                HistorySeal.objects.get(pk=first).event_id,
            ),
        )
        * 2
    )

    # All of the portion before it is gone, and it follows the seal before that.
    other, left = copy(*gone), max(first - 21, 1)
    resealed(other, first, HistorySeal.objects.get(pk=left).hash)
    with contextlib.closing(sqlite3.connect(other)) as database:
        between = f'"index" > {left} AND "index" < {first}'
        database.execute(f"DELETE FROM {EVENT} WHERE id IN (SELECT event_id FROM {SEAL} WHERE {between})")
        database.execute(f"DELETE FROM {SEAL} WHERE {between}")
        database.commit()
    missing = f"#{left + 1}: its seal is missing: after #{left} comes #{first}"
    assert both(other, rows=20) == ((missing, left + 1, None),) * 2


DATES = {
    "long before": ["2025-01-01 00:00:00"],
    "a bit before": ["2025-12-31 23:59:59"],
    "no day": ["2026-02-30 00:00:00"],
    "no time": ["2026-01-01 99:00:00"],
    "no year": ["0000-01-01 00:00:00"],
    "no day, and days after it": [
        "2026-02-30 00:00:00",
        *["2026-03-01 00:00:00.000001"] * 9,
        "2026-02-28 23:59:59",
    ],
    "a day that is none between two portions": [
        *["2026-03-01 00:10:00"] * 6,
        "2026-02-28 23:59:59",
        "2026-02-30 10:00:00",
        "2026-03-01 00:10:00",
    ],
    "far ahead, then back": [
        "9999-12-31 23:59:59.999999",
        *["2026-01-01 00:00:00"] * 9,
        "2027-01-01 00:00:00",
    ],
    "one hour": [*["2026-05-01 10:00:00"] * 3, "2026-05-01 09:00:00", "2026-05-01 08:59:59.999999"],
}


@pytest.mark.parametrize("name", DATES)
@pytest.mark.parametrize("portion", [1, 2, 7, 13])
def test_rows_dated_late_are_pointed_out_alike(copy, both, name, portion):
    fill(20)
    checkpoints.make_checkpoint()
    first = HistorySeal.objects.get(pk=1).event_id
    for number, at in enumerate(DATES[name]):
        columns = COLUMNS.replace('"at"', f"'{at}'")
        execute(f"INSERT INTO {EVENT} ({COLUMNS}) SELECT {columns} FROM {EVENT} WHERE id = {first + number}")
    checkpoints.make_checkpoint()
    fill(8, seed=3)
    checkpoints.make_checkpoint()

    alone, together = both(copy(), rows=portion)

    assert alone == together
    assert together["rows"] == 28 + len(DATES[name])
    assert in_order() > 0


# --- Exports -----------------------------------------------------------------------------------------------------


def test_every_tampering_of_an_export_is_named_in_the_same_words(both, tmp_path):
    fill(whole.ROWS)
    checkpoints.make_checkpoint()
    lines = list(export_lines(HistoryCheckpoint.objects.get()))
    note = lines[-1]
    cases = whole.changed(lines)
    cases |= {name: [*lines[:-1], end] for name, end in ends(note).items()}
    cases |= {name: [*lines[:70], row, *lines[71:]] for name, row in rows(lines[70]).items()}
    for at in (0, 5, 150, len(lines) - 2):
        cases |= {
            f"an end behind {at}": [*lines[: at + 1], note, *lines[at + 1 :]],
            f"an end for {at}": [*lines[:at], note, *lines[at + 1 :]],
            f"an empty line behind {at}": [*lines[: at + 1], b"\n", *lines[at + 1 :]],
            f"a carriage return in {at}": [*lines[:at], lines[at][:-1] + b"\r\n", *lines[at + 1 :]],
            f"half a line at {at}": [*lines[:at], lines[at][: len(lines[at]) // 2]],
        }
    # One of these ends a portion: the next, which is in order by itself, comes after the end.
    cases |= {f"an end behind {at}": [*lines[: at + 1], note, *lines[at + 1 :]] for at in range(40)}
    path, differ, right = tmp_path / "export.jsonl", {}, []
    for name, these in cases.items():
        path.write_bytes(b"".join(these))
        alone, together = both(path)
        if alone != together:
            differ[name] = alone, together
        if isinstance(alone, dict):
            right.append(name)

    # That one changes the size of a checkpoint of 20 rows, which this is not.
    assert (differ, right) == ({}, ["a size of many digits"])
    path.write_bytes(b"".join(lines))
    alone, together = both(path)
    assert alone == together
    assert (together["rows"], together["read"]) == (whole.ROWS, whole.ROWS + 1)
    assert in_order() > 20


def test_rows_of_an_export_that_are_hidden_are_counted(both, tmp_path):
    fill(ROWS)
    checkpoints.make_checkpoint()
    path, lines = tmp_path / "export.jsonl", list(export_lines(HistoryCheckpoint.objects.get()))
    for number in range(0, ROWS, 3):
        event, seal = lines[number].removeprefix(b'{"event":').rsplit(b',"seal":', 1)
        lines[number] = b'{"row_hash":"%b","seal":%b' % (tool.row_hash(event).encode(), seal)
    path.write_bytes(b"".join(lines))

    alone, together = both(path)

    assert alone == together
    assert (together["rows"], together["hidden"], in_order() > 5) == (ROWS, ROWS // 3, True)


@pytest.mark.parametrize("of", ["an export", "a copy"])
def test_excerpts_are_held_against_what_processes_looked_at(both, copy, files, of):
    excerpt, export = files
    whole_history = copy() if of == "a copy" else export
    alone, together = both(whole_history, excerpt=excerpt)
    assert alone == together
    assert (together["excerpt_rows"], in_order() > 5) == (9, True)

    # A row that has another seal there, and one that has none there at all.
    heading, first, *lines = excerpt.read_bytes().splitlines(keepends=True)
    row, seal = first[:-2].rsplit(b',"seal":', 1)
    told = json.loads(seal)
    for index in (told["index"], 40, 5000, True):
        forged = row.replace(b'"way":"portal"', b'"way":"pOrtal"')
        hash = tool.seal_hash(index, told["previous"], tool.row_hash(forged.removeprefix(b'{"event":')))
        fits = tool.canonical({"hash": hash, "index": index, "previous": told["previous"]}).encode()
        excerpt.write_bytes(b"".join([heading, forged + b',"seal":' + fits + b"}\n", *lines]))
        alone, together = both(whole_history, excerpt=excerpt)
        assert alone == together
        assert isinstance(together, tuple)


# --- Processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def history(copy) -> Path:
    fill(ROWS)
    checkpoints.make_checkpoint()
    return copy()


@pytest.fixture
def joined(monkeypatch) -> list[bool]:
    """Of each portion that a process said something of, whether it was taken."""
    taken, join = [], tool.Chain.joined
    monkeypatch.setattr(
        tool.Chain, "joined", lambda self, *found: taken.append(join(self, *found)) or taken[-1]
    )
    return taken


@pytest.mark.parametrize("form", ["copy", "export"])
def test_processes_look_at_all_of_a_history(history, small, joined, form, tmp_path):
    path = history
    if form == "export":
        path = tmp_path / "export.jsonl"
        path.write_bytes(b"".join(export_lines(HistoryCheckpoint.objects.get())))
    alone = checked(path)
    assert joined == []
    small(10, 6000)

    assert checked(path) == alone
    assert len(joined) >= 9
    assert all(joined)


def test_what_is_wrong_is_named_behind_what_processes_looked_at(history, small, joined):
    row = HistorySeal.objects.get(pk=ROWS - 5).event_id
    with contextlib.closing(sqlite3.connect(history)) as database:
        database.execute(updated(EVENT, "reason", "'forged'", f"id = {row}"))
        database.commit()
    small(10)

    assert checked(history) == (f"#{ROWS - 5} row {row}: it is not the row that was sealed", ROWS - 5, row)
    assert joined == [True] * (ROWS // 10 - 1)


@pytest.mark.parametrize("number", [0, 1, 3, 7])
@pytest.mark.parametrize("both_of_them", [True, False])
def test_process_that_is_killed_changes_nothing(history, small, monkeypatch, number, both_of_them):
    alone = checked(history)
    small(10)
    said, asked = tool.Helpers.said, []

    def killed_first(self, question):
        asked.append(question)
        if len(asked) == number + 1:
            for process in self.processes if both_of_them else self.processes[:1]:
                process.kill()
                process.wait()
        return said(self, question)

    monkeypatch.setattr(tool.Helpers, "said", killed_first)

    assert checked(history) == alone
    assert len(asked) > ROWS // 10


NOT_STARTED: dict[str, Callable[[Any], None]] = {
    "one processor": lambda patch: patch.setattr(tool, "processors", lambda: 1),
    "no file": lambda patch: patch.setattr(tool, "THIS_FILE", None),
    "a file that is gone": lambda patch: patch.setattr(tool, "THIS_FILE", "/nowhere/verify_history.py"),
    "no Python": lambda patch: patch.setattr(tool.sys, "executable", "/nowhere/python"),
    "a Python that is not told": lambda patch: patch.setattr(tool.sys, "executable", ""),
}


@pytest.mark.parametrize("reason", NOT_STARTED)
def test_where_none_can_be_started_all_is_read_as_ever(history, small, joined, monkeypatch, reason):
    alone = checked(history)
    small(10)
    NOT_STARTED[reason](monkeypatch)

    assert checked(history) == alone
    assert joined == []


BEGUN = """
import importlib.util, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
spec = importlib.util.spec_from_file_location("verify_history", sys.argv.pop(1))
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
tool.LEAST_ROWS, tool.PORTION_ROWS, tool.processors = 1, 10, lambda: 2
joined = tool.Chain.joined
tool.Chain.joined = lambda *found: print("begun", joined(*found), flush=True) or time.sleep(60)
sys.exit(tool.main())
"""


def test_interrupt_ends_it_and_its_processes_without_a_word(history):
    command = [sys.executable, "-c", BEGUN, str(TOOL), str(history), "--key", key()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun True\n"
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=30)

    assert (process.returncode, said) == (130, ("", ""))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_long_file_is_read_by_processes_as_auditors_run_it(tmp_path):
    """An export that goes on behind its end for as many bytes as it takes to start some."""
    fill(10)
    checkpoints.make_checkpoint()
    path = tmp_path / "export.jsonl"
    path.write_bytes(
        b"".join([*export_lines(HistoryCheckpoint.objects.get()), b" " * tool.LEAST_BYTES, b"\n"])
    )

    done = by_tool(path)

    assert (done.returncode, done.stderr) == (1, "")
    assert "line 12 is no line of an export, or comes after its end" in done.stdout
