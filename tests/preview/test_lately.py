"""Previews are looked at page by page: worked out once, for one state, for a few of them and for minutes."""

import pytest

from enrollments.actions.preview import lately
from enrollments.actions.preview.lately import Lately
from tests.devices import enroll_keys

pytestmark = pytest.mark.django_db


def returns(service, kept, what, value):
    return kept.of(service, what, lambda: value)


def test_it_is_worked_out_once_for_each_state(service):
    kept = Lately()

    assert returns(service, kept, "one", "first") == "first"
    assert returns(service, kept, "one", "again") == "first"
    assert returns(service, kept, "other", "its own") == "its own"
    enroll_keys(service, "pump-1")
    assert returns(service, kept, "one", "after a change") == "after a change"


def test_few_are_kept_and_for_minutes(service, monkeypatch):
    kept = Lately()
    names = [f"preview {number}" for number in range(lately.MOST_KEPT + 1)]
    for name in names:
        returns(service, kept, name, "first")

    assert returns(service, kept, names[-1], "again") == "first"
    assert returns(service, kept, names[0], "again") == "again", "the oldest went"
    monkeypatch.setattr(lately, "KEPT_SECONDS", -1)
    assert returns(service, kept, names[-1], "much later") == "much later"
