"""One row of 100,000 that was flipped, deleted, inserted or moved, or an end cut off: both verifiers name it."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from enrollments.audit import checkpoints
from enrollments.audit.verify_database import verify_database
from enrollments.models import HistorySeal
from tests.audit.histories import fill, repeat
from tests.audit.tampering import (
    CHECKPOINT,
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    loaded_tool,
    tampered,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite"),
]
ROWS, PARTS = 100_000, 4
HIT = 71_234

tool = loaded_tool()

Place = tuple[int | None, int | None]


def sealed(rows: int, parts: int) -> list[str]:
    """So many rows, signed after each part of them; the notes."""
    notes = []
    for part in range(parts):
        # The first part is made of few rows and their copies, each other of rows that the first has as well.
        if part == 0:
            fill(rows // parts // 10)
            repeat(9)
        else:
            repeat(1, only=rows // parts)
        notes.append(checkpoints.make_checkpoint().note)
    return notes


def by_us(*kept: str) -> Place | None:
    found = verify_database([checkpoints.verifier_key()], kept).problem
    return (found.index, found.event_id) if found else None


def by_tool(path: Path, *kept: str) -> Place | None:
    database: Any = tool.Database(path)
    with contextlib.closing(database.connection):
        try:
            tool.verify(
                database, [tool.Key(str(checkpoints.verifier_key()))], [(note, "kept") for note in kept]
            )
        except tool.Wrong as found:
            return found.index, found.event_id
    return None


def cut_after(rows: int, last_id: int) -> tuple[str, ...]:
    """Rows, seals, and every checkpoint that would tell."""
    return (
        f"DELETE FROM {EVENT} WHERE id > {last_id}",
        f'DELETE FROM {SEAL} WHERE "index" > {rows}',
        f"DELETE FROM {CHECKPOINT} WHERE size > {rows}",
    )


def test_one_row_of_100_000(copy):
    notes = sealed(ROWS, PARTS)
    row = HistorySeal.objects.get(pk=HIT).event_id
    tamperings: dict[str, tuple[tuple[str, ...], Place]] = {
        "flip": ((f"UPDATE {EVENT} SET address = '192.0.2.8' WHERE id = {row}",), (HIT, row)),
        "delete": ((f"DELETE FROM {EVENT} WHERE id = {row}",), (HIT, row)),
        "delete with its seal": (
            (f"DELETE FROM {EVENT} WHERE id = {row}", f'DELETE FROM {SEAL} WHERE "index" = {HIT}'),
            (HIT, None),
        ),
        "insert": (
            (f"INSERT INTO {EVENT} ({COLUMNS}) SELECT {COLUMNS} FROM {EVENT} WHERE id = {row}",),
            (None, HistorySeal.objects.latest("pk").event_id + 1),
        ),
        "reorder": (
            (
                f'UPDATE {SEAL} SET event_id = -event_id WHERE "index" IN ({HIT}, {HIT + 1})',
                f'UPDATE {SEAL} SET event_id = 1 - event_id WHERE "index" = {HIT}',
                f'UPDATE {SEAL} SET event_id = -1 - event_id WHERE "index" = {HIT + 1}',
            ),
            (HIT, row + 1),
        ),
        "truncate": (cut_after(ROWS - 1, row + ROWS - HIT - 1), (ROWS, None)),
    }
    ours, tools = {}, {}
    for name, (statements, _) in tamperings.items():
        kept = notes[-1:] if name == "truncate" else []
        with tampered(*statements):
            ours[name] = by_us(*kept)
        tools[name] = by_tool(copy(*statements), *kept)

    assert HistorySeal.objects.count() == ROWS
    assert ours == tools == {name: place for name, (_, place) in tamperings.items()}
    assert by_us(*notes) is by_tool(copy(), *notes) is None


def test_end_that_was_cut_off_is_found_by_any_later_checkpoint_and_by_no_earlier_one(copy):
    notes = dict(zip(range(60, 301, 60), sealed(300, 5), strict=True))
    ids = dict(HistorySeal.objects.values_list("pk", "event_id"))
    for rows in (1, 59, 60, 61, 150, 239, 240, 299):
        statements = cut_after(rows, ids[rows])
        changed = copy(*statements)
        with tampered(*statements):
            for size, note in notes.items():
                wanted = (rows + 1, None) if size > rows else None
                assert (by_us(note), by_tool(changed, note)) == (wanted, wanted), (rows, size)
