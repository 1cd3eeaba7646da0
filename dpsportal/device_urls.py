"""Paths of the device listener: health, what it serves, then back ends, then devices."""

from django.urls import include, path

from dpsportal import health
from enrollments.device_api.error_views import bad_request, not_found, server_error
from enrollments.openapi.views import openapi_json

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("openapi.json", openapi_json),
    # Those of back ends begin with a word, those of devices with an ID scope.
    path("", include("enrollments.service_api.urls")),
    path("", include("enrollments.device_api.urls")),
]

handler400 = bad_request
handler404 = not_found
handler500 = server_error
