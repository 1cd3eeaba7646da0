"""What is remembered of certificates: never more than is said, never a refusal that might pass, never a date."""

from datetime import timedelta

import pytest

from enrollments.attestation.x509 import InvalidPath, PathValidator, parse_der
from enrollments.attestation.x509.errors import UnreadableCertificate
from enrollments.attestation.x509.remembered import Remembered
from tests.attestation.test_x509_search import Held, graph_of
from tests.certificates import NOW, root


def test_each_is_found_out_once():
    asked = []

    def find_out():
        asked.append(1)
        return len(asked)

    kept = Remembered(most=4)

    assert [kept.get("a", find_out), kept.get("a", find_out), kept.get("b", find_out)] == [1, 1, 2]


def test_no_is_an_answer_and_an_exception_is_none():
    answers = iter([False, AssertionError("asked twice")])
    kept = Remembered(most=4)
    assert kept.get("a", lambda: next(answers)) is False
    assert kept.get("a", lambda: next(answers)) is False

    with pytest.raises(ZeroDivisionError):
        kept.get("b", lambda: 1 // 0)
    assert kept.get("b", lambda: "now it works") == "now it works"


def test_a_full_one_begins_anew():
    kept = Remembered(most=3)
    for number in range(1000):
        assert kept.get(number, lambda number=number: number) == number
        assert len(kept._answers) <= 3


def test_unreadable_certificate_is_unreadable_each_time():
    for _ in range(2):
        with pytest.raises(UnreadableCertificate):
            parse_der(b"\x30\x03\x02\x01\x00")


def test_path_that_was_valid_is_judged_by_the_dates_of_each_time():
    top = root("Root A", not_after=NOW + timedelta(days=400))
    middle = top.intermediate("Line 9", not_after=NOW + timedelta(days=200))
    leaf = middle.leaf("pump-042", not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=100))
    graph = graph_of(leaf, middle, held=Held(top))
    anchor = parse_der(top.der)

    def judged(days: int):
        return PathValidator(graph, NOW + timedelta(days=days)).shortest_valid_path(anchor)

    for _ in range(2):
        assert len(judged(1)) == 3
        for day in (-2, 101, 201, 401):
            with pytest.raises(InvalidPath):
                judged(day)
