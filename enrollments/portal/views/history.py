"""The revocation history: who did what to what, when, why and from where; and taking a copy of it along."""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from enrollments.actions.history import note_export
from enrollments.actions.schedule import settle_if_possible
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.history import HistoryQuerySet
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, person, requires, requires_everywhere, rights_of
from enrollments.portal.forms_filters import SHUTS_OUT, HistoryFilter
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged

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
_KINDS = {
    "IndividualEnrollment": "individual enrollment",
    "EnrollmentGroup": "enrollment group",
    "RegistrationRecord": "registration record",
    "ProvisioningService": "service",
    "LinkedHub": "hub",
    "HubDevice": "device",
    "User": "person",
}


@dataclass(frozen=True, slots=True)
class Difference:
    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One row as a sentence: who did what to what. `url` leads to the object where it is still there.

    scheduled: until when, or at what time.
    """

    event: HistoryEvent
    words: str
    subject_kind: str
    url: str
    differences: list[Difference]
    shuts_out: bool
    scheduled: str = ""


@require_safe
@requires(Right.SEE)
def history_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    settle_if_possible(
        service
    )  # what has happened by itself belongs in here, although nobody asked about it yet
    return _list(request, service)


@require_safe
@requires(Right.EXPORT)
def history_export(request: HttpRequest, service: ProvisioningService) -> HttpResponseBase:
    return _export(request, service)


@require_safe
@requires_everywhere(Right.SEE)
def installation_history(request: HttpRequest) -> HttpResponse:
    """What belongs to no single service: people, sign-ins, roles for the whole installation."""
    return _list(request, None)


@require_safe
@requires_everywhere(Right.EXPORT)
def installation_history_export(request: HttpRequest) -> HttpResponseBase:
    return _export(request, None)


def _list(request: HttpRequest, service: ProvisioningService | None) -> HttpResponse:
    form = HistoryFilter(request.GET)
    sees_all, may_export = _may(request, service)
    visible = _visible(request, service, sees_all=sees_all)
    events = _filtered(visible, form) if form.is_valid() else HistoryEvent.objects.none()
    page = paged(events, request.GET, {"at": "at"}, default="-at")
    query = request.GET.copy()
    for name in ("after", "before", "sort"):
        query.pop(name, None)
    names = {"service_name": service.name} if service else {}
    view, export = (
        ("portal:history-list", "portal:history-export")
        if service
        else ("portal:installation-history", "portal:installation-history-export")
    )
    context = {
        "service": service,
        "form": form,
        "page": page,
        "rows": rows_of(page.rows, service),
        "filtered": bool(form.errors or form.chosen),
        "sees_all": sees_all,
        "list_url": reverse(view, kwargs=names),
        "export_url": f"{reverse(export, kwargs=names)}?{query.urlencode()}",
        "may_export": form.is_valid() and may_export,
        "quick": _quick(request, reverse(view, kwargs=names)),
    }
    return render_page(request, "portal/history/list.html", "portal/history/_results.html", context)


def _export(request: HttpRequest, service: ProvisioningService | None) -> HttpResponseBase:
    form = HistoryFilter(request.GET)
    if not form.is_valid():
        # Exported is exactly what is filtered: a filter that cannot be read exports nothing.
        context = {
            "message": "The filter of this export cannot be read: " + " ".join(form.errors.as_text().split()),
            "status": 422,
        }
        return render(request, "portal/refused.html", context, status=422)
    filters = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in form.chosen.items()
    }
    mark = note_export("history as CSV", filters, actor=actor_of(request), service=service)
    sees_all, _ = _may(request, service)
    events = _filtered(_visible(request, service, sees_all=sees_all), form).filter(id__lt=mark.pk)
    name = f"history-{service.name if service else 'installation'}-{timezone.now():%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        _csv(events),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _may(request: HttpRequest, service: ProvisioningService | None) -> tuple[bool, bool]:
    """Whether one sees what others did, and may take it along."""
    rights = rights_of(request, service)
    return Right.SEE_HISTORY in rights, Right.EXPORT in rights


def _visible(request: HttpRequest, service: ProvisioningService | None, *, sees_all: bool) -> HistoryQuerySet:
    """R17: everything for those who may see the history, what one did oneself for everybody else."""
    events = (
        HistoryEvent.objects.of_service(service.pk)
        if service
        else HistoryEvent.objects.filter(service_id__isnull=True)
    )
    if sees_all:
        return events
    # Names can be given again: what a former person of this name did is not one's own.
    user = person(request)
    return events.filter(actor_kind="user", actor_name=user.get_username(), at__gte=user.date_joined)


def _filtered(events: HistoryQuerySet, form: HistoryFilter) -> HistoryQuerySet:
    conditions = Q()
    for name, value in form.chosen.items():
        match name:
            case "since":
                conditions &= Q(at__gte=value)
            case "until":
                conditions &= Q(at__lte=value)
            case "event" if value == SHUTS_OUT:
                conditions &= Q(event__in=_SHUTS_OUT)
            case "event" | "way":
                conditions &= Q(**{name: value})
            case "actor":
                conditions &= Q(actor_name__iexact=value)
            case "subject":
                conditions &= Q(subject_name__icontains=value)
            case "reason":
                conditions &= Q(reason__icontains=value)
    return events.filter(conditions)


def _quick(request: HttpRequest, url: str) -> list[dict[str, Any]]:
    """The choice that this page is named for, one click away; other filters stay."""
    tabs = []
    for label, event in (("Everything", ""), ("What shuts out", SHUTS_OUT)):
        query = request.GET.copy()
        for name in ("after", "before", "event"):
            query.pop(name, None)
        if event:
            query["event"] = event
        active = request.GET.get("event", "") == event
        tabs.append({"label": label, "url": f"{url}?{query.urlencode()}", "active": active})
    return tabs


def rows_of(events: Iterable[HistoryEvent], service: ProvisioningService | None) -> list[HistoryRow]:
    events = list(events)
    urls = _urls(events, service) if service else {}
    return [
        HistoryRow(
            event=event,
            words=_words(event),
            subject_kind=_KINDS.get(event.subject_kind, event.subject_kind),
            url=urls.get((event.subject_kind, event.subject_id), ""),
            differences=_differences(event),
            shuts_out=event.event in _SHUTS_OUT,
            scheduled=_scheduled(event),
        )
        for event in events
    ]


_SHUTS_OUT = frozenset(event.value for event in Event if event.shuts_out)


def _words(event: HistoryEvent) -> str:
    """A row keeps its meaning even if a later version of the program wrote it."""
    return Event(event.event).in_words if event.event in set(Event) else event.event


_DISABLING_SCHEDULED = (Event.ENROLLMENT_DISABLING_SCHEDULED.value, Event.GROUP_DISABLING_SCHEDULED.value)


def _scheduled(event: HistoryEvent) -> str:
    """What an act on a switch says about a time to come; «until» of other rows is a field among others."""
    until = (event.after or {}).get("until")
    if not until or "status" not in (event.after or {}):
        return ""
    return f"at {until}" if event.event in _DISABLING_SCHEDULED else f"until {until}"


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


class _Echo:
    """A file that hands back what is written, for csv.writer."""

    def write(self, text: str) -> str:
        return text


def _csv(events: HistoryQuerySet) -> Iterator[str]:
    """The rows, newest first, a query per chunk: no transaction stays open while somebody downloads slowly."""
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    last: HistoryEvent | None = None
    while True:
        rest = events
        if last is not None:
            rest = events.filter(at__lte=last.at).filter(Q(at__lt=last.at) | Q(id__lt=last.pk))
        chunk = list(rest.order_by("-at", "-id")[:EXPORT_CHUNK])
        if not chunk:
            return
        yield "".join(writer.writerow([_cell(value) for value in _values(event)]) for event in chunk)
        last = chunk[-1]


def _values(event: HistoryEvent) -> tuple[str, ...]:
    return (
        event.at.isoformat(timespec="milliseconds"),
        event.actor_name,
        event.actor_kind,
        event.way,
        event.event,
        _words(event),
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


def _cell(text: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; an apostrophe makes it text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
