"""API tokens: everybody's own; administrators see and revoke those of others."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from enrollments.actions.api_tokens import add_api_token, revoke_api_token
from enrollments.actions.people import role_in
from enrollments.errors import Invalid
from enrollments.models import ApiToken, ProvisioningService
from enrollments.policy.access import rights_within
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, note_not_ones_own, person, requires
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.forms_access import TokenForm

LIST = "portal:token-list"


@require_safe
@requires(Right.SEE)
def token_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    tokens = service.api_tokens.select_related("user").order_by("user__username", "name", "pk")
    others = (
        tokens.exclude(user=person(request)) if may(request, Right.ADMINISTER, service) else tokens.none()
    )
    context = {
        "service": service,
        "own": tokens.filter(user=person(request)),
        "others": others,
        "now": timezone.now(),
    }
    return render(request, "portal/tokens/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.SEE)
def token_add(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """The token is on the page that answers, and nowhere else: no redirect could carry it."""
    user = person(request)
    within = rights_within(role_in(user, service))
    form = TokenForm(request.POST if request.method == "POST" else None, within=within)
    if request.method == "POST" and form.is_valid():
        name, days = form.cleaned_data["name"], form.cleaned_data["days"]
        try:
            token, text = add_api_token(service, user, name, form.chosen, days=days, actor=actor_of(request))
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            context = {"service": service, "token": token, "text": text}
            return render(request, "portal/tokens/shown.html", context)
    context = {"service": service, "form": form}
    return render(request, "portal/tokens/add.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.SEE)
def token_revoke(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """`?token=` is its number: one's own, or anybody's for administrators."""
    token = _asked_for(request, service)
    if token is None:
        messages.error(request, "There is no such token, or it is not yours to revoke.")
        return redirect(LIST, service_name=service.name)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        revoke_api_token(service, token.pk, actor=actor_of(request), reason=form.cleaned_data["reason"])
        messages.success(request, f"API token {token} of {token.user} opens nothing from now on.")
        return redirect(LIST, service_name=service.name)
    return ask(
        request,
        title=f"Revoke API token {token} of {token.user}?",
        yes="Revoke",
        body="Whoever uses it is shut out at once. This cannot be taken back: make another token instead.",
        form=form,
        cancel_url=reverse(LIST, args=[service.name]),
    )


def _asked_for(request: HttpRequest, service: ProvisioningService) -> ApiToken | None:
    number = request.GET.get("token", "")
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    tokens = service.api_tokens.select_related("user").filter(pk=int(number))
    if may(request, Right.ADMINISTER, service):
        return tokens.first()
    own = tokens.filter(user=person(request)).first()
    if own is None:
        note_not_ones_own(request, service, f"?token={int(number)}")
    return own
