"""What a refused act was about, as far as its address says: for the row of the history that it leaves (R15)."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpRequest

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.refusals import Tried
from enrollments.actions.refused_again import Repeated
from enrollments.models import ProvisioningService
from enrollments.policy.names import is_registration_id, registration_key

# Asking for a page, and asking for its headers alone, which is the same to whoever is refused.
LOOKS = ("GET", "HEAD")


def chosen_ids(request: HttpRequest) -> list[int]:
    """The rows that were ticked. What is no number was never ticked."""
    given = request.GET.getlist("entry")
    return [int(one) for one in given if one.isascii() and one.isdigit() and len(one) < 19]


def tried(request: HttpRequest, service: ProvisioningService | None, named: Mapping[str, Any]) -> Tried:
    """`named`: what stands in the path."""
    method = "GET" if request.method in LOOKS else request.method
    what = f"{method} {request.path}"[:200]
    view = (request.resolver_match.url_name or "") if request.resolver_match else ""
    if service is None:
        return Tried(what)
    if "registration_id" in named:
        kind = "IndividualEnrollment" if view.startswith("enrollment-") else "RegistrationRecord"
        return Tried(what, kind, (named["registration_id"],))
    if "group_id" in named:
        return Tried(what, "EnrollmentGroup", (named["group_id"],))
    if view.startswith("attempt-") and "pk" in named:
        claimed = service.attempts.filter(pk=named["pk"]).exclude(claimed_registration_id=OVERFLOW_NAME)
        return Tried(
            what, "RegistrationRecord", tuple(claimed.values_list("claimed_registration_id", flat=True))
        )
    if view.startswith("enrollment-"):
        individuals = service.individualenrollments.filter(pk__in=chosen_ids(request))
        names = individuals.order_by("registration_key").values_list("registration_id", flat=True)
        return Tried(what, "IndividualEnrollment", tuple(names))
    if view.startswith("group-"):
        groups = service.enrollmentgroups.filter(pk__in=chosen_ids(request))
        return Tried(
            what, "EnrollmentGroup", tuple(groups.order_by("group_key").values_list("group_id", flat=True))
        )
    return Tried(what)


def repeated(request: HttpRequest, service_name: str) -> Repeated:
    """The same by the name of its route: what stands in the place of objects is left out, since it may be invented."""
    method = "GET" if request.method in LOOKS else request.method
    route = request.resolver_match.route if request.resolver_match else ""
    if service_name:
        route = route.replace("<slug:service_name>", service_name)
    return Repeated(f"{method} /{_CONVERTER.sub('<', route)}")


def is_of_something_known(service: ProvisioningService | None, named: Mapping[str, Any]) -> bool:
    """Whether what stands in the path is there, of all that whoever has a role sees (R17); else it may be invented.

    Of other things, people for one, whoever is refused must not learn whether they are there, by the rows either.
    """
    return all(name in _FEW or (name in _SEEN and _is_there(service, name, named)) for name in named)


_CONVERTER = re.compile(r"<\w+:")
# What the path itself allows few values of.
_FEW = frozenset({"which", "part_kind", "exported"})


def _is_device_or_entry(service: ProvisioningService, name: str) -> bool:
    key = registration_key(name)
    return is_registration_id(name) and (
        service.individualenrollments.filter(registration_key=key).exists()
        or service.registrations.filter(registration_key=key).exists()
    )


def _is_group(service: ProvisioningService, name: str) -> bool:
    return (
        is_registration_id(name)
        and service.enrollmentgroups.filter(group_key=registration_key(name)).exists()
    )


_SEEN: dict[str, Callable[[ProvisioningService, Any], bool]] = {
    "registration_id": _is_device_or_entry,
    "group_id": _is_group,
    "hub_pk": lambda service, pk: service.hubs.filter(pk=pk).exists(),
}


def _is_there(service: ProvisioningService | None, name: str, named: Mapping[str, Any]) -> bool:
    return service is not None and _SEEN[name](service, named[name])
