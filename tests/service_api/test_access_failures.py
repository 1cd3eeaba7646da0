"""Failed authentications at the service API in the history: counted, bounded, and without what was shown (R14, R15)."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from enrollments.actions import access_counts, access_failures, sign_in
from enrollments.actions.access_counts import count_failure, write_down_failures
from enrollments.actions.access_failures import NO_POLICY, Claimed
from enrollments.actions.access_policies import add_policy
from enrollments.actions.api_tokens import add_api_token, revoke_api_token
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.service_access import Knock, NotAuthenticated, note_unknown
from enrollments.actions.services import add_service, change_settings
from enrollments.actions.sign_in import WrongPassword
from enrollments.attestation.service_token import Host, Place
from enrollments.models import ApiToken, HistoryEvent, SignInFailures
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.devices import ALICE
from tests.factories import a_user
from tests.service_api.conftest import HOST, BackEnd, error_of, service_token, with_policy
from tests.service_api.test_access import OTHER_KEY, UNAUTHORIZED, switch

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("time_stands_still")]
FAILED = ("policy.authentication_failed", "token.authentication_failed")
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _windows_of_long_ago_end_when_a_test_says_so(monkeypatch):
    monkeypatch.setattr(access_counts, "record_ended_windows_if_possible", lambda **_: None)


def fail(authorization):
    assert error_of(BackEnd(authorization).get("/enrollments/x")) == UNAUTHORIZED


def rows():
    """With those that are told at once, in a moment."""
    access_counts._FIRSTS.write_down()
    return list(HistoryEvent.objects.filter(event__in=FAILED).order_by("pk"))


def let_windows_end():
    for row in SignInFailures.objects.all():
        row.window_started_at -= timedelta(minutes=settings.DPS_SIGN_IN_LOCKOUT_MINUTES + 1)
        row.save()


def counted():
    """How many are in the table, apart from those that were told at once."""
    write_down_failures()
    return sum(SignInFailures.objects.values_list("count", flat=True))


def told():
    """The rows of what happened: of the first of each at once, and of what was counted."""
    write_down_failures()
    let_windows_end()
    record_ended_windows()
    assert not SignInFailures.objects.exists()
    return rows()


@pytest.mark.parametrize(
    ("authorization", "cause", "subject"),
    [
        pytest.param(
            lambda p: service_token(OTHER_KEY, p.name), "token_signature_wrong", "owner", id="another key"
        ),
        pytest.param(
            lambda p: service_token(p.primary_key, p.name, expiry=1), "token_expired", "owner", id="expired"
        ),
        pytest.param(
            lambda p: service_token(p.primary_key, p.name, resource="lab.example"),
            "token_for_other_place",
            "owner",
            id="for another host",
        ),
        pytest.param(
            lambda p: service_token(OTHER_KEY, "nobody"),
            "unknown_policy",
            "(unknown names)",
            id="no such policy",
        ),
        pytest.param(
            lambda p: service_token(OTHER_KEY, "%00"), "unknown_policy", "(unknown names)", id="no name"
        ),
        pytest.param(lambda p: "Basic YTpi", "token_malformed", "(unknown names)", id="another scheme"),
        pytest.param(lambda p: "Bearer dpst_nobody", "unknown_token", "(unknown tokens)", id="no such token"),
        pytest.param(lambda p: "Bearer " + "x" * 2000, "too_long", "(unknown tokens)", id="too long"),
    ],
)
def test_what_was_claimed_and_why_it_failed_is_told(service, owner, authorization, cause, subject):
    fail(authorization(owner))

    (row,) = told()

    assert row.subject_name == (owner.name if subject == "owner" else subject)
    assert row.subject_id == (str(owner.pk) if subject == "owner" else "")
    assert (row.service_id, row.service_name, row.way, row.address) == (
        service.pk,
        "plant",
        "service API",
        "127.0.0.1",
    )
    assert (row.actor_kind, row.actor_name) == ("stranger", "somebody")
    assert (row.after["failures"], row.after["causes"]) == (1, {cause: 1})


def test_causes_of_one_window_are_told_together(owner):
    fail(service_token(OTHER_KEY, owner.name))
    fail(service_token(owner.primary_key, owner.name.upper(), expiry=1))
    fail(service_token(OTHER_KEY, owner.name))

    first, row = told()

    assert (first.after["failures"], first.after["causes"]) == (1, {"token_signature_wrong": 1})
    assert (row.after["failures"], row.after["causes"]) == (
        2,
        {"token_expired": 1, "token_signature_wrong": 1},
    )


def test_a_policy_that_is_disabled_is_told_to_be_tried(owner):
    switch(owner, False)
    fail(service_token(owner.primary_key, owner.name))

    (row,) = told()

    assert (row.subject_name, row.after["causes"]) == (owner.name, {"policy_disabled": 1})


def a_token(service):
    user = a_user(Role.VIEWER, service, "bob")
    return add_api_token(service, user, "laptop", [AccessRight.ENROLLMENT_READ], days=1, actor=ALICE)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        pytest.param(lambda text: text[:-1] + "-", "unknown_token", id="mistyped"),
        pytest.param(lambda text: text, "token_expired", id="expired"),
    ],
)
def test_a_token_is_told_by_its_name_and_what_people_tell_it_apart_by(service, spoil, cause):
    token, text = a_token(service)
    ApiToken.objects.update(expires_at=timezone.now())
    fail(f"Bearer {spoil(text)}")

    (row,) = told()

    assert (row.event, row.subject_kind, row.subject_name, row.subject_id) == (
        "token.authentication_failed",
        "ApiToken",
        "laptop",
        str(token.pk),
    )
    assert (row.after["hint"], row.after["of"], row.after["causes"]) == (token.hint, "bob", {cause: 1})


def test_a_token_that_is_revoked_in_the_end_keeps_its_hint(service):
    token, text = a_token(service)
    for _ in range(2):
        fail(f"Bearer {text[:-1]}-")
    assert len(rows()) == 1
    revoke_api_token(service, token.pk, actor=ALICE)
    fail(f"Bearer {text}")

    first, unknown, known = told()

    assert (first.subject_name, first.subject_id, first.after["hint"]) == (
        "laptop",
        str(token.pk),
        token.hint,
    )
    assert (known.subject_name, known.subject_id) == (token.hint, str(token.pk))
    assert (unknown.subject_name, unknown.after["failures"]) == ("(unknown tokens)", 1)


def test_nothing_that_was_shown_is_kept(service, owner):
    _, text = a_token(service)
    shown = [service_token(OTHER_KEY, owner.name), f"Bearer {text[:-1]}-", "Bearer hunter2", "Basic aHVudGVy"]
    for one in (*shown, service_token(OTHER_KEY, "correct-horse")):
        fail(one)
    assert counted() == 1
    table = str(list(SignInFailures.objects.values()))

    told()

    kept = table + str(list(HistoryEvent.objects.values()))
    signature = shown[0].partition("sig=")[2][:20]
    for secret in (signature, text[10:], "hunter2", "aHVudGVy", "correct-horse"):
        assert secret not in kept


def test_who_shows_no_credential_at_all_has_not_failed_with_one(owner):
    fail("")

    assert (counted(), rows()) == (0, [])


def test_right_credentials_and_lacking_rights_are_no_failures(service):
    reader = with_policy(add_policy(service, "reader", {AccessRight.ENROLLMENT_READ}, actor=ALICE))

    reader.get("/enrollments/x")
    reader.delete("/enrollments/x")

    assert (counted(), rows()) == (0, [])
    assert HistoryEvent.objects.latest("pk").event == "action.refused"


# --- Windows ------------------------------------------------------------------------------------------


def policy_of(service):
    policy = service.access_policies.get()
    return Claimed("AccessPolicy", policy.pk, policy.name)


def count(service, *moments, claimed=None, address="192.0.2.1"):
    for at in moments:
        count_failure(service, claimed or policy_of(service), "token_expired", address, at=at)
    write_down_failures()


def test_a_window_ends_on_the_second(service):
    """Each has a row of its own, also where nobody looked in between."""
    minutes = settings.DPS_SIGN_IN_LOCKOUT_MINUTES
    end = NOON + timedelta(minutes=minutes)
    count(service, NOON, end - timedelta(microseconds=1), end, end + timedelta(minutes=1))

    record_ended_windows()

    assert [(row.after["failures"], row.after["since"]) for row in rows()] == [
        (1, NOON.isoformat()),
        (1, end.isoformat()),
        (1, (end - timedelta(microseconds=1)).isoformat()),
        (1, (end + timedelta(minutes=1)).isoformat()),
    ]


def test_a_window_that_has_not_ended_is_not_told(service):
    now = timezone.now()
    count(service, now, now, now)

    assert record_ended_windows() == 0
    assert [row.after["failures"] for row in rows()] == [1], "the first, which is told at once"
    assert counted() == 2


def test_failures_that_cannot_be_told_are_not_forgotten(service, monkeypatch):
    count(service, NOON, NOON, NOON)
    monkeypatch.setattr(access_failures, "record", broken)

    with pytest.raises(RuntimeError):
        record_ended_windows()

    assert counted() == 2


def broken(*_, **__):
    raise RuntimeError("the history cannot be written")


def test_whoever_opens_the_history_of_the_service_finds_them(service, settings):
    count(service, NOON, NOON)
    settings.ROOT_URLCONF, settings.MIDDLEWARE = "dpsportal.urls", PORTAL_MIDDLEWARE
    auditor = Client()
    auditor.force_login(a_user(Role.AUDITOR, service, "eve"))

    text = auditor.get("/services/plant/history/").content.decode()

    assert text.count("failed to prove to be access policy") >= 2
    assert len(rows()) == 2


PORTAL_MIDDLEWARE = list(settings.MIDDLEWARE)


# --- Floods -------------------------------------------------------------------------------------------


def test_invented_names_are_one_count_and_one_row(service):
    for number in range(4):
        fail(service_token(OTHER_KEY, f"invented-{number}"))

    assert counted() == 3
    assert [(row.subject_name, row.after["failures"]) for row in told()] == [
        ("(unknown names)", 1),
        ("(unknown names)", 3),
    ]


def test_who_does_not_wait_costs_no_write_and_is_counted_with_the_next_failure(service):
    """R14: the table and the history are not written for each knock of a storm."""
    problem = NotAuthenticated("token_expired", "Expired.", policy_of(service))
    knock = Knock("", Place(Host.read(HOST), "/"), address="192.0.2.1")
    now = timezone.now()
    for _ in range(5):
        assert not note_unknown(service, knock, problem, now)[1]
    for _ in range(7):
        assert note_unknown(service, knock, problem, now)[1]
    assert counted() == 4, "but for the first, which is told"

    note_unknown(service, knock, problem, now + timedelta(minutes=8))

    assert counted() + sum(row.after["failures"] for row in rows()) == 5 + 7 + 1


def test_many_addresses_fill_neither_the_table_nor_the_history(service, monkeypatch):
    monkeypatch.setattr(access_counts, "MOST_COUNTED", 20)
    for claimed in (None, NO_POLICY):
        for number in range(100):
            count(service, NOON, claimed=claimed, address=f"198.51.100.{number}")

    assert SignInFailures.objects.filter(count__gt=0).count() == 22
    at_once = len(rows())
    record_ended_windows()

    assert at_once == 1 + 10, "one of all names that nobody has, ten of a policy"
    known, unknown = sorted(rows()[at_once:], key=lambda row: row.subject_id, reverse=True)
    for row, failures, addresses in ((known, 90, 20), (unknown, 99, 0)):
        assert (row.address, row.after["failures"], row.after["further_addresses"]) == ("", failures, True)
        assert row.after["addresses"] == addresses
        assert len(row.after["some_addresses"]) == min(10, addresses)


def test_a_policy_that_is_tried_from_a_few_addresses_has_a_row_for_each(service):
    for number in range(10):
        count(service, NOON, NOON, NOON, address=f"198.51.100.{number}")

    addresses = sorted(f"198.51.100.{number}" for number in range(10))
    assert sorted(row.address for row in rows()) == addresses, "the first from each"
    record_ended_windows()

    assert sorted(row.address for row in rows()[10:]) == addresses
    assert {row.after["failures"] for row in rows()[10:]} == {2}
    assert "addresses" not in rows()[-1].after


def test_many_policies_from_many_addresses_have_a_row_each(service, monkeypatch):
    monkeypatch.setattr(access_failures, "MOST_APART", 8)
    for name in "abc":
        policy = add_policy(service, name, frozenset(AccessRight), actor=ALICE)
        for number in range(3):
            count(
                service,
                NOON,
                NOON,
                claimed=Claimed("AccessPolicy", policy.pk, name),
                address=f"198.51.100.{number}",
            )

    at_once = len(rows())
    record_ended_windows()

    assert at_once == 9
    assert [(row.subject_name, row.after["failures"]) for row in rows()[9:]] == [("a", 3), ("b", 3), ("c", 3)]


def test_failures_here_keep_nobody_from_signing_in(service):
    """An address that a back end with a wrong key shares with people."""
    for number in range(settings.DPS_SIGN_IN_FAILURES * sign_in.ADDRESS_FACTOR + 1):
        count(service, *[timezone.now()] * 2, claimed=Claimed("AccessPolicy", 7, f"p{number}"))

    with pytest.raises(WrongPassword):
        sign_in.sign_in("bob", "wrong", address="192.0.2.1")


def test_a_name_that_is_typed_like_one_of_these_counts_is_a_name(service):
    with pytest.raises(WrongPassword):
        sign_in.sign_in(f"API {service.pk} 1 unknown_policy AccessPolicy - ", "wrong", address="192.0.2.1")

    let_windows_end()
    record_ended_windows()

    assert rows() == []
    assert HistoryEvent.objects.latest("pk").subject_name == "names that nobody has"


def test_each_service_has_its_own(service, owner):
    lab = add_service("lab", actor=ALICE)
    change_settings(service, {"host_name": HOST}, actor=ALICE)
    count(service, NOON, NOON)
    count(lab, NOON, NOON)

    record_ended_windows()

    assert [row.service_name for row in rows()] == ["plant", "lab"] * 2


# --- Several workers ------------------------------------------------------------------------------------


def side_by_side(number, work):
    def run():
        try:
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.django_db(transaction=True)
def test_two_workers_count_every_failure_once(service):
    claimed = policy_of(service)

    side_by_side(2, lambda: count(service, *[NOON] * 20, claimed=claimed))

    assert (len(rows()), counted()) == (1, 39)


@pytest.mark.django_db(transaction=True)
def test_two_workers_tell_a_window_once(service):
    for number in range(5):
        count(service, NOON, NOON, address=f"198.51.100.{number}")

    side_by_side(2, record_ended_windows)

    assert len(rows()) == 5 + 5
    assert not SignInFailures.objects.exists()
