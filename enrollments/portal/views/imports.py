"""Imports: uploading a list, what is wrong with it, and the run, which goes on without anybody watching."""

import csv

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.history import note_export
from enrollments.actions.import_holding import let_go
from enrollments.actions.import_previews import can_be_foreseen
from enrollments.actions.imports import (
    add_part,
    begin_import,
    cancel_import,
    file_is_there,
    import_of,
    may_widen,
    start_import,
)
from enrollments.actions.people import ShutOut
from enrollments.actions.preview.table import Echo
from enrollments.errors import Conflict, DpsError, Invalid, PreviewOutdated
from enrollments.models import ImportPreview, ImportRun, ImportState, PartKind, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import epoch_of_the_question
from enrollments.portal.forms_imports import ImportForm
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged
from enrollments.portal.refusals import STATUS
from enrollments.portal.views.import_previews import preview_context
from enrollments.transfer.columns import COLUMNS
from enrollments.transfer.kept import parts_of
from enrollments.transfer.limits import MAX_ARCHIVE_BYTES, MAX_LIST_BYTES, PART_BYTES
from enrollments.transfer.words import figures, problem_rows
from enrollments.transfer.work import take_over_where_left, work_in_background

_MOST = {PartKind.LIST: MAX_LIST_BYTES, PartKind.ARCHIVE: MAX_ARCHIVE_BYTES}


