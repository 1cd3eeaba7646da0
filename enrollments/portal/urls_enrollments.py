"""Addresses of individual enrollments and enrollment groups, below those of their service."""

from django.urls import URLPattern, URLResolver, path

from enrollments.portal.views import (
    certificates,
    enrollment_groups,
    enrollments,
    history_objects,
    previews,
    tpm_keys,
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("enrollments/", enrollments.enrollment_list, name="enrollment-list"),
    path("enrollments/add/", enrollments.enrollment_add, name="enrollment-add"),
    path("enrollments/add/preview/", enrollments.enrollment_add_preview, name="enrollment-add-preview"),
    path("enrollments/delete/", enrollments.enrollment_delete, name="enrollment-delete"),
    path("enrollments/disable/", enrollments.enrollment_disable_chosen, name="enrollment-disable-chosen"),
    path("enrollments/enable/", enrollments.enrollment_enable_chosen, name="enrollment-enable-chosen"),
    path("enrollments/i/<str:registration_id>/", enrollments.enrollment_edit, name="enrollment-edit"),
    path(
        "enrollments/i/<str:registration_id>/history/",
        history_objects.enrollment_history,
        name="enrollment-history",
    ),
    path(
        "enrollments/i/<str:registration_id>/preview/",
        enrollments.enrollment_edit_preview,
        name="enrollment-edit-preview",
    ),
    path(
        "enrollments/i/<str:registration_id>/disable/",
        enrollments.enrollment_disable,
        name="enrollment-disable",
    ),
    path(
        "enrollments/i/<str:registration_id>/enable/",
        enrollments.enrollment_enable,
        name="enrollment-enable",
    ),
    path(
        "enrollments/i/<str:registration_id>/cancel-schedule/",
        enrollments.enrollment_cancel_schedule,
        name="enrollment-cancel-schedule",
    ),
    path("enrollments/i/<str:registration_id>/keys/", enrollments.enrollment_keys, name="enrollment-keys"),
    path("groups/", enrollment_groups.group_list, name="group-list"),
    path("groups/add/", enrollment_groups.group_add, name="group-add"),
    path("groups/add/preview/", enrollment_groups.group_add_preview, name="group-add-preview"),
    path("groups/delete/", enrollment_groups.group_delete, name="group-delete"),
    path("groups/disable/", enrollment_groups.group_disable_chosen, name="group-disable-chosen"),
    path("groups/enable/", enrollment_groups.group_enable_chosen, name="group-enable-chosen"),
    path("groups/g/<str:group_id>/", enrollment_groups.group_edit, name="group-edit"),
    path("groups/g/<str:group_id>/history/", history_objects.group_history, name="group-history"),
    path(
        "groups/g/<str:group_id>/preview/",
        enrollment_groups.group_edit_preview,
        name="group-edit-preview",
    ),
    path("groups/g/<str:group_id>/disable/", enrollment_groups.group_disable, name="group-disable"),
    path("groups/g/<str:group_id>/enable/", enrollment_groups.group_enable, name="group-enable"),
    path(
        "groups/g/<str:group_id>/cancel-schedule/",
        enrollment_groups.group_cancel_schedule,
        name="group-cancel-schedule",
    ),
    path("groups/g/<str:group_id>/keys/", enrollment_groups.group_keys, name="group-keys"),
    path("preview/", previews.preview, name="preview"),
    path("preview/export/", previews.preview_export, name="preview-export"),
    path("certificate-preview/", certificates.certificate_preview, name="certificate-preview"),
    path("tpm-preview/", tpm_keys.tpm_preview, name="tpm-preview"),
]
