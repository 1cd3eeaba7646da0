"""Failed authentications cost no write each, none is lost but by a kill, and none is answered otherwise (R14, R15)."""

import json
import random
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments import metrics
from enrollments.actions import access_counts, adding_up
from enrollments.actions.access_counts import count_failure, write_down_failures
from enrollments.actions.access_failures import NO_POLICY, NO_TOKEN, Claimed
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.models import HistoryEvent, SignInFailures
from tests.chance import seeds
from tests.live import installation
from tests.service_api.conftest import BackEnd, error_of, service_token
from tests.service_api.test_access import OTHER_KEY, UNAUTHORIZED
from tests.service_api.test_access_failures import FAILED, let_windows_end, policy_of, rows

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("time_stands_still")]
WRITES = ("INSERT", "UPDATE", "DELETE")


def a_failure(service, claimed=None, address="192.0.2.1", cause="token_expired", **more):
    count_failure(service, claimed or policy_of(service), cause, address, at=timezone.now(), **more)


@contextmanager
def nothing_can_be_written():
    """As on a full disk: what is read is read."""

    def refuse(execute, sql, params, many, context):
        if sql.lstrip().startswith(WRITES):
            raise OperationalError("disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        yield


def told_in_history():
    """Not by `rows`, which tells of the first."""
    return sum(row.after["failures"] for row in HistoryEvent.objects.filter(event__in=FAILED))


def test_the_first_of_a_window_is_in_the_history_at_once(service, owner):
    for _ in range(3):
        assert error_of(BackEnd(service_token(OTHER_KEY, owner.name)).get("/enrollments/x")) == UNAUTHORIZED
        (row,) = rows()
        assert (row.subject_name, row.address, row.after["failures"]) == (owner.name, "127.0.0.1", 1)


def test_each_address_that_tries_a_policy_is_told_at_once_up_to_ten(service):
    for number in range(30):
        a_failure(service, address=f"198.51.100.{number}")

    assert [row.address for row in rows()] == [f"198.51.100.{number}" for number in range(10)]


@pytest.mark.parametrize("claimed", [NO_POLICY, NO_TOKEN, None], ids=["nobody", "no token", "a policy"])
def test_a_flood_costs_no_statement(service, claimed):
    """From as many addresses as there are, of what nobody has and of a policy."""
    claimed = claimed or policy_of(service)
    for number in range(10):
        a_failure(service, claimed, f"198.51.100.{number}")

    rows()
    with CaptureQueriesContext(connection) as taken:
        for number in range(2000):
            a_failure(service, claimed, f"2001:db8::{number:x}")

    assert [one["sql"] for one in taken] == []
    assert access_counts._ADDED_UP.waiting >= 2000


def test_what_was_added_up_is_written_in_few_statements(service):
    for number in range(3000):
        a_failure(service, NO_POLICY, f"2001:db8::{number:x}")
    assert len(rows()) == 1

    with CaptureQueriesContext(connection) as taken:
        write_down_failures()

    # One for the table's room, one for all of the counts, two that look for windows that have ended.
    statements = [one["sql"] for one in taken if "SAVEPOINT" not in one["sql"]]
    assert len(statements) == 4
    assert sum(SignInFailures.objects.values_list("count", flat=True)) == 2999
    with CaptureQueriesContext(connection) as taken:
        write_down_failures()
    assert len(taken) == 0


def test_memory_is_bounded_and_what_is_crowded_out_is_counted(service, monkeypatch):
    monkeypatch.setattr(access_counts._ADDED_UP, "_most", 20)
    for number in range(200):
        a_failure(service, NO_POLICY, f"198.51.100.{number}")

    assert len(access_counts._ADDED_UP._counts) == 21
    write_down_failures()
    let_windows_end()
    record_ended_windows()

    assert told_in_history() == 200
    assert rows()[-1].after["further_addresses"] is True


@pytest.mark.parametrize("seed", seeds(0, 5))
def test_nothing_is_lost_nor_counted_twice(service, monkeypatch, seed):
    """Failures, writes, writes that fail, windows that end, other processes: in any order."""
    chance, happened = random.Random(seed), 0
    monkeypatch.setattr(access_counts, "MOST_COUNTED", 5)
    claims = [policy_of(service), NO_POLICY, NO_TOKEN, Claimed("AccessPolicy", 77, "gone")]
    now = timezone.now()
    for _ in range(300):
        step = chance.choices(
            ["fail", "fail in vain", "write", "cannot write", "end", "other"], [9, 2, 2, 1, 1, 1]
        )[0]
        if step.startswith("fail"):
            times, now = chance.choice([1, 1, 4]), now + timedelta(seconds=chance.randrange(40))
            what = (service, chance.choice(claims), "token_expired", f"192.0.2.{chance.randrange(20)}")
            if step == "fail":
                count_failure(*what, at=now, times=times)
            else:
                with nothing_can_be_written():
                    count_failure(*what, at=now, times=times)
            happened += times
        elif step == "write":
            write_down_failures()
        elif step == "cannot write":
            with nothing_can_be_written():
                access_counts._FIRSTS.write_down_or_say()
                access_counts._ADDED_UP.write_down_or_say()
        elif step == "end":
            let_windows_end()
            record_ended_windows()
        else:
            write_down_failures()
            access_counts._TOLD = (
                access_counts._Told()
            )  # the next failure comes to a process that knows nothing
        in_table = sum(SignInFailures.objects.values_list("count", flat=True))
        in_memory = access_counts._FIRSTS.waiting + access_counts._ADDED_UP.waiting
        assert told_in_history() + in_table + in_memory == happened

    write_down_failures()
    while SignInFailures.objects.exists():
        let_windows_end()
        record_ended_windows()
    assert told_in_history() == happened


# --- The history cannot be written ----------------------------------------------------------------------


def test_whoever_fails_is_answered_all_the_same_where_the_history_cannot_be_written(
    service, owner, monkeypatch, caplog
):
    said = Counter()
    monkeypatch.setattr(metrics, "not_recorded", lambda what: said.update([what]))
    # A window of before that waits for its row, too.
    two_windows = 2 * timedelta(minutes=settings.DPS_SIGN_IN_LOCKOUT_MINUTES)
    for _ in range(2):
        count_failure(service, NO_TOKEN, "unknown_token", "192.0.2.1", at=timezone.now() - two_windows)
    write_down_failures()

    with nothing_can_be_written():
        for _ in range(3):
            answer = BackEnd(service_token(OTHER_KEY, owner.name)).get("/enrollments/x")
            assert error_of(answer) == UNAUTHORIZED
            assert answer["WWW-Authenticate"]
        assert not access_counts._FIRSTS.write_down_or_say()
        assert not access_counts._ADDED_UP.write_down_or_say()

    assert said == {metrics.ACCESS_FAILURES: 2}
    assert "the history cannot be written" in caplog.text
    assert "disk is full" in str([one.fields for one in caplog.records if hasattr(one, "fields")])
    BackEnd(service_token(OTHER_KEY, owner.name)).get("/enrollments/x")
    write_down_failures()
    let_windows_end()
    record_ended_windows()
    assert told_in_history() == 2 + 3 + 1


def test_the_answer_does_no_work_that_tells_which_policies_there_are(service, owner):
    """The first of a window is told for policies that there are, and once for all that there are not."""

    def statements(name):
        with CaptureQueriesContext(connection) as taken:
            assert error_of(BackEnd(service_token(OTHER_KEY, name)).get("/enrollments/x")) == UNAUTHORIZED
        return [one["sql"].replace(name, "NAME") for one in taken]

    statements("nobody")
    assert statements(owner.name) == statements("somebody")
    assert not [one for one in statements(owner.name) if one.startswith(WRITES)]


def test_windows_that_cannot_be_told_do_not_make_counts_double(service, monkeypatch):
    for _ in range(3):
        a_failure(service)
    let_windows_end()
    let_windows_end()

    def fails(**_):
        raise OperationalError("disk is full")

    monkeypatch.setattr("enrollments.actions.ended_windows.record_ended_windows", fails)
    for _ in range(2):
        write_down_failures()

    assert sum(SignInFailures.objects.values_list("count", flat=True)) == 2


# --- When it is written -----------------------------------------------------------------------------------


def test_a_thread_writes_until_nothing_is_left_and_another_begins_with_the_next(service, monkeypatch):
    begun, slept = [], []
    monkeypatch.setattr(adding_up, "in_background", lambda run, name: begun.append(run))
    monkeypatch.setattr(adding_up, "sleep", slept.append)
    monkeypatch.setattr(adding_up.connections, "close_all", lambda: None)
    for _ in range(5):
        a_failure(service)
    assert len(begun) == 2, "one for the first, one for what follows"

    begun[0]()
    assert (slept, told_in_history()) == ([0.2], 1)
    begun[1]()
    assert (slept, sum(SignInFailures.objects.values_list("count", flat=True))) == ([0.2, 10.0], 4)

    a_failure(service)
    assert len(begun) == 3


def test_a_thread_goes_on_while_nothing_can_be_written(service, monkeypatch):
    begun, slept = [], []
    monkeypatch.setattr(adding_up, "in_background", lambda run, name: begun.append(run))
    monkeypatch.setattr(adding_up.connections, "close_all", lambda: None)
    a_failure(service)
    a_failure(service)
    able = access_counts._write

    def write(counts):
        if len(slept) < 3:
            raise OperationalError("disk is full")
        able(counts)

    monkeypatch.setattr(adding_up, "sleep", slept.append)
    monkeypatch.setattr(access_counts._ADDED_UP, "_write", write)
    begun[1]()

    assert (len(slept), sum(SignInFailures.objects.values_list("count", flat=True))) == (3, 1)


def test_a_process_that_is_stopped_writes_what_it_has_counted(tmp_path):
    """Real listeners: five failures, of which the last ones were counted a moment before the stop."""
    with installation(tmp_path) as live:
        live.start("device")
        live.python(ASK.format(url=live.device_url, ca=str(live.ca_file)))

        live.stop_in_order("device")

        assert written(live) == 5


def written(live):
    """How many failures there are in the database, in whatever windows: those that were told, and those counted."""
    rows = live.rows("SELECT event, after FROM enrollments_historyevent WHERE event LIKE '%failed'")
    assert {row["event"] for row in rows} <= {"token.authentication_failed"}
    (counted,) = live.rows("SELECT COALESCE(SUM(count), 0) AS count FROM enrollments_signinfailures")
    return sum(json.loads(row["after"])["failures"] for row in rows) + counted["count"]


ASK = """
import ssl, urllib.error, urllib.request
context = ssl.create_default_context(cafile={ca!r})
request = urllib.request.Request(
    "{url}/enrollments/x?api-version=2021-10-01", headers={{"Authorization": "Bearer dpst_nobody"}}
)
for _ in range(5):
    try:
        urllib.request.urlopen(request, context=context)
    except urllib.error.HTTPError as refused:
        assert refused.code == 401
"""
