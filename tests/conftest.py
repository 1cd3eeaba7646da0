"""What all tests share."""

import importlib
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection
from django.test import TransactionTestCase
from django.utils import timezone

QUARTER = 15 * 60
LONGER_THAN_A_TEST = 15  # seconds, of nearly all of them
_flush = TransactionTestCase._fixture_teardown
_WITH_TRIGGERS = [
    importlib.import_module(f"enrollments.migrations.{name}")
    for name in ("0002_history_is_final", "0010_history_seals", "0030_history_takes_what_belongs")
]


def drop_triggers_of_history() -> None:
    """What whoever owns the database can do as well."""
    with connection.schema_editor() as editor:
        for migration in reversed(_WITH_TRIGGERS):
            migration.drop_triggers(None, editor)


def add_triggers_of_history() -> None:
    with connection.schema_editor() as editor:
        for migration in _WITH_TRIGGERS:
            migration.add_triggers(None, editor)


def _flush_with_history(test: TransactionTestCase) -> None:
    """A test with real transactions ends by emptying the tables, which the history's own triggers refuse."""
    drop_triggers_of_history()
    try:
        _flush(test)
    finally:
        add_triggers_of_history()


def _is_transactional(test: TransactionTestCase) -> bool:
    from django.test import TestCase

    return not isinstance(test, TestCase)


TransactionTestCase._fixture_teardown = lambda test: (
    _flush_with_history(test) if _is_transactional(test) else _flush(test)
)


@pytest.fixture(autouse=True)
def _no_quarter_of_an_hour_ends_within_a_test() -> None:
    """Attempts and failures are counted by it, so any test that looks for one row of something could find two."""
    left = QUARTER - time.time() % QUARTER
    if left < LONGER_THAN_A_TEST:
        time.sleep(left)


@pytest.fixture
def time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of a quarter of an hour: for tests that look ahead, or for long at what is counted by it."""
    midst = datetime.fromtimestamp((time.time() // QUARTER + 0.5) * QUARTER, UTC)
    monkeypatch.setattr(timezone, "now", lambda: midst)


@pytest.fixture(autouse=True)
def _no_leftover_rates() -> None:
    """What one test's devices did must not throttle those of another, which have the same names."""
    from django.conf import settings

    from enrollments.actions import attempts_bounds
    from enrollments.throttling import limits

    limits._limiter.cache_clear()
    attempts_bounds._room_left.forget()
    shutil.rmtree(Path(settings.DPS_DATA_DIR) / "rates", ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_leftover_parse_cache() -> None:
    """Certificates are cached by their text, which no test may come to rely on."""
    from enrollments.actions.certificates import parsed

    parsed.cache_clear()


@pytest.fixture(autouse=True)
def _no_leftover_checkpoints() -> None:
    """What was signed of one test's history is no promise about that of the next; nor is what was done just now."""
    from django.conf import settings

    from enrollments.audit import upkeep

    Path(settings.DPS_CHECKPOINT_FILE).unlink(missing_ok=True)
    upkeep.sealing.next_at = upkeep.signing.next_at = 0.0


@pytest.fixture(autouse=True)
def _nothing_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread of one test writes into the database of another: what is added up is written when a test says so."""
    from enrollments.actions import access_counts, adding_up, rates, sign_in

    assert rates and sign_in, "all that add up are there"
    monkeypatch.setattr(access_counts, "_TOLD", access_counts._Told())
    for one in adding_up._ALL:
        monkeypatch.setattr(one, "_counts", {})
        monkeypatch.setattr(one, "_has_thread", False)
    monkeypatch.setattr(adding_up, "in_background", lambda run, name: None)


@pytest.fixture
def database_clock(monkeypatch: pytest.MonkeyPatch):
    from tests.clocks import DatabaseClock

    return DatabaseClock(monkeypatch)


@pytest.fixture
def service(db: None):
    """The one that a test is about, empty but for what every service has."""
    from tests.devices import new_service

    return new_service()
