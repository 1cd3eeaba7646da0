"""Everybody's own account: roles, API tokens, who came and went under their name; and nothing that is not theirs."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions.api_tokens import add_api_token
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.people import add_person, change_password, remove_person, set_active, set_role
from enrollments.audit.actor import Actor, Way
from enrollments.models import HistoryEvent, Membership, ProvisioningService, SignInFailures
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from enrollments.portal.account import newest_about
from tests.devices import ALICE
from tests.factories import a_service, a_user

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"
ANNA = Actor("user", "anna", Way.PORTAL, "198.51.100.7", client="Anna's browser")


@pytest.fixture
def bob(plant: ProvisioningService) -> User:
    a_user(Role.ADMINISTRATOR, None, "root")  # without one, nobody's role is taken away
    return add_person("bob", role=Role.VIEWER, service=plant, actor=ALICE, password=PASSWORD)[0]


@pytest.fixture
def signed_in(client: Client, bob: User) -> Client:
    sign_in(client)
    return client


def sign_in(client: Client, password: str = PASSWORD, name: str = "bob", address: str = "192.0.2.1") -> None:
    client.post(
        "/sign-in/",
        {"username": name, "password": password},
        REMOTE_ADDR=address,
        HTTP_USER_AGENT="Browser/1",
    )


def text_of(client: Client) -> str:
    answer = client.get("/account/")
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode().split("<main")[1]).split())


def rows_of(client: Client) -> list[str]:
    """The lines of the table of what happened, without their moments."""
    html = client.get("/account/").content.decode()
    table = html.partition('class="list-table own-rows"')[2].partition("</table>")[0]
    lines = [" ".join(re.sub(r"<[^>]+>", " ", one).split()) for one in table.split("<tr>")[2:]]
    return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", one) for one in lines]


def leads_to(client: Client) -> set[str]:
    main = client.get("/account/").content.decode().split("<main")[1]
    return set(re.findall(r'href="([^"#]+)"', main))


def end_windows() -> None:
    SignInFailures.objects.update(window_started_at=timezone.now() - timedelta(hours=1))
    record_ended_windows()


def test_menu_leads_there(signed_in):
    assert 'href="/account/"' in signed_in.get("/").content.decode()


def test_own_coming_and_going_is_shown_newest_first_with_address_and_client(signed_in):
    signed_in.post("/sign-out/", REMOTE_ADDR="192.0.2.1", HTTP_USER_AGENT="Browser/1")
    sign_in(signed_in, address="192.0.2.2")

    assert rows_of(signed_in) == [
        "bob signed in 192.0.2.2 Browser/1",
        "bob signed out 192.0.2.1 Browser/1",
        "bob signed in 192.0.2.1 Browser/1",
        "alice added person bob in service plant not shown",
    ]


def test_what_others_did_is_not_shown(signed_in, plant):
    a_user(Role.VIEWER, plant, "carol")
    sign_in(Client(), "wrong", "carol")
    end_windows()

    assert "carol" not in text_of(signed_in)


def test_changes_by_others_are_shown_without_reason_and_without_from_where(signed_in, bob):
    change_password("bob", actor=ANNA)
    set_role("bob", Role.AUDITOR, service=None, actor=ANNA, reason="because of the audit")
    set_role("bob", None, service=None, actor=ANNA, reason="because it is over")
    signed_in.force_login(User.objects.get(pk=bob.pk))

    text = text_of(signed_in)

    assert rows_of(signed_in)[:3] == [
        "anna changed the role of bob in the whole installation not shown",
        "anna changed the role of bob in the whole installation not shown",
        "anna changed the password of bob not shown",
    ]
    assert "because" not in text
    assert "198.51.100.7" not in text
    assert "Anna&#x27;s browser" not in text


def test_auditor_of_a_service_sees_from_where_its_roles_were_changed(signed_in, plant):
    set_role("bob", Role.AUDITOR, service=plant, actor=ANNA)
    change_password("bob", actor=ANNA)
    signed_in.force_login(User.objects.get(username="bob"))

    assert rows_of(signed_in)[:2] == [
        "anna changed the password of bob not shown",
        "anna changed the role of bob in service plant 198.51.100.7 Anna&#x27;s browser",
    ]


def test_failed_sign_ins_are_shown_with_count_since_when_and_address(signed_in):
    for _ in range(3):
        sign_in(Client(), "wrong", "BOB", address="203.0.113.5")
    since = SignInFailures.objects.get().window_started_at - timedelta(hours=1)
    SignInFailures.objects.update(window_started_at=since)
    record_ended_windows()

    (row, *_) = rows_of(signed_in)

    assert row == f"somebody failed to sign in as bob 3 times since {since:%Y-%m-%d %H:%M:%S} 203.0.113.5"


def test_failed_sign_ins_from_many_addresses_tell_some_of_them(signed_in):
    for number in range(12):
        sign_in(Client(), "wrong", address=f"203.0.113.{number}")
    end_windows()

    (row, *_) = rows_of(signed_in)

    assert "failed to sign in as bob 12 times since" in row
    assert row.count("203.0.113.") == 10
    assert row.endswith("and others")


def test_failed_sign_ins_that_are_being_counted_are_shown_before_the_history_tells(signed_in):
    for _ in range(2):
        sign_in(Client(), "wrong", address="203.0.113.5")
    sign_in(Client(), "wrong", "nobody", address="203.0.113.6")

    text = text_of(signed_in)

    assert re.search(r"2 times since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d from 203\.0\.113\.5", text)
    assert "203.0.113.6" not in text
    assert SignInFailures.objects.count() == 2, "looking ends no window"


def test_failed_sign_ins_from_before_the_account_was_there_are_not_shown(plant):
    sign_in(Client(), "wrong", "carol", address="203.0.113.99")
    SignInFailures.objects.update(window_started_at=timezone.now() - timedelta(seconds=1))
    carol = Client()
    carol.force_login(a_user(Role.VIEWER, plant, "carol"))

    assert "203.0.113.99" not in text_of(carol)


def test_windows_that_the_history_has_are_not_told_twice(signed_in, settings):
    for _ in range(settings.DPS_SIGN_IN_FAILURES):
        sign_in(Client(), "wrong", address="203.0.113.5")

    text = text_of(signed_in)

    assert "being counted" not in text
    assert "failed to sign in as bob 5 times, and was held off" in text


def test_windows_from_many_addresses_are_shown_in_part(signed_in):
    for number in range(12):
        sign_in(Client(), "wrong", address=f"203.0.113.{number}")

    text = text_of(signed_in)

    assert text.count("1 time since") == 10
    assert "more from further addresses" in text


def test_former_person_of_the_name_is_not_oneself(signed_in, plant):
    remove_person("bob", actor=ALICE)
    add_person("Bob", role=Role.VIEWER, service=plant, actor=ALICE, password=PASSWORD)
    again = Client()
    sign_in(again)

    assert rows_of(again) == [
        "Bob signed in 192.0.2.1 Browser/1",
        "alice added person Bob in service plant not shown",
    ]


def test_rows_are_found_in_whatever_case_they_name_one(signed_in, bob):
    HistoryEvent.objects.create(
        at=timezone.now(),
        event="person.password_changed",
        actor_kind="cli",
        actor_name="root",
        way="command line",
        subject_kind="User",
        subject_name="BOB",
    )

    assert rows_of(signed_in)[0] == "root changed the password of BOB command line"


def test_other_objects_of_the_name_are_not_oneself(signed_in, plant, bob):
    add_api_token(plant, bob, "bob", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    HistoryEvent.objects.create(
        at=timezone.now(),
        event="enrollment.added",
        service_id=plant.pk,
        service_name="plant",
        actor_kind="user",
        actor_name="alice",
        way="portal",
        subject_kind="IndividualEnrollment",
        subject_name="bob",
    )

    assert len(rows_of(signed_in)) == 2


def test_r1_service_that_is_not_ones_own_any_more_is_named_nowhere(signed_in):
    lab = a_service("lab")
    set_role("bob", Role.OPERATOR, service=lab, actor=ALICE)
    assert "in service lab" in text_of(signed_in)
    assert "/services/lab/" in leads_to(signed_in)

    set_role("bob", None, service=lab, actor=ALICE)

    assert "lab" not in {*re.findall(r"\w+", text_of(signed_in))}


def test_deactivated_and_activated_again_is_shown(signed_in, bob):
    set_active("bob", False, actor=ANNA)
    set_active("bob", True, actor=ANNA)
    signed_in.force_login(User.objects.get(pk=bob.pk))

    text = text_of(signed_in)

    assert "anna activated person bob , which gives back their role of viewer in service plant" in text
    assert "anna deactivated person bob" in text


def test_roles_are_shown_with_what_counts_and_each_service_is_linked(signed_in):
    lab = a_service("lab")
    a_service("mill")
    set_role("bob", Role.OPERATOR, service=lab, actor=ALICE)
    set_role("bob", Role.AUDITOR, service=None, actor=ALICE)

    text = text_of(signed_in)

    assert "Whole installation Auditor" in text
    assert "lab Operator none" in text
    assert "plant Auditor Viewer here; the higher role in the whole installation counts none" in text
    assert "mill" not in text, "whoever sees all services has no role of their own there"
    assert {"/services/lab/", "/services/plant/", "/password/"} <= leads_to(signed_in)


def test_tokens_lead_to_those_of_their_service(signed_in, plant, bob):
    for name in ("laptop", "desk"):
        add_api_token(plant, bob, name, [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    carol = a_user(Role.VIEWER, plant, "carol")
    add_api_token(plant, carol, "hers", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)

    assert "2 API tokens" in text_of(signed_in)
    assert "/services/plant/tokens/" in leads_to(signed_in)


def test_token_by_a_role_everywhere_has_its_service(client, plant):
    anna = a_user(Role.AUDITOR, None, "anna")
    add_api_token(plant, anna, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    client.force_login(anna)

    assert "plant Auditor the role in the whole installation counts 1 API token" in text_of(client)


def test_person_without_any_role_sees_their_rows_and_no_service(signed_in, plant):
    set_role("bob", None, service=plant, actor=ALICE)

    text = text_of(signed_in)

    assert "You can sign in and see nothing yet." in text
    assert rows_of(signed_in) == ["bob signed in 192.0.2.1 Browser/1"]
    assert "plant" not in text
    assert leads_to(signed_in) == {"/", "/password/"}


def test_role_that_this_version_does_not_know_is_none(signed_in, bob):
    Membership.objects.filter(user=bob).update(role="gardener")

    assert "plant" not in text_of(signed_in)


@pytest.mark.parametrize(
    ("role", "offered", "not_offered"),
    [
        (Role.ADMINISTRATOR, {"/people/p/anna/history/", "/people/p/anna/changes/"}, set()),
        (Role.AUDITOR, {"/people/p/anna/history/", "/people/p/anna/changes/"}, set()),
        (Role.VIEWER, {"/people/p/anna/history/"}, {"/people/p/anna/changes/", "/history/?"}),
    ],
)
def test_who_has_a_role_everywhere_is_led_to_the_history(client, role, offered, not_offered):
    client.force_login(a_user(role, None, "anna"))

    links = leads_to(client)

    assert offered <= links
    assert not [one for one in links for start in not_offered if one.startswith(start)]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("is_everywhere", [True, False])
def test_everything_that_the_page_leads_to_can_be_opened(client, plant, role, is_everywhere):
    anna = a_user(role, None if is_everywhere else plant, "anna")
    add_api_token(plant, anna, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)
    change_password("anna", actor=ALICE, password=PASSWORD)
    sign_in(client, name="anna")

    links = {one.replace("&amp;", "&") for one in leads_to(client)}

    assert len(links) > 2
    assert {one: client.get(one).status_code for one in links} == dict.fromkeys(links, 200)


def test_newest_are_shown_and_who_has_the_rest_is_said(signed_in, plant):
    for _ in range(11):
        sign_in(signed_in)
        signed_in.post("/sign-out/")
    sign_in(signed_in)

    assert len(rows_of(signed_in)) == 20
    assert "Auditors and administrators of the whole installation see the rest." in text_of(signed_in)


def test_values_that_no_version_writes_hold_up_no_page(signed_in):
    odd = (
        {"some_addresses": [1, None]},
        {"failures": "x", "since": 7, "some_addresses": 3},
        {"since": "soon", "addresses": 4},
    )
    for after in odd:
        HistoryEvent.objects.create(
            at=timezone.now(),
            event="person.sign_in_failed",
            actor_kind="stranger",
            actor_name="somebody",
            way="portal",
            subject_kind="User",
            subject_name="bob",
            after=after,
        )

    assert sum("failed to sign in as bob" in one for one in rows_of(signed_in)) == 3


def test_page_states_its_queries_however_much_there_is(signed_in, plant, bob):
    def queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert signed_in.get("/account/").status_code == 200
        return len(queries)

    few = queries()
    for number in range(12):
        service = a_service(f"lab-{number}")
        set_role("bob", Role.VIEWER, service=service, actor=ALICE)
        add_api_token(service, bob, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)

    assert (few, queries()) == (10, 10)


def test_more_services_than_one_statement_takes(bob, plant, monkeypatch):
    monkeypatch.setattr("enrollments.portal.account.MOST_RANGES", 2)
    labs = [a_service(f"lab-{number}") for number in range(4)]
    for lab in labs:
        set_role("bob", Role.VIEWER, service=lab, actor=ALICE)

    found = newest_about(bob, [plant.pk, *(lab.pk for lab in labs)], 3)

    assert [row.service_name for row in found] == ["lab-3", "lab-2", "lab-1"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads the plan of SQLite")
def test_rows_are_found_by_the_index_of_names_and_nothing_is_sorted_but_the_newest(bob, plant):
    with CaptureQueriesContext(connection) as queries:
        newest_about(bob, [plant.pk], 21)

    merged, fetched = queries.captured_queries
    plans = []
    for one in (merged, fetched):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {one['sql']}")
            plans.append([detail for *_, detail in cursor.fetchall()])
    of_table = [one for one in plans[0] if "enrollments_historyevent" in one]
    assert len(of_table) == 2
    assert all("SEARCH" in one and "history_by_name" in one for one in of_table)
    assert sum("TEMP B-TREE" in one for one in plans[0]) == 1, "the few that were found"
    assert any("SEARCH" in one and "PRIMARY KEY" in one for one in plans[1])
