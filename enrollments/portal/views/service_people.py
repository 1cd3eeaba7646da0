"""Who may do what in one service, and roles that its administrators give there (R17)."""

from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.people import (
    LastAdministrator,
    NobodyOfThatName,
    has_right,
    people_of,
    set_role_in_service,
)
from enrollments.errors import Invalid
from enrollments.models import Membership, ProvisioningService
from enrollments.policy.roles import Right, Role
from enrollments.policy.unknown import Unknown, known
from enrollments.portal.access import actor_of, may, person, requires
from enrollments.portal.confirmation import ReasonForm, show_invalid
from enrollments.portal.forms_people import ServiceRoleForm
from enrollments.portal.history_rows import history_url
from enrollments.portal.paging import paged
from enrollments.portal.roles import ask_to_take_away, tell_of_role


@dataclass(frozen=True, slots=True)
class Roles:
    """What one person has here. `here` and `everywhere`: through what; `counts`: the higher of the two, if any does.

    acts_url: what they did in this service.
    """

    person: User
    here: Role | Unknown | None
    everywhere: Role | Unknown | None
    acts_url: str

    @property
    def counts(self) -> Role | None:
        roles = self.here, self.everywhere
        given = [role for role in roles if isinstance(role, Role) and self.person.is_active]
        return max(given, key=lambda role: len(role.rights), default=None)


@require_safe
@requires(Right.SEE_HISTORY)
def service_people(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _page(request, service, ServiceRoleForm())


@require_POST
@requires(Right.ADMINISTER)
def service_person_role(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    form = ServiceRoleForm(request.POST)
    if not form.is_valid():
        return _page(request, service, form, 422)
    try:
        user, is_changed = set_role_in_service(
            form.cleaned_data["username"],
            form.chosen_role,
            service=service,
            by=person(request),
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
        )
    except NobodyOfThatName as problem:
        form.add_error("username", problem.message)
        return _page(request, service, form, 422)
    except Invalid as problem:
        show_invalid(form, problem)
        return _page(request, service, form, 422)
    except LastAdministrator as problem:
        form.add_error(None, problem.message)
        return _page(request, service, form, 409)
    tell_of_role(request, user, form.chosen_role, service, is_changed=is_changed)
    return _back(request, service)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.ADMINISTER)
def service_role_take_away(request: HttpRequest, service: ProvisioningService, username: str) -> HttpResponse:
    membership = service.memberships.filter(user__username__iexact=username).select_related("user").first()
    if membership is None:
        # Whether the installation has somebody of that name is not told.
        nobody = f"Nobody named {username[:150]} has a role of their own in service {service}"
        messages.info(request, f"{nobody}: nothing was changed.")
        return _back(request, service)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        user, is_changed = set_role_in_service(
            membership.user.get_username(),
            None,
            service=service,
            by=person(request),
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
        )
        tell_of_role(request, user, None, service, is_changed=is_changed)
        return _back(request, service)
    return ask_to_take_away(request, membership, form, cancel_url=_list_url(service))


def _list_url(service: ProvisioningService) -> str:
    return reverse("portal:service-people", kwargs={"service_name": service.name})


def _back(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """To the list, unless who gave up a role of their own may not see it any more."""
    may_see = has_right(person(request), Right.SEE_HISTORY, service)
    return redirect(_list_url(service) if may_see else "portal:service-list")


def _page(
    request: HttpRequest, service: ProvisioningService, form: ServiceRoleForm, status: int = 200
) -> HttpResponse:
    people = people_of(service)
    if search := request.GET.get("q", "").strip():
        people = people.filter(username__istartswith=search)
    page = paged(people, request.GET, {"name": "username"}, "name")
    if form.errors:
        # The form stands below the list: the page opens where it is to be mended.
        wrong = next((name for name in form.fields if name in form.errors), "role")
        form.fields[wrong].widget.attrs["autofocus"] = True
    context = {
        "service": service,
        "form": form,
        "page": page,
        "search": search,
        "rows": [_roles(one, service) for one in page.rows],
        "may_change": may(request, Right.ADMINISTER, service),
        "may_see_people": request.role_everywhere is Role.ADMINISTRATOR,  # type: ignore[attr-defined]  # set by access.requires
    }
    return render(request, "portal/people/of_service.html", context, status=status)


def _roles(user: User, service: ProvisioningService) -> Roles:
    memberships: list[Membership] = user.memberships_here  # type: ignore[attr-defined]  # people_of fetches these
    by_place = {one.service_id is None: known(Role, one.role) for one in memberships}
    acts_url = history_url(service, {"actor": f"user:{user.get_username()}"})
    return Roles(user, by_place.get(False), by_place.get(True), acts_url)
