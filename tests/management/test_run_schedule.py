"""`manage.py run_schedule`: optional, exact, and not stopped by a database that does not answer."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import DatabaseError

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.management.commands import run_schedule
from enrollments.models import EnrollmentGroup, HistoryEvent
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, new_service
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def services(database_clock):
    """Two services with a group each that is to be disabled in an hour."""
    services = [new_service(name) for name in ("lab", "plant")]
    for service in services:
        enroll_ca(service, root("Root A"))
        disable_enrollment_group(service, "root-a", at=database_clock.ahead(hours=1), actor=ALICE)
    return services


def rows() -> int:
    return HistoryEvent.objects.filter(way="schedule", event="group.disabled").count()


def test_what_is_due_is_turned_in_every_service_and_once(services, database_clock):
    early = printed_by("run_schedule")
    database_clock.set_to(database_clock.ahead(hours=1))

    assert early == "Nothing was due.\n"
    assert printed_by("run_schedule") == "lab: 1 switch turned\nplant: 1 switch turned\n"
    assert json_of("run_schedule") == {}
    assert rows() == 2
    assert not EnrollmentGroup.objects.filter(enabled=True).exists()


def test_a_service_that_fails_is_told_of_and_does_not_hold_up_the_others(
    services, database_clock, monkeypatch
):
    settle = run_schedule.settle_due

    def fails_in_the_lab(service):
        if service.name == "lab":
            raise DatabaseError("disk full")
        return settle(service)

    monkeypatch.setattr(run_schedule, "settle_due", fails_in_the_lab)
    database_clock.set_to(database_clock.ahead(hours=1))

    code, sentence = refusal_of("run_schedule")

    assert (code, rows()) == (1, 1)
    assert "in service lab could not be written: disk full" in sentence


@pytest.mark.django_db(transaction=True)  # the command closes a connection that failed
def test_forever_goes_on_after_a_failure_until_it_is_stopped(services, database_clock, monkeypatch):
    settle, slept = run_schedule.settle_due, []

    def fails_at_first(service):
        if not slept:
            raise DatabaseError("no connection")
        return settle(service)

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_schedule, "settle_due", fails_at_first)
    monkeypatch.setattr(run_schedule.time, "sleep", sleep)
    database_clock.set_to(database_clock.ahead(hours=1))
    out, err = StringIO(), StringIO()

    call_command("run_schedule", "--forever", "--interval", "7", "--json", stdout=out, stderr=err)

    assert slept == [7, 7, 7]
    assert json.loads(out.getvalue()) == {"lab": 1, "plant": 1}
    assert "no connection" in err.getvalue()
    assert err.getvalue().endswith("Stopped.\n")
