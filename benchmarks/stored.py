"""Figures of an earlier run on a machine of the same shape: what has become worse since is said."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.measure import Besides, Clock
from benchmarks.tables import WORDS, seconds

# In all of them less is better, but in this one, which is no result.
OFFERED = Besides.REFUSED


class Stored:
    """One file for all shapes of machines and sizes of runs, each with the figures of the run that was kept last."""

    FILE: ClassVar[Path] = Path(__file__).with_name("stored.json")

    def __init__(self, file: Path) -> None:
        self._file = file

    def compared(self, run: dict[str, Any]) -> str:
        """In words: which figures are worse than the stored ones, by more than either spread."""
        then = self._all().get(_shape(run))
        if then is None:
            return f"No figures are stored of a run on {_shape(run)}."
        worse = list(_worse(_measured(run), then["figures"]))
        if not worse:
            return f"No figure falls against those of {then['at']}."
        return "\n".join([f"Fallen against {then['at']}, by more than the spread:", *worse])

    def store(self, run: dict[str, Any]) -> None:
        """Keep these figures; those that were not measured this time stay as they are."""
        everything = self._all()
        kept = everything.get(_shape(run), {}).get("figures", {})
        everything[_shape(run)] = {"at": run["at"], "figures": {**kept, **_measured(run)}}
        self._file.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")

    def _all(self) -> dict[str, Any]:
        return dict(json.loads(self._file.read_text())) if self._file.exists() else {}


def _shape(run: dict[str, Any]) -> str:
    machine = run["machine"]
    python = ".".join(machine["python"].split(".")[:2])
    return f"{machine['cores']} cores, {machine['system']}, Python {python}, size {run['size']}"


def _measured(run: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Under the key of a figure and what it is that was measured: median and spread."""
    found = {
        f"{key} {clock.value}": figure[clock.value]
        for key, figure in run["figures"].items()
        for clock in Clock
    }
    for amount in run["amounts"]:
        if amount["what"] != OFFERED:
            found[f"{amount['of']} {amount['what']}"] = {
                "median": amount["median"],
                "spread": amount["spread"],
            }
    return found


def _worse(now: dict[str, dict[str, float]], then: dict[str, dict[str, float]]) -> Iterator[str]:
    for name in sorted(now.keys() & then.keys()):
        found, before = now[name], then[name]
        if found["median"] > before["median"] + max(found["spread"], before["spread"]):
            word = _word(name.rpartition(" ")[2])
            yield f"  {name}: {word(found['median'])}, was {word(before['median'])}"


def _word(measure: str) -> Callable[[float], str]:
    return seconds if measure in set(Clock) else WORDS[Besides(measure)]
