"""Paths of the portal listener: health, then pages."""

from django.urls import include, path

from dpsportal import health

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("", include("enrollments.portal.urls")),
]
