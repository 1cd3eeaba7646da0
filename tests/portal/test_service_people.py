"""People and roles of one service: who sees who may do what, and which roles its administrators give (R1, R17)."""

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client
from django.utils import timezone

from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.people import (
    NotAdministrator,
    has_right,
    role_in,
    set_active,
    set_role,
    set_role_in_service,
)
from enrollments.actions.refused_again import ADDED_UP_FOR, record_refused_again
from enrollments.models import ApiToken, HistoryEvent, Membership, ProvisioningService, RefusedAgain
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Right, Role
from tests.devices import ALICE
from tests.factories import a_service, a_user

URL = "/services/plant/people/"
SET = f"{URL}role/"


@pytest.fixture
def bob(plant: ProvisioningService) -> User:
    """Of another service, so that he exists and this one knows nothing of him."""
    return a_user(Role.OPERATOR, a_service("lab"), "bob")


def roles_shown(client: Client, **query: str) -> dict[str, tuple[Role | None, ...]]:
    answer = client.get(URL, query)
    assert answer.status_code == 200
    return {one.person.username: (one.counts, one.here, one.everywhere) for one in answer.context["rows"]}


def give(client: Client, username: str, role: str, **more: str):
    return client.post(SET, {"username": username, "role": role, **more})


def memberships(user: User) -> set[tuple[str | None, str]]:
    return set(user.memberships.values_list("service__name", "role"))


def test_auditor_sees_who_may_do_what_and_through_what(auditor, plant, bob):
    both = a_user(Role.VIEWER, username="both")
    set_role("both", Role.OPERATOR, service=plant, actor=ALICE)
    a_user(Role.ADMINISTRATOR, username="root")
    a_user(Role.OPERATOR, plant, "gone")
    set_active("gone", False, actor=ALICE)

    assert roles_shown(auditor) == {
        "both": (Role.OPERATOR, Role.OPERATOR, Role.VIEWER),
        "gone": (None, Role.OPERATOR, None),
        "root": (Role.ADMINISTRATOR, None, Role.ADMINISTRATOR),
        "some-auditor": (Role.AUDITOR, Role.AUDITOR, None),
    }
    for user in User.objects.exclude(pk=bob.pk):
        assert roles_shown(auditor)[user.username][0] == role_in(user, plant)
    assert roles_shown(auditor, q="BO") == {"both": (Role.OPERATOR, Role.OPERATOR, Role.VIEWER)}
    assert has_right(both, Right.SEE_HISTORY, plant)


def test_auditor_is_offered_the_page_and_nothing_to_change(auditor):
    assert f'href="{URL}"' in auditor.get("/services/plant/").content.decode()

    text = auditor.get(URL).content.decode()

    assert "/services/plant/history/?kind=User" in text
    assert SET not in text
    assert "/people/p/" not in text
    assert give(auditor, "some-auditor", "administrator").status_code == 403


def test_viewer_does_not_see_it(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    assert f'href="{URL}"' not in client.get("/services/plant/").content.decode()
    assert client.get(URL).status_code == 403


def test_administrator_of_the_installation_finds_the_person_from_there(client, plant):
    client.force_login(a_user(Role.ADMINISTRATOR))

    assert "/people/p/some-administrator/" in client.get(URL).content.decode()


def test_administrator_of_the_service_gives_changes_and_takes_a_role(admin, plant, bob):
    other = Client()
    other.force_login(bob)
    assert other.get("/services/plant/").status_code == 404

    assert give(admin, "BOB", "viewer", reason="on call")["Location"] == URL
    assert other.get("/services/plant/").status_code == 200
    assert other.get(URL).status_code == 403
    give(admin, "bob", "auditor")
    assert other.get(URL).status_code == 200
    give(admin, "bob", "none", reason="went on")

    assert other.get("/services/plant/").status_code == 404
    assert memberships(bob) == {("lab", "operator")}
    rows = HistoryEvent.objects.filter(event="person.role_changed").order_by("pk")
    assert [(one.service_name, one.subject_name, one.reason, one.actor_name) for one in rows] == [
        ("plant", "bob", "on call", "some-administrator"),
        ("plant", "bob", "", "some-administrator"),
        ("plant", "bob", "went on", "some-administrator"),
    ]
    shown = admin.get("/services/plant/history/", {"kind": "User", "event": "person.role_changed"})
    assert len(shown.context["rows"]) == 3


def test_roles_elsewhere_and_in_the_installation_stay_whatever_is_sent(admin, plant, bob):
    root = a_user(Role.ADMINISTRATOR, username="root")

    for role in ("none", "viewer", "administrator"):
        for user in ("root", "bob"):
            give(admin, user, role, where="*", service="lab")
            give(admin, user, role, where="lab", service_name="lab")
    give(admin, "root", "none")

    assert memberships(root) == {(None, "administrator")}
    assert memberships(bob) == {("lab", "operator"), ("plant", "administrator")}
    assert admin.post("/services/lab/people/role/", {"username": "bob", "role": "none"}).status_code == 404
    assert admin.post("/people/p/bob/role/", {"where": "plant", "role": "none"}).status_code == 403


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"username": ""}, "This field is required."),
        ({"role": "emperor"}, "Select a valid choice"),
        ({"role": ""}, "This field is required."),
        ({"reason": "x" * 501}, "at most 500 characters"),
    ],
)
def test_what_cannot_be_done_says_why_and_changes_nothing(admin, plant, bob, entered, sentence):
    before = set(Membership.objects.values_list())
    rows = HistoryEvent.objects.count()

    answer = admin.post(SET, {"username": "bob", "role": "viewer", **entered})

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert set(Membership.objects.values_list()) == before
    assert HistoryEvent.objects.count() == rows


