"""Sealing: one gapless sequence, whoever seals and whenever rows commit; nothing half done; nobody's change held up."""

import hashlib
import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import rfc8785
from django.conf import settings
from django.db import DatabaseError, connection, connections, transaction

from enrollments.actions.enrollments import disable_enrollment
from enrollments.audit import chain, checkpoints, sealer, upkeep
from enrollments.audit.checkpoints import verifier_key
from enrollments.audit.sealer import seal_batch, seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.models import (
    HistoryCheckpoint,
    HistoryEvent,
    HistorySeal,
    IndividualEnrollment,
    UnsealedEvent,
)
from tests.audit.histories import execute, fill
from tests.audit.tampering import tampered
from tests.devices import ALICE, enroll_keys, new_service

ON_POSTGRESQL = "postgresql" in settings.DATABASES["default"]["ENGINE"]
only_postgresql = pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite has one writer at a time")
real_transactions = pytest.mark.django_db(transaction=True)
PATIENCE = 15


def event_ids() -> list[int]:
    return list(HistorySeal.objects.order_by("index").values_list("event_id", flat=True))


def check_sequence(rows: int) -> None:
    assert list(HistorySeal.objects.order_by("index").values_list("index", flat=True)) == list(
        range(1, rows + 1)
    )
    report = verify_database([verifier_key()])
    assert (report.problem, report.rows) == (None, rows)


def in_threads(count: int, act) -> list[object]:
    failures: list[object] = []

    def run() -> None:
        try:
            act()
        except Exception as problem:
            failures.append(problem)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return failures


# --- The sequence ------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_rows_wait_until_they_are_sealed_oldest_first():
    fill(7)
    rows = list(HistoryEvent.objects.order_by("pk").values_list("pk", flat=True))
    assert list(UnsealedEvent.objects.order_by("pk").values_list("pk", flat=True)) == rows

    assert seal_batch(limit=3) == 3
    assert seal_everything() == 4

    assert event_ids() == rows
    assert not UnsealedEvent.objects.exists()
    check_sequence(7)


@pytest.mark.django_db
def test_hashes_are_those_that_the_documentation_describes():
    """Worked out here from docs/history.md, with another implementation of RFC 8785."""
    fill(5)
    seal_everything()

    previous = "0" * 64
    for index, seal in enumerate(HistorySeal.objects.select_related("event").order_by("index"), 1):
        row = {
            field.attname: getattr(seal.event, field.attname) for field in HistoryEvent._meta.concrete_fields
        }
        row["at"] = f"{row['at']:%Y-%m-%dT%H:%M:%S.%f}Z"
        if not row["client"]:
            del row["client"]
        row_hash = hashlib.sha256(rfc8785.dumps(row)).hexdigest()
        link = f"dpsportal-history/1\n{index}\n{previous}\n{row_hash}\n"
        assert (seal.previous_hash, seal.hash) == (previous, hashlib.sha256(link.encode()).hexdigest())
        previous = seal.hash


@pytest.mark.django_db
def test_row_with_a_lower_id_that_commits_later_comes_later_and_is_not_skipped():
    fill(3)
    first, late, last = HistoryEvent.objects.order_by("pk").values_list("pk", flat=True)
    # As the sealer sees it while the transaction of the middle one is still open.
    with tampered(f"DELETE FROM enrollments_unsealedevent WHERE event_id = {late}"):
        seal_everything()

        UnsealedEvent.objects.create(pk=late)
        seal_everything()

        assert event_ids() == [first, last, late]
        check_sequence(3)


@only_postgresql
@real_transactions
def test_row_that_commits_late_comes_late_with_real_transactions():
    written, go_on = threading.Event(), threading.Event()

    def slow_change() -> None:
        with transaction.atomic():
            fill(1, seed=1)
            written.set()
            go_on.wait(PATIENCE)

    slow = threading.Thread(target=lambda: in_threads(1, slow_change))
    slow.start()
    assert written.wait(PATIENCE)
    fill(1, seed=2)
    assert seal_everything() == 1
    go_on.set()
    slow.join(PATIENCE)

    assert seal_everything() == 1

    assert event_ids() == list(HistoryEvent.objects.order_by("-pk").values_list("pk", flat=True))
    check_sequence(2)


