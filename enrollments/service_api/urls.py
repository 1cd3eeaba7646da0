"""Paths of the service API (contract 6.2). Case does not count, and each may end in a slash: clients spell both."""

from django.urls import URLPattern, re_path

from enrollments.service_api import views
from enrollments.service_api.authentication import Handler, route

_NAME = "(?P<name>[^/]+)"
_ENROLLMENT = {"PUT": views.enrollment_put, "GET": views.enrollment_get, "DELETE": views.enrollment_delete}
_GROUP = {"PUT": views.group_put, "GET": views.group_get, "DELETE": views.group_delete}


def _path(pattern: str, **handlers: Handler) -> URLPattern:
    return re_path(rf"(?i)^{pattern}/?$", route(**handlers))


# An entry may be named query, too: the method tells which of the two is meant.
urlpatterns = [
    _path("enrollments", POST=views.enrollment_bulk),
    _path("enrollments/(?P<name>query)", POST=views.enrollment_query, **_ENROLLMENT),
    _path(f"enrollments/{_NAME}", **_ENROLLMENT),
    _path(f"enrollments/{_NAME}/attestationmechanism", POST=views.enrollment_attestation),
    _path("enrollmentgroups", POST=views.group_bulk),
    _path("enrollmentgroups/(?P<name>query)", POST=views.group_query, **_GROUP),
    _path(f"enrollmentgroups/{_NAME}", **_GROUP),
    _path(f"enrollmentgroups/{_NAME}/attestationmechanism", POST=views.group_attestation),
    _path(f"registrations/{_NAME}", GET=views.registration_get, DELETE=views.registration_delete),
    _path(f"registrations/{_NAME}/query", POST=views.registration_query),
]
