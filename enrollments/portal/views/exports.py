"""Exports of individual enrollments and groups: exactly what a list shows, as a list that an import takes."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from enrollments.actions.schedule import switches_now
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    ImportFormat,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.roles import Right
from enrollments.policy.words import counted
from enrollments.portal.access import actor_of, requires
from enrollments.portal.confirmation import ask
from enrollments.portal.entry_lists import EntryFilter
from enrollments.portal.forms_groups import OF_GROUPS
from enrollments.portal.forms_imports import ExportForm
from enrollments.portal.refusals import refused_page
from enrollments.transfer.exporting import export_entries

_TYPES = {ImportFormat.CSV: "text/csv", ImportFormat.JSON_LINES: "application/jsonl"}


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.EXPORT)
def entry_export(request: HttpRequest, service: ProvisioningService, exported: str) -> HttpResponseBase:
    """The question, with the filter of the list in its address; the answer to it is the file."""
    if request.method == "POST":
        return _answer(request, service, exported, with_secrets=False)
    return _page(request, service, exported, ExportForm())


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.REVEAL_KEYS)
def entry_export_with_secrets(
    request: HttpRequest, service: ProvisioningService, exported: str
) -> HttpResponseBase:
    """Asked about once more, with what will be in the file; the answer to it is the file."""
    if request.method == "POST":
        return _answer(request, service, exported, with_secrets=True)
    return _question(request, service, exported, ExportForm())


def _answer(
    request: HttpRequest, service: ProvisioningService, exported: str, *, with_secrets: bool
) -> HttpResponseBase:
    form, filters = ExportForm(request.POST), _filters(request, exported)
    if not form.is_valid() or not filters.is_valid():
        asked_again = _question if with_secrets else _page
        return asked_again(request, service, exported, form)
    format = ImportFormat(form.cleaned_data["format"])
    groups, individuals = _filtered(service, exported, filters)
    pieces = export_entries(
        service,
        format,
        groups=groups,
        individuals=individuals,
        with_secrets=with_secrets,
        filters=_chosen(filters),
        actor=actor_of(request),
    )
    what = f"{exported}-with-keys" if with_secrets else exported
    name = f"{what}-{service.name}-{timezone.now():%Y-%m-%d}.{format.value}"
    return StreamingHttpResponse(
        pieces,
        content_type=f"{_TYPES[format]}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _page(
    request: HttpRequest, service: ProvisioningService, exported: str, form: ExportForm
) -> HttpResponse:
    filters = _filters(request, exported)
    if not filters.is_valid():
        return _no_such_filter(request)
    names = {"service_name": service.name, "exported": exported}
    query = request.GET.urlencode()
    views = {"action": "entry-export", "secrets_action": "entry-export-with-secrets"}
    list_view = "portal:group-list" if exported == "groups" else "portal:enrollment-list"
    context = {
        "service": service,
        "form": form,
        "of_groups": exported == "groups",
        "shown": _shown(filters),
        "back_url": f"{reverse(list_view, args=[service.name])}?{query}",
        **{name: f"{reverse(f'portal:{view}', kwargs=names)}?{query}" for name, view in views.items()},
    }
    return render(request, "portal/exports/export.html", context, status=422 if form.errors else 200)


def _question(
    request: HttpRequest, service: ProvisioningService, exported: str, form: ExportForm
) -> HttpResponse:
    filters = _filters(request, exported)
    if not filters.is_valid():
        return _no_such_filter(request)
    groups, individuals = _filtered(service, exported, filters)
    chosen = groups if groups is not None else individuals
    assert chosen is not None  # one of the two is what is exported
    noun = "enrollment group" if exported == "groups" else "individual enrollment"
    export = reverse("portal:entry-export", kwargs={"service_name": service.name, "exported": exported})
    return ask(
        request,
        title=f"Export {counted(chosen.count(), noun)} with keys in clear?",
        yes="Export with keys",
        body="",
        body_template="portal/exports/_with_keys.html",
        cancel_url=f"{export}?{request.GET.urlencode()}",
        form=form,
        extra={
            "of_groups": exported == "groups",
            "shown": _shown(filters),
            "with_keys": chosen.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY).count(),
            "with_webhook": chosen.filter(allocation_policy=AllocationPolicy.CUSTOM).count(),
        },
    )


def _no_such_filter(request: HttpRequest) -> HttpResponse:
    """Exported is exactly what is filtered: a filter that cannot be read exports nothing."""
    return refused_page(request, "The filter of this export cannot be read: go back to the list.", 422)


def _filtered(
    service: ProvisioningService, exported: str, filters: EntryFilter
) -> tuple["QuerySet[EnrollmentGroup] | None", "QuerySet[IndividualEnrollment] | None"]:
    """One of the two."""
    as_of = switches_now(service)
    if exported == "groups":
        return filters.apply(service.enrollmentgroups.all(), "group_key", as_of), None
    return None, filters.apply(service.individualenrollments.all(), "registration_key", as_of)


def _shown(filters: EntryFilter) -> list[tuple[Any, Any]]:
    return [(filters.fields[name].label, value) for name, value in _chosen(filters).items()]


def _filters(request: HttpRequest, exported: str) -> EntryFilter:
    if exported == "groups":
        return EntryFilter(request.GET, name="Group ID", mechanisms=OF_GROUPS)
    return EntryFilter(request.GET, name="Registration ID")


def _chosen(filters: EntryFilter) -> dict[str, Any]:
    return {name: value for name, value in filters.cleaned_data.items() if value}
