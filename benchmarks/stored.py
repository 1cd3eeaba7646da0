"""Figures of an earlier run on a machine of the same shape: what has become slower since is said."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.measure import Clock
from benchmarks.tables import seconds


class Stored:
    """One file for all shapes of machines and sizes of runs, each with the figures of the run that was kept last."""

    FILE: ClassVar[Path] = Path(__file__).with_name("stored.json")

    def __init__(self, file: Path) -> None:
        self._file = file

    def compared(self, run: dict[str, Any]) -> str:
        """In words: which figures take longer than the stored ones, by more than both spreads."""
        then = self._all().get(_shape(run))
        if then is None:
            return f"No figures are stored of a run on {_shape(run)}."
        slower = list(_slower(run, then))
        if not slower:
            return f"No figure falls against those of {then['at']}."
        return "\n".join([f"Fallen against {then['at']}, by more than the spread:", *slower])

    def store(self, run: dict[str, Any]) -> None:
        """Keep these figures; those that were not measured this time stay as they are."""
        everything = self._all()
        kept = everything.get(_shape(run), {}).get("figures", {})
        measured = {
            key: {clock.value: figure[clock.value] for clock in Clock}
            for key, figure in run["figures"].items()
        }
        everything[_shape(run)] = {"at": run["at"], "figures": {**kept, **measured}}
        self._file.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")

    def _all(self) -> dict[str, Any]:
        return dict(json.loads(self._file.read_text())) if self._file.exists() else {}


def _shape(run: dict[str, Any]) -> str:
    machine = run["machine"]
    python = ".".join(machine["python"].split(".")[:2])
    return f"{machine['cores']} cores, {machine['system']}, Python {python}, size {run['size']}"


def _slower(run: dict[str, Any], then: dict[str, Any]) -> Iterator[str]:
    for key, figure in run["figures"].items():
        for clock in Clock:
            now, before = figure[clock.value], then["figures"].get(key, {}).get(clock.value)
            if before and now["median"] > before["median"] + max(now["spread"], before["spread"]):
                took, takes = seconds(before["median"]), seconds(now["median"])
                yield f"  {key}, {clock.upper()}: {takes}, was {took}"
