"""What all tests share."""

import importlib
import shutil
from pathlib import Path

import pytest
from django.db import connection
from django.test import TransactionTestCase

_flush = TransactionTestCase._fixture_teardown


def _flush_with_history(test: TransactionTestCase) -> None:
    """A test with real transactions ends by emptying the tables, which the history's own triggers refuse."""
    migration = importlib.import_module("enrollments.migrations.0002_history_is_final")
    with connection.schema_editor() as editor:
        migration.drop_triggers(None, editor)
    try:
        _flush(test)
    finally:
        with connection.schema_editor() as editor:
            migration.add_triggers(None, editor)


def _is_transactional(test: TransactionTestCase) -> bool:
    from django.test import TestCase

    return not isinstance(test, TestCase)


TransactionTestCase._fixture_teardown = lambda test: (
    _flush_with_history(test) if _is_transactional(test) else _flush(test)
)


@pytest.fixture(autouse=True)
def _no_leftover_rates() -> None:
    """What one test's devices did must not throttle those of another, which have the same names."""
    from django.conf import settings

    from enrollments.throttling import limits

    limits._limiter.cache_clear()
    shutil.rmtree(Path(settings.DPS_DATA_DIR) / "rates", ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_leftover_parse_cache() -> None:
    """Certificates are cached by their text, which no test may come to rely on."""
    from enrollments.actions.certificates import parsed

    parsed.cache_clear()


@pytest.fixture
def database_clock(monkeypatch: pytest.MonkeyPatch):
    from tests.clocks import DatabaseClock

    return DatabaseClock(monkeypatch)
