"""What made a difference to a device at some moment: rows of the history, dates, or a switch that fell due."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from django.db.models import Q
from django.db.models.functions import Lower

from enrollments.actions.past.entries import KINDS, Subject
from enrollments.actions.past.told import first_of
from enrollments.actions.schedule import as_text
from enrollments.audit.actor import Way
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key

FELL_DUE = "what was scheduled fell due"


@dataclass(frozen=True, slots=True)
class Due:
    """An entry whose switch turned by itself, and at which time."""

    subject: Subject
    name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Cause:
    """`words` say it where there is no row of that moment.

    also: other rows of the same moment that can matter to the device: those of one act on several entries.
    due: where switches turned by themselves. scheduled: the rows that tell who had scheduled it, and that it happened.
    """

    words: str
    event: HistoryEvent | None = None
    also: tuple[HistoryEvent, ...] = ()
    due: tuple[Due, ...] = ()
    scheduled: tuple[HistoryEvent, ...] = ()

    @property
    def rows(self) -> tuple[HistoryEvent, ...]:
        return (*((self.event,) if self.event is not None else ()), *self.also, *self.scheduled)

    @property
    def told_by(self) -> HistoryEvent | None:
        """The row that tells who did it and why."""
        return self.event or (self.scheduled[0] if self.scheduled else None)

    def with_another(self, event: HistoryEvent) -> Self:
        return replace(self, also=(*self.also, event))

    def led_by(self, entry: EntryRef | None) -> Self:
        """With the row about the entry that decides first, where one of these is about it."""
        if entry is None or self.event is None or _is_about(self.event, entry):
            return self
        for one in self.also:
            if _is_about(one, entry):
                others = (self.event, *(other for other in self.also if other is not one))
                return replace(self, event=one, also=others)
        return self


def _is_about(event: HistoryEvent, entry: EntryRef) -> bool:
    return KINDS.get(event.subject_kind) is entry.kind and event.subject_id == str(entry.pk)


def with_rows_of_schedules(service: ProvisioningService, cause: Cause) -> Cause:
    """With the rows about what fell due: by whom it was scheduled first, then that it happened, if that is written."""
    rows = tuple(row for due in cause.due for row in _rows_of(service, due))
    return replace(cause, scheduled=rows) if rows else cause


def _rows_of(service: ProvisioningService, due: Due) -> Iterable[HistoryEvent]:
    kind, pk = due.subject
    (model,) = (name for name, one in KINDS.items() if one is kind)
    rows = HistoryEvent.objects.of_service(service.pk).alias(subject_key=Lower("subject_name"))
    rows = rows.filter(subject_key=registration_key(due.name), subject_kind=model, subject_id=str(pk))
    text = as_text(due.at)
    scheduled = rows.filter(Q(after__until=text) & ~Q(way=Way.SCHEDULE.value)).order_by("-pk")
    happened = rows.filter(before__until=text, way=Way.SCHEDULE.value).order_by("-pk")
    return [row for some in (scheduled, happened) if (row := first_of(some, rows)) is not None]
