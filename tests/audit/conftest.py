"""What several tests of verifiers read."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from enrollments.actions.history import take_checkpoint
from enrollments.audit.excerpt import excerpt_lines, rows_with_seals
from enrollments.audit.export import export_lines
from enrollments.models import HistoryEvent
from tests.audit.histories import fill
from tests.audit.tampering import without_triggers


@pytest.fixture
def files(tmp_path):
    """An excerpt of every seventh row, newest first, and the whole."""
    fill(60)
    checkpoint, _ = take_checkpoint()
    ids = list(HistoryEvent.objects.order_by("-pk").values_list("pk", flat=True))[::7]
    excerpt, whole = tmp_path / "excerpt.jsonl", tmp_path / "whole.jsonl"
    excerpt.write_bytes(b"".join(excerpt_lines({"filter": {}}, iter(rows_with_seals(ids)), checkpoint.note)))
    whole.write_bytes(b"".join(export_lines(checkpoint)))
    return excerpt, whole


@pytest.fixture
def copy(tmp_path) -> Callable[..., Path]:
    """A copy of the file as it is after these statements, without triggers."""

    def made(*statements: str) -> Path:
        original, changed = tmp_path / "original.sqlite3", tmp_path / "changed.sqlite3"
        if not original.exists():
            with contextlib.closing(sqlite3.connect(original)) as target:
                connection.ensure_connection()
                connection.connection.backup(target)
                for statement in without_triggers():
                    target.execute(statement)
                target.commit()
                target.execute("PRAGMA journal_mode=DELETE")
        shutil.copy(original, changed)
        with contextlib.closing(sqlite3.connect(changed)) as database:
            database.execute("PRAGMA ignore_check_constraints=ON")
            for statement in statements:
                database.execute(statement)
            database.commit()
        return changed

    return made
