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
from django.views.decorators.http import require_POST, require_safe

from enrollments.actions.history import note_export, take_checkpoint
from enrollments.actions.preview.table import Echo, cell
from enrollments.actions.schedule import settle_if_possible
from enrollments.actions.sign_in import record_ended_windows
from enrollments.audit.chain import count_waiting, head
from enrollments.audit.checkpoints import latest_checkpoint, places, verifier_key
from enrollments.audit.events import Event
from enrollments.audit.upkeep import seal_for_a_page
from enrollments.errors import Conflict, HistoryDisagrees
from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService
from enrollments.models.history import HistoryQuerySet
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, person, requires, requires_everywhere, rights_of
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
    def scheduled(self) -> str:
        """Of an act on a switch: until when, or at what time. «until» of other rows is a field among others."""
        after = self.event.after or {}
        if not after.get("until") or "status" not in after:
            return ""
        return f"{'at' if self.event.event in _DISABLING_SCHEDULED else 'until'} {after['until']}"

    @property
    def seal(self) -> HistorySeal | None:
        """Its place in the sequence; None where it waits for one. Ask only for rows that were read with their seals."""
        return getattr(self.event, "seal", None)


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
    if service is None:
        record_ended_windows()
    seal_for_a_page()
    sees_all, may_export = _may(request, service)
    visible = _visible(request, service, sees_all=sees_all)
    events = _filtered(visible, form) if form.is_valid() else HistoryEvent.objects.none()
    page = paged(events.select_related("seal"), request.GET, {"at": "at"}, default="-at")
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
        "checkpoint_url": reverse(_checkpoint_view(service), kwargs=names) if sees_all else "",
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


@require_safe
@requires(Right.SEE_HISTORY)
def history_checkpoint(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _checkpoint(request, service)


@require_POST
@requires(Right.EXPORT)
def history_checkpoint_download(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _checkpoint_download(request)


@require_safe
@requires_everywhere(Right.SEE_HISTORY)
def installation_checkpoint(request: HttpRequest) -> HttpResponse:
    return _checkpoint(request, None)


@require_POST
@requires_everywhere(Right.EXPORT)
def installation_checkpoint_download(request: HttpRequest) -> HttpResponse:
    return _checkpoint_download(request)


def _checkpoint_view(service: ProvisioningService | None) -> str:
    return "portal:history-checkpoint" if service else "portal:installation-checkpoint"


def _checkpoint(request: HttpRequest, service: ProvisioningService | None) -> HttpResponse:
    """What was signed last: a checkpoint tells the size of the history and nothing of what is in it."""
    seal_for_a_page()
    latest = latest_checkpoint()
    names = {"service_name": service.name} if service else {}
    view = _checkpoint_view(service)
    key = verifier_key()
    context = {
        "service": service,
        "checkpoint": latest,
        "name": key.name,
        "verifier_key": str(key),
        "sealed": head().size,
        "waiting": count_waiting(),
        "places": places() if latest else [],
        "history_url": reverse(
            "portal:history-list" if service else "portal:installation-history", kwargs=names
        ),
        "download_url": reverse(f"{view}-download", kwargs=names),
        "may_export": may(request, Right.EXPORT, service),
    }
    return render(request, "portal/history/checkpoint.html", context)


def _checkpoint_download(request: HttpRequest) -> HttpResponse:
    try:
        checkpoint, _ = take_checkpoint(in_background=True)
    except (HistoryDisagrees, Conflict) as problem:
        return render(request, "portal/refused.html", {"message": problem.message, "status": 409}, status=409)
    return HttpResponse(
        checkpoint.note,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="history-checkpoint-{checkpoint.size}.txt"'},
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
                conditions &= Q(actor_name__icontains=value)
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
        )
        for event in events
    ]


_DISABLING_SCHEDULED = (Event.ENROLLMENT_DISABLING_SCHEDULED.value, Event.GROUP_DISABLING_SCHEDULED.value)
_SHUTS_OUT = frozenset(event.value for event in Event if event.shuts_out)


def _words(event: HistoryEvent) -> str:
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


def _csv(events: HistoryQuerySet) -> Iterator[str]:
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
