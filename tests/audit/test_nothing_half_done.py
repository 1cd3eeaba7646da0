"""What sealing, signing and exporting leave where a row of theirs cannot be written: nothing; what waits waits on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import DatabaseError, connection

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.history import export_history, take_checkpoint
from enrollments.audit import checkpoints, upkeep
from enrollments.audit.sealer import seal_batch, seal_everything
from enrollments.audit.verify_database import verify_database
from enrollments.models import HistoryEvent, HistorySeal, IndividualEnrollment, UnsealedEvent
from tests.audit.histories import fill
from tests.audit.tampering import CHECKPOINT, EVENT, SEAL, WAITING
from tests.devices import ALICE, enroll_keys, new_service
from tests.tables import tables

pytestmark = pytest.mark.django_db(transaction=True)

WRITES = {
    "a row": ("INSERT INTO", EVENT),
    "a seal": ("INSERT INTO", SEAL),
    "taking off the list": ("DELETE FROM", WAITING),
    "a checkpoint": ("INSERT INTO", CHECKPOINT),
}


@contextmanager
def refused(what: str) -> Iterator[list[str]]:
    """As on a full disk. Yields what was tried."""
    verb, table = WRITES[what]
    tried: list[str] = []

    def refuse(execute, sql, params, many, context):
        if sql.startswith(verb) and table in sql.split("(")[0].split("WHERE")[0]:
            tried.append(sql)
            raise DatabaseError("the disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        yield tried


@pytest.fixture
def kept(settings, tmp_path) -> Path:
    settings.DPS_CHECKPOINT_FILE = tmp_path / "checkpoints.txt"
    fill(5)
    checkpoints.make_checkpoint()
    fill(3, seed=4)
    return settings.DPS_CHECKPOINT_FILE


@pytest.mark.parametrize("what", ["a seal", "taking off the list"])
def test_rows_are_sealed_and_off_the_list_or_neither(kept, what):
    before = tables()

    with refused(what) as tried, pytest.raises(DatabaseError):
        seal_batch()

    assert tried
    assert tables() == before
    report = verify_database([checkpoints.verifier_key()])
    assert (report.ok, report.rows, report.waiting) == (True, 5, 3)
    assert seal_everything() == 3


TAKING = {"take_checkpoint": take_checkpoint, "export_history": lambda: export_history(None, actor=ALICE)}


@pytest.mark.parametrize("act", TAKING)
@pytest.mark.parametrize("what", ["a row", "a seal", "taking off the list", "a checkpoint"])
def test_nothing_is_signed_brought_anywhere_or_handed_out(kept, act, what, monkeypatch):
    monkeypatch.setattr(upkeep.sealing, "next_at", float("inf"))
    if (act, what) == ("take_checkpoint", "a row"):
        pytest.skip("a checkpoint is no row of the history: that would never come to rest")
    before = tables()

    with refused(what) as tried, pytest.raises(DatabaseError):
        TAKING[act]()

    now = tables()
    assert tried
    assert not kept.exists()
    for name in ("HistoryCheckpoint", "CheckpointDelivery"):
        assert now[name] == before[name]
    assert HistorySeal.objects.count() + UnsealedEvent.objects.count() == HistoryEvent.objects.count()
    # Whoever wanted an export is known, although they got none; what could not be written is not there at all.
    assert HistoryEvent.objects.filter(event="history.exported").count() == (
        act == "export_history" and what != "a row"
    )
    assert verify_database([checkpoints.verifier_key()]).ok
    TAKING[act]()
    assert kept.exists()


@pytest.mark.parametrize("what", ["a seal", "taking off the list", "a checkpoint"])
def test_change_stands_with_its_row_which_waits(kept, what, monkeypatch):
    """A change is told in its own transaction; its place can come later, and is reported as missing until then."""
    service = new_service()
    enroll_keys(service, "key-1")
    seal_everything()
    monkeypatch.setattr(upkeep.sealing, "next_at", 0.0)
    monkeypatch.setattr(upkeep.signing, "next_at", 0.0)
    monkeypatch.setattr(checkpoints, "due", lambda *_: True)

    with refused(what) as tried:
        disable_enrollment(service, "key-1", actor=ALICE)

    assert tried
    assert not IndividualEnrollment.objects.get().enabled
    row = HistoryEvent.objects.get(event="enrollment.disabled", subject_name="key-1")
    report = verify_database([checkpoints.verifier_key()])
    assert report.ok
    assert (report.waiting, HistorySeal.objects.filter(event=row).exists()) == (
        (0, True) if what == "a checkpoint" else (1, False)
    )
