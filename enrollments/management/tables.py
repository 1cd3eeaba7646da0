"""Lists for people and for programs: aligned columns, or a JSON object a line, written as they come."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """`most`: so wide at most; what is longer is written whole and moves the rest of its line."""

    title: str
    most: int


def as_table(columns: Sequence[Column], pages: Iterable[Iterable[Sequence[str]]]) -> Iterator[str]:
    """As wide as the first page needs: whoever looks on does not wait for the last."""
    widths: list[int] = []
    for page in pages:
        rows = list(page)
        if not widths:
            widths = [
                min(column.most, max(len(row[place]) for row in [*rows, [one.title for one in columns]]))
                for place, column in enumerate(columns)
            ]
            yield _line([column.title for column in columns], widths)
        for row in rows:
            yield _line(row, widths)


def as_json_lines(pages: Iterable[Iterable[Mapping[str, Any]]]) -> Iterator[str]:
    for page in pages:
        for one in page:
            yield json.dumps(one)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return GAP.join(padded).rstrip()


def day(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d") if at else "-"


def minute(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if at else "-"


def moment(at: datetime | None) -> str | None:
    """For programs."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else None


def facts(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Names and values below each other; a value of several lines stands below its name."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        first, *others = value.splitlines() or [""]
        yield f"{name.ljust(width)}{GAP}{first}".rstrip()
        for other in others:
            yield f"{' ' * width}{GAP}{other}".rstrip()
