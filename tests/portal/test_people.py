"""People: adding, roles, keeping out, passwords, and the last administrator (R17)."""

import re

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from enrollments.actions import people
from enrollments.actions.api_tokens import add_api_token, digest_of
from enrollments.actions.people import set_active
from enrollments.audit.events import Event
from enrollments.models import ApiToken, HistoryEvent, Membership, ProvisioningService
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.devices import ALICE
from tests.factories import a_service, a_user
from tests.portal.history_pages import shown
from tests.portal.pages import Page

LAST = "This is the last administrator of the installation."


@pytest.fixture
def admin(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.ADMINISTRATOR, username="root"))
    return client


@pytest.fixture
def bob(admin: Client, plant: ProvisioningService) -> User:
    return a_user(Role.VIEWER, plant, "bob")


def password_in(answer) -> str:
    found = re.search(r'<pre id="password">([^<]+)</pre>', answer.content.decode())
    assert found
    return found.group(1)


def test_person_is_added_with_a_password_that_works_and_is_shown_once(admin, plant):
    answer = admin.post("/people/add/", {"username": "carol", "where": "plant", "role": "operator"})

    password = password_in(answer)
    assert len(password) >= 20
    carol = Client()
    assert carol.post("/sign-in/", {"username": "carol", "password": password}).status_code == 302
    assert carol.get("/services/plant/").status_code == 200
    assert password not in admin.get("/people/p/carol/").content.decode()
    row = HistoryEvent.objects.get(event="person.added", subject_name="carol")
    assert row.after == {"role": "operator", "where": "plant"}


def test_generated_password_is_stored_nowhere_in_clear(admin):
    password = password_in(admin.post("/people/add/", {"username": "carol", "where": "*", "role": "viewer"}))

    assert not any(password in str(one.get_decoded()) for one in Session.objects.all())
    assert not any(password in f"{row.before}{row.after}{row.reason}" for row in HistoryEvent.objects.all())
    assert User.objects.get(username="carol").password != password


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"username": "BOB"}, "There is a person named BOB already"),
        ({"username": ""}, "This field is required."),
        ({"username": "a/b"}, "Give a name of letters"),
        ({"role": "emperor"}, "Select a valid choice"),
        ({"where": "elsewhere"}, "Select a valid choice"),
        ({"where": ""}, "This field is required."),
    ],
)
def test_person_is_not_added(admin, bob, entered, sentence):
    answer = admin.post("/people/add/", {"username": "carol", "where": "*", "role": "viewer", **entered})

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert User.objects.count() == 2


def test_role_is_given_changed_and_taken_away(admin, bob, plant):
    url = "/people/p/bob/role/"

    admin.post(url, {"where": "plant", "role": "operator", "reason": "on call"})
    assert Membership.objects.get(user=bob).role == "operator"
    assert HistoryEvent.objects.filter(event="person.role_changed").latest("id").reason == "on call"

    admin.post(url, {"where": "*", "role": "auditor"})
    assert Membership.objects.get(user=bob, service=None).role == "auditor"

    admin.post("/people/p/bob/take-away/?where=plant", {"reason": "back at home"})
    assert not Membership.objects.filter(user=bob, service=plant).exists()
    assert HistoryEvent.objects.filter(event="person.role_changed").latest("id").reason == "back at home"
    admin.post("/people/p/bob/take-away/?where=*")
    assert not bob.memberships.exists()


def test_taking_a_role_away_is_asked_first(admin, bob, plant):
    people.set_role("bob", Role.AUDITOR, service=None, actor=ALICE)
    page = admin.get("/people/p/bob/").content.decode()
    questions = [one for one in dict.fromkeys(Page(page).leads_to) if "take-away" in one]

    here, everywhere = (" ".join(admin.get(one).content.decode().split()) for one in questions)

    assert {one.rpartition("=")[2] for one in questions} == {"plant", "%2A"}
    both = f"{here}{everywhere}"
    assert "Take away the role of bob in service plant?" in both
    assert (
        "bob is viewer in service plant. Their role in the whole installation stays, so they go on there as"
        in both
    )
    assert "Take away the role of bob in the whole installation?" in both
    assert "what their roles in single services allow" in both
    assert bob.memberships.count() == 2
    for one in questions:
        form = Page(admin.get(one).content.decode()).form_to("/people/p/bob/take-away/")
        assert admin.post(form.action, form.fields)["Location"] == "/people/p/bob/"
    assert not bob.memberships.exists()


