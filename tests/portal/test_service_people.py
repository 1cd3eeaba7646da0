"""People and roles of one service: who sees who may do what, and which roles its administrators give (R1, R17)."""

import html
import re
from urllib.parse import urljoin

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
from enrollments.audit.actor import Actor, Way
from enrollments.models import ApiToken, HistoryEvent, Membership, ProvisioningService, RefusedAgain
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Right, Role
from enrollments.portal.paging import PAGE_SIZE
from enrollments.portal.views import service_people
from tests.devices import ALICE
from tests.factories import a_service, a_user
from tests.portal.addresses import ADDRESSES
from tests.portal.pages import Page
from tests.tables import refused_rows

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


def take(client: Client, username: str, **more: str):
    return client.post(f"{URL}p/{username}/take-away/", more)


def said(client: Client, answer) -> str:
    """The latest message on the page to which this answer leads."""
    *_, last = client.get(answer["Location"]).context["messages"]
    return f"{last.level_tag}: {last}"


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
    assert "take-away" not in text
    assert "/people/p/" not in text
    assert take(auditor, "some-auditor").status_code == 403
    assert give(auditor, "some-auditor", "administrator").status_code == 403


def test_name_leads_to_what_that_person_did_in_this_service(auditor, plant, bob):
    set_role("bob", Role.OPERATOR, service=plant, actor=ALICE)
    by_bob = Actor("user", "bob", Way.PORTAL)
    for service in (plant, ProvisioningService.objects.get(name="lab")):
        add_api_token(service, bob, "ci", [AccessRight.ENROLLMENT_READ], days=1, actor=by_bob)

    (link,) = re.findall(r'<th scope="row"><a href="([^"]+)">bob<', auditor.get(URL).content.decode())

    assert link == "/services/plant/history/?actor=user%3Abob"
    rows = [row.event for row in auditor.get(link).context["rows"]]
    assert [(one.actor_name, one.service_name) for one in rows] == [("bob", "plant")]


def test_viewer_does_not_see_it(viewer):
    assert f'href="{URL}"' not in viewer.get("/services/plant/").content.decode()
    assert viewer.get(URL).status_code == 403


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
    take(admin, "BOB", reason="went on")

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

    for user in ("root", "bob"):
        for role in ("viewer", "administrator"):
            give(admin, user, role, where="*", service="lab")
            give(admin, user, role, where="lab", service_name="lab")
        for place in ("*", "lab"):
            take(admin, user, where=place, service="lab", service_name="lab")
            admin.post(f"{URL}p/{user}/take-away/?where={place}")

    assert memberships(root) == {(None, "administrator")}
    assert memberships(bob) == {("lab", "operator")}
    assert admin.post("/services/lab/people/role/", {"username": "bob", "role": "viewer"}).status_code == 404
    assert admin.post("/services/lab/people/p/bob/take-away/").status_code == 404
    assert admin.post("/people/p/bob/role/", {"where": "plant", "role": "viewer"}).status_code == 403
    assert admin.post("/people/p/bob/take-away/?where=plant").status_code == 403


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"username": ""}, "This field is required."),
        ({"role": "emperor"}, "Select a valid choice"),
        ({"role": "none"}, "Select a valid choice"),
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
        assert re.search(r'<input [^>]*name="username"[^>]* autofocus', answer.content.decode())
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


def test_whoever_sees_all_people_only_mistyped_a_name(client, plant, bob):
    client.force_login(a_user(Role.ADMINISTRATOR))
    rows = HistoryEvent.objects.count()

    answer = give(client, "nobody", "viewer")

    assert answer.status_code == 422
    assert "Nobody named nobody can be given a role" in answer.content.decode()
    assert (HistoryEvent.objects.count(), RefusedAgain.objects.count()) == (rows, 0)


def test_who_has_a_role_here_is_known_although_kept_out(admin, plant):
    gone = a_user(Role.VIEWER, plant, "gone")
    a_user(Role.ADMINISTRATOR, username="root")
    set_active("gone", False, actor=ALICE)

    assert give(admin, "gone", "auditor").status_code == 302
    assert memberships(gone) == {("plant", "auditor")}
    assert take(admin, "gone").status_code == 302
    assert give(admin, "gone", "auditor").status_code == 422