def test_whoever_is_not_there_or_kept_out_is_answered_alike_and_each_try_is_told(admin, plant, bob):
    """R15: by trying names one could learn whom the installation has."""
    a_user(Role.ADMINISTRATOR, username="root")
    set_active("bob", False, actor=ALICE)
    before = HistoryEvent.objects.latest("pk").pk

    for name in ("nobody", "bo", "bob", "BOB", "nobody"):
        answer = give(admin, name, "viewer")

        assert answer.status_code == 422
        (sentence,) = answer.context["form"].errors["username"]
        assert sentence == (
            f"Nobody named {name} can be given a role: there is no such person, or they were deactivated."
        )
    RefusedAgain.objects.update(started_at=F("started_at") - ADDED_UP_FOR)
    record_refused_again(ended_before=timezone.now())

    assert memberships(bob) == {("lab", "operator")}
    first, others = HistoryEvent.objects.filter(pk__gt=before).order_by("pk")
    for row in (first, others):
        assert (row.event, row.actor_name, row.service_name) == (
            "action.refused",
            "some-administrator",
            "plant",
        )
        assert row.subject_name == "a role for a name that nobody has"
    assert (first.after, others.after["times"]) == (None, 4)
    text = admin.get("/services/plant/history/").content.decode()
    assert "was refused" in text
    assert "a role for a name that nobody has" in text
    assert "nobody</" not in text


def test_who_gives_up_their_own_role_is_led_to_where_they_may_be(admin, plant):
    a_user(Role.ADMINISTRATOR, plant, "second")

    assert give(admin, "some-administrator", "none")["Location"] == "/"
    assert admin.get(URL).status_code == 404


def test_role_that_was_taken_away_since_the_request_came_in_gives_no_other(plant, bob):
    local = a_user(Role.ADMINISTRATOR, plant, "local")
    a_user(Role.ADMINISTRATOR)
    set_role("local", Role.OPERATOR, service=plant, actor=ALICE)
    rows = HistoryEvent.objects.count()

    with pytest.raises(NotAdministrator):
        set_role_in_service("bob", Role.VIEWER, service=plant, by=local, actor=ALICE)
    set_role("local", Role.ADMINISTRATOR, service=plant, actor=ALICE)
    set_active("local", False, actor=ALICE)
    with pytest.raises(NotAdministrator):
        set_role_in_service("bob", Role.VIEWER, service=plant, by=local, actor=ALICE)

    assert memberships(bob) == {("lab", "operator")}
    assert HistoryEvent.objects.count() == rows + 2


def test_tokens_end_with_the_role_in_this_service_and_no_others(admin, plant, bob):
    give(admin, "bob", "operator")
    for service in (plant, ProvisioningService.objects.get(name="lab")):
        add_api_token(service, bob, "ci", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)

    give(admin, "bob", "none")

    assert [one.service.name for one in ApiToken.objects.all()] == ["lab"]


def test_page_states_its_queries_however_many_people(admin, plant, django_assert_max_num_queries):
    for number in range(10):
        a_user(Role.VIEWER, plant, f"person-{number}")

    with django_assert_max_num_queries(7):
        admin.get(URL)