@pytest.mark.parametrize("where", ["", "?where=nowhere", "?where=*", "?where=lab"])
def test_there_is_nothing_to_take_away_where_there_is_no_role(admin, bob, plant, where):
    a_service("lab")
    path, rows = f"/people/p/BOB/take-away/{where}", HistoryEvent.objects.count()

    for answer in (admin.get(path, follow=True), admin.post(path, follow=True)):
        assert "bob has no role of their own there: nothing was changed." in answer.content.decode()
    assert (bob.memberships.count(), HistoryEvent.objects.count()) == (1, rows)


def test_role_that_somebody_has_already_is_said_to_be_there(admin, bob):
    answer = admin.post("/people/p/BOB/role/", {"where": "plant", "role": "viewer"}, follow=True)

    (message,) = answer.context["messages"]
    assert str(message) == "bob is viewer in service plant already: nothing was changed."
    assert not HistoryEvent.objects.filter(event="person.role_changed").exists()


@pytest.mark.parametrize("role", ["", "none"])
def test_form_that_says_no_role_by_mistake_takes_nothing_away(admin, bob, plant, role):
    answer = admin.post("/people/p/bob/role/", {"where": "plant", "role": role})

    assert answer.status_code == 422
    assert Membership.objects.get(user=bob).role == "viewer"


def test_role_counts_from_the_next_request_on(admin, bob):
    other = Client()
    other.force_login(bob)
    assert other.get("/services/plant/attempts/").status_code == 403

    admin.post("/people/p/bob/role/", {"where": "plant", "role": "auditor"})

    assert other.get("/services/plant/attempts/").status_code == 200


def test_list_shows_roles_and_finds_by_beginning(admin, bob):
    text = admin.get("/people/", {"q": "BO"}).content.decode()

    assert "/people/p/bob/" in text
    assert "Viewer" in text
    assert "/people/p/root/" not in text


def test_list_states_its_queries(admin, plant, django_assert_max_num_queries):
    for number in range(10):
        a_user(Role.VIEWER, plant, f"person-{number}")

    with django_assert_max_num_queries(7):
        admin.get("/people/")


def test_person_is_kept_out_and_let_in_again(admin, bob):
    other = Client()
    other.force_login(bob)

    assert "Deactivate bob?" in admin.get("/people/p/bob/deactivate/").content.decode()
    admin.post("/people/p/bob/deactivate/", {"reason": "on leave"})
    assert other.get("/").status_code == 302
    assert HistoryEvent.objects.get(event="person.deactivated", service_id=None).reason == "on leave"

    admin.post("/people/p/bob/activate/")
    assert User.objects.get(username="bob").is_active


def test_person_is_removed_and_their_rows_stay(admin, bob, plant):
    other = Client()
    other.force_login(bob)
    other.post("/services/plant/hubs/add/")

    answer = admin.post("/people/p/bob/remove/", {"reason": "left"})

    assert answer["Location"] == "/people/"
    assert not User.objects.filter(username="bob").exists()
    assert HistoryEvent.objects.get(event="action.refused").actor_name == "bob"
    assert HistoryEvent.objects.get(event="person.removed", service_id=None).before == {
        "roles": [{"role": "viewer", "where": "plant"}]
    }


