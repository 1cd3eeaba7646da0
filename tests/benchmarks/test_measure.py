"""Taking turns, medians and ratios, on costs that are known beforehand."""

import pytest

from benchmarks.measure import (
    Amount,
    Besides,
    Clock,
    Cost,
    Figure,
    Part,
    Ratio,
    Summary,
    is_met,
    summary,
    summary_of_ratio,
    take_turns,
    without_dangling_ratios,
)


def costs(*cpu: float) -> list[Cost]:
    return [Cost(one, 2 * one) for one in cpu]


def test_spread_is_where_half_of_all_repetitions_lie():
    assert Summary.of([5, 1, 2, 4, 3]) == Summary(3, 2)
    assert Summary.of([7]) == Summary(7, 0)


def test_figures_take_turns_and_the_first_round_does_not_count():
    turns = []

    def figure(key):
        return Figure(key, key, 10, lambda times: turns.append(key) or Cost(len(turns), times))

    measured, interrupted = take_turns([figure("one"), figure("other")], 3, lambda _: None)

    assert [sorted(turns[at : at + 2]) for at in range(0, 8, 2)] == [["one", "other"]] * 4
    assert not interrupted
    assert {key: len(kept) for key, kept in measured.items()} == {"one": 3, "other": 3}
    assert min(cost.cpu for kept in measured.values() for cost in kept) == 3
    assert summary(measured, "one", Clock.WALL) == Summary(10, 0)


def test_a_ratio_is_taken_within_each_round():
    # The machine was ten times slower in the last round: that is no affair of the ratio's.
    measured = {"refusal": costs(1, 1, 10), "registration": costs(5, 5, 50)}

    assert summary_of_ratio(measured, Ratio("", "refusal", "registration")) == Summary(0.2, 0)


@pytest.mark.parametrize(
    ("below", "met"),
    [
        pytest.param(0.25, True, id="less"),
        pytest.param(0.2, False, id="as much"),
        pytest.param(0.1, False, id="more"),
        pytest.param(None, None, id="no target"),
    ],
)
def test_a_target_is_met_below_it(below, met):
    measured = {"refusal": costs(1, 1), "registration": costs(5, 5)}

    assert is_met(measured, Ratio("", "refusal", "registration", below)) is met


@pytest.mark.parametrize(
    ("at_least", "met"),
    [
        pytest.param(0.1, True, id="more"),
        pytest.param(0.2, True, id="as much"),
        pytest.param(0.25, False, id="less"),
    ],
)
def test_a_share_reaches_its_target(at_least, met):
    measured = {"ceiling": costs(1, 1), "registration": costs(5, 5)}

    assert is_met(measured, Ratio("", "ceiling", "registration", at_least=at_least)) is met


def test_ratios_to_figures_that_are_not_measured_are_left_out():
    figure = Figure("one", "one", 1, lambda _: Cost(1, 1))
    inner, outer = Ratio("inner", "one", "one"), Ratio("outer", "one", "other")

    (part,) = without_dangling_ratios([Part("part", [figure], [inner, outer])])

    assert part == Part("part", [figure], [inner])


def test_whoever_interrupts_keeps_the_rounds_that_were_whole():
    turns = []

    def repeat(times):
        turns.append(times)
        if len(turns) == 6:  # two figures, and the first round warms up
            raise KeyboardInterrupt
        return Cost(1, 1)

    figures = [Figure(key, key, 1, repeat) for key in ("one", "other")]

    measured, interrupted = take_turns(figures, 3, lambda _: None)

    assert interrupted
    assert measured == {"one": [Cost(1, 1)], "other": [Cost(1, 1)]}


def test_what_is_told_besides_has_targets_as_well():
    measured = {"page": [Cost(1, 1, {Besides.QUERIES: queries}) for queries in (11, 12, 12)]}

    assert is_met(measured, Amount("", "page", Besides.QUERIES, 12)) is True
    assert is_met(measured, Amount("", "page", Besides.QUERIES, 11)) is False
    assert is_met(measured, Amount("", "page", Besides.QUERIES)) is None
    assert is_met(measured, Ratio("", "page", "page", clock=Besides.QUERIES, at_most=1)) is True