@require_safe
@requires(Right.SEE_HISTORY)
def import_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    page = paged(service.imports.all(), request.GET, {"started": "id"}, "-started")
    take_over_where_left(page.rows)
    context = {"service": service, "page": page, "runs": page.rows}
    return render(request, "portal/imports/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def import_add(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """With script, the answer says where the pieces of the files go; without, the files have come along."""
    if request.method != "POST":
        return _add_page(request, service, ImportForm())
    form = ImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return _not_begun(request, service, form)
    data = form.cleaned_data
    try:
        run = begin_import(
            service,
            list_name=data["list_name"],
            archive_name=data["archive_name"],
            format=data["format"],
            actor=actor_of(request),
            reason=data["reason"],
        )
        if not data["in_pieces"]:
            _keep_whole(request, run, form)
    except (Conflict, Invalid) as problem:
        form.add_error(None, problem.message)
        return _not_begun(request, service, form)
    if data["in_pieces"]:
        return JsonResponse(_where(run))
    _check(request, run)
    return redirect("portal:import-detail", service_name=service.name, import_pk=run.pk)


@require_safe
@requires(Right.SEE_HISTORY)
def import_detail(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponse:
    run = import_of(service, import_pk)
    take_over_where_left([run])
    problems = paged(run.problems.all(), request.GET, {"line": "line"}, "line")
    preview = preview_context(run, everyone=False)
    context = {
        **preview,
        "service": service,
        "run": run,
        "good_lines": run.lines - run.bad_lines,
        "figures": figures(run),
        "foreseen": run.foreseen if run.started_at else None,
        "foreseen_parts": parts_of(run.foreseen) if run.foreseen and run.started_at else [],
        "problems": problems,
        "is_moving": run.is_working or preview["far"] is not None,
        "may_start": _may_start(run, preview["kept"]),
        "may_export": may(request, Right.EXPORT, service),
        # Ticked before this was fetched once more.
        "without_bad_lines": "without_bad_lines" in request.GET,
    }
    return render_page(request, "portal/imports/detail.html", "portal/imports/_run.html", context)


def _may_start(run: ImportRun, preview: ImportPreview | None) -> bool:
    """What may let somebody in waits for its preview, and is started on the state that this is about (R12)."""
    is_told = preview is not None and preview.told is not None
    return can_be_foreseen(run) and (is_told or not may_widen(run))


@require_POST
@requires(Right.CHANGE_ENTRIES)
def import_part(
    request: HttpRequest, service: ProvisioningService, import_pk: int, part_kind: str, part_number: int
) -> HttpResponse:
    """A piece of a file, from the script of the page: answers are for that script."""
    part, kind = request.FILES.get("part"), PartKind(part_kind)
    try:
        content = part.read(PART_BYTES + 1) if part is not None else b""
        run = import_of(service, import_pk)
        _keep(request, run, kind, part_number, content)
    except ShutOut:
        raise
    except DpsError as problem:
        return _told(problem)
    return JsonResponse({"number": part_number})


@require_POST
@requires(Right.CHANGE_ENTRIES)
def import_check(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponse:
    run = import_of(service, import_pk)
    _check(request, run)
    return redirect("portal:import-detail", service_name=service.name, import_pk=run.pk)


@require_POST
@requires(Right.CHANGE_ENTRIES)
def import_start(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponse:
    run = import_of(service, import_pk)
    try:
        run = start_import(
            run,
            without_bad_lines="without_bad_lines" in request.POST,
            actor=actor_of(request),
            expected_epoch=epoch_of_the_question(request),
        )
    except PreviewOutdated:
        messages.warning(
            request,
            "Something in this service was changed after you looked, so nothing was started. What the import does now "
            "is worked out anew.",
        )
    except Conflict as problem:
        messages.error(request, problem.message)
    else:
        work_in_background(run.pk)
    return redirect("portal:import-detail", service_name=service.name, import_pk=run.pk)


@require_POST
@requires(Right.CHANGE_ENTRIES)
def import_cancel(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponse:
    run = cancel_import(import_of(service, import_pk), actor=actor_of(request))
    if run.state == ImportState.CANCELLED:
        messages.success(request, f"Import {run.pk} is cancelled. What was done before stays.")
    return redirect("portal:import-detail", service_name=service.name, import_pk=run.pk)


@require_safe
@requires(Right.EXPORT)
def import_problems(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponseBase:
    run = import_of(service, import_pk)
    note_export(f"problems of import {run.pk}", {}, actor=actor_of(request), service=service)
    name = f"import-{run.pk}-problems-{timezone.now():%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        map(csv.writer(Echo()).writerow, problem_rows(run)),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _check(request: HttpRequest, run: ImportRun) -> None:
    holder = file_is_there(run, actor=actor_of(request))
    let_go(run.pk, holder)
    work_in_background(run.pk)


def _keep(request: HttpRequest, run: ImportRun, kind: PartKind, number: int, content: bytes) -> None:
    actor = actor_of(request)
    add_part(run, kind, number, content, part_bytes=PART_BYTES, most=_MOST[kind], actor=actor)


def _keep_whole(request: HttpRequest, run: ImportRun, form: ImportForm) -> None:
    """Without script the files came whole, no larger than what the listener reads of a body."""
    for kind in PartKind:
        file = form.cleaned_data[kind.value]
        number = 0
        while file is not None and (content := file.read(PART_BYTES)):
            _keep(request, run, kind, number, content)
            number += 1


def _where(run: ImportRun) -> dict[str, object]:
    names = {"service_name": run.service.name, "import_pk": run.pk}

    def parts(kind: PartKind) -> str:
        # The number goes in the place of the last one.
        return reverse("portal:import-part", kwargs={**names, "part_kind": kind.value, "part_number": 0})

    return {
        "part_bytes": PART_BYTES,
        "list": parts(PartKind.LIST),
        "archive": parts(PartKind.ARCHIVE),
        "check": reverse("portal:import-check", kwargs=names),
        "page": reverse("portal:import-detail", kwargs=names),
    }


def _not_begun(request: HttpRequest, service: ProvisioningService, form: ImportForm) -> HttpResponse:
    if request.POST.get("in_pieces"):
        sentences = [sentence for sentences in form.errors.values() for sentence in sentences]
        return JsonResponse({"message": " ".join(map(str, sentences))}, status=422)
    return _add_page(request, service, form, 422)


def _add_page(
    request: HttpRequest, service: ProvisioningService, form: ImportForm, status: int = 200
) -> HttpResponse:
    context = {"service": service, "form": form, "columns": COLUMNS}
    return render(request, "portal/imports/add.html", context, status=status)


def _told(problem: DpsError) -> JsonResponse:
    status = next((status for kind, status in STATUS.items() if isinstance(problem, kind)), 500)
    return JsonResponse({"message": problem.message}, status=status)
