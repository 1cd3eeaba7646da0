"""The revocation history: who did what to what, when, why and from where; and taking a copy of it along."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from enrollments.actions.history import note_export
from enrollments.actions.sign_in import record_ended_windows
from enrollments.audit.upkeep import seal_for_a_page
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, requires, requires_everywhere, rights_of
from enrollments.portal.forms_filters import SHUTS_OUT, HistoryFilter
from enrollments.portal.history_export import csv_text
from enrollments.portal.history_filtering import filtered, visible
from enrollments.portal.history_rows import rows_of
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged
from enrollments.portal.views.history_proof import proof_view


@require_safe
@requires(Right.SEE)
def history_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
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
    seen = visible(request, service, sees_all=sees_all)
    events = filtered(seen, form) if form.is_valid() else HistoryEvent.objects.none()
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
        "checkpoint_url": reverse(proof_view(service), kwargs=names) if sees_all else "",
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
    events = filtered(visible(request, service, sees_all=sees_all), form).filter(id__lt=mark.pk)
    name = f"history-{service.name if service else 'installation'}-{timezone.now():%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        csv_text(events),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _may(request: HttpRequest, service: ProvisioningService | None) -> tuple[bool, bool]:
    """Whether one sees what others did, and may take it along."""
    rights = rights_of(request, service)
    return Right.SEE_HISTORY in rights, Right.EXPORT in rights


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
