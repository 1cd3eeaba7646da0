"""Retry-After of devices that are refused again and again (R14)."""

import pytest

from enrollments.policy.back_off import retry_after


@pytest.mark.parametrize(
    ("refusals", "seconds"),
    [(0, 3), (1, 3), (2, 6), (3, 12), (4, 24), (7, 192), (8, 300), (9, 300), (10**9, 300)],
)
def test_wait_doubles_with_each_refusal_in_a_row_up_to_the_longest(refusals, seconds):
    assert retry_after(refusals, shortest=3, longest=300) == seconds


def test_longest_below_the_shortest_shortens_no_wait():
    assert [retry_after(n, shortest=30, longest=10) for n in (1, 2, 20)] == [30, 30, 30]
