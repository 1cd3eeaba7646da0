"""A service in which each kind of object exists, so that at every address of the portal something is there."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from enrollments.actions.kept_attempts import find_attempt
from enrollments.actions.people import add_person
from enrollments.actions.quiet_periods import start_quiet_period
from enrollments.models import (
    EnrollmentGroup,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.policy.roles import Role
from tests.certificates import Minted, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_key_group, register, signs, upload_ca
from tests.factories import a_service, a_user, an_individual
from tests.portal.addresses import Address
from tests.transfer.lists import ended_import


@dataclass(frozen=True)
class Somebody:
    """Who is signed in."""

    user: User
    password: str
    client: Client


@dataclass
class World:
    """`values`: what stands for the parameters of addresses. `made`: what a request needed to be there, by a name."""

    service: ProvisioningService
    ca: Minted
    keyed: IndividualEnrollment
    group: EnrollmentGroup
    values: dict[str, Any]
    made: dict[str, Any] = field(default_factory=dict)

    def url(self, address: Address, query: dict[str, Any] | None = None) -> str:
        path = reverse(f"portal:{address.name}", kwargs={one: self.values[one] for one in address.parameters})
        return f"{path}?{urlencode(query, doseq=True)}" if query else path


def a_world() -> World:
    service, ca = a_service("plant"), root("Plant CA")
    enroll_ca(service, ca, "plant-7")
    group = enroll_key_group(service, "keyed-group")
    register(service, ca.leaf("pump-042"))
    keyed = an_individual(service, "keyed-001", keys=True)
    register(service, signs(service, "keyed-001", keyed.primary_key), "keyed-001")
    record = RegistrationRecord.objects.get(registration_id="keyed-001")
    refused = register(service, self_signed("stranger-1"))
    attempt = find_attempt(service, refused.tracking_id)
    assert attempt is not None
    quiet = start_quiet_period(service, attempt, timedelta(hours=1), actor=ALICE)
    shown = a_user(Role.VIEWER, service, "somebody")
    values = {
        "service_name": service.name,
        "registration_id": keyed.registration_id,
        "group_id": group.group_id,
        "hub_pk": record.hub_id,
        "device_id": record.device_id,
        "pk": attempt.pk,
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
    }
    return World(service, ca, keyed, group, values)


def signed_in_as(role: Role, service: ProvisioningService | None, name: str = "") -> Somebody:
    user, password = add_person(name or f"some-{role.value}", role=role, service=service, actor=ALICE)
    client = Client()
    client.force_login(user)
    return Somebody(user, password, client)
