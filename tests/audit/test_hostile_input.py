"""What somebody may put before a verifier who does not want it to get to its answer: both end with one all the same."""

import contextlib
import json
import sqlite3
from hashlib import sha256

import pytest
from django.db import connection

from enrollments.audit import checkpoints
from enrollments.audit.export import export_lines
from enrollments.audit.notes import BadNote
from enrollments.audit.sealer import seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.audit.verify_export import verify_excerpt, verify_export
from enrollments.models import HistoryCheckpoint
from tests.audit.histories import fill
from tests.audit.tampering import CHECKPOINT, EVENT, ON_SQLITE, by_tool, tampered, without_triggers

pytestmark = pytest.mark.django_db

DEEP = b"[" * 100_000 + b"]" * 100_000
on_sqlite = pytest.mark.skipif(
    not ON_SQLITE, reason="PostgreSQL keeps what does not belong into a column out of it"
)


def ends(last: bytes) -> dict[str, bytes]:
    """Ends of an export, instead of the line with its checkpoint."""
    note = json.loads(last)["checkpoint"]
    text = note.partition("\n\n")[0]

    def line(note: object) -> bytes:
        return json.dumps({"checkpoint": note}).encode() + b"\n"

    return {
        "a number": line(5),
        "nothing": line(None),
        "deep": b'{"checkpoint":' + DEEP + b"}\n",
        "a signature that is none": line(f"{text}\n\n— name A\n"),
        "half a surrogate pair": line(note.replace("time ", "time \ud800")),
        "a size of many digits": line(note.replace("\n20\n", f"\n{'9' * 5000}\n")),
        "no line feed": last[:-1],
        "a list": b"[]\n",
    }


def rows(line: bytes) -> dict[str, bytes]:
    """A line of a row, made so that it cannot be read."""
    event, seal = line[:-2].rsplit(b',"seal":', 1)
    return {
        "a deep seal": event + b',"seal":' + DEEP + b"}\n",
        "a deep event": b'{"event":' + DEEP + b',"seal":' + seal + b"}\n",
        "an ID of many digits": event.replace(b'"id":', b'"id":' + b"9" * 5000) + b',"seal":' + seal + b"}\n",
        "an index of many digits": event
        + b',"seal":'
        + seal.replace(b'"index":', b'"index":' + b"9" * 5000)
        + b"}\n",
    }


def test_both_verifiers_refuse_an_export_that_cannot_be_read(tmp_path):
    fill(20)
    seal_everything()
    *lines, last = export_lines(checkpoints.make_checkpoint())
    whole = {name: [*lines, end] for name, end in ends(last).items()}
    whole |= {name: [*lines[:7], row, *lines[8:], last] for name, row in rows(lines[7]).items()}
    path = tmp_path / "export.jsonl"
    for name, these in whole.items():
        path.write_bytes(b"".join(these))
        done = by_tool(path)
        with path.open("rb") as file:
            try:
                ours = str(verify_export(file, [checkpoints.verifier_key()]).problem or "")
            except BadNote as problem:
                ours = problem.message

        assert done.returncode == 1, (name, done.stderr[-300:])
        assert json.loads(done.stdout)["problem"]["what"], name
        assert ours, name


@on_sqlite
@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {CHECKPOINT} SET note = x'ff00'",
        f"UPDATE {CHECKPOINT} SET note = replace(note, '— ', '— x A' || char(10) || '— ')",
        f"UPDATE {EVENT} SET at = '0000-00-00 00:00:00' WHERE id = (SELECT MAX(id) FROM {EVENT})",
    ],
    ids=["bytes for a note", "a signature that is none", "a day that no calendar has"],
)
@pytest.mark.django_db(transaction=True)
def test_both_verifiers_name_what_no_column_should_hold(tmp_path, statement):
    fill(20)
    seal_everything()
    checkpoints.make_checkpoint()
    copy = tmp_path / "copy.sqlite3"
    with contextlib.closing(sqlite3.connect(copy)) as target:
        connection.ensure_connection()
        connection.connection.backup(target)
        for one in (*without_triggers(), statement, "PRAGMA journal_mode=DELETE"):
            target.execute(one)
        target.commit()

    done = by_tool(copy)
    with tampered(statement):
        problem = verify_database([checkpoints.verifier_key()]).problem

    assert done.returncode == 1, done.stderr[-300:]
    assert json.loads(done.stdout)["problem"]["what"]
    assert problem is not None


def test_rows_of_an_excerpt_that_were_hidden_are_counted(files):
    excerpt, whole = files
    heading, first, *lines = excerpt.read_bytes().splitlines(keepends=True)
    seal = first[:-2].rsplit(b',"seal":', 1)[1]
    event = first[len(b'{"event":') :].rsplit(b',"seal":', 1)[0]
    hidden = b'{"row_hash":"' + sha256(event).hexdigest().encode() + b'","seal":' + seal + b"}\n"
    excerpt.write_bytes(b"".join([heading, hidden, *lines]))

    told = json.loads(by_tool(excerpt, "--against", str(whole)).stdout)
    with excerpt.open("rb") as some, whole.open("rb") as every:
        ours = verify_excerpt(some, every, [checkpoints.verifier_key()])

    assert (told["excerpt_rows"], told["excerpt_rows_by_hash_only"]) == (9, 1)
    assert (ours.ok, ours.excerpt_rows, ours.excerpt_opaque) == (True, 9, 1)
    assert HistoryCheckpoint.objects.count() == 1
