"""Addresses outside services, and of a service outside its enrollments."""

from django.urls import URLPattern, URLResolver, path, register_converter
from django.urls.converters import IntConverter, StringConverter

from enrollments.portal.views import (
    access_policies,
    account,
    api_tokens,
    attempts,
    ca_certificates,
    devices,
    explain,
    history,
    history_checks,
    history_exports,
    history_kept,
    history_objects,
    history_proof,
    hubs,
    overview,
    past,
    people,
    registration_acts,
    registrations,
    service_people,
    services,
    settings,
    sign_in,
    storms,
)


class WhichKey(StringConverter):
    """One of the two keys of a policy."""

    regex = "primary|secondary"


class RowNumber(IntConverter):
    """A number that every database can look for."""

    regex = "[0-9]{1,18}"


register_converter(RowNumber, "pk")
register_converter(WhichKey, "key")

installation_urlpatterns: list[URLPattern | URLResolver] = [
    path("", services.service_list, name="service-list"),
    path("sign-in/", sign_in.sign_in, name="sign-in"),
    path("sign-out/", sign_in.sign_out, name="sign-out"),
    path("account/", account.account, name="account"),
    path("password/", sign_in.own_password, name="own-password"),
    path("services/add/", services.service_add, name="service-add"),
    path("history/", history.installation_history, name="installation-history"),
    path("history/export/", history_exports.installation_history_export, name="installation-history-export"),
    path("history/seen/", history_kept.installation_history_seen, name="installation-history-seen"),
    path("history/rows/<pk:event_pk>/", history.installation_history_row, name="installation-history-row"),
    path("history/views/", history_kept.installation_history_views, name="installation-history-views"),
    path(
        "history/views/save/",
        history_kept.installation_history_view_save,
        name="installation-history-view-save",
    ),
    path(
        "history/views/rename/",
        history_kept.installation_history_view_rename,
        name="installation-history-view-rename",
    ),
    path(
        "history/views/delete/",
        history_kept.installation_history_view_delete,
        name="installation-history-view-delete",
    ),
    path("history/checkpoint/", history_proof.installation_checkpoint, name="installation-checkpoint"),
    path(
        "history/checkpoint/download/",
        history_proof.installation_checkpoint_download,
        name="installation-checkpoint-download",
    ),
    path("history/checkpoint/check/", history_checks.installation_check, name="installation-check"),
    path(
        "history/checkpoint/whole/",
        history_proof.installation_history_whole,
        name="installation-history-whole",
    ),
    path("people/", people.people_list, name="people-list"),
    path("people/add/", people.person_add, name="person-add"),
    path("people/p/<str:username>/", people.person_edit, name="person-edit"),
    path("people/p/<str:username>/history/", history_objects.person_history, name="person-history"),
    path("people/p/<str:username>/changes/", history_objects.person_changes, name="person-changes"),
    path("people/p/<str:username>/role/", people.person_role, name="person-role"),
    path("people/p/<str:username>/take-away/", people.person_role_take_away, name="person-role-take-away"),
    path("people/p/<str:username>/password/", people.person_password, name="person-password"),
    path("people/p/<str:username>/deactivate/", people.person_deactivate, name="person-deactivate"),
    path("people/p/<str:username>/activate/", people.person_activate, name="person-activate"),
    path("people/p/<str:username>/remove/", people.person_remove, name="person-remove"),
]

