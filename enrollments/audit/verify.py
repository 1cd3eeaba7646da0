"""Checking the history, here or in an export: the first row that is not what was sealed, and what was cut off."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import BinaryIO

from enrollments.audit.canonical import NOTHING_BEFORE, link_hash, row_hash
from enrollments.audit.chain import (
    SealedRow,
    count_waiting,
    first_gone_while_waiting,
    first_unaccounted,
    head,
    sealed_rows,
)
from enrollments.audit.notes import BadNote, Checkpoint, UnknownSigner, VerifierKey, notes_in, read_checkpoint
from enrollments.collecting import without_collecting
from enrollments.models import HistoryCheckpoint
from enrollments.policy.words import counted

# A row that was written early may be sealed late. By more than this, it is said: it may have been put in afterwards.
LATE = timedelta(hours=1)
MAX_LINE = 1024 * 1024
_SEAL = rb'"seal":\{"hash":"([0-9a-f]{64})","index":([1-9]\d{0,17}),"previous":"([0-9a-f]{64})"\}\}\n'
_ROW_LINE = re.compile(rb'\{"event":(\{.*\}),' + _SEAL)
_OPAQUE_LINE = re.compile(rb'\{"row_hash":"([0-9a-f]{64})",' + _SEAL)
_EVENT_ID = re.compile(rb'.*,"id":(\d+),"reason":"')


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong. `index`: the place in the sequence; `event_id`: of the row, where known."""

    index: int | None
    event_id: int | None
    what: str

    def __str__(self) -> str:
        place = [f"#{self.index}"] if self.index is not None else []
        place += [f"row {self.event_id}"] if self.event_id is not None else []
        return f"{' '.join(place)}: {self.what}" if place else self.what


@dataclass
class Report:
    """What was checked, and what was found. `waiting`: rows that have no seal yet, which is no fault."""

    rows: int = 0
    head: str = NOTHING_BEFORE
    waiting: int = 0
    checkpoints: int = 0
    signed: int = 0
    opaque: int = 0
    notices: list[str] = field(default_factory=list)
    problem: Problem | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None


class Checkpoints:
    """What was signed, by size."""

    def __init__(self, signed: Iterable[Checkpoint] = ()) -> None:
        self._signed: dict[int, list[Checkpoint]] = {}
        self.count = self.largest = 0
        self._held = 0
        for one in signed:
            self._signed.setdefault(one.size, []).append(one)
            self.count += 1
            self.largest = max(self.largest, one.size)

    def against(self, index: int, hash: str) -> Problem | None:
        for one in self._signed.get(index, ()):
            if one.head != hash:
                return Problem(
                    index,
                    None,
                    f"the checkpoint of {one.at:%Y-%m-%d %H:%M:%S} UTC was signed for another row here: something from "
                    f"#{self._held + 1} to #{index} was changed and sealed anew",
                )
            self._held = index
        return None

    def cut_off(self, rows: int) -> Problem | None:
        if self.largest <= rows:
            return None
        at = max(one.at for one in self._signed[self.largest])
        return Problem(
            rows + 1,
            None,
            f"the history was cut off: the checkpoint of {at:%Y-%m-%d %H:%M:%S} UTC was signed for "
            f"{counted(self.largest, 'row')}, and the number here is {rows}",
        )


def follow(links: Iterable[SealedRow], checkpoints: Checkpoints, report: Report) -> None:
    """Go along the chain up to its end or the first fault, which goes into the report."""
    for link in links:
        row = row_hash(link.form) if link.form is not None else link.row_hash
        expected = report.rows + 1
        if link.number != expected:
            what = f"its seal is missing: after #{report.rows} comes #{link.number}"
            if link.number <= report.rows:
                what = f"#{link.number} stands in its place"
            report.problem = Problem(expected, None, what)
        elif link.previous != report.head:
            report.problem = Problem(expected, link.event_id, "its seal does not follow the one before")
        elif not row:
            report.problem = Problem(expected, link.event_id, link.unreadable)
        elif link_hash(link.number, link.previous, row) != link.hash:
            report.problem = Problem(expected, link.event_id, "it is not the row that was sealed")
        else:
            report.problem = checkpoints.against(link.number, link.hash)
        if report.problem:
            return
        report.rows, report.head = link.number, link.hash
    report.signed = min(checkpoints.largest, report.rows)
    report.problem = checkpoints.cut_off(report.rows)


