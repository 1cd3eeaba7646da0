"""Repetitions that take turns, and what remains of them: a median with its spread. Whatever it is that is measured."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Clock(StrEnum):
    CPU = "cpu"
    WALL = "wall"


class Besides(StrEnum):
    """What is told besides, where it matters: seconds, numbers and bytes."""

    P50 = "p50"
    P95 = "p95"
    REFUSED = "refused"
    QUERIES = "queries"
    BYTES = "bytes"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that one operation took: of a processor, and of the clock on the wall."""

    cpu: float
    wall: float
    besides: Mapping[Besides, float] = field(default_factory=dict)

    def of(self, measure: Clock | Besides) -> float:
        if isinstance(measure, Besides):
            return self.besides[measure]
        return self.cpu if measure is Clock.CPU else self.wall


@dataclass(frozen=True, slots=True)
class Target:
    """What a median is held to: `relation` is "below", "at most" or "at least"."""

    relation: str
    limit: float

    @classmethod
    def of(
        cls, *, below: float | None = None, at_most: float | None = None, at_least: float | None = None
    ) -> "Target | None":
        """The one that is given, if one is."""
        given = {"below": below, "at most": at_most, "at least": at_least}
        return next((cls(relation, limit) for relation, limit in given.items() if limit is not None), None)

    def worst(self, found: Iterable[float]) -> float:
        return min(found) if self.relation == "at least" else max(found)

    def is_met(self, found: float) -> bool:
        if self.relation == "below":
            return found < self.limit
        return found <= self.limit if self.relation == "at most" else found >= self.limit


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

    @property
    def target(self) -> Target | None:
        return Target.of(below=self.below)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure to another, within the same rounds. There may be a target, of one kind or another.

    `row` and `column`: where the digest has it, if it has.
    """

    title: str
    of: str
    to: str
    below: float | None = None
    clock: Clock | Besides = Clock.CPU
    at_least: float | None = None
    at_most: float | None = None
    row: str = ""
    column: str = ""

    @property
    def target(self) -> Target | None:
        return Target.of(below=self.below, at_most=self.at_most, at_least=self.at_least)


@dataclass(frozen=True, slots=True)
class Amount:
    """What a figure tells besides its cost, as a row of its own; in the digest as a ratio would be."""

    title: str
    of: str
    what: Besides
    at_most: float | None = None
    row: str = ""
    column: str = ""

    @property
    def target(self) -> Target | None:
        return Target.of(at_most=self.at_most)


@dataclass(frozen=True, slots=True)
class Part:
    """What a subject adds to a run. Ratios may name figures of other subjects."""

    title: str
    figures: Sequence[Figure]
    ratios: Sequence[Ratio] = ()
    amounts: Sequence[Amount] = ()


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


def take_turns(
    figures: Sequence[Figure], rounds: int, tell: Callable[[str], None]
) -> tuple[dict[str, list[Cost]], bool]:
    """Each round repeats every figure once, in an order of its own: what disturbs the machine disturbs them alike.

    One round before the first warms up what is only slow once, and does not count. With the costs comes whether
    somebody interrupted: then they are those of the rounds that were whole.
    """
    whole: list[dict[str, Cost]] = []
    interrupted = False
    order = list(figures)
    # What the preparations of other subjects hold is none of the garbage that is looked for while one is measured.
    gc.collect()
    gc.freeze()
    try:
        for number in range(rounds + 1):
            tell(f"round {number} of {rounds}")
            # The same orders in each run.
            random.Random(number).shuffle(order)
            whole.append({figure.key: figure.repeat(figure.times) for figure in order})
    except KeyboardInterrupt:
        interrupted = True
    return {figure.key: [costs[figure.key] for costs in whole[1:]] for figure in figures}, interrupted


def summary(costs: Costs, key: str, measure: Clock | Besides) -> Summary:
    return Summary.of([cost.of(measure) for cost in costs[key]])


def summary_of_ratio(costs: Costs, ratio: Ratio) -> Summary:
    """Of the ratios within each round, not the ratio of two medians: both sides saw the same machine."""
    pairs = zip(costs[ratio.of], costs[ratio.to], strict=True)
    return Summary.of([one.of(ratio.clock) / other.of(ratio.clock) for one, other in pairs])


def summary_of(costs: Costs, one: Figure | Ratio | Amount) -> Summary:
    """Of what its target is about."""
    if isinstance(one, Figure):
        return summary(costs, one.key, one.clock)
    if isinstance(one, Amount):
        return summary(costs, one.of, one.what)
    return summary_of_ratio(costs, one)


def is_met(costs: Costs, one: Figure | Ratio | Amount) -> bool | None:
    """None where there is no target."""
    return one.target.is_met(summary_of(costs, one).median) if one.target is not None else None


def in_this_process(operation: Callable[[], object]) -> Callable[[int], Cost]:
    """How to repeat what is a call of a function."""

    def repeat(times: int) -> Cost:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            operation()
        return Cost((time.process_time() - cpu) / times, (time.perf_counter() - wall) / times)

    return repeat
