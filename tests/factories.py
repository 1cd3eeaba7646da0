"""Rows for tests of the pages, built through the actions: services, entries, and people with a role."""

from typing import Any

from django.contrib.auth.models import User

from enrollments.actions.people import add_person
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.policy.roles import Role
from tests.certificates import Minted, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service


def a_service(name: str = "plant") -> ProvisioningService:
    return new_service(name)


def an_individual(
    service: ProvisioningService,
    registration_id: str = "pump-042",
    *,
    leaf: Minted | None = None,
    keys: bool = False,
    **spec: Any,
) -> IndividualEnrollment:
    """An individual enrollment with a self-signed certificate, with the leaf given, or with symmetric keys."""
    if keys:
        return enroll_keys(service, registration_id, **spec)
    return enroll_device(service, leaf or self_signed(registration_id), **spec)


def a_group(
    service: ProvisioningService, group_id: str = "plant-7", *, ca: Minted | None = None, **spec: Any
) -> EnrollmentGroup:
    """An enrollment group of a root of its own, or of the CA given."""
    return enroll_ca(service, ca or root(group_id), group_id, **spec)


def a_user(role: Role, service: ProvisioningService | None = None, username: str = "") -> User:
    """A person with one role, in one service or everywhere."""
    user, _password = add_person(username or f"some-{role.value}", role=role, service=service, actor=ALICE)
    return user
