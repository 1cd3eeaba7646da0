"""What proves the history: checkpoint and verifier key, and what to take along to verify it elsewhere."""

from collections.abc import Iterator
from itertools import islice

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from enrollments.actions.history import export_history, take_checkpoint
from enrollments.audit.chain import count_waiting, head
from enrollments.audit.checkpoints import latest_checkpoint, places, verifier_key
from enrollments.audit.upkeep import seal_for_a_page
from enrollments.errors import Conflict, HistoryDisagrees
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right, Role
from enrollments.portal.access import actor_of, may, requires, requires_everywhere
from enrollments.portal.forms_history_check import CheckForm
from enrollments.portal.refusals import refused_page

LINES_AT_ONCE = 500


@require_safe
@requires(Right.SEE_HISTORY)
def history_checkpoint(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return proof_page(request, service)


@require_POST
@requires(Right.EXPORT)
def history_checkpoint_download(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _checkpoint_download(request)


@require_safe
@requires_everywhere(Right.SEE_HISTORY)
def installation_checkpoint(request: HttpRequest) -> HttpResponse:
    return proof_page(request, None)


@require_POST
@requires_everywhere(Right.EXPORT)
def installation_checkpoint_download(request: HttpRequest) -> HttpResponse:
    return _checkpoint_download(request)


@require_POST
@requires(Right.EXPORT)
def history_whole(request: HttpRequest, service: ProvisioningService) -> HttpResponseBase:
    return _whole(request, service)


@require_POST
@requires_everywhere(Right.EXPORT)
def installation_history_whole(request: HttpRequest) -> HttpResponseBase:
    return _whole(request, None)


def proof_url(service: ProvisioningService | None) -> str:
    return reverse(_proof_view(service), kwargs=_names(service))


def _proof_view(service: ProvisioningService | None) -> str:
    return "portal:history-checkpoint" if service else "portal:installation-checkpoint"


def _names(service: ProvisioningService | None) -> dict[str, str]:
    return {"service_name": service.name} if service else {}


def proof_page(
    request: HttpRequest, service: ProvisioningService | None, form: CheckForm | None = None
) -> HttpResponse:
    """What was signed last: a checkpoint tells the size of the history and nothing of what is in it.

    `form`: what a check was given that it cannot read.
    """
    seal_for_a_page()
    latest = latest_checkpoint()
    names = _names(service)
    key = verifier_key()
    sealed = head().size
    may_export = may(request, Right.EXPORT, service)
    everywhere: Role | None = request.role_everywhere if service else None  # type: ignore[attr-defined]  # set by access.requires
    context = {
        "service": service,
        "checkpoint": latest,
        "name": key.name,
        "verifier_key": str(key),
        "sealed": sealed,
        "waiting": count_waiting(),
        "unsigned": sealed - latest.size if latest else sealed,
        "places": places() if latest else [],
        # Paths on the server and addresses beyond it are for people of the installation.
        "names_places": not service or (everywhere is not None and Right.SEE_HISTORY in everywhere.rights),
        "history_url": reverse(
            "portal:history-list" if service else "portal:installation-history", kwargs=names
        ),
        "download_url": reverse(f"{_proof_view(service)}-download", kwargs=names),
        "check_url": reverse(f"portal:{'history' if service else 'installation'}-check", kwargs=names),
        "whole_url": reverse(
            f"portal:{'history' if service else 'installation-history'}-whole", kwargs=names
        ),
        "whole_name": _whole_name(service),
        "kept_name": f"history-checkpoint-{latest.size}.txt" if latest else "history-checkpoint.txt",
        "may_export": may_export,
        "form": form or CheckForm(),
    }
    return render(request, "portal/history/checkpoint.html", context, status=422 if form else 200)


def _whole_name(service: ProvisioningService | None) -> str:
    """The commands on the page name the file as a browser saves it."""
    return f"whole-history-{service.name if service else 'installation'}.jsonl"


def _whole(request: HttpRequest, service: ProvisioningService | None) -> HttpResponseBase:
    try:
        _, lines = export_history(service, actor=actor_of(request), in_background=True)
    except (HistoryDisagrees, Conflict) as problem:
        return _refused(request, problem)
    return StreamingHttpResponse(
        _together(lines),
        content_type="application/jsonl; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{_whole_name(service)}"'},
    )


def _together(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Many lines at a time: each piece is a way through the listener."""
    while some := b"".join(islice(lines, LINES_AT_ONCE)):
        yield some


def _checkpoint_download(request: HttpRequest) -> HttpResponse:
    try:
        checkpoint, _ = take_checkpoint(in_background=True)
    except (HistoryDisagrees, Conflict) as problem:
        return _refused(request, problem)
    return HttpResponse(
        checkpoint.note,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="history-checkpoint-{checkpoint.size}.txt"'},
    )


def _refused(request: HttpRequest, problem: HistoryDisagrees | Conflict) -> HttpResponse:
    return refused_page(request, problem.message, 409)