@real_transactions
def test_sealers_at_once_make_one_sequence():
    fill(1200)

    def seal() -> None:
        while UnsealedEvent.objects.exists():
            seal_batch(limit=50)

    assert in_threads(4, seal) == []
    check_sequence(1200)


@real_transactions
def test_rows_are_written_while_others_are_sealed():
    done = threading.Event()

    def write() -> None:
        for seed in range(15):
            fill(20, seed=seed)

    def seal() -> None:
        while not done.is_set():
            seal_batch(limit=30)

    sealing = threading.Thread(target=lambda: in_threads(2, seal))
    sealing.start()
    failures = in_threads(2, write)
    done.set()
    sealing.join(PATIENCE)
    seal_everything()

    assert failures == []
    check_sequence(600)


@real_transactions
@only_postgresql
def test_sealer_that_does_not_wait_leaves_the_turn_to_the_other():
    fill(2)
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            assert sealer.wait_for_history_turn(wait=True)
            inside.set()
            go_on.wait(PATIENCE)

    holding = threading.Thread(target=lambda: in_threads(1, hold))
    holding.start()
    assert inside.wait(PATIENCE)

    assert seal_batch(wait=False) == 0
    go_on.set()
    holding.join(PATIENCE)
    assert seal_batch(wait=False) == 2


DIES = """
import os, signal
import django
django.setup()
from enrollments.audit import sealer
from enrollments.models import HistorySeal, UnsealedEvent

class Deadly:
    def filter(self, **_):
        assert HistorySeal.objects.count() > 0
        os.kill(os.getpid(), signal.SIGKILL)

class Queue:
    objects = Deadly()
    objects.exists = UnsealedEvent.objects.exists

sealer.UnsealedEvent = Queue
sealer.seal_batch()
"""


@real_transactions
def test_killed_sealer_leaves_nothing_half_done():
    fill(40)
    name = connection.settings_dict["NAME"]
    url = f"sqlite:///{name}"
    if ON_POSTGRESQL:
        url = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{name}"
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "dpsportal.settings",
        "DPS_DATA_DIR": str(settings.DPS_DATA_DIR),
    }
    root = Path(__file__).parents[2]

    died = subprocess.run(
        [sys.executable, "-c", DIES], env=environment, cwd=root, capture_output=True, text=True
    )

    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not HistorySeal.objects.exists()
    assert UnsealedEvent.objects.count() == 40
    assert seal_everything() == 40
    check_sequence(40)


@pytest.mark.django_db
def test_row_that_has_no_canonical_form_holds_nobody_up(caplog, monkeypatch):
    fill(3)
    refused = HistoryEvent.objects.order_by("pk")[1]

    def picky(row, real=chain.form_of):
        if refused.pk in row:
            raise chain.NotCanonical("of another kind")
        return real(row)

    monkeypatch.setattr(chain, "form_of", picky)
    seal_everything()

    assert refused.pk not in event_ids()
    assert HistorySeal.objects.count() == 2
    assert list(UnsealedEvent.objects.values_list("pk", flat=True)) == [refused.pk]
    assert "cannot be sealed" in caplog.text


@pytest.mark.django_db
def test_rows_from_before_there_were_seals_wait_after_the_migration():
    fill(3)
    migration = importlib.import_module("enrollments.migrations.0010_history_seals")

    class Editor:
        execute = staticmethod(execute)

    with tampered("DELETE FROM enrollments_unsealedevent"):
        migration.let_former_rows_wait(None, Editor)

        assert seal_everything() == 3


# --- After a change ----------------------------------------------------------------------------------------------


@pytest.fixture
def service():
    return new_service()


@pytest.fixture
def after_a_pause():
    def over() -> None:
        upkeep.sealing.next_at = 0.0

    return over


@real_transactions
def test_change_is_sealed_once_it_has_committed_and_not_inside(service, after_a_pause):
    enroll_keys(service, "key-1")
    after_a_pause()
    with transaction.atomic():
        fill(1)
        upkeep.seal_after_commit()
        inside = UnsealedEvent.objects.count()

    assert inside > 0
    assert not UnsealedEvent.objects.exists()


@real_transactions
def test_under_load_one_change_a_second_pays_for_sealing(service, after_a_pause, monkeypatch):
    monkeypatch.setattr(upkeep.sealing, "seconds", 600.0)
    after_a_pause()
    enroll_keys(service, "key-1")
    assert not UnsealedEvent.objects.exists()

    disable_enrollment(service, "key-1", actor=ALICE)
    assert UnsealedEvent.objects.count() == 1

    after_a_pause()
    enroll_keys(service, "key-2")
    assert not UnsealedEvent.objects.exists()