def test_message_names_the_person_as_stored_and_says_where_nothing_changed(admin, plant, bob):
    assert said(admin, give(admin, "BOB", "viewer")) == "success: bob is now viewer in service plant."
    rows = HistoryEvent.objects.count()
    again = said(admin, give(admin, "BOB", "viewer"))

    assert again == "info: bob is viewer in service plant already: nothing was changed."
    assert HistoryEvent.objects.count() == rows
    gone = said(admin, take(admin, "BOB"))
    assert gone == "success: bob is now without a role of their own in service plant."


def test_role_that_went_while_one_was_asked_is_not_said_to_be_taken(admin, plant, bob, monkeypatch):
    give(admin, "bob", "viewer")
    taking = service_people.set_role_in_service

    def late(*given, **more):
        set_role("bob", None, service=plant, actor=ALICE)
        return taking(*given, **more)

    monkeypatch.setattr(service_people, "set_role_in_service", late)
    answer = take(admin, "bob")

    assert said(admin, answer) == "info: bob has no role of their own in service plant: nothing was changed."
    assert HistoryEvent.objects.filter(event="person.role_changed").count() == 2


@pytest.mark.parametrize("name", ["nobody", "bob", "root"])
def test_who_has_no_role_of_their_own_here_is_the_same_as_nobody(admin, plant, bob, name):
    a_user(Role.ADMINISTRATOR, username="root")
    rows = HistoryEvent.objects.count()

    for ask in (admin.get, admin.post):
        assert said(admin, ask(f"{URL}p/{name}/take-away/")) == (
            f"info: Nobody named {name} has a role of their own in service plant: nothing was changed."
        )
    assert HistoryEvent.objects.count() == rows


