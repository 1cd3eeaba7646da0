"""What is refused leaves a row (R15): acts each time, looks once within an hour, in few queries."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions.refusals import LOOKS_APART, Tried, note_refusal, note_refused_look
from enrollments.audit.actor import Actor, Way
from tests.devices import ALICE, new_service
from tests.tables import refused_rows

pytestmark = pytest.mark.django_db
PAGE = "GET /services/plant/attempts/"
ADDRESS = Tried(PAGE)
OBJECT = Tried("GET /services/plant/registrations/pump-1/deny/", "RegistrationRecord", ("pump-1",))
each_kind = pytest.mark.parametrize("tried", [ADDRESS, OBJECT], ids=["address", "object"])


@each_kind
def test_looks_at_one_address_within_an_hour_are_one_row(service, tried):
    for _ in range(3):
        note_refused_look(tried, actor=ALICE, service=service)

    assert len(refused_rows()) == 1


@each_kind
def test_an_hour_later_there_is_another(service, tried, monkeypatch):
    began = timezone.now()
    # One second before the hour is over, and one after.
    for later, rows in ((timedelta(), 1), (LOOKS_APART - timedelta(seconds=1), 1), (LOOKS_APART * 1.001, 2)):
        monkeypatch.setattr(timezone, "now", lambda later=later: began + later)
        note_refused_look(tried, actor=ALICE, service=service)
        assert len(refused_rows()) == rows


@each_kind
def test_others_and_elsewhere_are_rows_of_their_own(service, tried):
    note_refused_look(tried, actor=ALICE, service=service)
    note_refused_look(tried, actor=Actor("user", "bob", Way.PORTAL), service=service)
    note_refused_look(tried, actor=Actor("service", "alice", Way.SERVICE_API), service=service)
    note_refused_look(tried, actor=ALICE, service=None)
    note_refused_look(Tried(f"{tried.what}x", tried.kind, tried.names), actor=ALICE, service=service)

    assert len(refused_rows()) == 5


@each_kind
def test_acts_leave_a_row_each_and_take_none_from_looks(service, tried):
    act = Tried(tried.what.replace("GET", "POST"), tried.kind, tried.names)
    for _ in range(2):
        note_refusal(act, actor=ALICE, service=service)
        note_refused_look(tried, actor=ALICE, service=service)

    assert len(refused_rows()) == 3


def test_number_of_queries(service):
    """A look that is noted already costs one, by an index, and nothing is written."""
    asked = 'FROM "enrollments_historyevent"'

    def queries():
        with CaptureQueriesContext(connection) as taken:
            note_refused_look(ADDRESS, actor=ALICE, service=service)
        return [one["sql"] for one in taken if "SAVEPOINT" not in one["sql"] and "advisory" not in one["sql"]]

    first, again = queries(), queries()

    assert len(first) == 3
    assert [asked in one for one in first] == [True, True, False]
    assert len(again) == 1
    assert asked in again[0]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL plans by how much there is")
@each_kind
def test_it_is_asked_by_name(service, tried):
    with CaptureQueriesContext(connection) as taken:
        note_refused_look(tried, actor=ALICE, service=service)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {taken[0]['sql']}")
        plan = " ".join(row[-1] for row in cursor.fetchall())

    assert "USING INDEX history_by_name (service_id=? AND <expr>=? AND at>?)" in plan


@pytest.mark.django_db(transaction=True)
def test_two_at_a_time_leave_one_row():
    service, start = new_service(), threading.Barrier(4)

    def look():
        try:
            start.wait()
            note_refused_look(ADDRESS, actor=ALICE, service=service)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused_rows()) == 1
