"""Reading a list: what each line asks for, or one sentence about what is wrong with it. Nothing is looked up here."""

import csv
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from enrollments.attestation.x509 import (
    MAX_UPLOAD_BYTES,
    DeviceCertificate,
    PrivateKeyInUpload,
    refuse_private_keys,
)
from enrollments.audit.record import clean_reason
from enrollments.errors import DpsError, Invalid
from enrollments.models import ImportFormat, Slot
from enrollments.policy.documents import DocumentProblem, NotJson, parse_json
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.transfer.archive import Archive, MemberRefused
from enrollments.transfer.columns import COLUMNS, Line, WrongCell, line_of_row
from enrollments.transfer.limits import (
    MAX_GROUPS,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_LIST_BYTES,
    MAX_RECORD_BYTES,
    MIB,
)

OPERATIONS = ("create", "update", "createOrUpdate", "disable")
# Members of a line that are no members of an entry.
OURS = ("operation", "predecessor", "secretsWithheld", "switchesAt", "scheduleReason")
# Of columns that are not known: the sentence about them is kept as a whole.
MOST_NAMED, MOST_OF_A_NAME = 8, 34
_FILE_NAME = re.compile(r"[^\r\n]{1,250}\.(?:pem|crt|cer|cert|der|txt)", re.IGNORECASE)


class ListRefused(DpsError):
    """The list as a whole cannot be read."""

    code = "list_refused"


class _LineRefused(ValueError):
    """One sentence about a line."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one line asks for. `message`: an entry as the service API knows it, not looked at yet."""

    line: int
    is_group: bool
    name: str
    operation: str
    message: dict[str, Any]
    predecessor: str | None = None
    secrets_withheld: bool = False
    # By the texts of the message: what was read and judged already.
    certificates: dict[str, DeviceCertificate] = field(default_factory=dict)
    # Until when the entry stands as the message says, and why.
    switches_at: datetime | None = None
    schedule_reason: str = ""
    # Of the line and what it takes out of a ZIP, in bytes, more or less.
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class BadLine:
    line: int
    name: str
    sentence: str


def records(file: IO[bytes], format: ImportFormat, archive: Archive | None) -> Iterator[Record | BadLine]:
    """In the order of the lines. Raises ListRefused, ArchiveRefused, at once or in the middle."""
    _check_encoding(file)
    read = _rows if format == ImportFormat.CSV else _json_lines
    reader, count = _Reader(archive), 0
    for number, size, take in read(_bounded_lines(file)):
        count += 1
        if count > MAX_LINES:
            raise ListRefused(f"The list has more than {MAX_LINES} lines: split it.")
        yield reader.read(number, size, take)
    if not count:
        raise ListRefused("The list is empty.")


class _Reader:
    """What is remembered from one line to the next."""

    def __init__(self, archive: Archive | None) -> None:
        self._archive = archive
        self._named: dict[tuple[bool, str], int] = {}
        self._groups = 0

    def read(self, number: int, size: int, take: Callable[[], Line]) -> Record | BadLine:
        name = ""
        try:
            line = take()
            is_group, name = _named(line)
            self._refuse_repetition(number, is_group, name)
            size += self._take_files(line)
            return _record(number, is_group, name, line, size)
        except WrongCell as problem:
            return BadLine(number, problem.name[:128], str(problem))
        except (_LineRefused, DocumentProblem) as problem:
            return BadLine(number, name[:128], str(problem))
        except (MemberRefused, PrivateKeyInUpload) as refused:
            return BadLine(number, name[:128], refused.message)

    def _refuse_repetition(self, number: int, is_group: bool, name: str) -> None:
        """One line for one entry: then it makes no difference in which order lines are carried out."""
        first = self._named.setdefault((is_group, registration_key(name)), number)
        if first != number:
            raise _LineRefused(f"{name} stands in line {first} already: give each entry one line.")
        self._groups += is_group
        if self._groups > MAX_GROUPS:
            raise ListRefused(f"The list has more than {MAX_GROUPS} groups: split it.")

    def _take_files(self, line: Line) -> int:
        """Put certificates in the place of the names of their files; how many bytes that are.

        Raises MemberRefused, PrivateKeyInUpload.
        """
        taken = 0
        for _, holder in certificates_of(line):
            text = holder["certificate"]
            if self._names_file(text):
                if self._archive is None:
                    raise _LineRefused(
                        f"{text[:100]!a} is the name of a file, and there is no ZIP beside the list."
                    )
                content = self._archive.read(text)
                refuse_private_keys(content)
                holder["certificate"] = _as_text(content)
                taken += len(holder["certificate"])
            elif len(text) > MAX_UPLOAD_BYTES:
                raise _LineRefused(f"A certificate has more than {MAX_UPLOAD_BYTES} bytes.")
            else:
                refuse_private_keys(text)
        return taken

    def _names_file(self, text: str) -> bool:
        if _FILE_NAME.fullmatch(text):
            return True
        return self._archive is not None and len(text) <= 255 and text in self._archive