@pytest.mark.parametrize(
    ("act", "event", "sentence"),
    [
        ("remove", "person.removed", "removed person bob, which ends their role of"),
        ("deactivate", "person.deactivated", "deactivated person bob, which suspends their role of"),
    ],
)
def test_end_of_a_role_is_among_the_changes_of_roles_of_its_service(admin, bob, plant, act, event, sentence):
    auditor = Client()
    auditor.force_login(a_user(Role.AUDITOR, plant, "eve"))

    admin.post(f"/people/p/bob/{act}/", {"reason": "left"})

    changes = "/services/plant/history/?kind=User"
    assert f'href="{changes}"' in auditor.get("/services/plant/people/").content.decode()
    row, *_ = shown(auditor, changes)
    assert (row.event, row.subject_name, row.reason) == (event, "bob", "left")
    page = auditor.get(f"/services/plant/history/rows/{row.pk}/").content.decode()
    assert sentence in " ".join(re.sub(r"<[^>]+>", "", page).split())
    # In the installation's history each sentence stands once.
    assert [(one.event, one.service_name) for one in shown(admin, "/history/")[:2]] == [
        (event, ""),
        (event, "plant"),
    ]


def test_new_password_works_and_ends_open_sessions(admin, bob):
    other = Client()
    other.force_login(bob)
    assert "Make a new password for bob?" in admin.get("/people/p/bob/password/").content.decode()

    password = password_in(admin.post("/people/p/bob/password/"))

    assert other.get("/").status_code == 302
    assert Client().post("/sign-in/", {"username": "bob", "password": password}).status_code == 302


@pytest.mark.parametrize(
    ("path", "data", "tried"),
    [
        ("deactivate/", {}, "the deactivation of root"),
        ("remove/", {}, "the removal of root"),
        ("role/", {"where": "*", "role": "operator"}, "a change of the role of root"),
        ("take-away/?where=*", {}, "a change of the role of root"),
    ],
)
def test_last_administrator_stays(admin, bob, path, data, tried):
    before = HistoryEvent.objects.count()

    answer = admin.post(f"/people/p/root/{path}", data)

    assert answer.status_code == 409
    text = answer.content.decode()
    assert LAST in text
    # A form comes back with its error; after a question there is a way back to the person.
    assert '<a class="btn btn-primary" href="/people/p/root/">Go back</a>' in text or path == "role/"
    user = User.objects.get(username="root")
    assert user.is_active
    assert Membership.objects.get(user=user, service=None).role == "administrator"
    # What was begun is taken back with its rows; that it was refused stays.
    assert HistoryEvent.objects.count() == before + 1
    row = HistoryEvent.objects.latest("pk")
    told = (row.event, row.actor_name, row.service_id, row.subject_kind, row.subject_name)
    assert told == ("action.refused", "root", None, "refused:User", "root")
    assert row.after == {"tried": f"{tried}, the last administrator of the installation"}
    # It is among what was done to that person.
    assert shown(admin, "/people/p/root/changes/")[0].event == "action.refused"
    assert "was refused an act on person" in admin.get("/people/p/root/changes/").content.decode()


@pytest.mark.parametrize("path", ["deactivate/", "remove/", "take-away/?where=*"])
def test_question_says_that_the_last_administrator_stays(admin, bob, path):
    stays = f"{LAST} Make somebody else an administrator first. Until then the last one stays."

    asked = admin.get(f"/people/p/root/{path}").content.decode()

    assert stays in asked
    assert "click" not in asked
    assert stays not in admin.get(f"/people/p/bob/{path.replace('*', 'plant')}").content.decode()
    second = a_user(Role.ADMINISTRATOR, username="second")
    assert stays not in admin.get(f"/people/p/root/{path}").content.decode()
    set_active("second", False, actor=ALICE)
    assert stays not in admin.get(f"/people/p/{second}/{path}").content.decode()
    assert stays in admin.get(f"/people/p/root/{path}").content.decode()


@pytest.mark.parametrize(
    ("path", "data"), [("deactivate/", {}), ("remove/", {}), ("role/", {"where": "*", "role": "viewer"})]
)
def test_administrator_before_the_last_may_go(admin, path, data):
    a_user(Role.ADMINISTRATOR, username="second")

    assert admin.post(f"/people/p/root/{path}", data).status_code == 302


