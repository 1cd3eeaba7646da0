"""Whatever somebody with access to the database puts into one row, the pages of the history show the others, and it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions.enrollments import disable_enrollment
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.roles import Role
from tests.audit.tampering import EVENT, ON_SQLITE, tampered, updated
from tests.audit.test_written_forms import whatever_it_takes
from tests.certificates import self_signed
from tests.devices import ALICE, enroll_device, register
from tests.factories import a_user
from tests.portal.history_pages import URL, a_row
from tests.portal.walking import pages_of

pytestmark = pytest.mark.django_db
OVERVIEW = "/services/plant/"
PAST = "/services/plant/back-in-time/"
OF_DEVICE = "/services/plant/registrations/pump-042/history/"
# What a row is made to hold. Of "before" and "after", what is JSON and no state of an object.
ANYWHERE = {
    **{
        f"{column} {json}": f"\"{column}\" = '{json}'"
        for column in ("before", "after")
        for json in ("5", '"x"', "[1]", "true")
    },
    "until a number": """before = '{"until": 7}', way = 'schedule'""",
    "certificates a list": """event = 'enrollment.changed', before = '{"certificates": [1]}'""",
    "certificates a text": """event = 'enrollment.changed', before = '{"certificates": "x"}'""",
    "certificates of lists": """event = 'enrollment.changed', before = '{"certificates": {"primary": [1]}}',
        after = '{"certificates": {"primary": [1]}}'""",
    "endless number": f"""before = '{{"status": {"9" * 5000}}}'""",
    "ID superscript": "subject_id = '²'",
    "ID of 30 digits": f"subject_id = '{'9' * 30}'",
    "year 1": "at = '0001-01-01 00:00:00'" + ("" if ON_SQLITE else "::timestamp AT TIME ZONE 'UTC'"),
    "year 9999": "at = '9999-12-31 23:59:59.5'" + ("" if ON_SQLITE else "::timestamp AT TIME ZONE 'UTC'"),
    "service no slug": "service_name = 'a/b'",
}
SQLITE = {
    "before no JSON": "before = '{'",
    "after no JSON": "after = '{'",
    "half a character": """before = '{"status": "\\ud800"}'""",
    "nested deep": f"before = '{'[' * 1500}{']' * 1500}'",
    **{
        f"{column} no UTF-8": f"\"{column}\" = CAST(x'ff' AS TEXT)"
        for column in ("actor_kind", "actor_name", "client", "event", "reason", "subject_id", "subject_name")
    },
    "before no UTF-8": "before = CAST(x'ff' AS TEXT)",
    "service name no UTF-8": "service_name = CAST(x'ff' AS TEXT)",
    "request ID bytes": "request_id = x'ff'",
    "event bytes": "event = x'ff'",
    "subject ID bytes": "subject_id = x'3132'",
    "time no time": "at = 'yesterday'",
    "time empty": "at = ''",
    "time of no calendar": "at = '2026-13-45 10:00:00'",
    "time no UTF-8": "at = CAST(x'ff' AS TEXT)",
    "time a number": "at = 5",
}
POSTGRESQL = {"time infinite": "at = 'infinity'", "before Christ": "at = '0044-03-15 12:00:00 BC'"}
VALUES = ANYWHERE | (SQLITE if ON_SQLITE else POSTGRESQL)
PAGES = {
    "list": URL,
    "new since": f"{URL}?since=last",
    "what shuts out": f"{URL}?event=shuts-out",
    "text": f"{URL}?reason=sto",
    "part of a name, shutting out": f"{URL}?event=shuts-out&subject=pump",
    "row": "",
    "overview": OVERVIEW,
    "installation": "/history/",
    "object": "/services/plant/enrollments/i/pump-042/history/",
    "person": "/people/p/alice/history/",
    "changes of the person": "/people/p/alice/changes/",
    "account": "/account/",
}


@contextmanager
def made_to_hold(pk: int, change: str) -> Iterator[None]:
    changed = f"UPDATE {EVENT} SET {change} WHERE id = {pk}"
    if not ON_SQLITE:
        with tampered(changed):
            yield
        return
    with tampered("PRAGMA ignore_check_constraints=ON", changed, "PRAGMA ignore_check_constraints=OFF"):
        yield


@pytest.fixture
def pump(plant: ProvisioningService) -> HistoryEvent:
    """A device that came in and was disabled: the row that says so."""
    held = self_signed("pump-042")
    enroll_device(plant, held)
    register(plant, held)
    disable_enrollment(plant, "pump-042", actor=ALICE, reason="stolen")
    return HistoryEvent.objects.get(event="enrollment.disabled")


@pytest.fixture
def looking(client: Client, pump: HistoryEvent) -> Client:
    client.force_login(a_user(Role.ADMINISTRATOR))
    client.get(URL)
    client.post(f"{URL}seen/", {"index": 1})
    return client


def since(plant: ProvisioningService) -> datetime:
    first = HistoryEvent.objects.filter(service_id=plant.pk).earliest("at", "pk")
    return first.at + timedelta(microseconds=1)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("value", VALUES)
def test_pages_are_shown_with_a_row_that_was_made_to_hold(looking, pump, value, page):
    url = PAGES[page] or f"{URL}rows/{pump.pk}/"

    with made_to_hold(pump.pk, VALUES[value]):
        answer = looking.get(url)

    assert answer.status_code == 200


@pytest.mark.parametrize("value", VALUES)
def test_list_has_the_row_and_all_others(looking, pump, value):
    before = {row.event.pk for row in looking.get(URL).context["rows"]}

    with made_to_hold(pump.pk, VALUES[value]):
        answer = looking.get(URL)

    assert {row.event.pk for row in answer.context["rows"]} == before
    assert all(row.seal for row in answer.context["rows"])


@pytest.mark.parametrize("value", VALUES)
def test_its_own_page_says_that_it_is_not_what_was_sealed(looking, pump, value):
    with made_to_hold(pump.pk, VALUES[value]):
        page = looking.get(f"{URL}rows/{pump.pk}/").text

    assert "This row is not the one that was sealed as #" in page


def test_what_cannot_be_read_is_said_in_its_place(looking, pump):
    with made_to_hold(pump.pk, "before = '5'"):
        page = looking.get(f"{URL}rows/{pump.pk}/").text
        (row,) = [one for one in looking.get(URL).context["rows"] if not one.can_be_read]

    assert "<del>cannot be read</del>" in page
    assert "Parts of this row hold what no row of the history can" in page
    assert row.event.pk == pump.pk


# What decides nothing, or makes another row of it: then what follows contradicts it, and is not known.
TELLING = {
    name for name in VALUES if not name.startswith(("service no slug", "certificates of lists", "event"))
}


@pytest.mark.parametrize(
    "url", [f"{PAST}?", f"{PAST}?registration_id=pump-042&", f"{OF_DEVICE}?event=shuts-out&"]
)
@pytest.mark.parametrize("value", VALUES)
def test_the_past_is_not_told_by_such_a_row_which_is_named(looking, plant, pump, value, url):
    at = since(plant).strftime("%Y-%m-%dT%H:%M:%S.%f")

    with made_to_hold(pump.pk, VALUES[value]):
        answer = looking.get(f"{url}at={at}")

    is_told = f"Row ID {pump.pk} of the history cannot be read" not in answer.text
    assert is_told == (value not in TELLING)
    assert answer.status_code == (200 if is_told or url.startswith(OF_DEVICE) else 409)


@pytest.mark.skipif(not ON_SQLITE, reason="PostgreSQL takes JSON alone into such a column")
@pytest.mark.parametrize(
    "url", [URL, PAGES["object"], OF_DEVICE, f"{OF_DEVICE}?event=shuts-out", f"{URL}?event=shuts-out"]
)
def test_no_refused_act_without_json_stands_in_the_way_of_what_its_names_are_looked_up_for(
    looking, plant, url
):
    after = {"kind": "IndividualEnrollment", "names": ["pump-042"]}
    row = a_row(plant, "/x/", timezone.now(), event=Event.REFUSED.value, subject_kind="action", after=after)

    with made_to_hold(row.pk, "after = '{'"):
        assert looking.get(url).status_code == 200


@pytest.mark.skipif(not ON_SQLITE, reason="PostgreSQL takes numbers alone into such a column")
@pytest.mark.parametrize("value", ["'x'", "1.5", "x'ff'", "CAST(x'ff' AS TEXT)"])
def test_row_of_a_service_that_there_cannot_be_is_in_the_history_of_the_installation(looking, pump, value):
    with made_to_hold(pump.pk, f"service_id = {value}"):
        rows = looking.get("/history/").context["rows"]
        alone = looking.get(f"/history/rows/{pump.pk}/")

    assert pump.pk in {row.event.pk for row in rows}
    assert alone.status_code == 200


@pytest.mark.skipif(not ON_SQLITE, reason="SQLite alone takes NULL and numbers, where its schema is changed")
@pytest.mark.parametrize("column", ["subject_id", "reason", "event", "actor_name", "request_id"])
@pytest.mark.parametrize("value", ["NULL", "5"])
def test_row_without_text_where_text_belongs_is_shown(looking, pump, column, value):
    with tampered(*whatever_it_takes(column, updated(EVENT, column, value, f"id = {pump.pk}"))):
        rows = looking.get(URL).context["rows"]

    assert pump.pk in {row.event.pk for row in rows if not row.can_be_read}


@pytest.mark.skipif(not ON_SQLITE, reason="PostgreSQL takes times alone into such a column")
@pytest.mark.parametrize("at", ["", "yesterday"])
def test_pages_go_on_beyond_more_rows_without_a_time_than_a_page_has(looking, plant, at):
    now = timezone.now()
    rows = [a_row(plant, f"pump-{number}", now - timedelta(minutes=number)) for number in range(60)]
    timeless = f"id BETWEEN {rows[10].pk} AND {rows[50].pk}"
    every = set(HistoryEvent.objects.of_service(plant.pk).values_list("pk", flat=True))

    with tampered(updated(EVENT, "at", f"'{at}'", timeless)):
        shown = [row.pk for page in pages_of(looking, URL) for row in page]

    assert set(shown) == every


def test_rows_that_can_be_read_take_no_more_queries(looking):
    with CaptureQueriesContext(connection) as asked:
        looking.get(URL)

    assert not [one for one in asked if "CAST(" in one["sql"] and "historyevent" in one["sql"]]


def test_a_database_that_does_not_answer_is_not_taken_for_a_row_that_cannot_be_read(auditor, plant):
    a_row(plant, "pump-042", timezone.now())

    def locked(execute, sql, params, many, context):
        if "enrollments_historyevent" in sql and sql.startswith("SELECT"):
            raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(locked), pytest.raises(OperationalError, match="locked"):
        auditor.get(URL)
