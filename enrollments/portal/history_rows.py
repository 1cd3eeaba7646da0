"""Rows of the history as people read them: a sentence each, what changed field by field, and where the object is."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse

from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService

_KINDS = {
    "IndividualEnrollment": "individual enrollment",
    "EnrollmentGroup": "enrollment group",
    "RegistrationRecord": "registration record",
    "ProvisioningService": "service",
    "LinkedHub": "hub",
    "HubDevice": "device",
    "User": "person",
    "AccessPolicy": "access policy",
    "ApiToken": "API token",
}


@dataclass(frozen=True, slots=True)
class Difference:
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One row as a sentence: who did what to what. `url` leads to the object where it is still there."""

    event: HistoryEvent
    words: str
    subject_kind: str
    url: str
    differences: list[Difference]
    shuts_out: bool

    @property
    def seal(self) -> HistorySeal | None:
        """Its place in the sequence; None where it waits for one. Ask only for rows that were read with their seals."""
        return getattr(self.event, "seal", None)


def rows_of(events: Iterable[HistoryEvent], service: ProvisioningService | None) -> list[HistoryRow]:
    events = list(events)
    urls = _urls(events, service) if service else {}
    return [
        HistoryRow(
            event=event,
            words=words_of(event),
            subject_kind=_KINDS.get(event.subject_kind, event.subject_kind),
            url=urls.get((event.subject_kind, event.subject_id), ""),
            differences=_differences(event),
            shuts_out=event.event in SHUTTING_OUT,
        )
        for event in events
    ]


SHUTTING_OUT = frozenset(event.value for event in Event if event.shuts_out)


def words_of(event: HistoryEvent) -> str:
    """A row keeps its meaning even if a later version of the program wrote it."""
    return Event(event.event).in_words if event.event in set(Event) else event.event


def _urls(events: list[HistoryEvent], service: ProvisioningService) -> dict[tuple[str, str], str]:
    """Where the objects of these rows are, if they are still there: one query per kind."""
    asked: dict[str, set[int]] = {}
    for event in events:
        if event.subject_id.isdigit():
            asked.setdefault(event.subject_kind, set()).add(int(event.subject_id))
    places: tuple[tuple[str, QuerySet[Any], str], ...] = (
        (
            "IndividualEnrollment",
            service.individualenrollments.values_list("pk", "registration_id"),
            "portal:enrollment-edit",
        ),
        ("EnrollmentGroup", service.enrollmentgroups.values_list("pk", "group_id"), "portal:group-edit"),
        (
            "RegistrationRecord",
            service.registrations.values_list("pk", "registration_id"),
            "portal:registration-detail",
        ),
    )
    return {
        (kind, str(pk)): reverse(view, args=[service.name, name])
        for kind, rows, view in places
        if kind in asked
        for pk, name in rows.filter(pk__in=asked[kind])
    }


def _differences(event: HistoryEvent) -> list[Difference]:
    before, after = event.before or {}, event.after or {}
    return [
        Difference(name.replace("_", " "), _shown(before, name), _shown(after, name))
        for name in {**before, **after}
    ]


def _shown(state: dict[str, Any], name: str) -> str:
    if name not in state:
        return ""
    value = state[name]
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
