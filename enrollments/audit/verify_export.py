"""Checking an export of the history, or an excerpt of it against one."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from enrollments.audit.canonical import link_hash, row_hash
from enrollments.audit.chain import SealedRow
from enrollments.audit.notes import UnknownSigner, VerifierKey, read_checkpoint
from enrollments.audit.report import Problem, Report
from enrollments.audit.signed import Checkpoints
from enrollments.audit.verify import follow
from enrollments.errors import DpsError

EXCERPT = b'{"excerpt":{'
MAX_LINE = 1024 * 1024
# Nobody can tell a history without its end from one that was exported before.
OR_EARLIER = "; or it was exported before the excerpt was: export it once more"
_SEAL = rb'"seal":\{"hash":"([0-9a-f]{64})","index":([1-9]\d{0,17}),"previous":"([0-9a-f]{64})"\}\}\n'
_ROW_LINE = re.compile(rb'\{"event":(\{.*\}),' + _SEAL)
_OPAQUE_LINE = re.compile(rb'\{"row_hash":"([0-9a-f]{64})",' + _SEAL)
_EVENT_ID = re.compile(rb'.*,"id":(\d{1,18}),"reason":"')


class IsExcerpt(DpsError):
    """An excerpt where a whole history was asked for: its rows cannot vouch for each other."""

    code = "is_excerpt"

    def __init__(self) -> None:
        super().__init__(
            "This is an excerpt: it has gaps, so its rows cannot vouch for each other. Give a whole history with "
            "--against; manage.py export_history and the portal's page Proof write one."
        )


def verify_export(
    lines: BinaryIO, keys: list[VerifierKey], kept: Iterable[str] = (), report: Report | None = None
) -> Report:
    """Check an export as enrollments/audit/export.py writes it. It must end with a checkpoint that covers all of it.

    Raises BadNote where a checkpoint cannot be believed, IsExcerpt. UnknownSigner of the checkpoint that it ends with
    only where nothing else is wrong: `report`, where one was given, then has what was found.
    """
    return _verify_whole(lines, keys, kept, report or Report(), {})


def verify_excerpt(
    excerpt: BinaryIO,
    whole: BinaryIO,
    keys: list[VerifierKey],
    kept: Iterable[str] = (),
    report: Report | None = None,
) -> Report:
    """Check an export of what a filter found (enrollments/audit/excerpt.py): each row's own seal, then a whole export,
    and that this has these very seals. Of a row whose seal fits it, nobody could have changed anything without another
    hash at that place.

    Raises BadNote where a checkpoint cannot be believed, IsExcerpt where the whole is none, and UnknownSigner as
    verify_export does.
    """
    report = report or Report()
    found = _Export(excerpt, is_excerpt=True)
    seals: dict[int, str] = {}
    for link in found.links(report):
        row = row_hash(link.form) if link.form is not None else link.row_hash
        what = ""
        if link_hash(link.number, link.previous, row) != link.hash:
            what = "it is not the row that was sealed"
        elif link.number in seals:
            what = "it is there twice"
        if what:
            report.problem = Problem(link.number, found.event_id(), what)
            return report
        seals[link.number] = link.hash
    what = found.broken
    if not what and found.note is None:
        what = "the excerpt was cut off: it ends without a checkpoint"
    if not what and found.count != len(seals):
        what = f"the excerpt says that it has {found.count} rows, and {len(seals)} are here"
    if what or found.note is None:
        report.problem = Problem(None, None, what)
        return report
    last = max(seals, default=0)
    unknown: UnknownSigner | None = None
    try:
        if last > read_checkpoint(found.note, keys).size:
            report.problem = Problem(last, None, "it is not covered by the checkpoint of the excerpt")
            return report
        kept = [*kept, found.note]
    except UnknownSigner as problem:
        unknown = problem
    report.excerpt_rows, report.excerpt_opaque, report.opaque = len(seals), report.opaque, 0
    _verify_whole(whole, keys, kept, report, seals)
    if report.ok and unknown is not None:
        raise unknown
    return report


def _verify_whole(
    lines: BinaryIO, keys: list[VerifierKey], kept: Iterable[str], report: Report, seals: dict[int, str]
) -> Report:
    """`seals`: by place, what has to stand there."""
    export, for_excerpt = _Export(lines), bool(seals)
    kept_elsewhere = Checkpoints([read_checkpoint(note, keys) for note in kept], report)
    strangers: list[int] = []
    links = export.links(report)
    follow(_taken_out(seals, links, strangers) if seals else links, kept_elsewhere, report)
    if export.broken:
        report.problem = Problem(report.rows + 1, None, export.broken)
    elif report.problem:
        if report.problem.index == export.place:
            report.problem = replace(report.problem, event_id=export.event_id())
    elif export.note is None:
        what = "the export was cut off: it ends without a checkpoint"
        report.problem = Problem(report.rows + 1, None, what)
    elif (cut := kept_elsewhere.cut_off(report.rows)) is not None:
        report.problem = replace(cut, what=f"{cut.what}{OR_EARLIER}") if for_excerpt else cut
    if report.problem or export.note is None:
        return report
    unknown: UnknownSigner | None = None
    try:
        last = Checkpoints([read_checkpoint(export.note, keys)], report)
    except UnknownSigner as problem:
        unknown = problem
    else:
        if last.largest < report.rows:
            report.problem = Problem(
                last.largest + 1, None, "it is not covered by the checkpoint of the export"
            )
        else:
            report.problem = last.cut_off(report.rows) or last.against(report.rows, report.head)
    if report.ok and strangers:
        what = "the row of the excerpt is not the one that stands here"
        report.problem = Problem(strangers[0], None, what)
    elif report.ok and seals:
        what = f"the history that it was checked against ends at #{report.rows}"
        report.problem = Problem(min(seals), None, what)
    if report.ok and unknown is not None:
        raise unknown
    return report


def _taken_out(
    seals: dict[int, str], links: Iterable[SealedRow], strangers: list[int]
) -> Iterator[SealedRow]:
    """The same links; each seal that is met in its place is taken out, and one that is another there is a stranger."""
    for link in links:
        if seals.pop(link.number, link.hash) != link.hash:
            strangers.append(link.number)
        yield link


class _Export:
    """The lines of an export. Each is in canonical form, so its bytes are hashed as they stand."""

    def __init__(self, lines: BinaryIO, *, is_excerpt: bool = False) -> None:
        self._lines = lines
        self._is_excerpt = is_excerpt
        self._event = b""
        # Of the row read last.
        self.place = 0
        self.note: str | None = None
        # Of an excerpt, the number of rows that it says it has.
        self.count: int | None = None
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
                self._event, self.place = row[1], int(row[3])
                yield SealedRow(self.place, row[4].decode(), row[2].decode(), None, row[1])
            elif number == 1 and line.startswith(EXCERPT):
                if not self._is_excerpt:
                    raise IsExcerpt
            elif opaque := _OPAQUE_LINE.fullmatch(line):
                report.opaque += 1
                self._event, self.place = b"", int(opaque[3])
                claimed = opaque[1].decode()
                yield SealedRow(
                    self.place, opaque[4].decode(), opaque[2].decode(), None, None, row_hash=claimed
                )
            elif (end := _end(line, "rows" if self._is_excerpt else None)) is not None:
                self.note, self.count = end
            else:
                self.broken = f"line {number} is no line of an export"
                return


def is_excerpt(lines: BinaryIO) -> bool:
    begins = lines.read(len(EXCERPT)) == EXCERPT
    lines.seek(0)
    return begins


def _end(line: bytes, count: str | None) -> tuple[str, int | None] | None:
    """The note of the last line, and the number of rows where that line has it."""
    try:
        value = json.loads(line) if line.endswith(b"}\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or list(value) != ["checkpoint", *([count] if count else [])]:
        return None
    note, number = value["checkpoint"], value[count] if count else None
    is_one = isinstance(note, str) and (count is None or type(number) is int)
    return (note, number) if is_one else None
