"""What a filter of the history finds, to take along: with each row's place and hashes, and the checkpoint over them."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Exists, F, OuterRef, Q

from enrollments.actions.preview.table import Echo, cell
from enrollments.audit.canonical import moment
from enrollments.audit.checkpoints import verifier_key
from enrollments.audit.events import Event
from enrollments.audit.excerpt import ExcerptRow, excerpt_lines, rows_with_seals
from enrollments.models import HistoryCheckpoint, UnsealedEvent
from enrollments.models.history import HistoryQuerySet, IsWholeNumber
from enrollments.models.merging import first_ids
from enrollments.policy.unknown import known
from enrollments.portal import xlsx
from enrollments.portal.history_filtering import Search
from enrollments.portal.paging import from_there_on
from enrollments.portal.zip_stream import Part, zipped

EXPORT_CHUNK = 1000
COLUMNS = (
    "when (UTC)",
    "who",
    "kind of actor",
    "by",
    "event",
    "did what",
    "kind of object",
    "object",
    "service",
    "reason",
    "before",
    "after",
    "address",
    "request ID",
    "client",
    "row",
    "place",
    "seal hash",
    "row hash",
)
TYPES = {"csv": "application/zip", "jsonl": "application/jsonl; charset=utf-8", "xlsx": xlsx.TYPE}
ENDINGS = {"csv": "zip", "jsonl": "jsonl", "xlsx": "xlsx"}


@dataclass
class Export:
    """What is exported: rows up to a checkpoint, and in words which ones. `count`: how many have been sent."""

    found: Search
    checkpoint: HistoryCheckpoint
    service: str
    filter: dict[str, str]
    at: datetime
    count: int = field(default=0, init=False)
    _first: list[ExcerptRow] | None = field(default=None, init=False)

    def begin(self) -> None:
        """Read the first rows: what is wrong with one of them can still be answered. Raises HistoryDisagrees."""
        self._first = rows_with_seals(self._newest(self._covered))

    def written(self, format: str) -> Iterator[bytes]:
        match format:
            case "jsonl":
                return excerpt_lines(self._heading(), self._rows(), self.checkpoint.note)
            case "xlsx":
                return xlsx.workbook(self._sheets(), self.at)
        return zipped(self._csv_and_checkpoint(), self.at)

    def _rows(self) -> Iterator[ExcerptRow]:
        """Newest first, a query per chunk: no transaction stays open while somebody downloads slowly.

        Raises HistoryDisagrees at a row that is not what was sealed: the download then fails, and has no checkpoint.
        """
        if self._first is None:
            self.begin()
        chunk, self._first = self._first or [], []
        while True:
            for row in chunk:
                self.count += 1
                yield row
            if len(chunk) < EXPORT_CHUNK:
                return
            last = datetime.fromisoformat(moment(chunk[-1].members["at"])), chunk[-1].members["id"]
            chunk = rows_with_seals(self._newest(from_there_on(self._covered, "at", last, upwards=False)))

    @property
    def _covered(self) -> HistoryQuerySet:
        """What was sealed by then. One that has no seal, or one without a place, and waits for none belongs to it too,
        and is refused."""
        waits = Exists(UnsealedEvent.objects.filter(event_id=OuterRef("pk")))
        lost = (Q(seal__isnull=True) | ~Q(IsWholeNumber(F("seal__index")))) & ~Q(waits)
        return self.found.rows.filter(Q(seal__index__lte=self.checkpoint.size) | lost)

    def _newest(self, rows: HistoryQuerySet) -> list[int]:
        if self.found.ranges:
            return first_ids(rows, self.found.ranges, "at", descending=True, limit=EXPORT_CHUNK)
        return list(rows.order_by("-at", "-id").values_list("pk", flat=True)[:EXPORT_CHUNK])

    def _heading(self) -> dict[str, Any]:
        """No clock and no name of a person: the row that the export left in the history has both."""
        return {"filter": self.filter, "form": "dpsportal-history/1", "service": self.service}

    def _csv_and_checkpoint(self) -> Iterator[Part]:
        """A checkpoint is signed to the byte, so it has a file of its own, which the verifiers take as it is."""
        yield Part("history.csv", csv_lines(map(values, self._rows())), may_be_huge=True)
        yield Part("checkpoint.txt", [self.checkpoint.note.encode()])
        yield Part("about.txt", (f"{name}: {value}\r\n".encode() for name, value in self._about()))

    def _sheets(self) -> Iterator[xlsx.Sheet]:
        yield xlsx.Sheet("History", COLUMNS, map(values, self._rows()))
        yield xlsx.Sheet("Checkpoint", ("What", "Value"), self._about())

    def _about(self) -> Iterator[tuple[str, str | int]]:
        """Asked for when the rows have been sent, and are counted."""
        chosen = ", ".join(f"{name} = {value}" for name, value in self.filter.items())
        yield "History of", f"service {self.service}" if self.service else "the installation"
        yield "Filter", chosen or "none"
        yield "Rows", self.count
        yield "Rows of the installation that the checkpoint covers", self.checkpoint.size
        yield "Signed (UTC)", f"{self.checkpoint.at:%Y-%m-%d %H:%M:%S}"
        yield "Hash of its last row", self.checkpoint.head
        yield "Verifier key", str(verifier_key())
        yield "Places", "count the rows of the whole installation, over all services"
        yield (
            "To verify",
            "compare place and hash of a row with an export that has every row; see docs/history.md",
        )
        yield "Checkpoint", self.checkpoint.note


def values(row: ExcerptRow) -> tuple[str | int, ...]:
    """A row in the order of COLUMNS."""
    of = row.members
    words = known(Event, of["event"]).in_words
    return (
        moment(of["at"]),
        of["actor_name"],
        of["actor_kind"],
        of["way"],
        of["event"],
        words,
        of["subject_kind"],
        of["subject_name"],
        of["service_name"],
        of["reason"],
        _json(of["before"]),
        _json(of["after"]),
        of["address"],
        of["request_id"],
        of["client"],
        of["id"],
        row.number,
        row.hash,
        row.row_hash,
    )


def csv_lines(rows: Iterable[tuple[str | int, ...]]) -> Iterator[bytes]:
    writer = csv.writer(Echo())
    lines = [writer.writerow(COLUMNS)]
    for row in rows:
        lines.append(writer.writerow([cell(one) if isinstance(one, str) else one for one in row]))
        if len(lines) >= EXPORT_CHUNK:
            yield "".join(lines).encode("utf-8", "replace")
            lines = []
    yield "".join(lines).encode("utf-8", "replace")


def _json(state: str | None) -> str:
    return "" if state is None else json.dumps(json.loads(state), ensure_ascii=False, sort_keys=True)