def test_administrator_of_one_service_is_not_enough(admin, plant):
    a_user(Role.ADMINISTRATOR, plant, "local")

    assert admin.post("/people/p/root/remove/").status_code == 409


def test_person_who_does_not_exist_is_not_found(admin):
    assert admin.get("/people/p/nobody/").status_code == 404
    assert admin.post("/people/p/nobody/role/", {"where": "*", "role": "viewer"}).status_code == 404


# --- API tokens and passwords -----------------------------------------------------------------------


@pytest.fixture
def tokens(bob: User, plant: ProvisioningService) -> list[str]:
    lab = a_service("lab")
    people.set_role("bob", Role.OPERATOR, service=lab, actor=ALICE)
    read = [AccessRight.ENROLLMENT_READ]
    return [add_api_token(one, bob, "laptop", read, days=1, actor=ALICE)[1] for one in (plant, lab)]


def works(token: str) -> bool:
    return ApiToken.objects.filter(digest=digest_of(token)).exists()


def ticked(page: str) -> bool:
    return bool(re.search(r'<input type="checkbox" name="end_tokens"[^>]* checked', page))


def test_new_password_says_how_many_tokens_there_are_and_ends_them_unless_told_otherwise(admin, bob, tokens):
    page = admin.get("/people/p/bob/password/").content.decode()

    assert "bob has 2 API tokens." in page
    assert "End 2 API tokens" in page
    assert ticked(page)
    # As the browser sends a box that is ticked.
    password_in(admin.post("/people/p/bob/password/", {"end_tokens": "on"}))

    assert [works(one) for one in tokens] == [False, False]
    changed, *revoked = HistoryEvent.objects.order_by("-pk")[:3]
    revoked.reverse()
    assert [(row.event, row.service_name, row.reason) for row in revoked] == [
        ("token.revoked", "plant", "The owner has a new password."),
        ("token.revoked", "lab", "The owner has a new password."),
    ]
    assert (changed.event, changed.after) == (
        "person.password_changed",
        {"tokens_ended": 2, "tokens_kept": 0},
    )


def test_tokens_that_are_kept_are_in_the_history_too(admin, bob, tokens):
    password_in(admin.post("/people/p/bob/password/"))

    assert [works(one) for one in tokens] == [True, True]
    row = HistoryEvent.objects.get(event="person.password_changed")
    assert row.after == {"tokens_ended": 0, "tokens_kept": 2}


def test_nothing_is_offered_where_there_is_no_token(admin, bob):
    page = admin.get("/people/p/bob/password/").content.decode()

    assert "bob has no API tokens." in page
    assert "end_tokens" not in page
    admin.post("/people/p/bob/password/", {"end_tokens": "on"})
    assert HistoryEvent.objects.get(event="person.password_changed").after is None


def test_tokens_of_others_go_on(admin, bob, tokens, plant):
    eve = a_user(Role.VIEWER, plant, "eve")
    text = add_api_token(plant, eve, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)[1]

    admin.post("/people/p/bob/password/", {"end_tokens": "on"})

    assert works(text)


def test_who_changes_their_own_password_is_told_that_tokens_go_on(bob, tokens, client):
    client.force_login(bob)

    page = " ".join(client.get("/password/").content.decode().split())

    assert "Your 2 API tokens go on as well" in page
    ApiToken.objects.filter(service__name="lab").delete()
    assert "Your 1 API token goes on as well" in client.get("/password/").content.decode()


def test_r15_if_the_history_cannot_say_so_no_token_ends_and_the_password_stays(bob, tokens, monkeypatch):
    before = bob.password
    real = people.record

    def broken(event, **what):
        if event is Event.PASSWORD_CHANGED:
            raise RuntimeError("the history cannot be written")
        return real(event, **what)

    monkeypatch.setattr(people, "record", broken)
    with pytest.raises(RuntimeError):
        people.change_password("bob", actor=ALICE, end_tokens=True)

    bob.refresh_from_db()
    assert (bob.password, [works(one) for one in tokens]) == (before, [True, True])
