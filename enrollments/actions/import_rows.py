"""Rows of the history that an import made: which import that was, and from when to when it made rows.

They bear a request ID that no request gets and nobody chooses (own_request_ids). Yet none counts as of an import unless
the history says as well that whom it names started that one.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime, timedelta

from django.db.models import CharField, OuterRef, Q, Subquery
from django.db.models.functions import Cast

from enrollments.actions.import_agreed import request_ids_of
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ImportRun, ProvisioningService
from enrollments.models.history import HistoryQuerySet

# So many rows after the start, or before the end, are looked at for the first and the last one of an import.
LOOKED_AT = 100_000
# Rows are stamped by the nodes that made them, whose clocks may differ.
NODES_APART = timedelta(minutes=1)
_OWN = re.compile(r"import ([1-9][0-9]{0,18}) ")


@dataclass(frozen=True, slots=True)
class ImportOfRow:
    """started: the row of the history that says so, just before. began: the one before all rows of this import.

    service_name: of the service whose import it is, as long as that has a page. Empty where it is gone.
    """

    number: int
    list_name: str
    started: int
    began: int
    service_name: str


def imports_of(events: Collection[HistoryEvent]) -> dict[int, ImportOfRow]:
    """By the primary key of the row. One query for all of them, and none where no row can be of an import."""
    numbers = {event.pk: number for event in events if (number := _number(event))}
    if not numbers:
        return {}
    runs = ImportRun.objects.alias(number=Cast("pk", CharField())).filter(
        service_id=OuterRef("service_id"),
        number=OuterRef("subject_id"),
        list_name=OuterRef("subject_name"),
        created_at__lte=OuterRef("at"),
    )
    asked = [event for event in events if event.pk in numbers]
    starts = list(
        HistoryEvent.objects.filter(
            service_id__in={event.service_id for event in asked},
            event=Event.IMPORT_STARTED.value,
            at__lte=max(event.at for event in asked) + NODES_APART,
            subject_id__in={str(number) for number in numbers.values()},
        )
        .annotate(page_in=Subquery(runs.values("service__name")[:1]))
        .order_by("pk")
    )
    found = {event.pk: _import_of(event, numbers[event.pk], starts) for event in asked}
    return {pk: one for pk, one in found.items() if one is not None}


def span_of(event: HistoryEvent, by: ImportOfRow) -> tuple[datetime, datetime | None]:
    """When the import that the row is of made its first row, and when its last: None where it has not ended."""
    ended = HistoryEvent.objects.filter(
        service_id=event.service_id,
        event=Event.IMPORT_ENDED.value,
        at__gte=event.at - NODES_APART,
        pk__gt=event.pk,
        subject_id=str(by.number),
    )
    end = ended.order_by("pk").values_list("pk", flat=True).first()
    # Within IDs alone, since a condition on the service leads databases into an index of all its rows.
    own = HistoryEvent.objects.filter(request_id__startswith=request_ids_of(by.number))
    first = own.filter(pk__gt=by.began, pk__lte=min(event.pk, by.began + LOOKED_AT)).order_by("pk")
    began = _time_of(first) or _time_of(HistoryEvent.objects.filter(pk=by.began)) or event.at
    if end is None:
        return began, None
    last = own.filter(pk__gte=max(by.began, end - LOOKED_AT), pk__lt=end).order_by("-pk")
    return began, _time_of(last) or _time_of(HistoryEvent.objects.filter(pk=end)) or event.at


def _time_of(rows: HistoryQuerySet) -> datetime | None:
    """Of the first row; None where there is none, or none that can be read."""
    row = rows.only("at").first()
    return row.at if row is not None and row.at is not None and row.at.year > MINYEAR else None


def made_by(service: ProvisioningService, number: int) -> tuple[Q, Q]:
    """The time within which an import of the service made rows, and which rows are of it: its own, and those about it.

    The first bounds what has to be looked through for the second, which no index has.
    """
    about = Q(subject_kind="import", subject_id=str(number))
    told = HistoryEvent.objects.of_service(service.pk).filter(about)
    rows = list(told.order_by("at", "pk"))
    if not rows:
        return Q(pk__in=[]), about
    if any(row.at is None or not MINYEAR < row.at.year < MAXYEAR for row in rows):
        return Q(), about | Q(request_id__startswith=request_ids_of(number))
    within = Q(at__gte=rows[0].at - NODES_APART)
    if rows[-1].event == Event.IMPORT_ENDED.value:
        within &= Q(at__lte=rows[-1].at + NODES_APART)
    return within, about | Q(request_id__startswith=request_ids_of(number))


def _number(event: HistoryEvent) -> int | None:
    match = _OWN.match(event.request_id)
    is_of_some_time = event.at is not None and MINYEAR < event.at.year < MAXYEAR
    return int(match[1]) if match and event.service_id is not None and is_of_some_time else None


def _import_of(event: HistoryEvent, number: int, starts: list[HistoryEvent]) -> ImportOfRow | None:
    before = [
        one
        for one in starts
        if (one.service_id, one.subject_id) == (event.service_id, str(number)) and one.pk < event.pk
    ]
    if not before:
        return None
    started = before[-1]
    if (started.actor_kind, started.actor_name) != (event.actor_kind, event.actor_name):
        return None
    fresh = [one for one in before if not (one.after or {}).get("done before")]
    began = fresh[-1] if fresh else before[0]
    page_in: str | None = getattr(started, "page_in", None)
    return ImportOfRow(number, started.subject_name, started.pk, began.pk, page_in or "")
