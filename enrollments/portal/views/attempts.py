"""Attempts: what devices tried, and the trace of how it was decided. For who may see the history (R17)."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from enrollments.actions.attempts import OVERFLOW_NAME, find_attempt
from enrollments.actions.rates import back_off_of
from enrollments.models import AttemptOutcome, Certificate, ProvisioningService, RegistrationAttempt
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason
from enrollments.policy.roles import Right
from enrollments.portal.access import requires
from enrollments.portal.forms_filters import AttemptFilter
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged, starting_with


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
                return redirect("portal:attempt-detail", service_name=service.name, pk=found.pk)
            form.add_error(
                "tracking_id",
                "No attempt has this tracking ID: it is mistyped, of another service, or no longer kept.",
            )
        else:
            attempts = service.attempts.defer("trace")
            if "outcome" in chosen:
                attempts = attempts.filter(outcome=chosen["outcome"])
            if "q" in chosen:
                attempts = attempts.filter(starting_with("registration_key", registration_key(chosen["q"])))
    page = paged(attempts, request.GET, {"last": "last_at"}, default="-last")
    context = {
        "service": service,
        "form": form,
        "page": page,
        "rows": [(one, reason_in_words(one)) for one in page.rows],
        "filtered": bool(form.errors or form.chosen),
        "overflow_name": OVERFLOW_NAME,
    }
    return render_page(request, "portal/attempts/list.html", "portal/attempts/_results.html", context)


@require_safe
@requires(Right.SEE_HISTORY)
def attempt_detail(request: HttpRequest, service: ProvisioningService, pk: int) -> HttpResponse:
    attempt = get_object_or_404(RegistrationAttempt, service=service, pk=pk)
    record = service.registrations.filter(registration_key=attempt.registration_key).first()
    leaf = (
        Certificate.objects.filter(thumbprint_sha256=attempt.leaf_thumbprint).first()
        if attempt.leaf_thumbprint
        else None
    )
    context = {
        "service": service,
        "attempt": attempt,
        "reason_words": reason_in_words(attempt),
        "is_overflow": attempt.claimed_registration_id == OVERFLOW_NAME,
        "entry_url": _entry_url(service, attempt),
        "told": _told(attempt),
        "back_off": back_off_of(service, attempt, leaf, now=timezone.now()),
        "record": record,
        "leaf": leaf,
    }
    return render(request, "portal/attempts/detail.html", context)


def reason_in_words(attempt: RegistrationAttempt) -> str:
    return Reason(attempt.reason).in_words if attempt.reason in set(Reason) else attempt.reason


def _told(attempt: RegistrationAttempt) -> str:
    """What the device heard, which is less than what is told here (R3)."""
    if attempt.reason == Reason.TPM_NOT_ENROLLED:
        return "404, as every TPM that is not enrolled so"
    return {
        AttemptOutcome.REFUSED: "401, the same for every cause",
        AttemptOutcome.DISABLED: "disabled",
        AttemptOutcome.FAILED: "failed, with a code for the cause",
        AttemptOutcome.ASSIGNED: "assigned",
    }[AttemptOutcome(attempt.outcome)]


def _entry_url(service: ProvisioningService, attempt: RegistrationAttempt) -> str:
    """Where the deciding entry is; empty if it is not there any more."""
    key = registration_key(attempt.entry_name)
    if (
        attempt.entry_kind == "individual"
        and service.individualenrollments.filter(registration_key=key).exists()
    ):
        return reverse("portal:enrollment-edit", args=[service.name, attempt.entry_name])
    if attempt.entry_kind == "group" and service.enrollmentgroups.filter(group_key=key).exists():
        return reverse("portal:group-edit", args=[service.name, attempt.entry_name])
    return ""
