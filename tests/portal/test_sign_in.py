"""Signing in: who gets in, where it leads, what is recorded, and holding off who fails too often."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.people import add_person, restore_administrator, set_role
from enrollments.models import HistoryEvent, SignInFailures
from enrollments.policy.roles import Role
from tests.devices import ALICE

PASSWORD = "correct horse battery staple"
LIMIT = 5
LOCKED = "Too many failed attempts from your address. Try again in 15 minutes"


@pytest.fixture
def bob(db: None) -> User:
    return add_person("bob", role=Role.VIEWER, service=None, actor=ALICE, password=PASSWORD)[0]


def sign_in(
    client: Client, password: str = PASSWORD, name: str = "bob", *, address: str = "192.0.2.1", **more: str
):
    return client.post("/sign-in/", {"username": name, "password": password, **more}, REMOTE_ADDR=address)


def is_signed_in(client: Client) -> bool:
    return client.get("/").status_code == 200


def fail(client: Client, times: int, name: str = "bob", address: str = "192.0.2.1") -> None:
    for _ in range(times):
        sign_in(client, "wrong", name, address=address)


def test_right_password_leads_to_all_resources(client, bob):
    answer = sign_in(client)

    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert is_signed_in(client)


def test_wrong_password_is_refused_and_says_so(client, bob):
    answer = sign_in(client, "wrong")

    assert answer.status_code == 422
    assert "Name and password do not fit." in answer.content.decode()
    assert not is_signed_in(client)


def test_name_that_does_not_exist_hears_the_same(client, bob):
    known, unknown = sign_in(client, "wrong"), sign_in(client, "wrong", "nobody")

    def without_name(answer):
        return answer.content.decode().split('role="alert"')[1].split("</div>")[0]

    assert (known.status_code, without_name(known)) == (unknown.status_code, without_name(unknown))


def test_empty_form_is_refused_field_by_field(client, bob):
    answer = sign_in(client, "", "")

    assert answer.status_code == 422
    assert answer.content.decode().count("This field is required.") >= 2


def test_deactivated_person_is_refused(client, bob):
    User.objects.filter(pk=bob.pk).update(is_active=False)

    assert sign_in(client).status_code == 422
    assert not is_signed_in(client)


def test_signing_in_and_out_is_recorded_with_address_and_request(client, bob):
    sign_in(client, address="192.0.2.9")
    client.post("/sign-out/", REMOTE_ADDR="192.0.2.9")

    rows = HistoryEvent.objects.filter(event__startswith="person.signed").order_by("id")
    assert [(row.event, row.actor_name, row.way, row.address, row.service_id) for row in rows] == [
        ("person.signed_in", "bob", "portal", "192.0.2.9", None),
        ("person.signed_out", "bob", "portal", "192.0.2.9", None),
    ]
    assert {(row.subject_kind, row.subject_name) for row in rows} == {("User", "bob")}
    assert all(row.request_id for row in rows)


def test_signing_in_that_cannot_be_recorded_does_not_happen(client, bob, monkeypatch):
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the history cannot be written")

    monkeypatch.setattr("enrollments.actions.people.record", broken)

    with pytest.raises(RuntimeError):
        sign_in(client)
    assert not is_signed_in(client)


def test_signing_out_needs_a_post_and_ends_the_session(client, bob):
    sign_in(client)

    assert client.get("/sign-out/").status_code == 405
    assert is_signed_in(client)
    assert client.post("/sign-out/")["Location"] == "/sign-in/"
    assert not is_signed_in(client)


def pass_time(seconds: int) -> None:
    """As the one session sees it."""
    session = Session.objects.get()
    session.expire_date -= timedelta(seconds=seconds)
    session.save()


def test_idle_session_ends_and_each_request_within_the_time_renews_it(client, bob, settings):
    sign_in(client)
    almost = settings.SESSION_COOKIE_AGE - 30

    pass_time(almost)
    assert is_signed_in(client)
    pass_time(almost)
    assert is_signed_in(client)

    pass_time(settings.SESSION_COOKIE_AGE + 1)
    answer = client.get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/sign-in/?next=/")


def test_planted_session_is_worth_nothing_after_signing_in(client, bob):
    """Session fixation: the key changes, and the old one leads nowhere."""
    session = client.session
    session["planted"] = "yes"
    session.save()
    planted = session.session_key

    sign_in(client)

    assert client.session.session_key != planted
    stranger = Client()
    stranger.cookies["sessionid"] = planted
    assert not is_signed_in(stranger)


@pytest.mark.parametrize("wanted", ["/services/plant/", "/history/?event=shuts-out"])
def test_next_within_the_portal_is_followed(client, bob, wanted):
    assert sign_in(client, next=wanted)["Location"] == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "http://testserver/people/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "http:///evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "http://testserver@evil.example/",
        "http://testserver.evil.example/",
        " //evil.example",
        "/\t/evil.example",
    ],
)
def test_next_to_anywhere_else_is_not_followed(client, bob, wanted):
    assert sign_in(client, next=wanted)["Location"] == "/"


def test_next_to_anywhere_else_is_not_followed_by_who_is_signed_in(client, bob):
    sign_in(client)

    assert client.get("/sign-in/", {"next": "https://evil.example/"})["Location"] == "/"
    assert client.get("/sign-in/", {"next": "/services/plant/"})["Location"] == "/services/plant/"


def test_next_survives_a_wrong_password(client, bob):
    answer = sign_in(client, "wrong", next="/services/plant/")

    assert 'name="next" value="/services/plant/"' in answer.content.decode()


def test_too_many_failures_hold_off_even_the_right_password(client, bob):
    fail(client, LIMIT)

    answer = sign_in(client)

    assert answer.status_code == 429
    assert LOCKED in answer.content.decode()
    assert not is_signed_in(client)


def test_one_failure_less_holds_nobody_off(client, bob):
    fail(client, LIMIT - 1)

    assert sign_in(client).status_code == 302


def test_success_forgets_the_failures(client, bob):
    fail(client, LIMIT - 1)
    sign_in(client)
    fail(client, LIMIT - 1)

    assert sign_in(client).status_code == 302


def test_held_off_is_the_pair_of_name_and_address(client, bob):
    add_person("carol", role=Role.VIEWER, service=None, actor=ALICE, password=PASSWORD)
    fail(client, LIMIT)

    assert sign_in(Client()).status_code == 429
    assert sign_in(Client(), address="192.0.2.2").status_code == 302
    assert sign_in(Client(), name="carol").status_code == 302


def test_case_does_not_count_in_the_name_and_does_in_the_password(client, bob):
    assert sign_in(client, PASSWORD.upper()).status_code == 422
    assert sign_in(client, name="BOB").status_code == 302
    assert HistoryEvent.objects.get(event="person.signed_in").actor_name == "bob"


def test_failures_under_another_case_are_those_of_the_same_name(client, bob):
    fail(client, LIMIT, "BOB")

    assert sign_in(client).status_code == 429


def test_flood_from_elsewhere_does_not_lock_anybody_out(client, bob):
    for host in range(20):
        fail(client, LIMIT, address=f"198.51.100.{host}")

    assert sign_in(client).status_code == 302


def test_address_that_tries_many_names_is_held_off_altogether(client, bob):
    for number in range(LIMIT * 10):
        fail(client, 1, f"guess-{number}")

    assert sign_in(client).status_code == 429
    assert sign_in(client, address="192.0.2.2").status_code == 302


def test_window_passes(client, bob):
    fail(client, LIMIT)
    row = SignInFailures.objects.get(name_key="bob")
    SignInFailures.objects.update(window_started_at=row.window_started_at - timedelta(minutes=14))
    assert sign_in(client).status_code == 429

    SignInFailures.objects.update(window_started_at=row.window_started_at - timedelta(minutes=16))

    assert sign_in(client).status_code == 302


def test_own_password_is_changed_and_the_own_session_goes_on(client, bob):
    sign_in(client)
    other = Client()
    sign_in(other)

    answer = client.post(
        "/password/",
        {"current": PASSWORD, "password": "another long sentence", "again": "another long sentence"},
    )

    assert answer.status_code == 302
    assert is_signed_in(client)
    assert not is_signed_in(other)
    assert sign_in(Client(), "another long sentence").status_code == 302
    row = HistoryEvent.objects.get(event="person.password_changed")
    assert (row.actor_name, row.subject_name) == ("bob", "bob")


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"current": "wrong"}, "This is not your current password."),
        ({"again": "something else again"}, "The two new passwords differ."),
        ({"password": "short", "again": "short"}, "at least 12 characters"),
        ({"password": "", "again": ""}, "This field is required."),
    ],
)
def test_own_password_is_not_changed(client, bob, entered, sentence):
    sign_in(client)
    new = "another long sentence"

    answer = client.post("/password/", {"current": PASSWORD, "password": new, "again": new, **entered})

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert sign_in(Client()).status_code == 302


def test_session_left_open_cannot_try_passwords(client, bob):
    sign_in(client)
    new = "another long sentence"
    for _ in range(LIMIT):
        client.post("/password/", {"current": "wrong", "password": new, "again": new})

    answer = client.post("/password/", {"current": PASSWORD, "password": new, "again": new})

    assert answer.status_code == 429
    assert sign_in(Client(), address="192.0.2.5").status_code == 302


# --- Failures in the history (R15) -----------------------------------------------------------------------------


def failures_in_history() -> list[HistoryEvent]:
    return list(HistoryEvent.objects.filter(event="person.sign_in_failed").order_by("pk"))


def let_windows_end(minutes: int = 16) -> None:
    for row in SignInFailures.objects.all():
        row.window_started_at -= timedelta(minutes=minutes)
        row.save()


def test_hold_off_leaves_one_row_as_it_begins(client, bob):
    fail(client, LIMIT)

    (row,) = failures_in_history()
    assert (row.actor_kind, row.actor_name, row.subject_name, row.address) == (
        "stranger",
        "somebody",
        "bob",
        "192.0.2.1",
    )
    assert (row.after["failures"], row.after["held_off"]) == (LIMIT, True)
    let_windows_end()
    assert record_ended_windows() == 1
    assert len(failures_in_history()) == 1


def test_window_that_ends_leaves_one_row_with_its_count(client, bob):
    fail(client, 3)
    assert record_ended_windows() == 0
    assert failures_in_history() == []

    let_windows_end()
    record_ended_windows()

    (row,) = failures_in_history()
    assert (row.after["failures"], row.after["held_off"]) == (3, False)
    assert not SignInFailures.objects.exists()


def test_next_window_of_the_same_name_leaves_a_row_of_its_own(client, bob):
    fail(client, 2)
    let_windows_end()
    fail(client, 3)
    let_windows_end()
    record_ended_windows()

    assert [row.after["failures"] for row in failures_in_history()] == [2, 3]


def test_success_ends_the_window(client, bob):
    sign_in(client)
    assert failures_in_history() == []
    client.post("/sign-out/")

    fail(client, 2)
    sign_in(client)

    (row,) = failures_in_history()
    assert (row.after["failures"], row.subject_name) == (2, "bob")


def test_names_that_nobody_has_share_a_row_that_does_not_name_them(client, bob):
    """One of them may be a password, typed into the wrong field."""
    fail(client, LIMIT, "correct horse battery")
    fail(client, 2, "another", address="192.0.2.8")
    let_windows_end()
    record_ended_windows()

    (row,) = failures_in_history()
    assert row.subject_name == "names that nobody has"
    assert (row.after["failures"], row.after["names"], row.after["addresses"]) == (LIMIT + 2, 2, 2)
    assert "horse" not in str(HistoryEvent.objects.values_list("subject_name", "before", "after"))


def test_name_that_is_tried_from_everywhere_fills_no_history(client, bob):
    for host in range(30):
        fail(client, 1, address=f"198.51.100.{host}")
    let_windows_end()
    record_ended_windows()

    (row,) = failures_in_history()
    assert (row.subject_name, row.after["failures"], row.after["addresses"]) == ("bob", 30, 30)
    assert len(row.after["some_addresses"]) == 10


def test_flood_is_told_in_few_rows(client, bob):
    """What ended is collected for a whole window more, unless somebody looks."""
    fail(client, 1, "first")
    let_windows_end(16)
    fail(client, 1, "second")
    assert failures_in_history() == []

    let_windows_end(16)
    fail(client, 1, "third")

    (row,) = failures_in_history()
    assert row.after["names"] == 2


def test_administrator_who_looks_finds_failures_of_late(client, bob):
    fail(client, 1)
    let_windows_end()
    sign_in(client, name="bob")
    set_role("bob", Role.ADMINISTRATOR, service=None, actor=ALICE)

    assert "failed to sign in as" in client.get("/history/").content.decode()


def test_failure_that_cannot_be_recorded_is_not_forgotten(client, bob, monkeypatch):
    fail(client, 2)
    let_windows_end()

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the history cannot be written")

    monkeypatch.setattr("enrollments.actions.sign_in_failures.record", broken)
    with pytest.raises(RuntimeError):
        record_ended_windows()

    assert SignInFailures.objects.get().count == 2


def test_lock_outs_that_are_lifted_stay_in_the_history(client, bob):
    fail(client, 2)

    restore_administrator("bob", actor=ALICE, reason="locked out")

    assert [row.after["failures"] for row in failures_in_history()] == [2]
