"""What the database takes into the history, while its triggers stand; and that nothing stops waiting without a seal.

Whatever is refused here, somebody may have put in before, or with the triggers gone: it is named, and stops nobody.
"""

import pytest
from django.db import DatabaseError, transaction
from django.test import Client

from enrollments.audit import checkpoints
from enrollments.audit.sealer import BATCH, seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.models import HistoryCheckpoint, HistoryEvent, HistorySeal, UnsealedEvent
from enrollments.policy.roles import Role
from tests.audit.histories import execute, fill
from tests.audit.tampering import (
    CHECKPOINT,
    COLUMNS,
    EVENT,
    ON_SQLITE,
    SEAL,
    WAITING,
    WITH_TRIGGERS,
    by_tool,
    copied,
    tampered,
    undone,
    without_triggers,
)
from tests.factories import a_user

pytestmark = pytest.mark.django_db
only_sqlite = pytest.mark.skipif(not ON_SQLITE, reason="PostgreSQL keeps what is of another type out itself")

SEALED, WAITS = 20, 2
HASH, ZEROS = "a" * 64, "0" * 64
THERE = f"(SELECT MAX(id) FROM {EVENT})"
LAST_HASH = f'(SELECT hash FROM {SEAL} WHERE "index" = {SEALED})'


def a_seal(
    index: str = f"{SEALED + 1}", event: str = THERE, previous: str = LAST_HASH, hash: str = f"'{HASH}'"
) -> str:
    columns = '"index", event_id, previous_hash, hash'
    return f"INSERT INTO {SEAL} ({columns}) VALUES ({index}, {event}, {previous}, {hash})"


def a_checkpoint(
    size: str = f"{SEALED}", head: str = LAST_HASH, at: str = "'2026-05-01 10:00:00'", id: str = "900"
) -> str:
    return f"INSERT INTO {CHECKPOINT} (id, size, head, at, note) VALUES ({id}, {size}, {head}, {at}, 'x')"


def an_event(**changed: str) -> str:
    """A copy of the first row, with other values in some columns."""
    values = ", ".join(changed.get(name.strip('"'), name) for name in COLUMNS.split(", "))
    columns, values = (
        (f"id, {COLUMNS}", f"{changed['id']}, {values}") if "id" in changed else (COLUMNS, values)
    )
    return f"INSERT INTO {EVENT} ({columns}) SELECT {values} FROM {EVENT} WHERE id = (SELECT MIN(id) FROM {EVENT})"


REFUSED = {
    "a seal that is not next": a_seal(f"{SEALED + 2}"),
    "a seal at the last place that a column holds": a_seal(f"{2**63 - 1}"),
    "a seal below the first": a_seal("0"),
    "a first seal": a_seal("1", previous=f"'{ZEROS}'"),
    "a seal that does not follow": a_seal(previous=f"'{HASH}'"),
    "a seal of no hash": a_seal(hash="'x'"),
    "a second seal of a row": a_seal(event=f'(SELECT event_id FROM {SEAL} WHERE "index" = 3)'),
    "a seal of no row": a_seal(event="-9"),
    "a checkpoint of more rows than there are": a_checkpoint(f"{SEALED + 1}"),
    "a checkpoint of another hash": a_checkpoint(head=f"'{HASH}'"),
    "a checkpoint of nothing": a_checkpoint("0", f"'{ZEROS}'"),
    "waiting, and no row": f"INSERT INTO {WAITING} (event_id) VALUES (-5)",
    "waiting, and sealed": f"INSERT INTO {WAITING} (event_id) SELECT event_id FROM {SEAL}",
    "taken off the list": f"DELETE FROM {WAITING}",
    "one taken off the list": f"DELETE FROM {WAITING} WHERE event_id = {THERE}",
    "another ID on the list": f"UPDATE {WAITING} SET event_id = -event_id",
    "a row below the first": an_event(id="-1"),
    "a row at the last ID that a column holds": an_event(id=f"{2**63 - 1}"),
    "null as JSON": an_event(before="'null'"),
    "a state that is no object": an_event(after="'[1]'"),
}
if ON_SQLITE:
    REFUSED |= {
        "a place that is text": a_seal("'abc'"),
        "a place that is a fraction": a_seal(f"{SEALED}.5"),
        "a place that is bytes": a_seal("x'15'"),
        "a seal of text": a_seal(event="'abc'"),
        "a hash of bytes": a_seal(hash=f"x'{HASH}'"),
        "a hash in capitals": a_seal(hash=f"'{'A' * 64}'"),
        "a checkpoint of text": a_checkpoint("'abc'"),
        "a checkpoint of bytes": a_checkpoint(head="x'41'"),
        "a checkpoint of no time": a_checkpoint(at="'yesterday'"),
        "a checkpoint below the first": a_checkpoint(id="-1"),
        "waiting, and text": f"INSERT INTO {WAITING} (event_id) VALUES ('abc')",
        "waiting, and nothing": f"INSERT INTO {WAITING} (event_id) VALUES (NULL)",
        "waiting, in the place of another": f"INSERT OR REPLACE INTO {WAITING} (event_id) VALUES ('abc')",
        "a text of bytes": an_event(reason="x'41'"),
        "a text that is a number of bytes": an_event(client="zeroblob(3)"),
        "a service of text": an_event(service_id="'abc'"),
        "a service of a fraction": an_event(service_id="1.5"),
        "no time": an_event(at="'2026-01-01T00:00:00'"),
        "a time of numbers": an_event(at="1767225600"),
        "a state of bytes": an_event(before="CAST('{}' AS BLOB)"),
    }
