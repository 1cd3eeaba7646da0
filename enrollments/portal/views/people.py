"""People and their roles: for administrators of the whole installation (R17)."""

from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.people import (
    LastAdministrator,
    add_person,
    change_password,
    remove_person,
    set_active,
    set_role,
    tokens_of,
)
from enrollments.errors import Invalid
from enrollments.models import Membership
from enrollments.policy.roles import Right, Role
from enrollments.policy.unknown import known
from enrollments.policy.words import counted
from enrollments.portal.access import actor_of, requires_everywhere
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.forms_people import EVERYWHERE, NewPasswordForm, PersonForm, RoleForm
from enrollments.portal.paging import paged
from enrollments.portal.roles import ask_to_take_away, last_one_stays, tell_of_role


@require_safe
@requires_everywhere(Right.ADMINISTER)
def people_list(request: HttpRequest) -> HttpResponse:
    people = User.objects.prefetch_related("memberships__service")
    if search := request.GET.get("q", "").strip():
        people = people.filter(username__istartswith=search)
    page = paged(people, request.GET, {"name": "username"}, "name")
    return render(request, "portal/people/list.html", {"page": page, "search": search})


@require_http_methods(["GET", "HEAD", "POST"])
@requires_everywhere(Right.ADMINISTER)
def person_add(request: HttpRequest) -> HttpResponse:
    """The generated password is on the page that answers, and nowhere else: no redirect could carry it."""
    form = PersonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            user, password = add_person(
                form.cleaned_data["username"],
                role=Role(form.cleaned_data["role"]),
                service=form.service,
                actor=actor_of(request),
            )
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            return _password_page(request, user, password, f"{user} is added")
    return render(request, "portal/people/add.html", {"form": form}, status=422 if form.errors else 200)


@require_safe
@requires_everywhere(Right.ADMINISTER)
def person_edit(request: HttpRequest, username: str) -> HttpResponse:
    return _person_page(request, _get(username), RoleForm())


@require_POST
@requires_everywhere(Right.ADMINISTER)
def person_role(request: HttpRequest, username: str) -> HttpResponse:
    user = _get(username)
    form = RoleForm(request.POST)
    if not form.is_valid():
        return _person_page(request, user, form, 422)
    try:
        user, is_changed = set_role(
            username,
            form.chosen_role,
            service=form.service,
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
        )
    except Invalid as problem:
        show_invalid(form, problem)
        return _person_page(request, user, form, 422)
    except LastAdministrator as problem:
        form.add_error(None, problem.message)
        return _person_page(request, user, form, 409)
    tell_of_role(request, user, form.chosen_role, form.service, is_changed=is_changed)
    return redirect("portal:person-edit", username=user.username)


@require_http_methods(["GET", "HEAD", "POST"])
@requires_everywhere(Right.ADMINISTER)
def person_role_take_away(request: HttpRequest, username: str) -> HttpResponse:
    """In which place, the address says: `where`, as in the form by which roles are given."""
    user, where = _get(username), request.GET.get("where", "")
    place = Q(service__isnull=True) if where == EVERYWHERE else Q(service__name=where)
    membership = user.memberships.filter(place).select_related("user", "service").first()
    if membership is None:
        messages.info(request, f"{user} has no role of their own there: nothing was changed.")
        return redirect(_person_url(user))
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        user, is_changed = set_role(
            username,
            None,
            service=membership.service,
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
        )
        tell_of_role(request, user, None, membership.service, is_changed=is_changed)
        return redirect(_person_url(user))
    return ask_to_take_away(request, membership, form, cancel_url=_person_url(user))


@require_http_methods(["GET", "HEAD", "POST"])
@requires_everywhere(Right.ADMINISTER)
def person_deactivate(request: HttpRequest, username: str) -> HttpResponse:
    user = _get(username)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        set_active(username, False, actor=actor_of(request), reason=form.cleaned_data["reason"])
        messages.success(request, f"{user} is kept out from now on, with their roles kept for later.")
        return redirect("portal:person-edit", username=user.username)
    return ask(
        request,
        title=f"Deactivate {user}?",
        yes="Deactivate",
        body=last_one_stays(user, None)
        or f"{user} can do nothing any more from their next click on. The roles stay for later; their API tokens end, "
        "also for later.",
        form=form,
        cancel_url=_person_url(user),
    )


@require_POST
@requires_everywhere(Right.ADMINISTER)
def person_activate(request: HttpRequest, username: str) -> HttpResponse:
    user = _get(username)
    set_active(username, True, actor=actor_of(request))
    messages.success(request, f"{user} can sign in again.")
    return redirect("portal:person-edit", username=user.username)


@require_http_methods(["GET", "HEAD", "POST"])
@requires_everywhere(Right.ADMINISTER)
def person_remove(request: HttpRequest, username: str) -> HttpResponse:
    user = _get(username)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        remove_person(username, actor=actor_of(request), reason=form.cleaned_data["reason"])
        messages.success(request, f"{user} is removed.")
        return redirect("portal:people-list")
    return ask(
        request,
        title=f"Remove {user}?",
        yes="Remove",
        body=last_one_stays(user, None)
        or f"{user} can no longer sign in, and all their roles and API tokens are lost. What they did stays in the "
        "history.",
        form=form,
        cancel_url=_person_url(user),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires_everywhere(Right.ADMINISTER)
def person_password(request: HttpRequest, username: str) -> HttpResponse:
    user = _get(username)
    tokens = tokens_of(user)
    form = NewPasswordForm(request.POST if request.method == "POST" else None, tokens=tokens)
    if request.method == "POST" and form.is_valid():
        password = change_password(username, actor=actor_of(request), end_tokens=form.ends_tokens)
        return _password_page(request, user, password, f"{user} has a new password")
    of_tokens = f"{user} has no API tokens." if not tokens else f"{user} has {counted(tokens, 'API token')}."
    return ask(
        request,
        title=f"Make a new password for {user}?",
        yes="Make a new password",
        body=f"The present password stops working and the open sessions of {user} end. "
        f"The new one is shown to you once. {of_tokens}",
        form=form if tokens else None,
        cancel_url=_person_url(user),
    )


def _get(username: str) -> User:
    user = User.objects.filter(username__iexact=username).first()
    if user is None:
        raise Http404("There is no such person.")
    return user


def _person_url(user: User) -> str:
    return reverse("portal:person-edit", kwargs={"username": user.username})


def _password_page(request: HttpRequest, user: User, password: str, heading: str) -> HttpResponse:
    context = {"shown": user, "password": password, "heading": heading}
    return render(request, "portal/people/password.html", context)


def _person_page(request: HttpRequest, user: User, form: RoleForm, status: int = 200) -> HttpResponse:
    memberships = Membership.objects.filter(user=user).select_related("service").order_by("service__name")
    context = {
        "shown": user,
        "form": form,
        "memberships": [
            {
                "where": f"Service {one.service}" if one.service else "Whole installation",
                "key": one.service.name if one.service else EVERYWHERE,
                "role": known(Role, one.role).label,
            }
            for one in memberships
        ],
    }
    return render(request, "portal/people/person.html", context, status=status)