@pytest.mark.parametrize(
    ("everywhere", "left"),
    [
        (None, "From their next click on, the service is not there for them any more"),
        (Role.AUDITOR, "so they go on there as auditor."),
    ],
)
def test_taking_a_role_away_is_asked_first_and_says_what_is_left(admin, plant, bob, everywhere, left):
    a_user(Role.ADMINISTRATOR, username="root")
    give(admin, "bob", "operator")
    if everywhere:
        set_role("bob", everywhere, service=None, actor=ALICE)
    (asking,) = {one for one in Page(admin.get(URL).content.decode()).leads_to if "/bob/" in one}
    before = memberships(bob)

    page = admin.get(asking).content.decode()

    assert "Take away the role of bob in service plant?" in page
    assert "bob is operator in service plant." in page
    assert left in page
    assert "This is your own role." not in page
    assert memberships(bob) == before
    dialog = admin.get(asking, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in dialog
    form = Page(dialog).form_to(asking)
    assert admin.post(form.action, form.fields)["Location"] == URL
    assert memberships(bob) == before - {("plant", "operator")}


def test_question_says_that_the_last_administrator_of_the_service_stays(admin, plant):
    url = f"{URL}p/some-administrator/take-away/"
    root = Client()
    root.force_login(a_user(Role.ADMINISTRATOR, username="root"))

    asked = admin.get(url).content.decode()

    assert "This is the last administrator of service plant. Make somebody else" in asked
    assert "Until then the last one stays." in asked
    assert "click" not in asked
    # Who administers the installation may do it.
    for path in (url, "/people/p/some-administrator/take-away/?where=plant"):
        assert "From their next click on, the service is not there" in root.get(path).content.decode()


def test_ones_own_role_is_called_so(admin, plant):
    a_user(Role.ADMINISTRATOR, plant, "second")
    page = admin.get(f"{URL}p/some-administrator/take-away/").content.decode()

    assert "This is your own role: you are administrator in service plant." in page
    assert "From your next click on, the service is not there for you any more; your API tokens" in page


def test_who_gives_up_their_own_role_is_led_to_where_they_may_be(admin, plant):
    a_user(Role.ADMINISTRATOR, plant, "second")

    assert take(admin, "some-administrator")["Location"] == "/"
    assert admin.get(URL).status_code == 404


@pytest.mark.parametrize(
    "put_out",
    [
        pytest.param(lambda client, name: take(client, name), id="taking away"),
        pytest.param(lambda client, name: give(client, name, "operator"), id="giving a lower one"),
    ],
)
def test_r17_last_administrator_of_a_service_does_not_put_themselves_out(admin, plant, put_out):
    """Neither a role everywhere that is lower, nor an administrator who is kept out, is one to act in their place."""
    own = User.objects.get(username="some-administrator")
    root = a_user(Role.ADMINISTRATOR, username="root")
    set_role("some-administrator", Role.OPERATOR, service=None, actor=ALICE)
    a_user(Role.ADMINISTRATOR, plant, "gone")
    set_active("gone", False, actor=ALICE)
    rows, before = HistoryEvent.objects.count(), memberships(own)

    answer = put_out(admin, "some-administrator")

    assert answer.status_code == 409
    assert "This is the last administrator of service plant. Make somebody else" in answer.content.decode()
    assert memberships(own) == before
    assert HistoryEvent.objects.count() == rows + 1
    row = HistoryEvent.objects.latest("pk")
    assert (row.event, row.service_id) == ("action.refused", plant.pk)
    assert (row.subject_kind, row.subject_name) == ("refused:User", "some-administrator")
    assert row.after == {
        "tried": "a change of the role of some-administrator, the last administrator of service plant"
    }
    # Who administers the installation can make another.
    other = Client()
    other.force_login(root)
    assert put_out(other, "some-administrator").status_code == 302
    assert ("plant", "administrator") not in memberships(own)


@pytest.mark.parametrize("entered", [{"role": "emperor"}, {"username": "nobody"}])
def test_pages_of_the_list_follow_from_a_form_that_was_not_accepted(admin, plant, entered):
    for number in range(PAGE_SIZE):
        a_user(Role.VIEWER, plant, f"person-{number:02}")
    answer = admin.post(SET, {"username": "person-01", "role": "viewer", **entered})
    assert answer.status_code == 422
    shown = {one.person.username for one in answer.context["rows"]}

    (following,) = re.findall(r'rel="next" href="([^"]+)"', answer.content.decode())
    second = admin.get(urljoin(SET, html.unescape(following)))

    assert second.status_code == 200
    shown |= {one.person.username for one in second.context["rows"]}
    assert len(shown) == PAGE_SIZE + 1
    (back,) = re.findall(r'rel="prev" href="([^"]+)"', second.content.decode())
    assert admin.get(urljoin(URL, html.unescape(back))).status_code == 200


def test_r17_explained_roles_see_who_has_which_role_from_the_one_on_that_does(admin):
    (explained,) = re.findall(r"<dl.*?</dl>", admin.get(URL).content.decode(), re.DOTALL)
    told = dict(re.findall(r"<dt>(\w+)</dt><dd>(.*?)</dd>", explained))
    (right,) = {one.right for one in ADDRESSES if one.name == "service-people"}

    assert list(told) == [role.label for role in Role]
    sees = [role for role in Role if "who has which role" in told[role.label]]
    assert sees == [next(role for role in Role if right in role.rights)]


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
    # The role that was given; that it ended, here and in the history of the installation; and what was refused.
    assert HistoryEvent.objects.count() == rows + 5
    told = {(row.service_id, row.subject_name) for row in refused_rows()}
    assert told == {(plant.pk, "a change of a role, as an administrator no more, in service plant")}


def test_tokens_end_with_the_role_in_this_service_and_no_others(admin, plant, bob):
    give(admin, "bob", "operator")
    for service in (plant, ProvisioningService.objects.get(name="lab")):
        add_api_token(service, bob, "ci", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)

    take(admin, "bob")

    assert [one.service.name for one in ApiToken.objects.all()] == ["lab"]


def test_page_states_its_queries_however_many_people(admin, plant, django_assert_max_num_queries):
    for number in range(10):
        a_user(Role.VIEWER, plant, f"person-{number}")

    with django_assert_max_num_queries(7):
        admin.get(URL)
