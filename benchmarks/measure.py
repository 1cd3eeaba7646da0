"""Repetitions that take turns, and what remains of them: a median with its spread. Whatever it is that is measured."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Clock(StrEnum):
    CPU = "cpu"
    WALL = "wall"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that one operation took: of a processor, and of the clock on the wall."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. `repeat` carries out an operation `times` times and tells what one of them cost.

    `key` names the row in the JSON file and in ratios, and stays when the title is worded anew. `below`: the target, if
    there is one, in seconds that one operation may take by `clock`.
    """

    key: str
    title: str
    times: int
    repeat: Callable[[int], Cost]
    below: float | None = None
    clock: Clock = Clock.CPU


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure to another, within the same rounds. Where there is a target, it stays below it or reaches it."""

    title: str
    of: str
    to: str
    below: float | None = None
    clock: Clock = Clock.CPU
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What a subject adds to a run. Ratios may name figures of other subjects."""

    title: str
    figures: Sequence[Figure]
    ratios: Sequence[Ratio] = ()


def without_dangling_ratios(parts: Sequence[Part]) -> list[Part]:
    """The parts without ratios to figures of subjects that were not chosen."""
    known = {figure.key for part in parts for figure in part.figures}
    return [replace(part, ratios=[one for one in part.ratios if {one.of, one.to} <= known]) for part in parts]


@dataclass(frozen=True, slots=True)
class Summary:
    """`spread`: between the first and the third quartile lies half of all repetitions."""

    median: float
    spread: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        if len(values) < 2:
            return cls(values[0], 0.0)
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), third - first)


Costs = Mapping[str, Sequence[Cost]]


def take_turns(figures: Sequence[Figure], rounds: int, tell: Callable[[str], None]) -> Costs:
    """Each round repeats every figure once, in an order of its own: what disturbs the machine disturbs them alike.

    One round before the first warms up what is only slow once, and does not count.
    """
    costs: dict[str, list[Cost]] = {figure.key: [] for figure in figures}
    order = list(figures)
    for number in range(rounds + 1):
        tell(f"round {number} of {rounds}")
        # The same orders in each run.
        random.Random(number).shuffle(order)
        for figure in order:
            cost = figure.repeat(figure.times)
            if number > 0:
                costs[figure.key].append(cost)
    return costs


def summary(costs: Costs, key: str, clock: Clock) -> Summary:
    return Summary.of([getattr(cost, clock) for cost in costs[key]])


def summary_of_ratio(costs: Costs, ratio: Ratio) -> Summary:
    """Of the ratios within each round, not the ratio of two medians: both sides saw the same machine."""
    pairs = zip(costs[ratio.of], costs[ratio.to], strict=True)
    return Summary.of([getattr(one, ratio.clock) / getattr(other, ratio.clock) for one, other in pairs])


def is_met(costs: Costs, one: Figure | Ratio) -> bool | None:
    """None where there is no target."""
    if isinstance(one, Figure):
        return None if one.below is None else summary(costs, one.key, one.clock).median < one.below
    found = summary_of_ratio(costs, one).median
    if one.at_least is not None:
        return found >= one.at_least
    return None if one.below is None else found < one.below


def in_this_process(operation: Callable[[], object]) -> Callable[[int], Cost]:
    """How to repeat what is a call of a function."""

    def repeat(times: int) -> Cost:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            operation()
        return Cost((time.process_time() - cpu) / times, (time.perf_counter() - wall) / times)

    return repeat
