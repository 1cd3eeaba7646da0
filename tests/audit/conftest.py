"""What several tests of verifiers read."""

import pytest

from enrollments.actions.history import take_checkpoint
from enrollments.audit.excerpt import excerpt_lines, rows_with_seals
from enrollments.audit.export import export_lines
from enrollments.models import HistoryEvent
from tests.audit.histories import fill


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
