"""The service that most tests of the portal look at, and who looks. Tests that want more in it say so themselves."""

import pytest
from django.test import Client

from enrollments.models import ProvisioningService
from enrollments.policy.roles import Role
from enrollments.transfer import previewing, work
from tests.factories import a_group, a_service, a_user, an_individual


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    return a_service("plant")


@pytest.fixture
def entries(plant: ProvisioningService) -> None:
    """Two devices and a group of certificates in it."""
    for name in ("pump-1", "pump-2"):
        an_individual(plant, name)
    a_group(plant)


@pytest.fixture
def viewer(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.VIEWER, plant))
    return client


@pytest.fixture
def auditor(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.AUDITOR, plant))
    return client


@pytest.fixture
def admin(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.ADMINISTRATOR, plant))
    return client


@pytest.fixture
def operator(client: Client, service: ProvisioningService) -> Client:
    client.force_login(a_user(Role.OPERATOR, service))
    return client


@pytest.fixture
def imports_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread does otherwise."""
    monkeypatch.setattr("enrollments.portal.views.imports.work_in_background", work.work_on)
    monkeypatch.setattr(work, "work_in_background", work.work_on)
    monkeypatch.setattr(previewing, "in_background", previewing.work_out_preview)
