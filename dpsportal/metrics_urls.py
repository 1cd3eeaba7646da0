"""Paths of the metrics listener."""

from django.urls import path

from dpsportal import health
from dpsportal.metrics import bad_request, metrics, not_found, server_error

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics),
]

handler400 = bad_request
handler404 = not_found
handler500 = server_error
