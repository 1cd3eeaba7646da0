"""The addresses that a device asks in a registration, and those that say that the listener is there."""

from django.urls import path

from benchmarks.ceiling import views
from dpsportal import health

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.healthz),
    path("<str:id_scope>/registrations/<str:registration_id>/register", views.write),
    path("<str:id_scope>/registrations/<str:registration_id>/operations/<str:operation_id>", views.read),
]
