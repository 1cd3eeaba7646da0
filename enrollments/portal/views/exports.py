"""Exports of individual enrollments and groups: exactly what a list shows, as a list that an import takes."""

from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from enrollments.actions.schedule import switches_now
from enrollments.models import ImportFormat, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, requires
from enrollments.portal.entry_lists import EntryFilter
from enrollments.portal.forms_entries import OF_GROUPS
from enrollments.portal.forms_imports import ExportForm
from enrollments.transfer.exporting import export_entries

_TYPES = {ImportFormat.CSV: "text/csv", ImportFormat.JSON_LINES: "application/jsonl"}


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.EXPORT)
def entry_export(request: HttpRequest, service: ProvisioningService, exported: str) -> HttpResponseBase:
    """The question, with the filter of the list in its address; the answer to it is the file."""
    if request.method == "POST":
        return _answer(request, service, exported, with_secrets=False)
    return _page(request, service, exported, ExportForm())


@require_POST
@requires(Right.REVEAL_KEYS)
def entry_export_with_secrets(
    request: HttpRequest, service: ProvisioningService, exported: str
) -> HttpResponseBase:
    return _answer(request, service, exported, with_secrets=True)


def _answer(
    request: HttpRequest, service: ProvisioningService, exported: str, *, with_secrets: bool
) -> HttpResponseBase:
    form, filters = ExportForm(request.POST), _filters(request, exported)
    if not form.is_valid() or not filters.is_valid():
        return _page(request, service, exported, form, 422)
    format = ImportFormat(form.cleaned_data["format"])
    of_groups = exported == "groups"
    as_of = switches_now(service)
    groups = filters.apply(service.enrollmentgroups.all(), "group_key", as_of) if of_groups else None
    individuals = (
        None if of_groups else filters.apply(service.individualenrollments.all(), "registration_key", as_of)
    )
    pieces = export_entries(
        service,
        format,
        groups=groups,
        individuals=individuals,
        with_secrets=with_secrets,
        filters=_chosen(filters),
        actor=actor_of(request),
    )
    name = f"{exported}-{service.name}-{timezone.now():%Y-%m-%d}.{format.value}"
    return StreamingHttpResponse(
        pieces,
        content_type=f"{_TYPES[format]}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _page(
    request: HttpRequest, service: ProvisioningService, exported: str, form: ExportForm, status: int = 200
) -> HttpResponse:
    filters = _filters(request, exported)
    if not filters.is_valid():
        # Exported is exactly what is filtered: a filter that cannot be read exports nothing.
        told = {"message": "The filter of this export cannot be read: go back to the list.", "status": 422}
        return render(request, "portal/refused.html", told, status=422)
    names = {"service_name": service.name, "exported": exported}
    query = request.GET.urlencode()
    views = {"action": "entry-export", "secrets_action": "entry-export-with-secrets"}
    list_view = "portal:group-list" if exported == "groups" else "portal:enrollment-list"
    context = {
        "service": service,
        "form": form,
        "of_groups": exported == "groups",
        "shown": [(filters.fields[name].label, value) for name, value in _chosen(filters).items()],
        "back_url": f"{reverse(list_view, args=[service.name])}?{query}",
        **{name: f"{reverse(f'portal:{view}', kwargs=names)}?{query}" for name, view in views.items()},
    }
    return render(request, "portal/exports/export.html", context, status=status)


def _filters(request: HttpRequest, exported: str) -> EntryFilter:
    if exported == "groups":
        return EntryFilter(request.GET, name="Group ID", mechanisms=OF_GROUPS)
    return EntryFilter(request.GET, name="Registration ID")


def _chosen(filters: EntryFilter) -> dict[str, Any]:
    return {name: value for name, value in filters.cleaned_data.items() if value}
