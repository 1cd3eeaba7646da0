"""The targets in short: a row for each, a column for each database, and in it the worst of all that it holds for."""

from collections.abc import Sequence

from benchmarks.measure import Amount, Costs, Part, Ratio, Target, summary_of
from benchmarks.tables import WORDS, plain


def digest(parts: Sequence[Part], costs: Costs) -> str:
    """In Markdown, as the README has it; empty where nothing was measured that belongs there."""
    held: list[Ratio | Amount] = []
    for part in parts:
        held += [one for one in part.ratios if one.row]
        held += [one for one in part.amounts if one.row]
    columns = list(dict.fromkeys(one.column for one in held))
    rows = [f"| what | target | {' | '.join(columns)} |", f"|---|---|{'--:|' * len(columns)}"]
    for row in dict.fromkeys(one.row for one in held):
        of_row = [one for one in held if one.row == row]
        cells = [_cell([one for one in of_row if one.column == column], costs) for column in columns]
        rows.append(f"| {row} | {_target(of_row[0])} | {' | '.join(cells)} |")
    return "\n".join(rows) if held else ""


def _target(one: Ratio | Amount) -> str:
    target = _of(one)
    return f"{target.relation} {_in_words(one, target.limit)}"


def _cell(found: Sequence[Ratio | Amount], costs: Costs) -> str:
    """In bold where the target is missed."""
    if not found:
        return ""
    target = _of(found[0])
    worst = target.worst(summary_of(costs, one).median for one in found)
    told = _in_words(found[0], worst)
    return told if target.is_met(worst) else f"**{told}**"


def _of(one: Ratio | Amount) -> Target:
    if one.target is None:
        raise ValueError(f"{one.title} is in the digest, and has no target")
    return one.target


def _in_words(one: Ratio | Amount, number: float) -> str:
    return WORDS[one.what](number) if isinstance(one, Amount) else plain(number)
