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

from benchmarks.measure import (
    Amount,
    Besides,
    Clock,
    Costs,
    Figure,
    Part,
    Ratio,
    Summary,
    is_met,
    summary,
    summary_of,
    summary_of_ratio,
)
from enrollments.simulator.report import table

FORMAT = 2


def as_text(parts: Sequence[Part], costs: Costs) -> str:
    """One table: a row for each figure and what it tells besides, then one for each ratio."""
    rows: list[tuple[str, ...]] = []
    for part in parts:
        if part.figures:
            rows.append((part.title.upper(), *[""] * 6))
        for figure in part.figures:
            cpu, wall = (_in_words(summary(costs, figure.key, clock), seconds) for clock in Clock)
            a_second = f"{1 / summary(costs, figure.key, Clock.WALL).median:,.0f}"
            rows.append(
                (f"  {figure.title}{_target(costs, figure)}", str(figure.times), *cpu, *wall, a_second)
            )
        rows += [_amount_row(amount, costs) for amount in part.amounts]
    rows.append(("RATIOS", *[""] * 6))
    rows += [_ratio_row(ratio, costs) for part in parts for ratio in part.ratios]
    return table(("Cost of one", "Times", "CPU", "spread", "Wall", "spread", "A second"), rows)


def _amount_row(amount: Amount, costs: Costs) -> tuple[str, ...]:
    shown = _in_words(summary_of(costs, amount), WORDS[amount.what])
    # Times stand where they would if they were the cost.
    columns = ("", "", *shown) if amount.what in (Besides.P50, Besides.P95) else (*shown, "", "")
    return (f"  {amount.title}{_target(costs, amount)}", "", *columns, "")


def _ratio_row(ratio: Ratio, costs: Costs) -> tuple[str, ...]:
    shown = _in_words(summary_of_ratio(costs, ratio), plain)
    columns = ("", "", *shown) if ratio.clock in (Clock.WALL, Besides.P50, Besides.P95) else (*shown, "", "")
    return (f"  {ratio.title}{_target(costs, ratio)}", "", *columns, "")


def _target(costs: Costs, one: Figure | Ratio | Amount) -> str:
    """What it is held to, if anything, and whether it keeps to that."""
    if one.target is None:
        return ""
    if isinstance(one, Ratio):
        limit = f"{one.target.limit:.2f}"
    elif isinstance(one, Amount):
        limit = WORDS[one.what](one.target.limit)
    else:
        limit = f"{seconds(one.target.limit)} {one.clock.upper()}"
    return f": {one.target.relation} {limit}, {'met' if is_met(costs, one) else 'NOT MET'}"


def as_json(parts: Sequence[Part], costs: Costs, *, size: str) -> dict[str, Any]:
    """Times are seconds for one operation. A target is under the name of its relation: below, at most or at least."""
    return {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "size": size,
        "figures": {
            figure.key: {
                "subject": part.title,
                "title": figure.title,
                "times": figure.times,
                "rounds": len(costs[figure.key]),
                **{clock.value: _summary_as_json(summary(costs, figure.key, clock)) for clock in Clock},
                "clock": figure.clock.value,
                **_target_as_json(costs, figure),
            }
            for part in parts
            for figure in part.figures
        },
        "amounts": [
            {
                "title": amount.title,
                "of": amount.of,
                "what": amount.what.value,
                **_summary_as_json(summary_of(costs, amount)),
                **_target_as_json(costs, amount),
            }
            for part in parts
            for amount in part.amounts
        ],
        "ratios": [
            {
                "title": ratio.title,
                "of": ratio.of,
                "to": ratio.to,
                "clock": ratio.clock.value,
                **_summary_as_json(summary_of_ratio(costs, ratio)),
                **_target_as_json(costs, ratio),
            }
            for part in parts
            for ratio in part.ratios
        ],
    }


def _target_as_json(costs: Costs, one: Figure | Ratio | Amount) -> dict[str, Any]:
    if one.target is None:
        return {}
    return {one.target.relation.replace(" ", "_"): one.target.limit, "met": is_met(costs, one)}


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


def seconds(number: float) -> str:
    return f"{number * 1e3:.2f} ms" if number >= 1e-3 else f"{number * 1e6:.1f} µs"


def plain(number: float) -> str:
    return f"{number:.3f}"


def _kilobytes(number: float) -> str:
    return f"{number / 1e3:.1f} kB"


def _megabytes(number: float) -> str:
    return f"{number / 1e6:.1f} MB"


def _number(number: float) -> str:
    return f"{number:.0f}"


WORDS: dict[Besides, Callable[[float], str]] = {
    Besides.P50: seconds,
    Besides.P95: seconds,
    Besides.REFUSED: _number,
    Besides.QUERIES: _number,
    Besides.BYTES: _kilobytes,
    Besides.MEMORY: _megabytes,
}
