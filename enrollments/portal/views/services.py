"""All resources: the provisioning services that one may see, and adding one."""

from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from enrollments.actions.notices import SHOWN_DAYS, ignored_certificate_headers
from enrollments.actions.people import role_in
from enrollments.actions.services import add_service
from enrollments.errors import Invalid
from enrollments.models import (
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.models.switches import disabled_by_now
from enrollments.policy.roles import Right, Role
from enrollments.policy.unknown import known
from enrollments.portal.access import actor_of, for_every_person, person, requires_everywhere
from enrollments.portal.confirmation import show_invalid
from enrollments.portal.forms_services import ServiceForm


@dataclass(frozen=True, slots=True)
class ServiceRow:
    service: ProvisioningService
    role: Role
    individuals: int
    individuals_disabled: int
    groups: int
    groups_disabled: int
    registrations: int


@require_safe
@for_every_person
def service_list(request: HttpRequest) -> HttpResponse:
    everywhere = role_in(person(request), None)
    rights = everywhere.rights if everywhere else frozenset()
    context = {
        "rows": rows_of(person(request), everywhere),
        "may_add": Right.ADMINISTER in rights,
        "may_see_history": Right.SEE_HISTORY in rights,
        "ignored_headers": ignored_certificate_headers() if Right.ADMINISTER in rights else None,
        "notice_days": SHOWN_DAYS,
    }
    return render(request, "portal/services/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires_everywhere(Right.ADMINISTER)
def service_add(request: HttpRequest) -> HttpResponse:
    form = ServiceForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            service = add_service(
                form.cleaned_data["name"],
                description=form.cleaned_data["description"],
                actor=actor_of(request),
            )
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            messages.success(
                request,
                f"Service {service.name} is there, with ID scope {service.id_scope} and a built-in hub.",
            )
            return redirect("portal:service-overview", service_name=service.name)
    return render(request, "portal/services/add.html", {"form": form}, status=422 if form.errors else 200)


def visible_services(user: User, everywhere: Role | None) -> dict[ProvisioningService, Role]:
    """The services of a person with the role there, in two queries however many there are."""
    roles = {
        membership.service_id: role
        for membership in user.memberships.all()
        if membership.service_id is not None and isinstance(role := known(Role, membership.role), Role)
    }
    services: QuerySet[ProvisioningService] = ProvisioningService.objects.order_by("name")
    if everywhere is None:
        services = services.filter(pk__in=roles)
    found: dict[ProvisioningService, Role] = {}
    for service in services:
        held = [role for role in (everywhere, roles.get(service.pk)) if role is not None]
        found[service] = max(held, key=lambda role: len(role.rights))
    return found


def rows_of(user: User, everywhere: Role | None) -> list[ServiceRow]:
    """One query per kind of thing counted, not per service."""
    services = visible_services(user, everywhere)
    keys = [service.pk for service in services]
    individuals = _counts(IndividualEnrollment.objects.filter(service__in=keys))
    groups = _counts(EnrollmentGroup.objects.filter(service__in=keys))
    records = RegistrationRecord.objects.filter(service__in=keys)
    registrations = dict(records.values_list("service").annotate(count=Count("pk")).order_by())
    return [
        ServiceRow(
            service,
            role,
            *individuals.get(service.pk, (0, 0)),
            *groups.get(service.pk, (0, 0)),
            registrations.get(service.pk, 0),
        )
        for service, role in services.items()
    ]


def _counts(
    entries: QuerySet[IndividualEnrollment] | QuerySet[EnrollmentGroup],
) -> dict[int, tuple[int, int]]:
    """All and disabled entries, by service."""
    rows = (
        entries.values_list("service")
        .annotate(count=Count("pk"), disabled=Count("pk", filter=disabled_by_now()))
        .order_by()
    )
    return {pk: (count, disabled) for pk, count, disabled in rows}
