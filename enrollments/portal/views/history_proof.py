"""What proves the history: the latest checkpoint, the verifier key, and a checkpoint of now to take along."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from enrollments.actions.history import take_checkpoint
from enrollments.audit.chain import count_waiting, head
from enrollments.audit.checkpoints import latest_checkpoint, places, verifier_key
from enrollments.audit.upkeep import seal_for_a_page
from enrollments.errors import Conflict, HistoryDisagrees
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import may, requires, requires_everywhere


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


def proof_view(service: ProvisioningService | None) -> str:
    return "portal:history-checkpoint" if service else "portal:installation-checkpoint"


def _checkpoint(request: HttpRequest, service: ProvisioningService | None) -> HttpResponse:
    """What was signed last: a checkpoint tells the size of the history and nothing of what is in it."""
    seal_for_a_page()
    latest = latest_checkpoint()
    names = {"service_name": service.name} if service else {}
    view = proof_view(service)
    key = verifier_key()
    sealed = head().size
    context = {
        "service": service,
        "checkpoint": latest,
        "name": key.name,
        "verifier_key": str(key),
        "sealed": sealed,
        "waiting": count_waiting(),
        "unsigned": sealed - latest.size if latest else sealed,
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
