"""Access policies and API tokens: what is refused, what is recorded, and what an upgrade brings."""

import importlib

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.db import connection

from enrollments.actions.access_policies import (
    MAX_POLICIES,
    add_policy,
    change_policy,
    delete_policy,
    disable_policy,
    policy_to_connect_by,
    reveal_policy_keys,
)
from enrollments.actions.api_tokens import add_api_token, revoke_api_token
from enrollments.actions.services import change_settings
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid, NotFound
from enrollments.models import AccessPolicy, HistoryEvent, ProvisioningService
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.devices import ALICE, new_service
from tests.factories import a_user

pytestmark = pytest.mark.django_db

READ = [AccessRight.ENROLLMENT_READ]


def change(policy, **changed):
    values = {
        "rights": policy.access_rights,
        "enabled": policy.enabled,
        "expected_etag": policy.etag,
        **changed,
    }
    return change_policy(policy.service, policy.name, actor=ALICE, **values)


@pytest.mark.parametrize(
    ("name", "rights", "field"),
    [
        ("", READ, "name"),
        ("a b", READ, "name"),
        ("-x", READ, "name"),
        ("x" * 65, READ, "name"),
        ("é", READ, "name"),
        ("ProvisioningServiceOwner", READ, ""),
        ("reader", [], "rights"),
    ],
)
def test_a_policy_that_cannot_be(service, name, rights, field):
    with pytest.raises(Invalid) as refused:
        add_policy(service, name, rights, actor=ALICE)

    assert list(refused.value.errors) == [field]
    assert service.access_policies.count() == 1


def test_there_are_so_many_policies_at_most(service):
    for number in range(MAX_POLICIES - 1):
        add_policy(service, f"p{number}", READ, actor=ALICE)

    with pytest.raises(Invalid):
        add_policy(service, "one-more", READ, actor=ALICE)


def test_each_change_is_recorded_and_none_is_not(service):
    policy = add_policy(service, "reader", READ, actor=ALICE, reason="dashboards")
    change(policy)
    policy = change(policy, enabled=False)
    policy = change(policy, enabled=True)
    policy = change(policy, rights=[AccessRight.SERVICE_CONFIG])
    reveal_policy_keys(service, "READER", actor=ALICE)

    rows = HistoryEvent.objects.filter(subject_name="reader").order_by("pk")
    assert [row.event for row in rows] == [
        "policy.added",
        "policy.disabled",
        "policy.enabled",
        "policy.changed",
        "keys.revealed",
    ]
    assert rows[3].before == {"rights": ["EnrollmentRead"]}
    assert (rows[3].after, rows[0].reason) == ({"rights": ["ServiceConfig"]}, "dashboards")


def test_a_change_on_an_older_state_is_refused(service):
    policy = add_policy(service, "reader", READ, actor=ALICE)
    change(policy, enabled=False)

    with pytest.raises(ChangedMeanwhile):
        change(policy, enabled=True, expected_etag="older")


def test_only_a_disabled_policy_can_be_deleted(service):
    policy = add_policy(service, "reader", READ, actor=ALICE)
    with pytest.raises(Conflict):
        delete_policy(service, "reader", actor=ALICE)

    change(policy, enabled=False)
    delete_policy(service, "reader", actor=ALICE)

    assert service.access_policies.count() == 1
    with pytest.raises(NotFound):
        delete_policy(service, "reader", actor=ALICE)


def test_a_policy_is_disabled_without_the_key_that_decrypts_it(service, settings):
    """R16: shutting out needs nothing that may be lost."""
    policy = service.access_policies.get()
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    assert change(policy, enabled=False).enabled is False


def test_whose_key_goes_into_a_connection_string(service):
    owner = service.access_policies.get()
    add_policy(service, "a-reader", READ, actor=ALICE)
    assert policy_to_connect_by(service) == owner

    change(owner, enabled=False)
    assert policy_to_connect_by(service) is None

    other = add_policy(service, "everything", list(AccessRight), actor=ALICE)
    assert policy_to_connect_by(service) == other
    assert policy_to_connect_by(change_settings(service, {"shared_access_keys": False}, actor=ALICE)) is None


@pytest.mark.parametrize(
    ("name", "rights", "days", "field"),
    [
        (" ", READ, 30, "name"),
        ("x" * 101, READ, 30, "name"),
        ("laptop", [], 30, "rights"),
        ("laptop", READ, 0, "days"),
        ("laptop", READ, 367, "days"),
        ("laptop", [AccessRight.ENROLLMENT_WRITE], 30, "rights"),
        ("taken", READ, 30, "name"),
    ],
)
def test_a_token_that_cannot_be(service, name, rights, days, field):
    viewer = a_user(Role.VIEWER, service)
    add_api_token(service, viewer, "taken", READ, days=1, actor=ALICE)

    with pytest.raises(Invalid) as refused:
        add_api_token(service, viewer, name, rights, days=days, actor=ALICE)

    assert list(refused.value.errors) == [field]


def test_somebody_without_a_role_gets_no_token(service):
    stranger = a_user(Role.ADMINISTRATOR, new_service("lab"))

    with pytest.raises(Invalid):
        add_api_token(service, stranger, "laptop", READ, days=1, actor=ALICE)


def test_tokens_are_recorded_without_their_text_and_revoked_by_their_owner(service):
    bob, eve = a_user(Role.VIEWER, service, "bob"), a_user(Role.VIEWER, service, "eve")
    token, text = add_api_token(service, bob, "laptop", READ, days=1, actor=ALICE)
    with pytest.raises(NotFound):
        revoke_api_token(service, token.pk, owner=eve, actor=ALICE)
    with pytest.raises(NotFound):
        revoke_api_token(new_service("lab"), token.pk, actor=ALICE)

    revoke_api_token(service, token.pk, owner=bob, actor=ALICE)

    rows = HistoryEvent.objects.filter(subject_kind="ApiToken").order_by("pk")
    assert [row.event for row in rows] == ["token.added", "token.revoked"]
    assert text not in str(list(rows.values()))


def test_services_from_before_get_their_policy_by_the_migration(service):
    AccessPolicy.objects.all().delete()
    migration = importlib.import_module("enrollments.migrations.0013_owner_policies")

    for _ in range(2):
        migration.add_owner_policies(apps, connection.schema_editor())

    policy = AccessPolicy.objects.get()
    assert policy.access_rights == frozenset(AccessRight)
    assert (policy.name, policy.name_key) == ("provisioningserviceowner", "provisioningserviceowner")
    assert policy.primary_key != policy.secondary_key
    assert HistoryEvent.objects.filter(event="policy.added", actor_name="migrate").count() == 1


def test_what_no_decision_reads_ends_no_back_off_and_outdates_no_preview(service):
    bob = a_user(Role.VIEWER, service, "bob")
    epoch = ProvisioningService.epoch_of(service.pk)

    token, _ = add_api_token(service, bob, "laptop", READ, days=1, actor=ALICE)
    revoke_api_token(service, token.pk, actor=ALICE)
    add_policy(service, "reader", READ, actor=ALICE)
    disable_policy(service, "reader", actor=ALICE, reason="lost")

    assert ProvisioningService.epoch_of(service.pk) == epoch
