"""Both verifiers read in chunks: where one ends, nothing hides, no second seal or row of a place and no fraction."""

import pytest

from enrollments.audit import checkpoints, verify
from enrollments.audit.sealer import seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.models import HistoryEvent, HistorySeal
from tests.audit.histories import fill
from tests.audit.loose import LOOSE_EVENTS, LOOSE_LIST, LOOSE_SEALS
from tests.audit.tampering import (
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    WAITING,
    by_us,
    copied,
    found_by_tool,
    tampered,
)

ROWS = 1200
# Ends of chunks and of portions, what is beside them, and the last.
PLACES = (1, 499, 500, 501, 600, 601, 999, 1000, 1001, ROWS)
FORGED = 900_000
only_sqlite = pytest.mark.skipif(not ON_SQLITE, reason="the tool reads files of SQLite")


@pytest.fixture
def history() -> None:
    fill(ROWS, seed=1)
    seal_everything()
    checkpoints.make_checkpoint()


def forged(event_id: int = FORGED) -> list[str]:
    """A row that says something else than any that was sealed, and waits for nothing."""
    copy = COLUMNS.replace('"reason"', "'forged by mallory'")
    return [
        f"INSERT INTO {EVENT} (id, {COLUMNS}) SELECT {event_id}, {copy} FROM {EVENT} "
        f"WHERE id = (SELECT MIN(id) FROM {EVENT})"
    ]


def second_seal(place: str, of: int) -> list[str]:
    """For a forged row: what the seal of a place says, once more."""
    return [
        *LOOSE_SEALS,
        *forged(),
        f'INSERT INTO {SEAL} ("index", event_id, previous_hash, hash) SELECT {place}, {FORGED}, previous_hash, hash'
        f' FROM {SEAL} WHERE "index" = {of}',
    ]


def second_row(place: int) -> list[str]:
    return [*LOOSE_EVENTS, *forged(HistorySeal.objects.get(pk=place).event_id)]


# Either of two in one place may come first.
CASES = {f"a seal twice at {place}": (second_seal(str(place), place), {place, place + 1}) for place in PLACES}
if ON_SQLITE:
    CASES |= {
        f"a seal at {place}.5": (second_seal(f"{place}.5", place), {place + 1, None}) for place in PLACES
    }
    CASES |= {
        "a seal at zero and a half": (second_seal("0.5", 1), {1}),
        "a seal far below": (second_seal("-1e300", 1), {1}),
        "a seal of no place": (second_seal("NULL", 1), {1, None}),
        "a seal whose place is text": (second_seal("'x'", 500), {ROWS + 1, None}),
        "a seal whose place is bytes": (second_seal("x'05'", 500), {ROWS + 1, None}),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("portion", [verify.PORTION, 600], ids=["in one", "in portions"])
def test_nothing_hides_between_chunks(history, portion, monkeypatch):
    monkeypatch.setattr(verify, "PORTION", portion)
    keys, missed = [checkpoints.verifier_key()], {}
    for name, (statements, places) in CASES.items():
        with tampered(*statements):
            found = by_us(verify_database, keys)
        if found is None or found[0] not in places:
            missed[name] = found
    for place in PLACES:
        with tampered(*second_row(place)):
            found = by_us(verify_database, keys)
        if found is None or found[0] not in (place, place + 1):
            missed[f"a row twice at {place}"] = found

    assert missed == {}
    assert verify_database(keys).ok


@only_sqlite
@pytest.mark.django_db(transaction=True)
def test_nor_from_the_tool(history, tmp_path):
    missed = {}
    cases = CASES | {f"a row twice at {place}": (second_row(place), {place, place + 1}) for place in PLACES}
    for number, (name, (statements, places)) in enumerate(cases.items()):
        found = found_by_tool(copied(tmp_path / f"copy-{number}.sqlite3", *statements))
        if found is None or found[0] not in places:
            missed[name] = found

    assert missed == {}
    assert found_by_tool(copied(tmp_path / "copy.sqlite3")) is None


def waiting_twice() -> tuple[int, dict[str, list[str]]]:
    """The second of three rows that wait, and ways in which there are two of it."""
    fill(3, seed=5)
    waits = HistoryEvent.objects.order_by("-pk")[1].pk
    return waits, {
        "two rows": [*LOOSE_EVENTS, *forged(waits)],
        "twice on the list": [*LOOSE_LIST, f"INSERT INTO {WAITING} (event_id) VALUES ({waits})"],
    }


@pytest.mark.django_db
def test_row_that_waits_twice_is_named_and_holds_nobody_up(history):
    waits, ways = waiting_twice()
    keys, found, sealed = [checkpoints.verifier_key()], {}, {}
    for name, statements in ways.items():
        with tampered(*statements):
            found[name] = by_us(verify_database, keys)
            sealed[name] = seal_everything()

    assert found == dict.fromkeys(ways, (None, waits))
    assert sealed == {"two rows": 2, "twice on the list": 3}


@only_sqlite
@pytest.mark.django_db(transaction=True)
def test_row_that_waits_twice_is_named_by_the_tool(history, tmp_path):
    waits, ways = waiting_twice()
    found = {
        name: found_by_tool(copied(tmp_path / f"copy-{len(name)}.sqlite3", *statements))
        for name, statements in ways.items()
    }

    assert found == dict.fromkeys(ways, (None, waits))


@only_sqlite
@pytest.mark.django_db(transaction=True)
def test_seal_that_writes_the_id_of_its_row_in_another_form_is_named_by_both(history, tmp_path):
    """It would be another ID to whoever looks for rows with two seals."""
    loose = [statement.replace("event_id,", "event_id + 0 AS event_id,") for statement in LOOSE_SEALS]
    statements = [*loose, f'UPDATE {SEAL} SET event_id = CAST(event_id AS TEXT) WHERE "index" = 700']

    with tampered(*statements):
        ours = by_us(verify_database, [checkpoints.verifier_key()])

    assert ours == found_by_tool(copied(tmp_path / "copy.sqlite3", *statements)) == (700, None)