def _record(number: int, is_group: bool, name: str, line: Line, size: int) -> Record:
    operation = line.pop("operation", "create")
    predecessor, withheld = line.pop("predecessor", None), line.pop("secretsWithheld", False)
    if operation == "delete":
        raise _LineRefused("operation: an import deletes nothing. To shut a device out, disable it.")
    if operation not in OPERATIONS:
        raise _LineRefused(f"operation must be one of {', '.join(OPERATIONS)}.")
    if predecessor is not None and not (isinstance(predecessor, str) and is_group):
        raise _LineRefused("predecessor must be a string, and only a group has one.")
    if not isinstance(withheld, bool):
        raise _LineRefused("secretsWithheld must be true or false.")
    switches_at, reason = _schedule(operation, line)
    return Record(
        number,
        is_group,
        name,
        operation,
        line,
        predecessor,
        withheld,
        switches_at=switches_at,
        schedule_reason=reason,
        size=size,
    )


def _schedule(operation: str, line: Line) -> tuple[datetime | None, str]:
    """When its switch turns and why, taken out of the line."""
    at, reason = line.pop("switchesAt", None), line.pop("scheduleReason", None)
    if at is None:
        if reason is not None:
            raise _LineRefused(
                "scheduleReason says why the switch turns at a time: give that time as switchesAt, or leave it out."
            )
        return None, ""
    if operation == "disable":
        raise _LineRefused(
            "switchesAt: disable is until somebody enables it. To disable it until a time, say update and give all of "
            "the entry."
        )
    if line.get("provisioningStatus") is None:
        raise _LineRefused(
            "switchesAt: say with provisioningStatus whether the entry is enabled or disabled until then."
        )
    if reason is not None and not isinstance(reason, str):
        raise _LineRefused("scheduleReason must be a string.")
    try:
        return _moment(at), clean_reason(reason or "")
    except Invalid as problem:
        raise _LineRefused(f"scheduleReason: {problem.message}") from None


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise _LineRefused(
                "switchesAt: say in which zone that time is meant, for instance with Z for UTC: 2030-05-03T14:00:00Z."
            )
        return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as problem:
        if isinstance(problem, _LineRefused):
            raise
        raise _LineRefused("switchesAt must be a time such as 2030-05-03T14:00:00Z.") from None


def _named(line: Line) -> tuple[bool, str]:
    given = [member for member in ("registrationId", "enrollmentGroupId") if line.get(member) is not None]
    if len(given) != 1:
        raise _LineRefused("Give either registrationId or enrollmentGroupId: it says which entry is meant.")
    name = line[given[0]]
    if not isinstance(name, str) or not is_registration_id(name):
        raise _LineRefused(f"{given[0]}: give {FORM_IN_WORDS}.")
    return given[0] == "enrollmentGroupId", name


def certificates_of(line: Line) -> list[tuple[Slot, dict[str, Any]]]:
    """The objects in which certificates stand, as far as the line has the form that it should have."""
    attestation = line.get("attestation")
    x509 = attestation.get("x509") if isinstance(attestation, dict) else None
    if not isinstance(x509, dict):
        return []
    found = []
    for member in ("clientCertificates", "signingCertificates"):
        pair = x509.get(member)
        if isinstance(pair, dict):
            for name, slot in _SLOTS:
                holder = pair.get(name)
                if isinstance(holder, dict) and isinstance(holder.get("certificate"), str):
                    found.append((slot, holder))
    return found


# By their plain names: looking one up by a member of an enumeration takes ten times as long.
_SLOTS = tuple((slot.value, slot) for slot in (Slot.PRIMARY, Slot.SECONDARY))


def _as_text(content: bytes) -> str:
    if b"-----BEGIN" in content:
        try:
            return content.decode("ascii")
        except UnicodeDecodeError:
            pass
    return b64encode(content).decode()


# Its number and its size, and what reads it.
Taken = Iterator[tuple[int, int, Callable[[], Line]]]


def _json_lines(lines: Iterator[bytes]) -> Taken:
    for number, raw in enumerate(lines, 1):
        if raw.strip():
            yield number, len(raw), lambda raw=raw: _json_line(raw)  # type: ignore[misc]  # the default binds it


def _json_line(raw: bytes) -> Line:
    _refuse_long(raw, MAX_LINE_BYTES)
    try:
        value = parse_json(raw, max_bytes=MAX_LINE_BYTES)
    except NotJson as problem:
        raise _LineRefused(problem.within("column")) from None
    if not isinstance(value, dict):
        raise _LineRefused("A line must be a JSON object.")
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
        raise _LineRefused(f"This row has {len(cells)} cells, and there are {len(names)} columns.")
    if any("\x00" in cell for cell in cells):
        raise _LineRefused("This row holds a NUL character.")
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
        raise _LineRefused(f"The line has more than {most} bytes.")


def _check_encoding(file: IO[bytes]) -> None:
    start = file.read(4)
    file.seek(0)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ListRefused("The list is UTF-16: save it as UTF-8, and try again.")
    if start.startswith(b"PK\x03\x04"):
        raise ListRefused(
            "The list is a ZIP file, or a workbook of a spreadsheet: save it as CSV, and try again."
        )
