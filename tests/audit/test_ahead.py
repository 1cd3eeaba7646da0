"""A history that several processes check: they say the same as one, whatever is wrong, and whatever becomes of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import OperationalError, connection

from enrollments.audit import ahead, checkpoints, verify, verify_database
from enrollments.audit.notes import Checkpoint, SigningKey
from enrollments.audit.sealer import seal_everything
from enrollments.models import HistoryCheckpoint, HistoryEvent, HistorySeal
from tests.audit.histories import execute, fill
from tests.audit.tampering import EVENT, SEAL, ahead_here, undone, with_triggers, without_triggers

PORTION, ROWS = 50, 420
WHOLE_PORTIONS = ROWS // PORTION
AT = datetime(2026, 2, 1, tzinfo=UTC)
FOLLOW = ahead._follow

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(ahead, "WORTH_IT", 1)
    monkeypatch.setattr(ahead, "_processors", lambda: 2)
    monkeypatch.setattr(ahead, "PORTION", PORTION)
    monkeypatch.setattr(verify, "PORTION", PORTION)


@pytest.fixture
def notes():
    """Of a history that is signed in the middle of a portion, at an edge of one, and at its end."""
    made = []
    for begin, end in pairwise((0, 70, 100, ROWS)):
        fill(end - begin, first=begin)
        made.append(checkpoints.make_checkpoint().note)
    return made


def alone(monkeypatch, *given):
    with monkeypatch.context() as one:
        one.setattr(ahead, "_processors", lambda: 1)
        return checked(*given)


def checked(*given):
    return verify_database.verify_database([checkpoints.verifier_key()], *given)


@pytest.fixture
def followed_here(monkeypatch):
    """Where the portions began that this process went through itself."""
    begins, follow = [], verify.Check.follow

    def noted(self, here, seals):
        begins.append(self.report.rows)
        follow(self, here, seals)

    monkeypatch.setattr(verify.Check, "follow", noted)
    return begins


@contextlib.contextmanager
def committed(*statements):
    """As other processes see it."""
    for statement in (*without_triggers(), *statements):
        execute(statement)
    try:
        yield
    finally:
        for statement in with_triggers():
            execute(statement)


def test_what_is_in_order_is_gone_through_by_others_and_told_as_by_one(notes, followed_here, monkeypatch):
    report = checked(notes[:1], notes[1:])

    assert followed_here == [WHOLE_PORTIONS * PORTION]
    assert report == alone(monkeypatch, notes[:1], notes[1:])
    assert (report.ok, report.rows, report.signed, report.checkpoints) == (True, ROWS, ROWS, 6)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            f"UPDATE {EVENT} SET reason = 'forged' WHERE id = (SELECT event_id FROM {SEAL} WHERE \"index\" = 233)",
            233,
        ),
        (f'DELETE FROM {SEAL} WHERE "index" = 200', 200),
        (f'DELETE FROM {SEAL} WHERE "index" = 201', 201),
        (f'UPDATE {SEAL} SET previous_hash = hash WHERE "index" = 101', 101),
    ],
    ids=["within a portion", "the last of one", "the first of one", "not joined to the one before"],
)
def test_portion_that_is_not_in_order_is_gone_through_here(
    notes, followed_here, monkeypatch, statement, problem
):
    with committed(statement):
        report = checked()

        assert report.problem.index == problem
        assert followed_here == [(problem - 1) // PORTION * PORTION] or problem == 200
        assert report == alone(monkeypatch)


def test_history_sealed_anew_from_within_a_portion_is_found_by_what_was_signed(notes, monkeypatch):
    keys = [checkpoints.verifier_key()]
    first = next(iter(HistoryEvent.objects.order_by("pk")[60:])).pk
    with committed(
        f"UPDATE {EVENT} SET reason = 'forged' WHERE id = {first}",
        f'DELETE FROM {SEAL} WHERE "index" > 60',
        f"INSERT INTO enrollments_unsealedevent (event_id) SELECT id FROM {EVENT} WHERE id >= {first}",
    ):
        seal_everything()
        report = verify_database.verify_database(keys, notes)

        assert report.problem.index == 70
        assert report == alone(monkeypatch, notes)


@pytest.mark.parametrize("hours", [0.5, 2, 100])
def test_rows_dated_late_are_told_as_by_one(monkeypatch, hours):
    """Also where the row that they come too late for stands in a portion before."""
    fill(ROWS)
    at = dict(HistoryEvent.objects.order_by("pk").values_list("pk", "at"))
    with committed(
        *(
            f"UPDATE {EVENT} SET at = '{at[pk] - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}.000005' WHERE id = {pk}"
            for number, pk in enumerate(at)
            if number in (100, 101, 130, 149, 150, 333)
        )
    ):
        seal_everything()
        report = checked()

        assert report.late == (6 if hours > 1 else 0)
        assert report == alone(monkeypatch)


def test_former_signers_are_told_as_by_one(notes, monkeypatch):
    former = SigningKey(b"f" * 32)
    for size in (10, 60, 70, 200):
        one = Checkpoint(former.verifier.name, size, HistorySeal.objects.get(pk=size).hash, AT)
        HistoryCheckpoint.objects.create(size=size, head=one.head, at=AT, note=former.signed(one.text()))
    report = checked()

    assert list(report.unchecked.values()) == [4]
    assert report == alone(monkeypatch)


def killed(begin, to):
    if begin == 2 * PORTION:
        os.kill(os.getpid(), signal.SIGKILL)
    return FOLLOW(begin, to)


def test_killed_process_changes_nothing_but_the_time(notes, monkeypatch):
    monkeypatch.setattr(ahead, "_follow", killed)

    assert checked(notes) == alone(monkeypatch, notes)


@pytest.mark.parametrize("name", ["begin", "portion", "index"])
def test_process_that_gets_no_connection_changes_nothing_but_the_time(notes, monkeypatch, name):
    alone_told = alone(monkeypatch, notes)
    broken = {"begin": "sealed_rows", "portion": "SignedHere", "index": "wrong_index"}[name]

    def refused(*_):
        raise OperationalError("too many connections")

    monkeypatch.setattr(ahead, broken, refused)

    assert checked(notes) == alone_told


@pytest.mark.parametrize("refused", ["fork", "semaphores"])
def test_where_no_process_is_to_be_had_it_is_done_alone(notes, followed_here, monkeypatch, refused):
    def none_left(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    if refused == "fork":
        monkeypatch.setattr(os, "fork", none_left)
    else:
        monkeypatch.setattr(ahead, "ProcessPoolExecutor", none_left)

    assert checked(notes).ok
    assert followed_here == [*range(0, ROWS, PORTION)]


def test_others_are_ahead_again_after_a_portion_that_was_refused(followed_here, monkeypatch):
    """However much the check goes through at a time where nobody is ahead."""
    monkeypatch.setattr(verify, "PORTION", 4 * PORTION)
    fill(ROWS)
    second, *_, late = HistoryEvent.objects.order_by("pk")[1:61]
    at = f"{second.at - timedelta(hours=2):%Y-%m-%d %H:%M:%S}.000005"
    with committed(f"UPDATE {EVENT} SET at = '{at}' WHERE id = {late.pk}"):
        seal_everything()

        assert checked().late == 1
        assert followed_here == [PORTION, WHOLE_PORTIONS * PORTION]


def test_note_beyond_what_is_wrong_is_read_by_neither(notes, monkeypatch):
    monkeypatch.setattr(verify, "PORTION", 8 * PORTION)
    checkpoint = HistoryCheckpoint.objects.get(size=ROWS)
    forged = (
        f"UPDATE {EVENT} SET reason = 'forged' WHERE id = (SELECT event_id FROM {SEAL} WHERE \"index\" = 180)"
    )
    unsigned = f"{notes[-1][:-12]}AAAAAAAAAA=\n"
    with committed(
        forged, f"UPDATE enrollments_historycheckpoint SET note = 'none' WHERE id = {checkpoint.pk}"
    ):
        report = checked([], [unsigned])

        assert report.problem.index == 180
        assert report == alone(monkeypatch, [], [unsigned])


def test_within_a_transaction_nobody_else_is_asked(notes, followed_here):
    """Others would not see what was changed."""
    with undone():
        for statement in (*without_triggers(), f"UPDATE {EVENT} SET reason = 'forged'"):
            execute(statement)
        assert checked().problem is not None
    assert followed_here == [0]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL looks after its indexes itself")
def test_index_that_lacks_a_row_is_named(notes, monkeypatch):
    monkeypatch.setattr(
        ahead, "wrong_index", lambda indexes: "wrong" if "history_by_way" in indexes.names else None
    )
    counted = []
    monkeypatch.setattr(verify, "wrong_index", lambda indexes: counted.extend(indexes.names))
    monkeypatch.setattr(ahead, "processes_ahead", ahead_here)

    assert checked().ok
    assert "history_by_way" in counted
    assert "history_by_actor" not in counted


def test_nobody_stays_behind_where_the_one_that_asked_is_killed():
    code = (
        "import django, os, signal; django.setup()\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from enrollments.audit import ahead\n"
        "pool = ProcessPoolExecutor(1, get_context('fork'), ahead._begin, (os.getpid(), [], [], []))\n"
        "print(pool.submit(os.getpid).result(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    asking = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ},
        timeout=60,
        check=False,
    )
    other = int(asking.stdout)
    for _ in range(100):
        with contextlib.suppress(ProcessLookupError):
            os.kill(other, 0)
            time.sleep(0.1)
            continue
        return
    pytest.fail("it is still there")
