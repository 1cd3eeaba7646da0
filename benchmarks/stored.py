"""Figures of an earlier run on a machine of the same shape: what has become worse since is said."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from benchmarks.measure import Besides, Clock
from benchmarks.tables import WORDS, seconds

# In all of them less is better, but in this one, which is no result.
OFFERED = Besides.REFUSED
# So many figures of the processor's time say something of the machine.
ENOUGH = 5

# Under the key of a figure and what it is that was measured: median and spread.
Figures = Mapping[str, Mapping[str, float]]


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
        fallen = f"Fallen against {then['at']}, by more than the spread:"
        return "\n".join([*_as_a_whole(_measured(run), then["figures"]), fallen, *worse])

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


def _as_a_whole(now: Figures, then: Figures) -> Iterator[str]:
    """A machine that shares its processors is slower at one hour than at another: then all figures fall alike."""
    ratios = [
        now[name]["median"] / then[name]["median"]
        for name in now.keys() & then.keys()
        if name.endswith(f" {Clock.CPU.value}") and then[name]["median"]
    ]
    if len(ratios) >= ENOUGH:
        yield (
            f"In the median of {len(ratios)} figures the processor took {median(ratios):.2f} times as long as then: "
            "what fell by about that much may be the machine."
        )


def _worse(now: Figures, then: Figures) -> Iterator[str]:
    for name in sorted(now.keys() & then.keys()):
        found, before = now[name], then[name]
        if found["median"] > before["median"] + max(found["spread"], before["spread"]):
            word = _word(name.rpartition(" ")[2])
            yield f"  {name}: {word(found['median'])}, was {word(before['median'])}"


def _word(measure: str) -> Callable[[float], str]:
    return seconds if measure in set(Clock) else WORDS[Besides(measure)]
