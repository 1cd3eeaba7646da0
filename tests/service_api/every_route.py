"""Every route of the service API, as the document tells them, with a request for which something is there."""

from typing import Any

from django.http import HttpResponse

from enrollments.models import ProvisioningService
from enrollments.openapi.routes import Route, routes
from enrollments.service_api.operations import SERVICE_API
from tests.device_api.conftest import DeviceClient
from tests.devices import derived_key, enroll_key_group, enroll_keys, signs
from tests.service_api.conftest import VERSION, BackEnd, keys

NAME, GROUP = "pump-042", "factory"
ROUTES = [route for route in routes() if route.api is SERVICE_API]
BODIES = {
    "putEnrollment": keys(NAME, provisioningStatus="disabled"),
    "putEnrollmentGroup": {
        "enrollmentGroupId": GROUP,
        "attestation": {"type": "symmetricKey"},
        "provisioningStatus": "disabled",
    },
    "bulkEnrollments": {"mode": "delete", "enrollments": [{"registrationId": NAME}]},
    "bulkEnrollmentGroups": {"mode": "delete", "enrollmentGroups": [{"enrollmentGroupId": GROUP}]},
    "queryEnrollments": {"query": "SELECT *"},
    "queryEnrollmentGroups": {"query": "SELECT *"},
    "queryRegistrations": {"query": "SELECT *"},
}


def fill(service: ProvisioningService) -> None:
    """An enrollment, a group, and a record of both names."""
    group = enroll_key_group(service, GROUP)
    for name in (NAME, GROUP):
        DeviceClient(service.id_scope).register(
            name, signs(service, name, derived_key(group.primary_key, name))
        )
    enroll_keys(service, NAME)


def ask(back_end: BackEnd, route: Route, query: str = "") -> HttpResponse:
    path = route.path.format(registrationId=NAME, enrollmentGroupId=GROUP)
    how: dict[str, Any] = {"If_Match": "*"} if route.method in ("PUT", "DELETE") else {}
    body = BODIES.get(route.operation.name)
    return back_end.call(route.method, path, body, query=f"{VERSION}{query}", **how)
