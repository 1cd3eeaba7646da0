"""What a fleet's results come to: outcomes counted, latencies ranked, as text and as JSON."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from enrollments.simulator.client import Outcome, Result

PERCENTILES = {"p50": 50, "p95": 95, "max": 100}


@dataclass
class Summary:
    """Filled while the fleet runs, so that an interrupted one still has a table."""

    results: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.results.append(result)

    @property
    def counts(self) -> dict[Outcome, int]:
        counted = Counter(result.outcome for result in self.results)
        return {outcome: counted[outcome] for outcome in Outcome}

    @property
    def nobody_reached_the_service(self) -> bool:
        return bool(self.results) and all(one.outcome is Outcome.UNREACHABLE for one in self.results)

    def in_brief(self) -> str:
        return ", ".join(f"{number} {outcome}" for outcome, number in self.counts.items() if number)

    def latencies(self) -> dict[str, dict[str, float | None]]:
        """Milliseconds: of the registering PUT, and until the outcome was known, waits included."""
        return {
            "register": ranked(one.register_seconds for one in self.results),
            "total": ranked(one.total_seconds for one in self.results),
        }

    def as_text(self) -> str:
        outcomes = table(("Outcome", "Devices"), [(key, str(number)) for key, number in self.counts.items()])
        rows = [
            (name, *("–" if value is None else f"{value:.0f} ms" for value in ranked.values()))
            for name, ranked in self.latencies().items()
        ]
        causes = Counter(
            (one.outcome, one.detail) for one in self.results if one.outcome in _NEED_A_WORD and one.detail
        )
        texts = [outcomes, table(("Latency", *PERCENTILES), rows)]
        if hub_keys := sum(one.hub_key_used for one in self.results):
            texts.append(f"TPMs that activated the key for their hub and signed with it: {hub_keys}.")
        if causes:
            commonest = [
                (str(number), outcome, detail) for (outcome, detail), number in causes.most_common(5)
            ]
            texts.append(table(("Devices", "Outcome", "Said"), commonest))
        return "\n\n".join(texts)

    def as_json(self) -> dict[str, Any]:
        return {
            "devices": len(self.results),
            "outcomes": {outcome.value: number for outcome, number in self.counts.items()},
            "latency_ms": self.latencies(),
            "results": [asdict(one) for one in self.results],
        }


_NEED_A_WORD = (Outcome.FAILED, Outcome.ERROR, Outcome.UNREACHABLE)


def ranked(seconds: Iterable[float | None]) -> dict[str, float | None]:
    """Nearest rank: each figure is one that was measured."""
    measured = sorted(one for one in seconds if one is not None)
    return {
        name: round(measured[max(0, math.ceil(len(measured) * percent / 100) - 1)] * 1000, 1)
        if measured
        else None
        for name, percent in PERCENTILES.items()
    }


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    lines = [headers, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
