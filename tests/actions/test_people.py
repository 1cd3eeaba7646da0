"""What becomes of roles and API tokens of people who are out: they end, each with a row that says why (R15)."""

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User

from enrollments.actions.api_tokens import add_api_token, revoke_api_token
from enrollments.actions.people import LastAdministrator, remove_person, set_active, set_role
from enrollments.models import ApiToken, HistoryEvent, Membership
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.devices import ALICE
from tests.factories import a_service, a_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def plants():
    a_user(Role.ADMINISTRATOR, username="root")
    return a_service("plant"), a_service("depot")


@pytest.fixture
def bob(plants):
    """Somebody with a role and a token in either service."""
    bob = a_user(Role.OPERATOR, plants[0], "bob")
    set_role("bob", Role.VIEWER, service=plants[1], actor=ALICE)
    for service in plants:
        a_token(bob, service)
    return bob


def a_token(user, service):
    add_api_token(service, user, f"at {service}", [AccessRight.ENROLLMENT_READ], days=30, actor=ALICE)


def ended():
    rows = HistoryEvent.objects.filter(event="token.revoked").order_by("pk")
    return [(row.service_name, row.subject_name, row.reason, row.before["of"]) for row in rows]


@pytest.mark.parametrize(
    ("shut_out", "why"),
    [
        pytest.param(remove_person, "The owner was removed.", id="removed"),
        pytest.param(
            lambda name, **who: set_active(name, False, **who), "The owner was deactivated.", id="deactivated"
        ),
    ],
)
def test_tokens_end_with_their_owner_and_each_has_its_row(bob, shut_out, why):
    shut_out("bob", actor=ALICE, reason="left")

    assert not ApiToken.objects.exists()
    assert ended() == [("plant", "at plant", why, "bob"), ("depot", "at depot", why, "bob")]
    assert HistoryEvent.objects.latest("pk").reason == "left"


@pytest.mark.parametrize("end", ["by its owner's end", "by itself"])
def test_when_and_from_where_a_token_was_last_used_is_told_when_it_ends(bob, end):
    at = datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)
    ApiToken.objects.filter(service__name="plant").update(last_used_at=at, last_used_from="203.0.113.9")

    if end == "by itself":
        for token in ApiToken.objects.order_by("pk"):
            revoke_api_token(token.service, token.pk, actor=ALICE)
    else:
        set_active("bob", False, actor=ALICE)

    used, unused = (row.before for row in HistoryEvent.objects.filter(event="token.revoked").order_by("pk"))
    assert (used["last_used"], used["last_used_from"]) == ("2026-11-26T12:00:05+00:00", "203.0.113.9")
    assert unused == {"of": "bob", "rights": ["EnrollmentRead"]}


def test_whoever_is_let_in_again_makes_new_ones(bob):
    set_active("bob", False, actor=ALICE)
    set_active("bob", True, actor=ALICE)

    assert not ApiToken.objects.exists()
    assert len(ended()) == 2


def test_a_role_that_is_taken_ends_the_tokens_of_that_service(bob, plants):
    set_role("bob", None, service=plants[0], actor=ALICE)

    assert [token.service for token in ApiToken.objects.all()] == [plants[1]]
    assert ended() == [("plant", "at plant", "The owner lost the role.", "bob")]


def test_a_role_everywhere_keeps_them(bob, plants):
    set_role("bob", Role.VIEWER, service=None, actor=ALICE)
    set_role("bob", None, service=plants[0], actor=ALICE)

    assert (ApiToken.objects.count(), ended()) == (2, [])


def roles_told(service):
    """Of bob, in the history of one service, in their order: what happened, why, and what was and is."""
    rows = HistoryEvent.objects.filter(service_id=service.pk, subject_kind="User", subject_name="bob")
    return [
        (row.event.removeprefix("person."), row.reason, row.before, row.after) for row in rows.order_by("pk")
    ]


def test_who_is_removed_has_the_end_of_each_role_in_the_history_of_its_service(bob, plants):
    set_role("bob", Role.AUDITOR, service=None, actor=ALICE)
    remove_person("bob", actor=ALICE, reason="left")

    for service, role in zip(plants, ("operator", "viewer"), strict=True):
        was = {"role": role, "where": str(service), "person": "active"}
        ended = {**was, "role": None, "person": "removed"}
        assert roles_told(service)[-1] == ("removed", "left", was, ended)
    of_installation = HistoryEvent.objects.filter(service_id=None, subject_name="bob").order_by("pk")
    assert [row.event for row in of_installation] == ["person.role_changed", "person.removed"]


def test_who_is_deactivated_and_let_in_again_has_both_in_the_history_of_each_service(bob, plants):
    set_active("bob", False, actor=ALICE, reason="on leave")
    set_active("bob", True, actor=ALICE, reason="back")

    for service, role in zip(plants, ("operator", "viewer"), strict=True):
        active = {"role": role, "where": str(service), "person": "active"}
        out = {**active, "person": "deactivated"}
        assert roles_told(service)[-2:] == [
            ("deactivated", "on leave", active, out),
            ("activated", "back", out, active),
        ]
    assert HistoryEvent.objects.filter(service_id=None, subject_name="bob").count() == 2


def test_who_was_deactivated_before_is_removed_as_such(bob, plants):
    set_active("bob", False, actor=ALICE)
    remove_person("bob", actor=ALICE)

    assert roles_told(plants[0])[-1][2:] == (
        {"role": "operator", "where": "plant", "person": "deactivated"},
        {"role": None, "where": "plant", "person": "removed"},
    )


@pytest.mark.parametrize(
    "act",
    [remove_person, lambda name, **who: set_active(name, False, **who)],
    ids=["removed", "deactivated"],
)
def test_who_cannot_be_shut_out_keeps_them(plants, act):
    """What was recorded on the way is taken back with all else."""
    root = User.objects.get(username="root")
    Membership.objects.create(user=root, service=plants[0], role=Role.VIEWER.value)
    a_token(root, plants[0])

    with pytest.raises(LastAdministrator):
        act("root", actor=ALICE)

    assert (ApiToken.objects.count(), ended()) == (1, [])
    ends = HistoryEvent.objects.filter(event__in=["person.removed", "person.deactivated"])
    assert not ends.exists()
