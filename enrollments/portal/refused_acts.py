"""What a refused act was about, as far as its address says: for the row of the history that it leaves (R15)."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.refusals import Tried
from enrollments.models import ProvisioningService

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
