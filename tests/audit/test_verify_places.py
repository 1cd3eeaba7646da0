"""Both verifiers at the edges: the first and the last row, a row put in between, an end that is cut off anywhere."""

from pathlib import Path

import pytest

from enrollments.audit import checkpoints
from enrollments.audit.export import export_lines
from enrollments.audit.sealer import seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.audit.verify_export import verify_export
from enrollments.models import HistoryCheckpoint, HistorySeal
from tests.audit.histories import fill
from tests.audit.tampering import (
    CHECKPOINT,
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    by_us,
    copied,
    found_by_tool,
    tampered,
    updated,
)

# A checkpoint after every so many rows, and so many of them.
EACH, NOTES = 10, 4
ROWS = EACH * NOTES
FIRST, LAST = 1, ROWS
only_sqlite = pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite")


@pytest.fixture
def notes() -> list[str]:
    """What was signed while the history grew, kept by somebody."""
    signed = []
    for seed in range(NOTES):
        fill(EACH, seed=seed)
        seal_everything()
        signed.append(checkpoints.make_checkpoint().note)
    return signed


def row_at(index: int) -> int:
    return HistorySeal.objects.get(pk=index).event_id


# --- One row ---------------------------------------------------------------------------------------------------


def flip(index: int) -> list[str]:
    return [updated(EVENT, "actor_name", "'mallory'", f"id = {row_at(index)}")]


def delete(index: int) -> list[str]:
    return [f"DELETE FROM {EVENT} WHERE id = {row_at(index)}"]


def put_in(index: int) -> list[str]:
    """Another row of the same content in its place, with its seal, and all others one place further."""
    row = row_at(index)
    return [
        f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT {put_in_id(index)}, {COLUMNS} FROM {EVENT} WHERE id = {row}",
        updated(SEAL, "index", '-"index"', f'"index" >= {index}'),
        updated(SEAL, "index", '1 - "index"', '"index" < 0'),
        f'INSERT INTO {SEAL} ("index", event_id, previous_hash, hash)'
        f' SELECT {index}, {put_in_id(index)}, previous_hash, hash FROM {SEAL} WHERE "index" = {index + 1}',
    ]


def put_in_id(index: int) -> int:
    return row_at(index) + 1000 * ROWS


def change_places(index: int) -> list[str]:
    """Two neighbours, with all that their seals say."""
    return [
        updated(SEAL, "index", f'-1 - 2 * {index} + "index"', f'"index" IN ({index}, {index + 1})'),
        updated(SEAL, "index", '-"index"', '"index" < 0'),
    ]


def wanted(act, index: int) -> tuple[int, int | None]:
    """The place that has to be named, and the row in it."""
    if act is put_in:
        return index, put_in_id(index)
    return index, row_at(index + 1 if act is change_places else index)


CASES = [
    pytest.param(act, index, id=f"{act.__name__} {index}")
    for act in (flip, delete, put_in, change_places)
    for index in (FIRST, ROWS // 2, LAST - 1 if act is change_places else LAST)
]


@pytest.mark.django_db
@pytest.mark.parametrize(("act", "index"), CASES)
def test_one_row_is_named_wherever_it_is(notes, act, index):
    place = wanted(act, index)

    with tampered(*act(index)):
        assert by_us(verify_database, [checkpoints.verifier_key()]) == place


@only_sqlite
@pytest.mark.django_db(transaction=True)
def test_the_tool_names_it_as_well(notes, tmp_path):
    found, places = {}, {}
    for number, case in enumerate(CASES):
        act, index = case.values
        places[case.id] = wanted(act, index)
        found[case.id] = found_by_tool(copied(tmp_path / f"copy-{number}.sqlite3", *act(index)))

    assert found == places


# --- The end -----------------------------------------------------------------------------------------------------


def cut_to(left: int) -> list[str]:
    """The first so many rows, as if there had never been more: no checkpoint of more is left either."""
    return [
        f'DELETE FROM {EVENT} WHERE id IN (SELECT event_id FROM {SEAL} WHERE "index" > {left})',
        f'DELETE FROM {SEAL} WHERE "index" > {left}',
        f"DELETE FROM {CHECKPOINT} WHERE size > {left}",
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("left", range(0, ROWS + 1, EACH // 2))
def test_cut_off_end_is_found_given_any_later_checkpoint_and_by_no_earlier_one(notes, left):
    keys = [checkpoints.verifier_key()]

    with tampered(*cut_to(left)):
        assert by_us(verify_database, keys) is None
        found = [by_us(verify_database, keys, [note]) for note in notes]

    later = [EACH * number > left for number in range(1, NOTES + 1)]
    assert found == [(left + 1, None) if is_later else None for is_later in later]


@only_sqlite
@pytest.mark.django_db(transaction=True)
def test_the_tool_finds_it_as_well_in_a_copy(notes, tmp_path):
    files = kept(notes, tmp_path)
    found = {}
    lefts = (0, EACH - 1, EACH, 2 * EACH + 1)
    for left in lefts:
        copy = copied(tmp_path / f"cut-to-{left}.sqlite3", *cut_to(left))
        found[left] = [found_by_tool(copy, "--checkpoint", str(file)) for file in files]

    assert found == {
        left: [(left + 1, None) if EACH * number > left else None for number in range(1, NOTES + 1)]
        for left in lefts
    }


@pytest.mark.django_db
def test_both_find_it_in_an_export_that_says_it_is_whole(notes, tmp_path):
    """An export ends with a checkpoint. An earlier one was signed as well, and fits the rows before it."""
    files, export = kept(notes, tmp_path), tmp_path / "export.jsonl"
    keys = [checkpoints.verifier_key()]
    for size in range(EACH, ROWS + 1, EACH):
        export.write_bytes(b"".join(export_lines(HistoryCheckpoint.objects.get(size=size))))
        ours, tools = [], []
        for note, file in zip(notes, files, strict=True):
            with export.open("rb") as lines:
                ours.append(by_us(verify_export, lines, keys, [note]))
            tools.append(found_by_tool(export, "--checkpoint", str(file)))

        later = [EACH * number > size for number in range(1, NOTES + 1)]
        assert ours == tools == [(size + 1, None) if is_later else None for is_later in later]


def kept(notes: list[str], folder: Path) -> list[Path]:
    files = []
    for number, note in enumerate(notes):
        files.append(folder / f"checkpoint-{number}.txt")
        files[-1].write_text(note)
    return files
