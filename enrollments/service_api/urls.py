"""Paths of the service API (contract 6.2). Case does not count, and each may end in a slash: clients spell both."""

import re

from django.urls import URLPattern, re_path

from enrollments.service_api import views
from enrollments.service_api.authentication import Handler, route

_ENROLLMENT = {"PUT": views.enrollment_put, "GET": views.enrollment_get, "DELETE": views.enrollment_delete}
_GROUP = {"PUT": views.group_put, "GET": views.group_get, "DELETE": views.group_delete}


def _path(template: str, **handlers: Handler) -> URLPattern:
    """`template`: as the OpenAPI document spells it. Views know what is named in it as `name`, be it query."""
    pattern = re.sub(r"\{\w+\}", "(?P<name>[^/]+)", template)
    pattern = re.sub(r"^(\w+)/query$", r"\1/(?P<name>query)", pattern)
    view = route(**handlers)
    view.template = f"/{template}"  # type: ignore[attr-defined]  # read by `enrollments.openapi`
    return re_path(rf"(?i)^{pattern}/?$", view)


# An entry may be named query, too: the method tells which of the two is meant.
urlpatterns = [
    _path("enrollments", POST=views.enrollment_bulk),
    _path("enrollments/query", POST=views.enrollment_query, **_ENROLLMENT),
    _path("enrollments/{registrationId}", **_ENROLLMENT),
    _path("enrollments/{registrationId}/attestationmechanism", POST=views.enrollment_attestation),
    _path("enrollmentGroups", POST=views.group_bulk),
    _path("enrollmentGroups/query", POST=views.group_query, **_GROUP),
    _path("enrollmentGroups/{enrollmentGroupId}", **_GROUP),
    _path("enrollmentGroups/{enrollmentGroupId}/attestationmechanism", POST=views.group_attestation),
    _path("registrations/{registrationId}", GET=views.registration_get, DELETE=views.registration_delete),
    _path("registrations/{enrollmentGroupId}/query", POST=views.registration_query),
]
