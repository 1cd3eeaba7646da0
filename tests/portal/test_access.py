"""Every address of the portal, for every role: who gets in, who does not, what a refusal leaves (R1, R15, R17)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from enrollments.actions.attempts import find_attempt
from enrollments.actions.quiet_periods import start_quiet_period
from enrollments.models import HistoryEvent, ProvisioningService, RegistrationRecord
from enrollments.policy.roles import Right, Role
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_key_group, register, signs, upload_ca
from tests.factories import a_service, a_user, an_individual
from tests.portal.addresses import ADDRESSES, Address
from tests.transfer.lists import ended_import

WITHOUT_SIGNING_IN = {"sign-in"}
# Addresses where whoever sees an object finds it, and where saving it asks for more than seeing.
SAVING = {"enrollment-edit": Right.CHANGE_ENTRIES, "group-edit": Right.CHANGE_ENTRIES}
# Who may not see the history sees there what they did themselves (R17); all rows of this world are of others.
ONES_OWN = {"history-row", "installation-history-row"}

PROTECTED = [one for one in ADDRESSES if one.right is not None]
OF_SERVICE = [one for one in PROTECTED if one.of_service]
OF_INSTALLATION = [one for one in PROTECTED if not one.of_service]


def each(addresses: list[Address]) -> Any:
    return pytest.mark.parametrize("address", [pytest.param(one, id=one.name) for one in addresses])


def right_for(address: Address, method: str) -> Right | None:
    return SAVING.get(address.name, address.right) if method == "POST" else address.right


each_role = pytest.mark.parametrize("role", list(Role))


# What a request without any content leaves in the history, where it does something all the same. Questions that are
# answered on an older state, and forms with nothing in them, do nothing.
ROWS = {
    ("POST", "sign-out"): ["person.signed_out"],
    ("GET", "installation-history-export"): ["history.exported"],
    ("GET", "history-export"): ["history.exported"],
    ("POST", "person-password"): ["person.password_changed"],
    ("POST", "person-deactivate"): ["person.changed"],
    ("POST", "person-remove"): ["person.removed"],
    ("POST", "registration-deny"): ["enrollment.disabled"],
    ("POST", "registration-deprovision"): ["enrollment.disabled", "device.deprovisioned"],
    ("POST", "attempt-deny"): ["enrollment.added_disabled"],
    ("POST", "quiet-end"): ["quiet.ended"],
    ("POST", "device-keys"): ["keys.revealed"],
    ("POST", "device-deregister"): ["device.deregistered"],
    ("POST", "policy-keys"): ["keys.revealed"],
    ("POST", "ca-code"): ["ca_certificate.code_made"],
    ("POST", "ca-delete"): ["ca_certificate.deleted"],
    ("POST", "history-check"): ["history.checked"],
    ("POST", "installation-check"): ["history.checked"],
    ("POST", "history-whole"): ["history.exported"],
    ("POST", "installation-history-whole"): ["history.exported"],
    ("GET", "import-problems"): ["history.exported"],
    ("POST", "policy-regenerate"): ["policy.key_regenerated"],
    ("POST", "enrollment-disable"): ["enrollment.disabled"],
    ("POST", "enrollment-keys"): ["keys.revealed"],
    ("POST", "group-disable"): ["group.disabled"],
    ("POST", "group-keys"): ["keys.revealed"],
}


@dataclass(frozen=True)
class World:
    service: ProvisioningService
    values: dict[str, Any]

    def url(self, address: Address) -> str:
        return reverse(f"portal:{address.name}", kwargs={one: self.values[one] for one in address.parameters})


@pytest.fixture
def world(db: None) -> World:
    """A service in which each kind of object exists, so that 404 never stands for something else."""
    service = a_service("plant")
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant-7")
    group = enroll_key_group(service, "keyed-group")
    register(service, ca.leaf("pump-042"))
    keyed = an_individual(service, "keyed-001", keys=True)
    register(service, signs(service, "keyed-001", keyed.primary_key), "keyed-001")
    record = RegistrationRecord.objects.get(registration_id="keyed-001")
    refused = register(service, self_signed("stranger-1"))
    quiet = start_quiet_period(
        service, find_attempt(service, refused.tracking_id), timedelta(hours=1), actor=ALICE
    )
    shown = a_user(Role.VIEWER, service, "somebody")
    return World(
        service,
        {
            "service_name": service.name,
            "registration_id": keyed.registration_id,
            "group_id": group.group_id,
            "hub_pk": record.hub_id,
            "device_id": record.device_id,
            "pk": service.attempts.order_by("pk").first().pk,
            "quiet_pk": quiet.pk,
            "event_pk": HistoryEvent.objects.of_service(service.pk).latest("pk").pk,
            "username": shown.username,
            "policy_name": service.access_policies.get().name,
            "which": "primary",
            "ca_name": upload_ca(service, ca).name,
            "import_pk": ended_import(service, "list.csv").pk,
            "part_kind": "list",
            "part_number": 0,
            "exported": "individuals",
        },
    )


def signed_in_as(role: Role, service: ProvisioningService | None) -> Client:
    client = Client()
    client.force_login(a_user(role, service))
    return client


def answers(client: Client, url: str) -> dict[str, int]:
    """What GET and an empty POST are answered with. 405 is a method that the address does not have."""
    found = {"GET": client.get(url).status_code, "POST": client.post(url).status_code}
    assert set(found.values()) != {405}
    return found


def check_answers(client: Client, url: str, address: Address, role: Role) -> None:
    """With the right, anything but a refusal; without it, a refusal and nothing else."""
    for method, status in answers(client, url).items():
        if address.name in ONES_OWN and Right.SEE_HISTORY not in role.rights:
            assert status in {404, 405}
        elif right_for(address, method) in role.rights:
            assert status not in {403, 404, 500}
        else:
            assert status in {403, 405}


def refusals() -> int:
    return HistoryEvent.objects.filter(event="action.refused").count()


def test_addresses_are_found_and_named_once():
    names = [one.name for one in ADDRESSES]

    assert len(names) > 40
    assert len(names) == len(set(names))


@each(ADDRESSES)
def test_every_view_declares_its_right(address):
    assert address.declares


def test_what_needs_no_right_is_known():
    free = {one.name for one in ADDRESSES if one.right is None}

    assert free == {"sign-in", "sign-out", "own-password", "service-list"}


@each([one for one in ADDRESSES if one.name not in WITHOUT_SIGNING_IN])
def test_anonymous_is_sent_to_sign_in(address, world, client):
    url = world.url(address)

    for answer in (client.get(url), client.post(url)):
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("portal:sign-in"))


@each_role
@each(OF_SERVICE)
def test_r17_role_in_the_service_decides(address, role, world):
    client = signed_in_as(role, world.service)

    check_answers(client, world.url(address), address, role)


@each_role
@each(OF_SERVICE)
def test_r17_service_of_others_is_not_there(address, role, world):
    client = signed_in_as(role, a_service("lab"))

    assert set(answers(client, world.url(address)).values()) <= {404, 405}


@each_role
@each(OF_SERVICE)
def test_r17_role_everywhere_holds_in_each_service(address, role, world):
    client = signed_in_as(role, None)

    check_answers(client, world.url(address), address, role)


@each_role
@each(OF_INSTALLATION)
def test_r17_role_everywhere_decides_about_the_installation(address, role, world):
    client = signed_in_as(role, None)

    check_answers(client, world.url(address), address, role)


@each_role
@each(OF_INSTALLATION)
def test_r17_role_in_a_service_opens_nothing_of_the_installation(address, role, world):
    client = signed_in_as(role, world.service)

    statuses = set(answers(client, world.url(address)).values())

    assert 403 in statuses
    assert statuses <= {403, 405}


@each(PROTECTED)
def test_r15_refused_attempt_leaves_one_row_and_one_to_look_at_none(address, world):
    for role in Role:
        client = signed_in_as(role, world.service)
        for method in ("GET", "POST"):
            right = right_for(address, method)
            if right in role.rights and address.of_service:
                continue
            before = HistoryEvent.objects.order_by("pk").last().pk
            status = getattr(client, method.lower())(world.url(address)).status_code

            # 405: the address only shows something, or only does, so nothing was attempted.
            attempted = status == 403 and (method == "POST" or right.is_recorded_when_refused)
            left = HistoryEvent.objects.filter(pk__gt=before).values_list("event", flat=True)
            assert status in (403, 405)
            assert list(left) == ["action.refused"] * attempted


@each(ADDRESSES)
def test_r15_allowed_request_leaves_the_rows_that_it_should_and_no_others(address, world):
    client = signed_in_as(Role.ADMINISTRATOR, None)

    for method in ("GET", "POST"):
        before = HistoryEvent.objects.order_by("pk").last().pk
        answer = getattr(client, method.lower())(world.url(address))
        if answer.streaming:
            b"".join(answer.streaming_content)

        left = HistoryEvent.objects.filter(pk__gt=before).order_by("pk").values_list("event", flat=True)
        assert list(left) == ROWS.get((method, address.name), [])


def test_rows_are_expected_of_addresses_that_there_are():
    assert {name for _, name in ROWS} <= {one.name for one in ADDRESSES}


def test_r15_refusal_names_who_tried_what(world):
    client = signed_in_as(Role.VIEWER, world.service)

    client.post(f"/services/plant/registrations/{world.values['registration_id']}/deny/")

    row = HistoryEvent.objects.get(event="action.refused")
    assert (row.actor_name, row.subject_kind, row.subject_name, row.service_name, row.after) == (
        "some-viewer",
        "refused:RegistrationRecord",
        "keyed-001",
        "plant",
        {"tried": "POST /services/plant/registrations/keyed-001/deny/"},
    )


def test_r15_refused_attempt_to_see_leaves_no_row(world):
    client = signed_in_as(Role.VIEWER, world.service)

    assert client.get("/services/plant/attempts/").status_code == 403
    assert refusals() == 0


def test_r17_person_without_a_role_sees_no_service(world):
    client = signed_in_as(Role.VIEWER, world.service)
    ProvisioningService.objects.get(name="plant").memberships.all().delete()

    assert client.get("/services/plant/").status_code == 404
    assert "plant" not in client.get("/").content.decode()


def test_r17_person_who_was_deactivated_is_out_with_the_next_request(world, django_user_model):
    client = signed_in_as(Role.VIEWER, world.service)
    assert client.get("/services/plant/").status_code == 200

    django_user_model.objects.filter(username="some-viewer").update(is_active=False)

    assert client.get("/services/plant/").status_code == 302


def test_post_without_csrf_token_is_refused(world):
    client = Client(enforce_csrf_checks=True)
    client.force_login(a_user(Role.ADMINISTRATOR, world.service))

    assert client.post("/services/plant/registrations/keyed-001/delete/").status_code == 403
    assert RegistrationRecord.objects.filter(registration_id="keyed-001").exists()