_REGISTRATION = "registrations/<str:registration_id>/"
_POLICY = "policies/p/<str:policy_name>/"
_CA = "ca-certificates/c/<str:ca_name>/"
_HUB = "hubs/<pk:hub_pk>/"
_DEVICE = "hubs/<pk:hub_pk>/devices/<str:device_id>/"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", overview.service_overview, name="service-overview"),
    path("settings/", settings.service_settings, name="service-settings"),
    path("settings/change/", settings.service_settings_change, name="service-settings-change"),
    path("registrations/", registrations.registration_list, name="registration-list"),
    path(_REGISTRATION, registrations.registration_detail, name="registration-detail"),
    path(f"{_REGISTRATION}history/", history_objects.registration_history, name="registration-history"),
    path(f"{_REGISTRATION}delete/", registration_acts.registration_delete, name="registration-delete"),
    path(f"{_REGISTRATION}deny/", registration_acts.registration_deny, name="registration-deny"),
    path(
        f"{_REGISTRATION}deprovision/",
        registration_acts.registration_deprovision,
        name="registration-deprovision",
    ),
    path(f"{_REGISTRATION}release/", registration_acts.registration_release, name="registration-release"),
    path("explain/", explain.explain_page, name="explain"),
    path("back-in-time/", past.past, name="past"),
    path("back-in-time/export/", past.past_export, name="past-export"),
    path("attempts/", attempts.attempt_list, name="attempt-list"),
    path("attempts/<pk:pk>/", attempts.attempt_detail, name="attempt-detail"),
    path("attempts/<pk:pk>/deny/", attempts.attempt_deny, name="attempt-deny"),
    path("attempts/<pk:pk>/quiet/", storms.attempt_quiet, name="attempt-quiet"),
    path("storms/", storms.storm_list, name="storm-list"),
    path("storms/quiet/<pk:quiet_pk>/end/", storms.quiet_end, name="quiet-end"),
    path("hubs/", hubs.hub_list, name="hub-list"),
    path("hubs/add/", hubs.hub_add, name="hub-add"),
    path(_HUB, hubs.hub_edit, name="hub-edit"),
    path(f"{_HUB}history/", history_objects.hub_history, name="hub-history"),
    path(f"{_HUB}unlink/", hubs.hub_unlink, name="hub-unlink"),
    path(f"{_HUB}devices/", devices.device_list, name="device-list"),
    path(_DEVICE, devices.device_detail, name="device-detail"),
    path(f"{_DEVICE}keys/", devices.device_keys, name="device-keys"),
    path(f"{_DEVICE}deregister/", devices.device_deregister, name="device-deregister"),
    path("ca-certificates/", ca_certificates.ca_list, name="ca-list"),
    path("ca-certificates/add/", ca_certificates.ca_add, name="ca-add"),
    path(_CA, ca_certificates.ca_detail, name="ca-detail"),
    path(f"{_CA}history/", history_objects.ca_history, name="ca-history"),
    path(f"{_CA}code/", ca_certificates.ca_code, name="ca-code"),
    path(f"{_CA}verify/", ca_certificates.ca_verify, name="ca-verify"),
    path(f"{_CA}delete/", ca_certificates.ca_delete, name="ca-delete"),
    path("policies/", access_policies.policy_list, name="policy-list"),
    path("policies/add/", access_policies.policy_add, name="policy-add"),
    path(_POLICY, access_policies.policy_edit, name="policy-edit"),
    path(f"{_POLICY}history/", history_objects.policy_history, name="policy-history"),
    path(f"{_POLICY}keys/", access_policies.policy_keys, name="policy-keys"),
    path(f"{_POLICY}new/<key:which>/", access_policies.policy_regenerate, name="policy-regenerate"),
    path(f"{_POLICY}delete/", access_policies.policy_delete, name="policy-delete"),
    path("tokens/", api_tokens.token_list, name="token-list"),
    path("tokens/add/", api_tokens.token_add, name="token-add"),
    path("tokens/revoke/", api_tokens.token_revoke, name="token-revoke"),
    path("people/", service_people.service_people, name="service-people"),
    path("people/role/", service_people.service_person_role, name="service-person-role"),
    path(
        "people/p/<str:username>/take-away/",
        service_people.service_role_take_away,
        name="service-role-take-away",
    ),
    path("history/", history.history_list, name="history-list"),
    path("history/export/", history_exports.history_export, name="history-export"),
    path("history/seen/", history_kept.history_seen, name="history-seen"),
    path("history/rows/<pk:event_pk>/", history.history_row, name="history-row"),
    path("history/views/", history_kept.history_views, name="history-views"),
    path("history/views/save/", history_kept.history_view_save, name="history-view-save"),
    path("history/views/rename/", history_kept.history_view_rename, name="history-view-rename"),
    path("history/views/delete/", history_kept.history_view_delete, name="history-view-delete"),
    path("history/checkpoint/", history_proof.history_checkpoint, name="history-checkpoint"),
    path(
        "history/checkpoint/download/",
        history_proof.history_checkpoint_download,
        name="history-checkpoint-download",
    ),
    path("history/checkpoint/check/", history_checks.history_check, name="history-check"),
    path("history/checkpoint/whole/", history_proof.history_whole, name="history-whole"),
]