else:
    REFUSED["all taken off the list"] = f"TRUNCATE {WAITING}"


@pytest.fixture
def history() -> None:
    fill(SEALED)
    checkpoints.make_checkpoint()
    fill(WAITS, seed=3)


def everything() -> list[object]:
    models = (HistoryEvent, HistorySeal, HistoryCheckpoint, UnsealedEvent)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_database_takes_nothing_else(history, statement):
    before = everything()

    with pytest.raises(DatabaseError), transaction.atomic():
        execute(statement)

    assert everything() == before
    report = verify_database([checkpoints.verifier_key()])
    assert (report.problem, report.waiting) == (None, WAITS)
    assert seal_everything() == WAITS
    assert checkpoints.make_checkpoint().size == SEALED + WAITS
    assert verify_database([checkpoints.verifier_key()]).ok


@only_sqlite
def test_replacing_a_row_of_the_list_leaves_it_there(history):
    execute(f"INSERT OR REPLACE INTO {WAITING} (event_id) VALUES ({THERE})")

    assert UnsealedEvent.objects.count() == WAITS
    assert seal_everything() == WAITS


# Other constraints refuse these as well, or what came of it cannot be told from anything else.
NOT_PUT_IN = {"a first seal", "a second seal of a row", "waiting, and nothing"}
# SQLite gives no ID to a row any more where these are. A change then chooses one (test_impossible_ids), what puts rows
# in here does not.
STOPS_ALL = {
    "a row below the first",
    "a row at the last ID that a column holds",
    "a checkpoint below the first",
}
# A page of the history cannot show these.
NOT_SHOWN = {"a state that is no object", "a service of text", "a checkpoint of no time"}
PUT_IN = [name for name in REFUSED if name not in NOT_PUT_IN]


@only_sqlite
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", PUT_IN)
def test_both_name_it_where_it_was_put_in_all_the_same(history, name, tmp_path):
    with tampered(REFUSED[name]):
        ours = verify_database([checkpoints.verifier_key()])
    done = by_tool(copied(tmp_path / "copy.sqlite3", REFUSED[name]))

    assert ours.problem is not None
    assert done.returncode == 1, (ours.problem, done.stdout, done.stderr)


@only_sqlite
@pytest.mark.parametrize("name", [name for name in PUT_IN if name not in STOPS_ALL | NOT_SHOWN])
def test_it_stops_nobody_where_it_was_put_in_all_the_same(history, name, client: Client):
    client.force_login(a_user(Role.AUDITOR, None))
    with undone():
        for statement in (*without_triggers(WITH_TRIGGERS[0]), REFUSED[name]):
            execute(statement)
        fill(3, seed=7)
        seal_everything()

        later = HistoryEvent.objects.order_by("-pk").values_list("pk", flat=True)[:3]
        assert HistorySeal.objects.filter(event_id__in=list(later)).count() == 3
        for address in ("/history/", "/history/checkpoint/"):
            assert client.get(address).status_code == 200


@only_sqlite
@pytest.mark.parametrize("on_the_list", ["rows that cannot be sealed", "what is no row"])
def test_whole_batches_that_cannot_be_sealed_hold_nobody_up(history, on_the_list, caplog):
    seal_everything()
    with undone():
        for statement in without_triggers(WITH_TRIGGERS[0]):
            execute(statement)
        if on_the_list == "what is no row":
            numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n <= 1000)"
            execute(f"INSERT INTO {WAITING} (event_id) {numbers} SELECT -n FROM n")
        else:
            twice = """'{"a":1,"a":2}'"""
            for _ in range(2 * BATCH // SEALED + 1):
                execute(an_event(before=twice).partition("WHERE id")[0] + f"LIMIT {SEALED}")
        fill(3, seed=7)

        assert seal_everything() == 3
        assert verify_database([checkpoints.verifier_key()]).problem is not None
    assert ("cannot be sealed" in caplog.text) == (on_the_list == "rows that cannot be sealed")
