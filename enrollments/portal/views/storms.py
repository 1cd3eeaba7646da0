"""Storms: devices that are refused or fail again and again, and what can be done about one (R14)."""

import hashlib
from datetime import timedelta

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from enrollments.actions.quiet_periods import (
    caller_of,
    end_quiet_period,
    quiet_period_of,
    standing_quiet_periods,
    start_quiet_period,
)
from enrollments.actions.schedule import as_text
from enrollments.actions.storms import MOST_SHOWN, storms
from enrollments.errors import Invalid
from enrollments.models import ProvisioningService, RegistrationAttempt
from enrollments.models.quiet_periods import who_in_words
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.htmx import render_page
from enrollments.portal.views.attempts import attempt_tabs, reason_in_words

WINDOWS = {"hour": ("Last hour", timedelta(hours=1)), "day": ("Last day", timedelta(days=1))}
DURATIONS = (("60", "1 hour"), ("480", "8 hours"), ("1440", "1 day"), ("10080", "7 days"))


class QuietForm(ReasonForm):
    duration = forms.ChoiceField(label="For how long", choices=DURATIONS, initial="60")
    field_order = ["duration", "reason"]


@require_safe
@requires(Right.SEE_HISTORY)
def storm_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """Asked again every few seconds while somebody looks; 304 where nothing has changed since."""
    window = request.GET.get("window", "")
    window = window if window in WINDOWS else "hour"
    now = timezone.now()
    found = storms(service, window=WINDOWS[window][1], at=now)
    context = {
        "service": service,
        "window": window,
        "windows": [(name, label) for name, (label, _) in WINDOWS.items()],
        "is_live": request.GET.get("live") != "off",
        "tabs": attempt_tabs(service, "storm-list"),
        "storms": found,
        "rows": [(one, reason_in_words(one.latest)) for one in found.shown],
        "more": max(0, found.callers - len(found.shown)),
        "most": MOST_SHOWN,
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
    }
    # What is seen, and nothing of when it was looked at.
    rows = render_to_string("portal/storms/_rows.html", context)
    tag = f'"{hashlib.sha256(rows.encode()).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified()
    context |= {"rendered_rows": rows, "tag": tag}
    return render_page(request, "portal/storms/list.html", "portal/storms/_results.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def attempt_quiet(request: HttpRequest, service: ProvisioningService, pk: int) -> HttpResponse:
    attempt = get_object_or_404(RegistrationAttempt, service=service, pk=pk)
    form = QuietForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            quiet = start_quiet_period(
                service,
                attempt,
                timedelta(minutes=int(form.cleaned_data["duration"])),
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
            )
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            messages.success(
                request,
                f"{quiet} is told to wait until {as_text(quiet.until)} from its next refusal on.",
            )
            return redirect(_storms_url(service))
    caller = caller_of(attempt)
    who = who_in_words(caller.credential, caller.is_proven) if caller else "nobody that is known any more"
    running = quiet_period_of(caller, timezone.now()) if caller else None
    already = (
        f" One runs already, until {as_text(running.until)}, started by {running.actor}: a new one takes its place, "
        "even where it ends earlier."
        if running
        else ""
    )
    return ask(
        request,
        title=f"A quiet period for {attempt.claimed_registration_id}?",
        body=f"It is for {who}. While that caller is refused, it is answered 429 with a Retry-After up to the end, "
        "and hardly judged. It keeps nobody out who would be admitted: the same name with another credential is "
        "not meant, and any change of what is enrolled has this caller judged again at its next try. "
        f"Once this caller is admitted under that name, the period is over.{already}",
        cancel_url=_storms_url(service),
        form=form,
        danger=False,
        yes="Start the quiet period",
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def quiet_end(request: HttpRequest, service: ProvisioningService, quiet_pk: int) -> HttpResponse:
    quiet = get_object_or_404(standing_quiet_periods(timezone.now()), service=service, pk=quiet_pk)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        end_quiet_period(service, quiet.pk, actor=actor_of(request), reason=form.cleaned_data["reason"])
        messages.success(request, f"The quiet period of {quiet} has ended.")
        return redirect(_storms_url(service))
    return ask(
        request,
        title=f"End the quiet period of {quiet}?",
        body="It is refused again instead of told to wait, "
        f"{service.longest_retry_after_seconds} seconds after its latest try at the latest. A client that keeps to "
        "what it was told may come back only then.",
        cancel_url=_storms_url(service),
        form=form,
        danger=False,
        yes="End the quiet period",
    )


def _storms_url(service: ProvisioningService) -> str:
    return reverse("portal:storm-list", args=[service.name])
