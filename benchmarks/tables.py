"""A run as people read it and as programs do."""

import os
import platform
import sqlite3
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import cryptography
import django

from benchmarks.measure import Clock, Costs, Figure, Part, Ratio, Summary, is_met, summary, summary_of_ratio
from enrollments.simulator.report import table

FORMAT = 1


def as_text(parts: Sequence[Part], costs: Costs) -> str:
    """One table: a row for each figure, then one for each ratio."""
    rows: list[tuple[str, ...]] = []
    for part in parts:
        rows.append((part.title.upper(), *[""] * 6))
        for figure in part.figures:
            cpu, wall = (_in_words(summary(costs, figure.key, clock), _seconds) for clock in Clock)
            a_second = f"{1 / summary(costs, figure.key, Clock.WALL).median:,.0f}"
            rows.append(
                (f"  {figure.title}{_target(costs, figure)}", str(figure.times), *cpu, *wall, a_second)
            )
    rows.append(("RATIOS", *[""] * 6))
    rows += [_ratio_row(ratio, costs) for part in parts for ratio in part.ratios]
    return table(("Cost of one", "Times", "CPU", "spread", "Wall", "spread", "A second"), rows)


def _ratio_row(ratio: Ratio, costs: Costs) -> tuple[str, ...]:
    shown = _in_words(summary_of_ratio(costs, ratio), _plain)
    columns = (*shown, "", "") if ratio.clock is Clock.CPU else ("", "", *shown)
    return (f"  {ratio.title}{_target(costs, ratio)}", "", *columns, "")


def _target(costs: Costs, one: Figure | Ratio) -> str:
    """What it is held to, if anything, and whether it keeps to that."""
    if isinstance(one, Ratio) and one.at_least is not None:
        limit = f"at least {one.at_least:.2f}"
    elif one.below is None:
        return ""
    else:
        limit = (
            f"below {one.below:.2f}"
            if isinstance(one, Ratio)
            else f"below {_seconds(one.below)} {one.clock.upper()}"
        )
    return f": {limit}, {'met' if is_met(costs, one) else 'NOT MET'}"


def _limit(one: Figure | Ratio) -> str:
    below = one.below or 0.0
    return f"{below:.2f}" if isinstance(one, Ratio) else f"{_seconds(below)} {one.clock.upper()}"


def as_json(parts: Sequence[Part], costs: Costs, *, rounds: int, size: str) -> dict[str, Any]:
    """Times are seconds for one operation."""
    return {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "size": size,
        "rounds": rounds,
        "figures": {
            figure.key: {
                "subject": part.title,
                "title": figure.title,
                "times": figure.times,
                **{clock.value: _summary_as_json(summary(costs, figure.key, clock)) for clock in Clock},
                "below": figure.below,
                "clock": figure.clock.value,
                "met": is_met(costs, figure),
            }
            for part in parts
            for figure in part.figures
        },
        "ratios": [
            {
                "title": ratio.title,
                "of": ratio.of,
                "to": ratio.to,
                "clock": ratio.clock.value,
                **_summary_as_json(summary_of_ratio(costs, ratio)),
                "below": ratio.below,
                "at_least": ratio.at_least,
                "met": is_met(costs, ratio),
            }
            for part in parts
            for ratio in part.ratios
        ],
    }


def machine() -> dict[str, Any]:
    """What figures depend on, besides the code."""
    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "django": django.get_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "cryptography": cryptography.__version__,
    }


def _summary_as_json(one: Summary) -> dict[str, float]:
    return {"median": round(one.median, 9), "spread": round(one.spread, 9)}


def _in_words(one: Summary, word: Callable[[float], str]) -> tuple[str, str]:
    return word(one.median), word(one.spread)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def _plain(number: float) -> str:
    return f"{number:.3f}"
