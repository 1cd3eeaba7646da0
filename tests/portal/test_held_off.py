"""Sign-ins that are tried while held off: all of them are counted, in the history and at no cost (R15)."""

import random

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions import held_off_counts
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.held_off_counts import count_held_off, write_down_held_off
from enrollments.actions.people import add_person
from enrollments.actions.sign_in import LockedOut, WrongPassword, _count_failure
from enrollments.actions.sign_in import sign_in as check_password
from enrollments.models import HistoryEvent, SignInFailures
from enrollments.policy.roles import Role
from tests.chance import seeds
from tests.devices import ALICE
from tests.portal.test_sign_in import (
    LIMIT,
    PASSWORD,
    fail,
    failures_in_history,
    let_windows_end,
    sign_in,
)


@pytest.fixture
def bob(db: None) -> User:
    return add_person("bob", role=Role.VIEWER, service=None, actor=ALICE, password=PASSWORD)[0]


def test_who_goes_on_while_held_off_leaves_the_total_when_the_window_ends(client, bob):
    fail(client, 40)

    (at_once,) = failures_in_history()
    assert at_once.after["failures"] == LIMIT
    let_windows_end()
    record_ended_windows()

    _, total = failures_in_history()
    assert (total.subject_name, total.address) == ("bob", "192.0.2.1")
    told = {name: total.after[name] for name in ("failures", "while_held_off", "told_before", "held_off")}
    assert told == {"failures": 40, "while_held_off": 35, "told_before": LIMIT, "held_off": True}
    assert total.after["last"] > total.after["since"]
    assert not SignInFailures.objects.exists()


def test_right_password_that_is_not_looked_at_is_counted_as_well(client, bob):
    fail(client, LIMIT)
    assert sign_in(client).status_code == 429
    let_windows_end()
    record_ended_windows()

    assert [row.after["failures"] for row in failures_in_history()] == [LIMIT, LIMIT + 1]


def test_held_off_tries_cost_no_write_and_one_look(client, bob):
    fail(client, LIMIT)

    with CaptureQueriesContext(connection) as taken:
        for _ in range(30):
            with pytest.raises(LockedOut):
                check_password("bob", "wrong", address="192.0.2.1")

    assert [one["sql"].split()[0] for one in taken] == ["SELECT"] * 30
    with CaptureQueriesContext(connection) as taken:
        write_down_held_off()
    assert len([one for one in taken if "INSERT" in one["sql"]]) == 1
    assert SignInFailures.objects.get().held_off == 30


def test_held_off_tries_make_no_hold_off_of_the_address(client, bob):
    add_person("carol", role=Role.VIEWER, service=None, actor=ALICE, password=PASSWORD)
    fail(client, LIMIT * 30)
    write_down_held_off()

    assert sign_in(Client(), name="carol").status_code == 302


def test_held_off_tries_do_not_make_the_hold_off_longer(client, bob):
    fail(client, LIMIT)
    let_windows_end(14)
    fail(client, 20)
    write_down_held_off()
    let_windows_end(2)

    assert sign_in(client).status_code == 302
    assert [row.after["failures"] for row in failures_in_history()] == [LIMIT, LIMIT + 20]


def test_names_tried_from_an_address_that_is_held_off_are_counted_and_not_kept(client, bob):
    """Nor are rows of the table: there may be any number of such names."""
    for number in range(10 * LIMIT):
        fail(client, 1, f"name-{number}")
    rows = SignInFailures.objects.count()
    fail(client, 25, "correct horse battery")
    fail(client, 5)
    for number in range(30):
        fail(client, 1, f"invented-{number}")
    write_down_held_off()

    assert SignInFailures.objects.count() == rows + 1
    let_windows_end()
    record_ended_windows()
    (of_nobody, not_kept) = failures_in_history()
    assert (of_nobody.after["failures"], of_nobody.after["names"]) == (10 * LIMIT, 10 * LIMIT)
    assert (not_kept.subject_name, not_kept.address, not_kept.after["failures"]) == (
        "names tried while their address was held off",
        "192.0.2.1",
        60,
    )
    assert "horse" not in str(HistoryEvent.objects.values_list("subject_name", "before", "after"))


def test_memory_of_held_off_tries_is_bounded_and_none_is_lost(bob, monkeypatch):
    monkeypatch.setattr(held_off_counts._HELD_OFF, "_most", 5)
    for number in range(50):
        count_held_off("bob", f"192.0.2.{number}", at=timezone.now(), is_own=True)

    assert len(held_off_counts._HELD_OFF._counts) == 6
    let_windows_end()
    write_down_held_off()
    let_windows_end()
    record_ended_windows()

    assert sum(row.after["failures"] for row in failures_in_history()) == 50
    assert failures_in_history()[-1].after["further_addresses"] is True


def test_tries_that_are_written_after_their_window_was_told_are_told_as_well(client, bob):
    fail(client, LIMIT)
    fail(client, 7)
    counted = dict(held_off_counts._HELD_OFF._counts)
    held_off_counts._HELD_OFF._counts.clear()  # as if in another process
    let_windows_end()
    record_ended_windows()
    assert not SignInFailures.objects.exists()
    held_off_counts._HELD_OFF._counts.update(counted)
    write_down_held_off()
    let_windows_end()
    record_ended_windows()

    assert [row.after["failures"] for row in failures_in_history()] == [LIMIT, 7]
    assert not any("told_before" in row.after for row in failures_in_history())


def test_of_those_that_come_side_by_side_none_is_lost(bob):
    """All of them have been let past the first look when the first is counted."""
    counts = [_count_failure("bob", "192.0.2.1") for _ in range(LIMIT + 4)]

    assert counts == list(range(1, LIMIT + 5))
    let_windows_end()
    record_ended_windows()
    assert failures_in_history()[-1].after["failures"] == LIMIT + 4


@pytest.mark.parametrize("seed", seeds(0, 5))
def test_each_failure_is_told_and_none_twice(bob, seed):
    """Names that somebody has and nobody has, addresses, processes that write late, windows that end: in any order."""
    chance, happened = random.Random(seed), 0
    names, addresses = ["bob", "nobody", "x"], ["192.0.2.1", "192.0.2.2"]
    for _ in range(250):
        step = chance.choices(["fail", "write", "end"], [12, 1, 1])[0]
        if step == "fail":
            with pytest.raises((WrongPassword, LockedOut)):
                check_password(chance.choice(names), "wrong", address=chance.choice(addresses))
            happened += 1
        elif step == "write":
            write_down_held_off()
        else:
            let_windows_end()
            record_ended_windows()
    write_down_held_off()
    while SignInFailures.objects.exists():
        let_windows_end()
        record_ended_windows()

    rows = failures_in_history()
    # The row of a hold-off as it begins is among the total.
    totals = [row for row in rows if row.after.get("held_off") and "while_held_off" in row.after]
    assert sum(row.after["failures"] for row in rows) - LIMIT * len(totals) == happened
    assert totals
