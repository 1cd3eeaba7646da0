"""The history as a table to take along."""

import csv
import json
from collections.abc import Iterator
from typing import Any

from django.db.models import Q

from enrollments.actions.preview.table import Echo, cell
from enrollments.models import HistoryEvent
from enrollments.models.history import HistoryQuerySet
from enrollments.portal.history_rows import words_of

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
)


def csv_text(events: HistoryQuerySet) -> Iterator[str]:
    """The rows, newest first, a query per chunk: no transaction stays open while somebody downloads slowly."""
    writer = csv.writer(Echo())
    yield writer.writerow(COLUMNS)
    last: HistoryEvent | None = None
    while True:
        rest = events
        if last is not None:
            rest = events.filter(at__lte=last.at).filter(Q(at__lt=last.at) | Q(id__lt=last.pk))
        chunk = list(rest.order_by("-at", "-id")[:EXPORT_CHUNK])
        if not chunk:
            return
        yield "".join(writer.writerow([cell(value) for value in _values(event)]) for event in chunk)
        last = chunk[-1]


def _values(event: HistoryEvent) -> tuple[str, ...]:
    return (
        event.at.isoformat(timespec="milliseconds"),
        event.actor_name,
        event.actor_kind,
        event.way,
        event.event,
        words_of(event),
        event.subject_kind,
        event.subject_name,
        event.service_name,
        event.reason,
        _json(event.before),
        _json(event.after),
        event.address,
        event.request_id,
    )


def _json(state: dict[str, Any] | None) -> str:
    return "" if state is None else json.dumps(state, ensure_ascii=False, sort_keys=True)
