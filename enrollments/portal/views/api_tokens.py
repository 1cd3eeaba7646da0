"""API tokens: everybody's own; administrators see and revoke those of others."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from enrollments.actions.api_tokens import add_api_token, revoke_api_token, token_revoked_before
from enrollments.actions.people import role_in
from enrollments.errors import Invalid, NotFound
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
    user, number = person(request), _number(request)
    token = _asked_for(request, service, number) if number is not None else None
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if token is None:
        return _nothing_to_revoke(request, service, number)
    if request.method == "POST" and form.is_valid():
        try:
            actor = actor_of(request, None if token.user == user else Right.ADMINISTER)
            revoke_api_token(service, token.pk, actor=actor, reason=form.cleaned_data["reason"])
        except NotFound:
            # Meanwhile somebody else did it, or the same person by a second click.
            return _nothing_to_revoke(request, service, number)
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


def _number(request: HttpRequest) -> int | None:
    number = request.GET.get("token", "")
    return int(number) if number.isascii() and number.isdigit() and len(number) <= 18 else None


def _asked_for(request: HttpRequest, service: ProvisioningService, number: int) -> ApiToken | None:
    tokens = service.api_tokens.select_related("user").filter(pk=number)
    if not may(request, Right.ADMINISTER, service):
        tokens = tokens.filter(user=person(request))
    return tokens.first()


def _nothing_to_revoke(
    request: HttpRequest, service: ProvisioningService, number: int | None
) -> HttpResponse:
    """Revoking twice is no refused act. What is another's and what is not there are one, and leave the same (R15)."""
    may_administer = may(request, Right.ADMINISTER, service)
    owner = None if may_administer else person(request)
    name = token_revoked_before(service, number, owner=owner) if number is not None else None
    if name is not None:
        messages.info(request, f"API token {name} was revoked already: nothing was changed.")
        return redirect(LIST, service_name=service.name)
    if number is not None and not may_administer:
        note_not_ones_own(request, service, f"?token={number}")
    messages.error(request, "There is no such token, or it is not yours to revoke.")
    return redirect(LIST, service_name=service.name)
