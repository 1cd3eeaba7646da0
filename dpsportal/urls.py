"""Paths of the portal listener: health, what the other listener serves, then pages."""

from django.urls import include, path

from dpsportal import health
from enrollments.openapi.views import api_page, openapi_json

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("openapi.json", openapi_json, {"is_portal": True}, name="openapi-document"),
    path("docs/api/", api_page, name="api-page"),
    path("", include("enrollments.portal.urls")),
]
