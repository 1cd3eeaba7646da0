"""For each address of the portal that does something: a request that does it, and the rows that this leaves (R15).

A form is sent as a browser sends it: fetched from its page by who sends it, filled in with what is typed here, and sent
once more where the answer is a preview that asks to be confirmed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from enrollments.actions.access_policies import add_policy, disable_policy
from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.ca_certificates import make_verification_code
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.history_views import save_view
from enrollments.actions.hubs import HubSpec, link_hub
from enrollments.actions.imports import begin_import
from enrollments.actions.people import set_active
from enrollments.models import ImportFormat
from enrollments.policy.access import AccessRight
from enrollments.transfer.previewing import work_out_preview
from tests.certificates import root
from tests.devices import ALICE
from tests.portal.addresses import ADDRESSES, Address
from tests.portal.entry_forms import entry_form, group_form, mark_in
from tests.portal.pages import Page
from tests.portal.world import Somebody, World
from tests.transfer.lists import checked, json_lines, keys

Given = dict[str, Any]
Needed = Callable[[World, Somebody], None]
_BY_NAME = {one.name: one for one in ADDRESSES}


@dataclass(frozen=True)
class Real:
    """`rows`: the events that it leaves, in their order. `changes`: tables that have other rows afterwards; none where
    something is only shown or taken along.

    typed, query: what is filled in, and what stands in the address; by the world where that depends on it. page: the
    address at which the form stands, if not at its own; none where a script sends it. before: what has to be there.
    """

    rows: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    typed: Given | Callable[[World, Somebody], Given] | None = None
    query: Callable[[World, Somebody], Given] | None = None
    page: str | None = ""
    before: Needed | None = None


@dataclass(frozen=True)
class Request:
    method: str
    url: str
    data: Given

    def sent_by(self, client: Client) -> Any:
        for value in self.data.values():
            if isinstance(value, SimpleUploadedFile):
                value.seek(0)
        return client.post(self.url, self.data) if self.method == "POST" else client.get(self.url)


def request_of(world: World, address: Address, method: str, who: Somebody) -> Request:
    """What `who` would send; what it needs is there before. Of an address that is in neither table: nothing typed."""
    real = {"GET": GETS, "POST": POSTS}[method].get(address.name)
    if real is None:
        return Request(method, world.url(address), {})
    if real.before is not None:
        real.before(world, who)
    query = real.query(world, who) if real.query is not None else None
    url = world.url(address, query)
    if method == "GET":
        return Request(method, url, {})
    typed = real.typed(world, who) if callable(real.typed) else real.typed or {}
    if real.page is None:
        return Request(method, url, typed)
    page = url if not real.page else world.url(_BY_NAME[real.page])
    form = Page(who.client.get(page).content.decode()).form_to(url.partition("?")[0])
    assert form is not None, f"{page} has no form for {url}"
    request = Request(method, form.action, {**form.fields, **typed})
    return request if not _MAY_ASK & {address.name} else _confirmed(request, who.client)


def _confirmed(request: Request, client: Client) -> Request:
    answer = request.sent_by(client)
    mark = mark_in(answer.content.decode())
    assert mark, f"{request.url} asks nothing: {answer.status_code}"
    return Request(request.method, request.url, {**request.data, "confirmed": mark})


def _a_day_ahead() -> Any:
    return timezone.now() + timedelta(days=1)


def _disabled_enrollment(world: World, _: Somebody) -> None:
    disable_enrollment(world.service, "keyed-001", actor=ALICE)


def _disabled_group(world: World, _: Somebody) -> None:
    disable_enrollment_group(world.service, "keyed-group", actor=ALICE)


def _scheduled_enrollment(world: World, _: Somebody) -> None:
    disable_enrollment(world.service, "keyed-001", actor=ALICE, at=_a_day_ahead())


def _scheduled_group(world: World, _: Somebody) -> None:
    disable_enrollment_group(world.service, "keyed-group", actor=ALICE, at=_a_day_ahead())


def _deactivated(world: World, _: Somebody) -> None:
    set_active("somebody", False, actor=ALICE)


def _hub_without_devices(world: World, _: Somebody) -> None:
    spare = HubSpec(name="spare", host_name="spare.example")
    world.values["hub_pk"] = link_hub(world.service, spare, actor=ALICE).pk


def _disabled_policy(world: World, _: Somebody) -> None:
    add_policy(world.service, "idle", [AccessRight.ENROLLMENT_READ], actor=ALICE)
    disable_policy(world.service, "idle", actor=ALICE)
    world.values["policy_name"] = "idle"


def _own_token(world: World, who: Somebody) -> None:
    rights = [AccessRight.ENROLLMENT_READ]
    token, _ = add_api_token(world.service, who.user, "laptop", rights, days=1, actor=ALICE)
    world.made["token"] = token.pk


def _code(world: World, _: Somebody) -> None:
    row = make_verification_code(world.service, world.values["ca_name"], actor=ALICE)
    world.made["proof"] = world.ca.leaf(row.code).pem


def _saved_view(world: World, who: Somebody) -> None:
    save_view(who.user, world.service, "mine", "event=quiet.started")


def _saved_view_of_all(world: World, who: Somebody) -> None:
    save_view(who.user, None, "mine", "event=quiet.started")


def _upload(world: World, _: Somebody) -> None:
    run = begin_import(world.service, list_name="l.jsonl", format=ImportFormat.JSON_LINES, actor=ALICE)
    world.values["import_pk"] = run.pk


def _checked_import(world: World, _: Somebody) -> None:
    """With its preview, without which nobody is offered to start what may let somebody in."""
    run = checked(world.service, json_lines(keys("imported")))
    work_out_preview(run.pk)
    world.values["import_pk"] = run.pk


def _a_list() -> SimpleUploadedFile:
    return SimpleUploadedFile("list.jsonl", json_lines(keys("imported")))


def _entry(world: World, _: Somebody) -> Given:
    return {"entry": world.keyed.pk}


def _group(world: World, _: Somebody) -> Given:
    return {"entry": world.group.pk}


def _keyed_group(world: World, _: Somebody) -> Given:
    return {"act": "disable", "entry": "group:keyed-group"}


def _signing_in(_: World, who: Somebody) -> Given:
    return {"username": who.user.username, "password": who.password}


def _another_password(_: World, who: Somebody) -> Given:
    new = "correct horse battery staple"
    return {"current": who.password, "password": new, "again": new}


_NEW_INDIVIDUAL = {"mechanism": "symmetricKey", "registration_id": "new-001"}


def _new_group(_: World, __: Somebody) -> Given:
    return {"mechanism": "x509", "group_id": "new-group", "primary_pem": root("New CA").pem}


def _edited(world: World, _: Somebody) -> Given:
    return entry_form(mechanism="symmetricKey", enabled="no", expected_etag=world.keyed.etag, export="csv")


def _edited_group(world: World, _: Somebody) -> Given:
    return group_form(mechanism="symmetricKey", enabled="no", expected_etag=world.group.etag, export="csv")


_ENTRY, _GROUP = ("IndividualEnrollment",), ("EnrollmentGroup",)
_EXPORTED, _KEYS = ("history.exported",), ("keys.revealed",)
_CHECKED = Real(("history.checked",))
_NEW_VIEW = {"name": "quiet", "query": "event=quiet.started"}

# By the name of the address, for its POST.
POSTS: dict[str, Real] = {
    "sign-in": Real(("person.signed_in",), ("User",), _signing_in, page=None),
    "sign-out": Real(("person.signed_out",), page="service-list"),
    "own-password": Real(("person.password_changed",), ("User",), _another_password),
    "service-add": Real(
        ("service.added", "policy.added", "hub.linked"),
        ("ProvisioningService", "LinkedHub", "AccessPolicy"),
        {"name": "lab"},
    ),
    # What people keep for themselves leaves no row: docs/history.md says why.
    "installation-history-seen": Real((), ("LastLook",), page="installation-history"),
    "installation-history-view-save": Real((), ("SavedHistoryView",), _NEW_VIEW, page=None),
    "installation-history-view-rename": Real(
        (),
        ("SavedHistoryView",),
        {"name": "renamed"},
        page="installation-history-views",
        before=_saved_view_of_all,
    ),
    "installation-history-view-delete": Real(
        (), ("SavedHistoryView",), page="installation-history-views", before=_saved_view_of_all
    ),
    # A checkpoint says how long the history is and its last hash, and nothing of what is in it.
    "installation-checkpoint-download": Real((), page="installation-checkpoint"),
    "installation-check": Real(_CHECKED.rows, page="installation-checkpoint"),
    "installation-history-whole": Real(_EXPORTED, page="installation-checkpoint"),
    "person-add": Real(
        ("person.added",), ("User", "Membership"), {"username": "new", "where": "plant", "role": "viewer"}
    ),
    "person-role": Real(
        ("person.role_changed",), ("Membership",), {"where": "plant", "role": "operator"}, page="person-edit"
    ),
    "person-role-take-away": Real(
        ("person.role_changed",), ("Membership",), query=lambda _, __: {"where": "plant"}
    ),
    "service-role-take-away": Real(("person.role_changed",), ("Membership",)),
    "service-person-role": Real(
        ("person.role_changed",),
        ("Membership",),
        {"username": "somebody", "role": "operator"},
        page="service-people",
    ),
    "person-password": Real(("person.password_changed",), ("User",)),
    # Of services in which they have a role, the end of it and the beginning as well.
    "person-deactivate": Real(("person.deactivated", "person.deactivated"), ("User",)),
    "person-activate": Real(
        ("person.activated", "person.activated"), ("User",), page="person-edit", before=_deactivated
    ),
    "person-remove": Real(("person.removed", "person.removed"), ("User", "Membership")),
    "service-settings-change": Real(
        ("service.changed",), ("ProvisioningService",), {"description": "new"}, page="service-settings"
    ),
    "registration-delete": Real(("registration.deleted",), ("RegistrationRecord",)),
    "registration-deny": Real(("enrollment.disabled",), _ENTRY),
    "registration-deprovision": Real(
        ("enrollment.disabled", "device.deprovisioned"), ("IndividualEnrollment", "HubDevice")
    ),
    "registration-release": Real(("registration.released",), ("RegistrationRecord",)),
    "attempt-deny": Real(("enrollment.added_disabled",), _ENTRY),
    "attempt-quiet": Real(("quiet.started",), ("QuietPeriod",)),
    "quiet-end": Real(("quiet.ended",), ("QuietPeriod",)),
    "hub-add": Real(("hub.linked",), ("LinkedHub",), {"name": "new", "host_name": "new.example"}),
    "hub-edit": Real(("hub.changed",), ("LinkedHub",), {"allocation_weight": "3"}),
    "hub-unlink": Real(("hub.unlinked",), ("LinkedHub",), before=_hub_without_devices),
    "device-keys": Real(_KEYS, page="device-detail"),
    "device-deregister": Real(("device.deregistered",), ("HubDevice",)),
    "ca-add": Real(
        ("ca_certificate.added",),
        ("CaCertificate",),
        lambda _, __: {"name": "another", "certificate_pem": root("Another CA").pem},
    ),
    "ca-code": Real(("ca_certificate.code_made",), ("CaCertificate",), page="ca-detail"),
    "ca-verify": Real(
        ("ca_certificate.verified",),
        ("CaCertificate",),
        lambda world, _: {"proof_pem": world.made["proof"]},
        page="ca-detail",
        before=_code,
    ),
    "ca-delete": Real(("ca_certificate.deleted",), ("CaCertificate",)),
    "policy-add": Real(
        ("policy.added",), ("AccessPolicy",), {"name": "fleet-sync", "rights": ["EnrollmentRead"]}
    ),
    "policy-edit": Real(("policy.changed",), ("AccessPolicy",), {"rights": ["EnrollmentRead"]}),
    "policy-keys": Real(_KEYS, page="policy-edit"),
    "policy-regenerate": Real(("policy.key_regenerated",), ("AccessPolicy",)),
    "policy-delete": Real(("policy.deleted",), ("AccessPolicy",), before=_disabled_policy),
    "token-add": Real(("token.added",), ("ApiToken",), {"name": "laptop", "rights": ["EnrollmentRead"]}),
    "token-revoke": Real(
        ("token.revoked",),
        ("ApiToken",),
        query=lambda world, _: {"token": world.made["token"]},
        before=_own_token,
    ),
    "history-seen": Real((), ("LastLook",), page="history-list"),
    "history-view-save": Real((), ("SavedHistoryView",), _NEW_VIEW, page=None),
    "history-view-rename": Real(
        (), ("SavedHistoryView",), {"name": "renamed"}, page="history-views", before=_saved_view
    ),
    "history-view-delete": Real((), ("SavedHistoryView",), page="history-views", before=_saved_view),
    "history-checkpoint-download": Real((), page="history-checkpoint"),
    "history-check": Real(_CHECKED.rows, page="history-checkpoint"),
    "history-whole": Real(_EXPORTED, page="history-checkpoint"),
    "enrollment-add": Real(("enrollment.added",), _ENTRY, _NEW_INDIVIDUAL),
    "enrollment-add-preview": Real(_EXPORTED, (), entry_form(**_NEW_INDIVIDUAL, export="csv"), page=None),
    "enrollment-edit": Real(("enrollment.changed",), _ENTRY, {"device_id": "another"}),
    "enrollment-edit-preview": Real(_EXPORTED, (), _edited, page=None),
    "enrollment-delete": Real(("enrollment.deleted",), _ENTRY, query=_entry),
    "enrollment-disable-chosen": Real(("enrollment.disabled",), _ENTRY, query=_entry),
    "enrollment-enable-chosen": Real(
        ("enrollment.enabled",), _ENTRY, query=_entry, before=_disabled_enrollment
    ),
    "enrollment-disable": Real(("enrollment.disabled",), _ENTRY),
    "enrollment-enable": Real(("enrollment.enabled",), _ENTRY, before=_disabled_enrollment),
    "enrollment-cancel-schedule": Real(
        ("enrollment.schedule_cancelled",), _ENTRY, before=_scheduled_enrollment
    ),
    "enrollment-keys": Real(_KEYS, page="enrollment-edit"),
    "group-add": Real(("group.added",), _GROUP, _new_group),
    "group-add-preview": Real(
        _EXPORTED, (), lambda w, who: group_form(**_new_group(w, who), export="csv"), page=None
    ),
    "group-edit": Real(("group.changed",), _GROUP, {"initial_twin": '{"tags": {"line": 4}}'}),
    "group-edit-preview": Real(_EXPORTED, (), _edited_group, page=None),
    "group-delete": Real(("group.deleted",), _GROUP, query=_group),
    "group-disable-chosen": Real(("group.disabled",), _GROUP, query=_group),
    "group-enable-chosen": Real(("group.enabled",), _GROUP, query=_group, before=_disabled_group),
    "group-disable": Real(("group.disabled",), _GROUP),
    "group-enable": Real(("group.enabled",), _GROUP, before=_disabled_group),
    "group-cancel-schedule": Real(("group.schedule_cancelled",), _GROUP, before=_scheduled_group),
    "group-keys": Real(_KEYS, page="group-edit"),
    # Nothing of an import is history before it is started, and its changes are when they are made: tests/transfer.
    "import-add": Real((), ("ImportRun",), lambda _, __: {"list": _a_list()}),
    "import-part": Real((), ("ImportPart",), lambda _, __: {"part": _a_list()}, page=None, before=_upload),
    "import-check": Real((), ("ImportRun",), page=None, before=_upload),
    "import-start": Real(
        ("import.started", "enrollment.added", "import.ended"),
        ("ImportRun", "IndividualEnrollment"),
        page="import-detail",
        before=_checked_import,
    ),
    "import-cancel": Real((), ("ImportRun",), page="import-detail", before=_checked_import),
    "entry-export": Real(_EXPORTED),
    "entry-export-with-secrets": Real(("history.exported", "keys.revealed"), typed={"format": "csv"}),
}
# Addresses whose POST answers a question, and never does anything.
ONLY_SHOW = {
    "explain": "certificates are too long for an address",
    "certificate-preview": "what was read of a certificate, before it is saved",
    "tpm-preview": "what was read of a TPM's keys, before they are saved",
}
# Those that let somebody in, and are confirmed on a preview.
_MAY_ASK = {"enrollment-add", "group-add"}

# The same for GET: what is taken along. Every other one leaves no row.
GETS: dict[str, Real] = {
    "installation-history-export": Real(_EXPORTED),
    "history-export": Real(_EXPORTED),
    "import-problems": Real(_EXPORTED),
    "past-export": Real(_EXPORTED, query=lambda _, __: {"at": timezone.now().isoformat()}),
    "preview-export": Real(_EXPORTED, query=_keyed_group),
    "import-preview-export": Real(_EXPORTED, before=_checked_import),
}
