"""Verifying the history in the portal: begun, continued a portion at a time, and what was found."""

from datetime import datetime
from typing import Any

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from enrollments.actions.history_checks import begin_check, continue_check
from enrollments.audit.upkeep import seal_for_a_page
from enrollments.audit.verify import Check
from enrollments.errors import Invalid
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, person, requires, requires_everywhere
from enrollments.portal.forms_history_check import CheckForm
from enrollments.portal.history_rows import row_url
from enrollments.portal.htmx import render_page, wants_fragment
from enrollments.portal.refusals import refused_page
from enrollments.portal.views.history_proof import proof_page, proof_url

# With script a portion is short, so that the page tells how far it is and can be left; without, somebody presses a
# button for each.
SECONDS, SECONDS_WITHOUT_SCRIPT = 1.0, 8.0
# Whoever comes back later begins anew: what was checked may have been changed since.
MAX_AGE = 3600
# Another one whenever a check keeps something else: what an older version has kept is not gone on with.
_SALT = "history-check:2"


@require_POST
@requires(Right.SEE_HISTORY)
def history_check(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _check(request, service)


@require_POST
@requires_everywhere(Right.SEE_HISTORY)
def installation_check(request: HttpRequest) -> HttpResponse:
    return _check(request, None)


def _check(request: HttpRequest, service: ProvisioningService | None) -> HttpResponse:
    if "state" in request.POST:
        try:
            check, began = _continued(request.POST["state"], request, service)
        except signing.BadSignature:
            message = "This check was begun too long ago, or by somebody else: begin it anew."
            return refused_page(request, message, 409)
        seconds = SECONDS if wants_fragment(request) else SECONDS_WITHOUT_SCRIPT
    else:
        form = CheckForm(request.POST, request.FILES)
        if not form.is_valid():
            return proof_page(request, service, form)
        # So that all that somebody saw a moment ago is among what is checked.
        seal_for_a_page()
        try:
            check, began, seconds = begin_check(form.cleaned_data["kept"]), timezone.now(), SECONDS
        except Invalid as problem:
            form.add_error("kept", problem.errors["kept"])
            return proof_page(request, service, form)
    has_turn = continue_check(check, seconds, actor=actor_of(request), service=service)
    return _page(request, service, check, began, has_turn=has_turn)


def _page(
    request: HttpRequest,
    service: ProvisioningService | None,
    check: Check,
    began: datetime,
    *,
    has_turn: bool,
) -> HttpResponse:
    problem = check.report.problem
    context = {
        "service": service,
        "check": check,
        "report": check.report,
        "began": began,
        "now": timezone.now(),
        "has_turn": has_turn,
        "state": "" if check.done else _to_go_on(check, began, request, service),
        "largest_kept": max((one.size for one in check.kept), default=0),
        "row_url": _url_of_row(problem.event_id, service) if problem else "",
        "check_url": reverse(
            f"portal:{'history' if service else 'installation'}-check", kwargs=_names(service)
        ),
        "proof_url": proof_url(service),
    }
    return render_page(request, "portal/history/check.html", "portal/history/_check.html", context)


def _names(service: ProvisioningService | None) -> dict[str, str]:
    return {"service_name": service.name} if service else {}


def _url_of_row(event_id: int | None, service: ProvisioningService | None) -> str:
    """The page of the row, where there is one that may be seen here."""
    rows = HistoryEvent.objects.all() if service is None else HistoryEvent.objects.of_service(service.pk)
    if event_id is None or not rows.filter(pk=event_id).exists():
        return ""
    return row_url(event_id, service)


def _to_go_on(
    check: Check, began: datetime, request: HttpRequest, service: ProvisioningService | None
) -> str:
    """All that the next portion needs, in the page itself: whichever worker is asked can go on, and none remembers.
    Signed, so that nobody tells a worker that something was checked."""
    values = {"check": check.to_go_on_later(), "began": began.isoformat(), "whose": _whose(request, service)}
    return signing.dumps(values, salt=_SALT, compress=True)


def _continued(
    state: str, request: HttpRequest, service: ProvisioningService | None
) -> tuple[Check, datetime]:
    """Raises BadSignature."""
    values: dict[str, Any] = signing.loads(state, salt=_SALT)
    began = datetime.fromisoformat(values["began"])
    if values["whose"] != _whose(request, service) or (timezone.now() - began).total_seconds() > MAX_AGE:
        raise signing.BadSignature
    return Check.from_before(values["check"]), began


def _whose(request: HttpRequest, service: ProvisioningService | None) -> list[int | None]:
    return [person(request).pk, service.pk if service else None]