@without_collecting()
def verify_database(keys: list[VerifierKey], kept: Iterable[str] = (), own: Iterable[str] = ()) -> Report:
    """Check every row of the installation, and what was signed of it: in the database, and the notes `kept` elsewhere.

    `own`: the notes of the installation's own file. As in the database, some may be by former keys.

    Raises BadNote where one of `kept` cannot be believed.
    """
    report = Report()
    signed = [read_checkpoint(note, keys) for note in kept]
    for note in own:
        try:
            signed.append(read_checkpoint(note, keys))
        except UnknownSigner as problem:
            report.notices.append(f"A checkpoint in the file was not checked: {problem.message}")
    for row in HistoryCheckpoint.objects.order_by("size", "pk").iterator():
        try:
            one = read_checkpoint(row.note, keys)
        except UnknownSigner as problem:
            report.notices.append(
                f"Checkpoint {row.pk} of {counted(row.size, 'row')} was not checked: {problem.message}"
            )
            continue
        except BadNote as problem:
            report.problem = Problem(
                None, None, f"checkpoint {row.pk} is not what was signed: {problem.message}"
            )
            return report
        if (one.size, one.head, one.at) != (row.size, row.head, row.at):
            report.problem = Problem(None, None, f"checkpoint {row.pk} is not what was signed")
            return report
        signed.append(one)
    checkpoints = Checkpoints(signed)
    report.checkpoints = checkpoints.count
    late = _Late()
    follow(late.watched(sealed_rows(head().size)), checkpoints, report)
    if report.ok and (gone := first_gone_while_waiting()):
        report.problem = Problem(None, gone, "it is gone, and had no seal yet")
    if report.ok and (unaccounted := first_unaccounted()):
        report.problem = Problem(
            None, unaccounted, "it was put in from outside: it has no seal and waits for none"
        )
    report.waiting = count_waiting()
    report.notices += late.notices()
    return report


def verify_export(lines: BinaryIO, keys: list[VerifierKey], kept: Iterable[str] = ()) -> Report:
    """Check an export as enrollments/audit/export.py writes it. It must end with a checkpoint that covers all of it.

    Raises BadNote where a checkpoint cannot be believed.
    """
    report = Report()
    export = _Export(lines)
    first_pass = Checkpoints(read_checkpoint(note, keys) for note in kept)
    follow(export.links(report), first_pass, report)
    report.checkpoints = first_pass.count
    if report.problem and not export.broken:
        if report.problem.index == report.rows + 1:
            report.problem = replace(report.problem, event_id=export.event_id())
        return report
    if export.broken:
        report.problem = Problem(report.rows + 1, None, export.broken)
        return report
    if export.note is None:
        report.problem = Problem(
            report.rows + 1, None, "the export was cut off: it ends without a checkpoint"
        )
        return report
    last = Checkpoints([read_checkpoint(export.note, keys)])
    report.checkpoints += 1
    if last.largest < report.rows:
        report.problem = Problem(last.largest + 1, None, "it is not covered by the checkpoint of the export")
    else:
        report.problem = last.cut_off(report.rows) or last.against(report.rows, report.head)
    report.signed = min(last.largest, report.rows)
    return report


class _Export:
    """The lines of an export. Each is in canonical form, so its bytes are hashed as they stand."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines
        self._event = b""
        self.note: str | None = None
        self.broken = ""

    def event_id(self) -> int | None:
        """Of the row read last. Its own ID comes after whatever its before and after may hold."""
        found = _EVENT_ID.match(self._event)
        return int(found[1]) if found else None

    def links(self, report: Report) -> Iterator[SealedRow]:
        number = 0
        while line := self._lines.readline(MAX_LINE):
            number += 1
            if self.note is not None:
                self.broken = (
                    f"line {number}: something comes after the checkpoint, with which an export ends"
                )
                return
            if row := _ROW_LINE.fullmatch(line):
                self._event = row[1]
                yield SealedRow(int(row[3]), row[4].decode(), row[2].decode(), None, row[1])
            elif number == 1 and line.startswith(b'{"excerpt":'):
                self.broken = (
                    "this is an excerpt, which has gaps: tools/verify_history.py checks it, against all rows"
                )
                return
            elif opaque := _OPAQUE_LINE.fullmatch(line):
                report.opaque += 1
                self._event = b""
                claimed = opaque[1].decode()
                yield SealedRow(
                    int(opaque[3]), opaque[4].decode(), opaque[2].decode(), None, None, row_hash=claimed
                )
            elif (note := note_of(line)) is not None:
                self.note = note
            else:
                self.broken = f"line {number} is no line of an export"
                return


def note_of(line: bytes) -> str | None:
    """The note of an export's last line."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if isinstance(value, dict) and list(value) == ["checkpoint"] and isinstance(value["checkpoint"], str):
        return value["checkpoint"]
    return None


def notes_of_file(text: str) -> list[str]:
    """A checkpoint, or a file to which checkpoints were appended. Raises BadNote."""
    return notes_in(text)


class _Late:
    """Rows that say they are much older than rows before them: late commits, clocks set back, or put in afterwards."""

    def __init__(self) -> None:
        self._latest = ""
        self._count = 0
        self._first = ""

    def watched(self, rows: Iterable[SealedRow]) -> Iterator[SealedRow]:
        for row in rows:
            if row.at >= self._latest:
                self._latest = row.at
            elif row.at and datetime.fromisoformat(self._latest) - datetime.fromisoformat(row.at) > LATE:
                self._count += 1
                self._first = self._first or f"#{row.number} (row {row.event_id})"
            yield row

    def notices(self) -> list[str]:
        if not self._count:
            return []
        return [
            f"{self._count} rows are dated more than an hour before rows that were sealed earlier, the first of them "
            f"{self._first}: changes that took long, a clock that was set back, or rows put in afterwards."
        ]
