"""Paths of the device API (contract 1.1), exactly as clients spell them."""

from django.urls import path

from enrollments.device_api import views

urlpatterns = [
    path("<id_scope>/registrations/<registration_id>/register", views.register),
    path("<id_scope>/registrations/<registration_id>/operations/<operation_id>", views.operation_status),
    path("<id_scope>/registrations/<registration_id>", views.registration_look_up),
]
