"""Signing in and out, and changing one's own password."""

from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from enrollments.actions.people import change_password, note_signing, tokens_of
from enrollments.actions.sign_in import LockedOut, WrongPassword
from enrollments.actions.sign_in import sign_in as check_password
from enrollments.audit.events import Event
from enrollments.errors import Invalid
from enrollments.portal.access import actor_named, actor_of, for_every_person, person
from enrollments.portal.confirmation import show_invalid
from enrollments.portal.forms_people import OwnPasswordForm, SignInForm

AFTER_SIGN_IN = "portal:service-list"


@login_not_required
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@for_every_person
def sign_in(request: HttpRequest) -> HttpResponse:
    wanted = request.POST.get("next", request.GET.get("next", ""))
    if request.method != "POST":
        if request.user.is_authenticated:
            return HttpResponseRedirect(_own_address(request, wanted))
        return _form(request, SignInForm(), wanted, 200)
    form = SignInForm(request.POST)
    if not form.is_valid():
        return _form(request, form, wanted, 422)
    address = request.META.get("REMOTE_ADDR", "")
    try:
        user = check_password(form.cleaned_data["username"], form.cleaned_data["password"], address=address)
    except WrongPassword as problem:
        form.add_error(None, problem.message)
        return _form(request, form, wanted, 422)
    except LockedOut as problem:
        form.add_error(None, problem.message)
        return _form(request, form, wanted, 429)
    # R15: what cannot be recorded does not happen, so the row comes first.
    note_signing(Event.SIGNED_IN, user, actor=actor_named(request, user))
    # Gives the session a new key: one that was planted before signing in is worth nothing afterwards.
    login(request, user)
    return HttpResponseRedirect(_own_address(request, wanted))


@require_POST
@for_every_person
def sign_out(request: HttpRequest) -> HttpResponse:
    # Whoever was shut out meanwhile may still go.
    user = person(request)
    note_signing(Event.SIGNED_OUT, user, actor=actor_named(request, user))
    logout(request)
    return redirect("portal:sign-in")


@sensitive_post_parameters("current", "password", "again")
@require_http_methods(["GET", "HEAD", "POST"])
@for_every_person
def own_password(request: HttpRequest) -> HttpResponse:
    """Failing to give the current password counts as a failed sign-in, so nobody can try it out in a session."""
    if request.method != "POST":
        return _own_password_form(request, OwnPasswordForm(), 200)
    form = OwnPasswordForm(request.POST)
    if not form.is_valid():
        return _own_password_form(request, form, 422)
    user = person(request)
    name, values = user.get_username(), form.cleaned_data
    try:
        check_password(name, values["current"], address=request.META.get("REMOTE_ADDR", ""))
        change_password(name, actor=actor_of(request), password=values["password"])
    except WrongPassword:
        form.add_error("current", "This is not your current password.")
        return _own_password_form(request, form, 422)
    except LockedOut as problem:
        form.add_error(None, problem.message)
        return _own_password_form(request, form, 429)
    except Invalid as problem:
        show_invalid(form, problem)
        return _own_password_form(request, form, 422)
    user.refresh_from_db()
    update_session_auth_hash(request, user)
    messages.success(request, "Your password is changed. Your sessions in other browsers have ended.")
    return redirect(AFTER_SIGN_IN)


def _own_address(request: HttpRequest, wanted: str) -> str:
    """Where to go next: only within this portal, whatever a link to the sign-in page says."""
    own = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if own and wanted.startswith("/") else resolve_url(AFTER_SIGN_IN)


def _form(request: HttpRequest, form: SignInForm, wanted: str, status: int) -> HttpResponse:
    return render(request, "portal/sign_in.html", {"form": form, "next": wanted}, status=status)


def _own_password_form(request: HttpRequest, form: OwnPasswordForm, status: int) -> HttpResponse:
    context = {"form": form, "tokens": tokens_of(person(request))}
    return render(request, "portal/people/own_password.html", context, status=status)
