"""Who may do what in one service, and roles that its administrators give there (R17)."""

from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from enrollments.actions.people import has_right, people_of, set_role_in_service
from enrollments.errors import Invalid, NotFound
from enrollments.models import Membership, ProvisioningService
from enrollments.policy.roles import Right, Role
from enrollments.portal.access import actor_of, may, person, requires
from enrollments.portal.confirmation import show_invalid
from enrollments.portal.forms_people import NO_ROLE, ServiceRoleForm
from enrollments.portal.paging import paged


@dataclass(frozen=True, slots=True)
class Roles:
    """What one person has here. `here` and `everywhere`: through what; `counts`: the higher of the two, if any does."""

    person: User
    here: Role | None
    everywhere: Role | None

    @property
    def counts(self) -> Role | None:
        given = [role for role in (self.here, self.everywhere) if role and self.person.is_active]
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
    username = form.cleaned_data["username"]
    try:
        set_role_in_service(
            username,
            form.chosen_role,
            service=service,
            by=person(request),
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
        )
    except NotFound as problem:
        form.add_error("username", problem.message)
        return _page(request, service, form, 422)
    except Invalid as problem:
        show_invalid(form, problem)
        return _page(request, service, form, 422)
    role = form.chosen_role.label.lower() if form.chosen_role else "without a role of their own"
    messages.success(request, f"{username} is now {role} in service {service}.")
    # Who gave up a role of their own may not see this page any more.
    if not has_right(person(request), Right.SEE_HISTORY, service):
        return redirect("portal:service-list")
    return redirect("portal:service-people", service_name=service.name)


def _page(
    request: HttpRequest, service: ProvisioningService, form: ServiceRoleForm, status: int = 200
) -> HttpResponse:
    people = people_of(service)
    if search := request.GET.get("q", "").strip():
        people = people.filter(username__istartswith=search)
    page = paged(people, request.GET, {"name": "username"}, "name")
    context = {
        "service": service,
        "form": form,
        "page": page,
        "search": search,
        "rows": [_roles(one) for one in page.rows],
        "no_role": NO_ROLE,
        "may_change": may(request, Right.ADMINISTER, service),
        "may_see_people": request.role_everywhere is Role.ADMINISTRATOR,  # type: ignore[attr-defined]  # set by access.requires
    }
    return render(request, "portal/people/of_service.html", context, status=status)


def _roles(user: User) -> Roles:
    memberships: list[Membership] = user.memberships_here  # type: ignore[attr-defined]  # people_of fetches these
    by_place = {one.service_id is None: Role(one.role) for one in memberships}
    return Roles(user, by_place.get(False), by_place.get(True))
