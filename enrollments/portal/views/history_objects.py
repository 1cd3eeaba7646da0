"""The history of one thing: a tab of its page, also when the thing itself is gone. Rows outlive their objects (R15)."""

from typing import Any

from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from enrollments.models import ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import may, requires, requires_everywhere
from enrollments.portal.history_pages import Place, history_page, seen_by

Tabs = list[dict[str, Any]]


@require_safe
@requires(Right.SEE)
def enrollment_history(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    key = registration_key(registration_id)
    entries = service.individualenrollments.filter(registration_key=key)
    return _of_object(
        request,
        service,
        ("IndividualEnrollment", registration_id),
        title=f"Individual enrollment {registration_id}",
        exists=entries.exists(),
        pages=[
            ("Enrollment", "portal:enrollment-edit", [registration_id]),
            ("History", "portal:enrollment-history", [registration_id]),
        ],
        parent=("Individual Enrollments", "portal:enrollment-list"),
        also=("Everything of this device", "portal:registration-history", [registration_id]),
    )


@require_safe
@requires(Right.SEE)
def group_history(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    return _of_object(
        request,
        service,
        ("EnrollmentGroup", group_id),
        title=f"Enrollment group {group_id}",
        exists=service.enrollmentgroups.filter(group_key=registration_key(group_id)).exists(),
        pages=[
            ("Enrollment group", "portal:group-edit", [group_id]),
            ("History", "portal:group-history", [group_id]),
        ],
        parent=("Enrollment Groups", "portal:group-list"),
    )


@require_safe
@requires(Right.SEE)
def registration_history(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    """Everything under a registration ID, of whatever was deleted and made anew under it as well."""
    key = registration_key(registration_id)
    url = reverse("portal:registration-history", args=[service.name, registration_id])
    pages = []
    if service.registrations.filter(registration_key=key).exists():
        pages.append(("Registration record", "portal:registration-detail", [registration_id]))
    if service.individualenrollments.filter(registration_key=key).exists():
        pages.append(("Enrollment", "portal:enrollment-edit", [registration_id]))
    place = Place(
        service,
        f"Device {registration_id}",
        url,
        "Everything under this registration ID: its individual enrollment, its registration record, what its hub was "
        "told, its quiet periods; also of those that were deleted.",
        {"device": registration_id},
        [*_tabs(service, pages), {"label": "History", "url": url, "active": True}],
        ("Registration records", reverse("portal:registration-list", args=[service.name])),
    )
    return history_page(request, place)


@require_safe
@requires(Right.SEE)
def ca_history(request: HttpRequest, service: ProvisioningService, ca_name: str) -> HttpResponse:
    return _of_object(
        request,
        service,
        ("CaCertificate", ca_name),
        title=f"CA certificate {ca_name}",
        exists=service.ca_certificates.filter(name_key=registration_key(ca_name)).exists(),
        pages=[
            ("CA certificate", "portal:ca-detail", [ca_name]),
            ("History", "portal:ca-history", [ca_name]),
        ],
        parent=("CA certificates", "portal:ca-list"),
    )


@require_safe
@requires(Right.SEE)
def hub_history(request: HttpRequest, service: ProvisioningService, hub_pk: int) -> HttpResponse:
    hub = service.hubs.filter(pk=hub_pk).first()
    name = hub.name if hub else _name_of_former_hub(request, service, hub_pk)
    return _of_object(
        request,
        service,
        ("LinkedHub", name),
        title=f"Hub {name}",
        exists=hub is not None,
        pages=[
            *([("Hub", "portal:hub-edit", [hub_pk])] if may(request, Right.ADMINISTER, service) else []),
            ("Devices", "portal:device-list", [hub_pk]),
            ("History", "portal:hub-history", [hub_pk]),
        ],
        parent=("Linked hubs", "portal:hub-list"),
    )


def _name_of_former_hub(request: HttpRequest, service: ProvisioningService, hub_pk: int) -> str:
    """Of one that was unlinked, from those rows that the person may see: its number is nobody else's afterwards."""
    rows = seen_by(request, service).filter(subject_kind="LinkedHub", subject_id=str(hub_pk))
    row = rows.order_by("-at").first()
    if row is None:
        raise Http404("There is no such hub in this service, and no history of one that you may see.")
    return row.subject_name


@require_safe
@requires(Right.SEE)
def policy_history(request: HttpRequest, service: ProvisioningService, policy_name: str) -> HttpResponse:
    may_administer = may(request, Right.ADMINISTER, service)
    return _of_object(
        request,
        service,
        ("AccessPolicy", policy_name),
        title=f"Shared access policy {policy_name}",
        exists=service.access_policies.filter(name=policy_name).exists(),
        pages=[
            *([("Access policy", "portal:policy-edit", [policy_name])] if may_administer else []),
            ("History", "portal:policy-history", [policy_name]),
        ],
        parent=("Shared access policies", "portal:policy-list") if may_administer else None,
    )


@require_safe
@requires_everywhere(Right.SEE)
def person_history(request: HttpRequest, username: str) -> HttpResponse:
    """What a person did in all services; also of one who was removed."""
    return _of_person(request, username, "portal:person-history", {"actor": f"user:{username}"})


@require_safe
@requires_everywhere(Right.SEE)
def person_changes(request: HttpRequest, username: str) -> HttpResponse:
    """What was done to a person: roles, passwords, failed sign-ins."""
    return _of_person(request, username, "portal:person-changes", {"kind": "User", "subject": f"={username}"})


def _of_person(request: HttpRequest, username: str, here: str, fixed: dict[str, str]) -> HttpResponse:
    pages = [
        ("What they did", "portal:person-history", Right.SEE),
        ("What was done to them", "portal:person-changes", Right.SEE),
    ]
    if User.objects.filter(username=username).exists():
        pages.insert(0, ("Person", "portal:person-edit", Right.ADMINISTER))
    place = Place(
        None,
        f"Person {username}",
        reverse(here, args=[username]),
        "In all services, and where no service is concerned.",
        fixed,
        [
            {"label": label, "url": reverse(view, args=[username]), "active": view == here}
            for label, view, right in pages
            if may(request, right, None)
        ],
        ("People", reverse("portal:people-list")) if may(request, Right.ADMINISTER, None) else ("", ""),
    )
    return history_page(request, place)


def _of_object(
    request: HttpRequest,
    service: ProvisioningService,
    subject: tuple[str, str],
    *,
    title: str,
    exists: bool,
    pages: list[tuple[str, str, list[Any]]],
    parent: tuple[str, str] | None,
    also: tuple[str, str, list[Any]] | None = None,
) -> HttpResponse:
    """`pages`: the object's own, the last of which is this one. `also`: another one that always is there.

    parent: the list that it stands in, for those who may see that.
    """
    kind, name = subject
    *others, here = pages
    tabs = _tabs(service, [*(others if exists else []), here])
    tabs[-1]["active"] = True
    place = Place(
        service,
        title,
        tabs[-1]["url"],
        "What was done to it, and to others of this name that were there before."
        if exists
        else "It is not there any more. What was done to it stays.",
        {"kind": kind, "subject": f"={name}"},
        [*tabs, *_tabs(service, [also] if also else [])],
        (parent[0], reverse(parent[1], args=[service.name])) if parent else ("", ""),
    )
    return history_page(request, place)


def _tabs(service: ProvisioningService, pages: list[tuple[str, str, list[Any]]]) -> Tabs:
    return [
        {"label": label, "url": reverse(view, args=[service.name, *values]), "active": False}
        for label, view, values in pages
    ]
