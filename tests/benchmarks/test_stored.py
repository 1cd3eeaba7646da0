"""Figures of an earlier run: kept by the shape of the machine, and what falls against them is said."""

import copy

import pytest

from benchmarks.stored import Stored

RUN = {
    "at": "2026-11-25T21:00:00+00:00",
    "machine": {"cores": 2, "system": "Linux x86_64", "python": "3.11.7"},
    "size": "full",
    "figures": {
        "token": {
            "cpu": {"median": 0.010, "spread": 0.001},
            "wall": {"median": 0.012, "spread": 0.002},
        }
    },
    "amounts": [
        {"of": "page.list", "what": "queries", "median": 11.0, "spread": 0.0},
        {"of": "storm", "what": "refused", "median": 200.0, "spread": 0.0},
    ],
}


@pytest.fixture
def stored(tmp_path):
    one = Stored(tmp_path / "stored.json")
    one.store(RUN)
    return one


def later(cpu: float, spread: float = 0.0005) -> dict:
    run = copy.deepcopy(RUN)
    run["figures"]["token"]["cpu"] = {"median": cpu, "spread": spread}
    return run


def test_what_falls_by_more_than_the_spread_is_said(stored):
    said = stored.compared(later(0.0111))

    assert said.splitlines()[1:] == ["  token cpu: 11.10 ms, was 10.00 ms"]


def test_what_is_told_besides_is_compared_too_except_what_was_offered(stored):
    run = copy.deepcopy(RUN)
    for amount in run["amounts"]:
        amount["median"] += 1

    assert stored.compared(run).splitlines()[1:] == ["  page.list queries: 12, was 11"]


def many(slower: float) -> dict:
    run = copy.deepcopy(RUN)
    for number in range(5):
        run["figures"][f"one-{number}"] = {
            clock: {"median": (0.010 + number) * slower, "spread": 0.0} for clock in ("cpu", "wall")
        }
    return run


def test_that_the_machine_is_slower_as_a_whole_is_said(tmp_path):
    stored = Stored(tmp_path / "stored.json")
    stored.store(many(1))
    run = many(2)
    run["figures"]["one-3"]["cpu"]["median"] *= 9

    said = stored.compared(run)

    assert "In the median of 6 figures the processor took 2.00 times as long as then" in said


@pytest.mark.parametrize("run", [later(0.0109), later(0.009), later(0.0119, spread=0.002)])
def test_what_stays_within_the_spread_or_gets_better_is_not(stored, run):
    assert stored.compared(run) == "No figure falls against those of 2026-11-25T21:00:00+00:00."


@pytest.mark.parametrize("change", [{"size": "quick"}, {"machine": {**RUN["machine"], "cores": 8}}])
def test_another_machine_or_size_is_not_compared(stored, change):
    assert "No figures are stored" in stored.compared({**later(1), **change})


def test_figures_that_were_not_measured_stay_stored(stored):
    other = {**RUN, "figures": {"x509": RUN["figures"]["token"]}, "amounts": []}

    stored.store(other)

    assert "token cpu" in stored.compared(later(1))
