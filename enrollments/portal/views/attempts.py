"""Attempts: what devices tried, and the trace of how it was decided. For who may see the history (R17)."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from enrollments.actions.attempt_entries import Opening, openings
from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.denying import StoodBefore
from enrollments.actions.explaining import explain_attempt
from enrollments.actions.explanations import Explanation
from enrollments.actions.kept_attempts import are_alike, find_attempt, proven_leaf
from enrollments.actions.quiet_periods import REFUSED, caller_of
from enrollments.actions.rates import held_back_of
from enrollments.actions.revocation import deny_device_of
from enrollments.actions.schedule import switches_now
from enrollments.errors import Conflict, Invalid
from enrollments.models import AttemptOutcome, ProvisioningService, RegistrationAttempt
from enrollments.models.keyset import starting_with
from enrollments.policy.names import is_registration_id, registration_key
from enrollments.policy.reasons import Reason
from enrollments.policy.roles import Right
from enrollments.policy.unknown import Unknown, known
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.denying import (
    denial_in_question,
    denying_attempt,
    individual_of,
    what_came_of_denying,
)
from enrollments.portal.entry_links import shown_deciding_entries
from enrollments.portal.explanations import shown
from enrollments.portal.forms_filters import AttemptFilter
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged
from enrollments.portal.preview_changes import Denial

SORTS = {"last": "last_at", "registration_id": "registration_key"}


@require_safe
@requires(Right.SEE_HISTORY)
def attempt_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    form = AttemptFilter(request.GET)
    attempts = service.attempts.none()
    if form.is_valid():
        chosen = form.chosen
        if "tracking_id" in chosen:
            found = find_attempt(service, chosen["tracking_id"])
            if found is not None:
                address = reverse("portal:attempt-detail", args=[service.name, found.pk])
                return redirect(f"{address}?{urlencode({'tracking_id': chosen['tracking_id']})}")
            form.add_error(
                "tracking_id",
                "No attempt has this tracking ID: it is mistyped, of another service, or no longer kept.",
            )
        else:
            attempts = _filtered(service, chosen)
    page = paged(attempts, request.GET, SORTS, default="-last")
    context = {
        "service": service,
        "form": form,
        "page": page,
        "tabs": attempt_tabs(service, "attempt-list"),
        "rows": [
            (one, reason_in_words(one), entry)
            for one, entry in zip(page.rows, shown_deciding_entries(service, page.rows), strict=True)
        ],
        "filtered": bool(form.errors or form.chosen),
        "overflow_name": OVERFLOW_NAME,
    }
    return render_page(request, "portal/attempts/list.html", "portal/attempts/_results.html", context)


@require_safe
@requires(Right.SEE_HISTORY)
def attempt_detail(request: HttpRequest, service: ProvisioningService, pk: int) -> HttpResponse:
    attempt = get_object_or_404(RegistrationAttempt, service=service, pk=pk)
    explanation = explain_attempt(service, attempt, request.GET.get("tracking_id", ""))
    individual = individual_of(service, attempt.claimed_registration_id)
    is_disabled = individual is not None and not switches_now(service).enabled(individual)
    context = {
        "service": service,
        "attempt": attempt,
        "is_overflow": is_overflow(attempt),
        "is_name": is_registration_id(attempt.claimed_registration_id),
        "are_alike": are_alike(attempt),
        "shown": shown(service, explanation),
        "told": _told(attempt),
        "held_back": held_back_of(service, attempt),
        "record": service.registrations.filter(registration_key=attempt.registration_key).first(),
        "leaf": proven_leaf(attempt),
        "disabled": individual if is_disabled else None,
        "opening": _opening(service, attempt, explanation),
        "can_be_quieted": attempt.outcome in REFUSED and caller_of(attempt) is not None,
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
    }
    return render(request, "portal/attempts/detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def attempt_deny(request: HttpRequest, service: ProvisioningService, pk: int) -> HttpResponse:
    attempt = get_object_or_404(RegistrationAttempt, service=service, pk=pk)
    if is_overflow(attempt):
        raise Conflict("This row counts many devices together, so there is no one device to deny.")
    name = attempt.claimed_registration_id
    here = reverse("portal:attempt-detail", args=[service.name, pk])
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        before, reason = StoodBefore.of(service, [name]), form.cleaned_data["reason"]
        try:
            entry = deny_device_of(service, attempt, actor=actor_of(request), reason=reason)
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            said = f"Device {name} is denied from now on, by a disabled individual enrollment."
            messages.success(request, f"{said} {what_came_of_denying(service, before, entry, attempt)}")
            return redirect(here)
    records = service.registrations.select_related("hub")
    record = records.filter(registration_key=attempt.registration_key).first()
    return ask(
        request,
        title=f"Deny device {name}?",
        body="",
        body_template="portal/previews/_act.html",
        extra=denial_in_question(
            Denial.of_attempt(service, attempt), denying_attempt(service, attempt, record)
        ),
        cancel_url=here,
        form=form,
        yes="Deny",
    )


def _opening(service: ProvisioningService, attempt: RegistrationAttempt, told: Explanation) -> Opening | None:
    """Of the group that kept it out, where that is disabled until a time."""
    if told.entry is None or attempt.reason != Reason.GROUP_DISABLED:
        return None
    return openings(service, [told.entry]).get(told.entry)


def is_overflow(attempt: RegistrationAttempt) -> bool:
    return attempt.claimed_registration_id == OVERFLOW_NAME


def attempt_tabs(service: ProvisioningService, active: str) -> list[dict[str, object]]:
    pairs = (("Attempts", "attempt-list"), ("Storms", "storm-list"))
    return [
        {"label": label, "url": reverse(f"portal:{view}", args=[service.name]), "active": view == active}
        for label, view in pairs
    ]


def _filtered(service: ProvisioningService, chosen: dict[str, Any]) -> QuerySet[RegistrationAttempt]:
    attempts = service.attempts.defer("trace")
    if "q" in chosen:
        attempts = attempts.filter(starting_with("registration_key", registration_key(chosen["q"])))
    columns = {
        "outcome": "outcome",
        "reason": "reason",
        "entry": "entry_name__iexact",
        "address": "peer_address__startswith",
        "since": "last_at__gte",
        "until": "first_at__lte",
    }
    return attempts.filter(**{columns[name]: value for name, value in chosen.items() if name in columns})


def reason_in_words(attempt: RegistrationAttempt) -> str:
    return known(Reason, attempt.reason).in_words


def _told(attempt: RegistrationAttempt) -> str:
    """What the device heard, which is less than what is told here (R3)."""
    if attempt.reason == Reason.TPM_NOT_ENROLLED:
        return "404, as every TPM that is not enrolled so"
    outcome = known(AttemptOutcome, attempt.outcome)
    if isinstance(outcome, Unknown):
        return outcome.in_words
    return {
        AttemptOutcome.REFUSED: "401, the same for every cause",
        AttemptOutcome.DISABLED: "disabled",
        AttemptOutcome.FAILED: "failed, with a code for the cause",
        AttemptOutcome.ASSIGNED: "assigned",
        AttemptOutcome.THROTTLED: "429, to wait",
    }[outcome]