@real_transactions
@pytest.mark.parametrize("failure", [DatabaseError("disk full"), RuntimeError("a mistake of ours")])
def test_change_is_not_told_as_failed_because_it_could_not_be_sealed(
    service, after_a_pause, monkeypatch, caplog, failure
):
    enroll_keys(service, "key-1")

    def broken(**_: object) -> int:
        raise failure

    monkeypatch.setattr(upkeep, "seal_batch", broken)
    after_a_pause()
    disable_enrollment(service, "key-1", actor=ALICE)

    assert not IndividualEnrollment.objects.get().enabled
    assert UnsealedEvent.objects.exists()
    assert str(failure) in caplog.text or "was not sealed" in caplog.text


@real_transactions
@pytest.mark.skipif(ON_POSTGRESQL, reason="about SQLite's one lock")
def test_sealing_after_a_change_does_not_wait_for_another_writer(service, caplog):
    enroll_keys(service, "key-1")
    fill(1)
    inside, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            inside.set()
            go_on.wait(PATIENCE)

    writing = threading.Thread(target=lambda: in_threads(1, write))
    writing.start()
    assert inside.wait(PATIENCE)
    patience = execute_pragma()

    upkeep.seal_for_a_page()

    go_on.set()
    writing.join(PATIENCE)
    assert UnsealedEvent.objects.exists()
    assert execute_pragma() == patience > 0
    assert "was not sealed" not in caplog.text


def execute_pragma() -> int:
    with connection.cursor() as cursor:
        return cursor.execute("PRAGMA busy_timeout").fetchone()[0]


# --- Final for the database --------------------------------------------------------------------------------------


@pytest.fixture
def sealed(db):
    fill(3)
    seal_everything()
    checkpoints.make_checkpoint()


FORBIDDEN = [
    'UPDATE enrollments_historyseal SET hash = previous_hash WHERE "index" = 2',
    'DELETE FROM enrollments_historyseal WHERE "index" = 3',
    "UPDATE enrollments_historycheckpoint SET size = 2",
    "DELETE FROM enrollments_historycheckpoint",
]
if ON_POSTGRESQL:
    FORBIDDEN += [f"TRUNCATE enrollments_history{name}" for name in ("event", "seal", "checkpoint")]
else:
    FORBIDDEN += [
        f"INSERT OR REPLACE INTO enrollments_history{name} SELECT * FROM enrollments_history{name}"
        for name in ("event", "seal", "checkpoint")
    ]
    FORBIDDEN += [
        "INSERT OR REPLACE INTO enrollments_historyseal SELECT 9, previous_hash, hash, event_id "
        'FROM enrollments_historyseal WHERE "index" = 2'
    ]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_history_seals_and_checkpoints_are_final_for_the_database(sealed, statement):
    def everything() -> list[object]:
        return [
            list(model.objects.order_by("pk").values())
            for model in (HistoryEvent, HistorySeal, HistoryCheckpoint)
        ]

    before = everything()

    # Two triggers refuse a seal that takes the place of another, and either may be asked first.
    refusal = "never changed or deleted|takes the next place"
    with pytest.raises(DatabaseError, match=refusal), transaction.atomic():
        execute(statement)

    assert everything() == before
    assert len(before[0]) == 3


@real_transactions
@pytest.mark.parametrize("table", ["enrollments_historyevent", "enrollments_unsealedevent"])
def test_nothing_changes_where_the_database_refuses_the_row(service, table):
    """The database itself, not a patched function: neither the row nor its place in the queue can be left out."""
    enroll_keys(service, "key-1")
    if ON_POSTGRESQL:
        execute(f"ALTER TABLE {table} ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    else:
        execute(
            f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'full disk'); END"
        )
    epoch = type(service).epoch_of(service.pk)
    try:
        with pytest.raises(DatabaseError, match=r"full.disk"):
            disable_enrollment(service, "key-1", actor=ALICE)
    finally:
        execute(
            f"ALTER TABLE {table} DROP CONSTRAINT full_disk" if ON_POSTGRESQL else "DROP TRIGGER full_disk"
        )

    assert IndividualEnrollment.objects.get().enabled
    assert type(service).epoch_of(service.pk) == epoch
