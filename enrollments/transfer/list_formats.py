"""A list as JSON Lines or as CSV: its lines, each within bounds, with what reads it. What they ask is not looked at."""

import csv
from collections.abc import Callable, Iterator
from typing import IO, Any

from enrollments.errors import DpsError
from enrollments.models import ImportFormat
from enrollments.policy.documents import NotJson, parse_json
from enrollments.transfer.columns import COLUMNS, Line, WrongCell, line_of_row
from enrollments.transfer.limits import MAX_LINE_BYTES, MAX_LIST_BYTES, MAX_RECORD_BYTES, MIB

# Of columns that are not known: the sentence about them is kept as a whole.
MOST_NAMED, MOST_OF_A_NAME = 8, 34


class ListRefused(DpsError):
    """The list as a whole cannot be read."""

    code = "list_refused"


class LineRefused(ValueError):
    """One sentence about a line."""


# Its number and its size, and what reads it.
Taken = Iterator[tuple[int, int, Callable[[], Line]]]


def taken_from(file: IO[bytes], format: ImportFormat) -> Taken:
    """Raises ListRefused, at once or in the middle; what reads a line raises LineRefused and what says where."""
    _check_encoding(file)
    read = _rows if format == ImportFormat.CSV else _json_lines
    return read(_bounded_lines(file))


def _json_lines(lines: Iterator[bytes]) -> Taken:
    for number, raw in enumerate(lines, 1):
        if raw.strip():
            yield number, len(raw), lambda raw=raw: _json_line(raw)  # type: ignore[misc]  # the default binds it


def _json_line(raw: bytes) -> Line:
    _refuse_long(raw, MAX_LINE_BYTES)
    try:
        value = parse_json(raw, max_bytes=MAX_LINE_BYTES)
    except NotJson as problem:
        raise LineRefused(problem.within("column")) from None
    if not isinstance(value, dict):
        raise LineRefused("A line must be a JSON object.")
    return value


def _rows(lines: Iterator[bytes]) -> Taken:
    text = _Text(lines)
    header = text.next_line()
    if header is None:
        return
    delimiter = max(",;\t", key=header.count)
    text.put_back(header)
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    names = _header(next(_parsed(rows, text)))
    for cells in _parsed(rows, text):
        if any(cell.strip() for cell in cells):
            size = sum(map(len, cells))
            yield text.first_line, size, lambda cells=cells: _row(names, cells)  # type: ignore[misc]  # as above


def _parsed(rows: Any, text: "_Text") -> Iterator[list[str]]:
    while True:
        text.begin()
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as problem:
            # From here on nobody knows where a row ends.
            raise ListRefused(
                f"The CSV cannot be read from line {text.first_line} on: {problem}. "
                "Look for a quote that is not closed."
            ) from None


def _header(cells: list[str]) -> list[str]:
    known = {name.lower(): name for name in COLUMNS}
    names = [known.get(cell.strip().lower(), "") for cell in cells]
    if unknown := [cell.strip() for name, cell in zip(names, cells, strict=True) if not name]:
        raise ListRefused(_unknown_columns(unknown))
    for name in names:
        if names.count(name) > 1:
            raise ListRefused(f"The column {name} is there twice.")
    return names


def _unknown_columns(unknown: list[str]) -> str:
    shown = [_shortened(ascii(name)) for name in unknown[:MOST_NAMED]]
    if more := len(unknown) - len(shown):
        shown.append(f"{more} more")
    if len(shown) == 1:
        said = f"a column that is not known, {shown[0]}: rename it or take it out"
    else:
        named = f"{', '.join(shown[:-1])} and {shown[-1]}"
        said = f"{len(unknown)} columns that are not known, {named}: rename them or take them out"
    return f"The list has {said}. The page where lists are uploaded and docs/import.md name the columns that there are."


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_OF_A_NAME else f"{name[: MOST_OF_A_NAME - 2]}…'"


def _row(names: list[str], cells: list[str]) -> Line:
    if len(cells) > len(names):
        raise LineRefused(f"This row has {len(cells)} cells, and there are {len(names)} columns.")
    if any("\x00" in cell for cell in cells):
        raise LineRefused("This row holds a NUL character.")
    row = dict(zip(names, cells, strict=False))
    try:
        return line_of_row(row)
    except WrongCell as problem:
        problem.name = row.get("registrationId") or row.get("enrollmentGroupId") or ""
        raise


class _Text:
    """The physical lines of a CSV file for the library's reader, with where the current row began."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._again: list[str] = []
        self._number = 0
        self._in_row = 0
        self.first_line = 1

    def begin(self) -> None:
        self.first_line, self._in_row = self._number + 1, 0

    def put_back(self, line: str) -> None:
        self._again.append(line)
        self._number -= 1

    def next_line(self) -> str | None:
        if self._again:
            self._number += 1
            return self._again.pop()
        raw = next(self._lines, None)
        if raw is None:
            return None
        self._number += 1
        self._in_row += len(raw)
        if self._in_row > MAX_RECORD_BYTES:
            raise ListRefused(
                f"The row that begins in line {self.first_line} has more than {MAX_RECORD_BYTES} bytes. "
                "Look for a quote that is not closed."
            )
        try:
            return raw.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise ListRefused(
                f"Line {self._number} is not UTF-8: save the list as CSV in UTF-8, and try again."
            ) from None

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        line = self.next_line()
        if line is None:
            raise StopIteration
        return line


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes]:
    """A line that is too long is passed on cut off, one byte longer than allowed, so that it can be refused."""
    total = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        total += len(raw)
        rest = raw
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
            total += len(rest)
            if total > MAX_LIST_BYTES:
                break
        if total > MAX_LIST_BYTES:
            raise ListRefused(f"The list has more than {MAX_LIST_BYTES // MIB} MB: split it.")
        yield raw


def _refuse_long(raw: bytes, most: int) -> None:
    if len(raw) > most:
        raise LineRefused(f"The line has more than {most} bytes.")


def _check_encoding(file: IO[bytes]) -> None:
    start = file.read(4)
    file.seek(0)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ListRefused("The list is UTF-16: save it as UTF-8, and try again.")
    if start.startswith(b"PK\x03\x04"):
        raise ListRefused(
            "The list is a ZIP file, or a workbook of a spreadsheet: save it as CSV, and try again."
        )
