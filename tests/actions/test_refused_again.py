"""What one person is refused again and again: the first is told at once, the others after an hour (R14, R15)."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions import refused_again
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.refusals import Tried
from enrollments.actions.refused_again import ADDED_UP_FOR, Repeated, note_refused_again
from enrollments.audit.actor import Actor, Way
from enrollments.models import RefusedAgain
from tests.devices import ALICE, new_service
from tests.tables import refused_rows

pytestmark = pytest.mark.django_db
SAME = Repeated("POST /services/plant/settings/change/")
BOB = Actor("user", "bob", Way.PORTAL, "192.0.2.7")


def note(service, *, actor=ALICE, same=SAME, what="POST /services/plant/settings/change/"):
    note_refused_again(Tried(what), same, actor=actor, service=service)


@pytest.fixture
def later(monkeypatch):
    """Lets time pass."""
    began, passed = timezone.now(), [timedelta()]
    monkeypatch.setattr(timezone, "now", lambda: began + passed[0])

    def let(by):
        passed[0] += by
        return timezone.now()

    return let


def test_the_first_leaves_its_row_at_once_and_each_other_is_counted(service):
    for number in range(50):
        note(service, what=f"POST /services/plant/enrollments/i/invented-{number}/disable/")

    (row,) = refused_rows()
    assert (row.subject_name, row.after) == ("POST /services/plant/enrollments/i/invented-0/disable/", None)
    assert RefusedAgain.objects.get().count == 49


def test_the_others_are_told_when_the_hour_is_over_with_first_and_last(service, later):
    first = later(timedelta())
    note(service, actor=BOB)
    for _ in range(3):
        last = later(timedelta(minutes=10))
        note(service, actor=BOB)
    assert record_ended_windows() == 0

    later(ADDED_UP_FOR - timedelta(minutes=30, microseconds=1))
    assert record_ended_windows() == 0
    later(timedelta(microseconds=1))
    assert record_ended_windows() == 1

    _, row = refused_rows()
    assert (row.actor_kind, row.actor_name, row.way, row.address) == ("user", "bob", "portal", "192.0.2.7")
    assert (row.service_id, row.subject_kind, row.subject_name) == (service.pk, "action", SAME.what)
    assert row.after == {"times": 3, "since": first.isoformat(), "last": last.isoformat()}
    assert not RefusedAgain.objects.exists()


def test_nobody_has_to_look_for_an_hour_to_end(service, later):
    note(service)
    note(service)
    later(ADDED_UP_FOR)
    note(service)

    assert [row.after and row.after["times"] for row in refused_rows()] == [None, 1, None]
    assert RefusedAgain.objects.get().count == 0


def test_what_happened_once_leaves_no_second_row(service, later):
    note(service)
    later(ADDED_UP_FOR)

    assert record_ended_windows() == 1
    assert len(refused_rows()) == 1


def test_others_and_elsewhere_are_apart(service):
    for _ in range(2):
        note(service)
        note(service, actor=BOB)
        note(service, actor=Actor("service", "alice", Way.SERVICE_API))
        note(None)
        note(service, same=Repeated("GET /services/plant/policies/p/<policy_name>/"))

    assert len(refused_rows()) == 5


def test_one_person_leaves_a_bounded_number_of_rows(service, monkeypatch, later):
    """However many routes and names of services they think of; what is beyond is counted in the installation."""
    monkeypatch.setattr(refused_again, "MOST_APART", 10)
    for _ in range(3):
        for number in range(40):
            note(service if number % 2 else None, same=Repeated(f"POST /services/{number}/"))
    note(service, actor=BOB)

    assert len(refused_rows()) == 10 + 1 + 1
    assert RefusedAgain.objects.count() == 12
    other = refused_rows()[10]
    assert (other.service_id, other.subject_name) == (None, "more than 100 different addresses")
    later(ADDED_UP_FOR)
    record_ended_windows()
    assert sum(row.after["times"] if row.after else 1 for row in refused_rows()) == 3 * 40 + 1


def test_number_of_statements(service):
    """Of one that is counted: one that finds it, one that counts it."""
    note(service)

    with CaptureQueriesContext(connection) as taken:
        note(service)

    statements = [one["sql"] for one in taken if "SAVEPOINT" not in one["sql"]]
    assert [one.split()[0] for one in statements] == ["SELECT", "UPDATE"]


def test_r15_what_cannot_be_recorded_is_not_counted_as_if_it_were(service, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the history cannot be written")

    monkeypatch.setattr(refused_again, "note_refusal", broken)
    with pytest.raises(RuntimeError):
        note(service)

    assert not RefusedAgain.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_several_at_a_time_are_all_counted():
    service, start = new_service(), threading.Barrier(4)

    def tries():
        try:
            start.wait()
            for _ in range(5):
                note(service)
        finally:
            connection.close()

    threads = [threading.Thread(target=tries) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(refused_rows()), RefusedAgain.objects.get().count) == (1, 19)
