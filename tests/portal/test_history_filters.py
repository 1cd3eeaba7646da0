"""Filters of the history: what each finds, in a service and in the installation, and what it never shows (R1, R17)."""

import json
import random
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ProvisioningService, SavedHistoryView
from enrollments.models.history import HistoryQuerySet
from enrollments.models.merging import first_ids
from enrollments.policy.roles import Role
from enrollments.portal import history_filtering
from enrollments.portal.forms_history import HistoryFilter, label_of
from enrollments.portal.paging import Reach, paged
from tests.audit.histories import BEGIN, fill
from tests.factories import a_service, a_user
from tests.portal.history_pages import EXPORT, URL, a_row, shown
from tests.portal.walking import pages_of

NAMES = {"old", "new", "api", "Pump-042", "pump-042", "plant-7"}


@pytest.fixture
def rows(plant: ProvisioningService) -> None:
    day = datetime(2026, 5, 1, 10, tzinfo=UTC)
    a_row(plant, "old", day, reason="ticket 4711")
    a_row(plant, "new", day + timedelta(days=2), event="enrollment.enabled", actor_name="alice.b")
    a_row(
        plant,
        "api",
        day + timedelta(days=2, hours=1),
        actor_kind="service",
        way="service API",
        event="token.added",
    )
    a_row(
        plant,
        "Pump-042",
        day,
        subject_kind="RegistrationRecord",
        event="device.assigned",
        actor_kind="device",
    )
    a_row(
        plant, "pump-042", timezone.now() - timedelta(hours=2), event="enrollment.deleted", actor_kind="cli"
    )
    a_row(
        plant,
        "plant-7",
        timezone.now() - timedelta(days=3),
        subject_kind="EnrollmentGroup",
        event="group.disabled",
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"period": "1h"}, set()),
        ({"period": "24h"}, {"pump-042"}),
        ({"period": "7d"}, {"pump-042", "plant-7"}),
        ({"period": "24h", "until": "2026-05-01T00:00"}, set()),
        ({"actor": "alice"}, NAMES),
        ({"actor": "=alice"}, NAMES - {"new"}),
        ({"actor": "user:alice"}, {"old", "plant-7"}),
        ({"actor": "user:ALICE"}, set()),
        ({"actor": "cli:alice"}, {"pump-042"}),
        ({"actor": "nobody:alice"}, set()),
        ({"subject": "=PUMP-042"}, {"Pump-042", "pump-042"}),
        ({"subject": "=pump"}, set()),
        ({"subject": "="}, set()),
        ({"subject": "=pump-042", "kind": "RegistrationRecord"}, {"Pump-042"}),
        ({"kind": "EnrollmentGroup"}, {"plant-7"}),
        ({"kind": "nonsense"}, set()),
        ({"device": "PUMP-042"}, {"Pump-042", "pump-042"}),
        ({"event": "shuts-out"}, {"old", "pump-042", "plant-7"}),
        ({"event": "shuts-out", "reason": "4711", "actor": "user:alice"}, {"old"}),
        ({"service": "lab"}, NAMES),  # no filter of a service's own history
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_filter_of_a_service(auditor, rows, query, found):
    assert {row.subject_name for row in shown(auditor, **query)} & NAMES == found


@pytest.mark.parametrize("column", ["reason", "actor_name", "subject_name"])
def test_text_is_found_in_either_case_on_page_export_and_saved_view_alike(auditor, plant, column):
    texts = ["Äöl am GERÄT", "äÖL am Gerät", "ol am gerat"]
    for number, text in enumerate(texts):
        a_row(plant, f"x-{number}", timezone.now(), **{column: text} if column != "subject_name" else {})
        if column == "subject_name":
            a_row(plant, text, timezone.now())
    name = {"reason": "reason", "actor_name": "actor", "subject_name": "subject"}[column]

    for part in ("äö", "ÄÖL", "öl am geRÄT"):
        found = {getattr(row, column) for row in shown(auditor, **{name: part})}
        lines = b"".join(auditor.get(EXPORT, {"format": "jsonl", name: part}).streaming_content).splitlines()
        taken = {json.loads(line)["event"][column] for line in lines[1:-1]}
        auditor.post(f"{URL}views/save/", {"name": part, "query": f"{name}={quote(part)}"})
        view = SavedHistoryView.objects.get(name=part)
        kept = {getattr(row, column) for row in shown(auditor, f"{URL}?{view.query}")}

        assert found == taken == kept == set(texts[:2]), part


def test_device_is_followed_to_its_hub_also_under_another_name_and_after_it_was_deleted(auditor, plant):
    now = timezone.now()
    a_row(plant, "pump-042", now, subject_kind="RegistrationRecord", after={"device_id": "Pump-in-hall-3"})
    a_row(plant, "Pump-in-hall-3", now, subject_kind="HubDevice", event="device.twin_changed")
    a_row(plant, "pump-042", now, subject_kind="QuietPeriod", event="quiet.started")
    a_row(plant, "pump-042", now, subject_kind="EnrollmentGroup", event="group.added")
    a_row(plant, "Pump-in-hall-3", now, subject_kind="IndividualEnrollment")

    found = [(row.subject_kind, row.subject_name) for row in shown(auditor, device="Pump-042")]

    assert sorted(found) == [
        ("HubDevice", "Pump-in-hall-3"),
        ("QuietPeriod", "pump-042"),
        ("RegistrationRecord", "pump-042"),
    ]


@pytest.fixture
def everywhere(client: Client, plant: ProvisioningService) -> Client:
    client.force_login(a_user(Role.AUDITOR))
    return client


def test_installation_is_filtered_by_service_too(everywhere, plant):
    lab = a_service("lab")
    now = timezone.now()
    for number in range(20):
        a_row((plant, lab)[number % 2], f"x-{number}", now + timedelta(seconds=number))

    assert [row.subject_name for row in shown(everywhere, "/history/", service="lab", subject="x-")] == [
        f"x-{number}" for number in range(19, 0, -2)
    ]
    merged = shown(everywhere, "/history/", event="shuts-out")
    assert [row.subject_name for row in merged] == [f"x-{number}" for number in reversed(range(20))]
    assert shown(everywhere, "/history/", service="nowhere") == []


def test_pages_of_several_ranges_follow_each_other_in_both_directions(everywhere, plant):
    lab, now = a_service("lab"), timezone.now()
    for number in range(120):
        event = ("enrollment.disabled", "group.disabled", "enrollment.enabled")[number % 3]
        a_row((plant, lab)[number % 2], f"x-{number}", now + timedelta(seconds=number // 7), event=event)
    wanted = list(
        HistoryEvent.objects.filter(event__in=history_filtering.SHUTTING_OUT)
        .order_by("-at", "-id")
        .values_list("pk", flat=True)
    )

    pages = pages_of(everywhere, "/history/?event=shuts-out")
    last = pages[-1][-1]
    back = pages_of(
        everywhere, f"/history/?event=shuts-out&before={quote(last.at.isoformat())}~{last.pk}", back=True
    )

    assert len(pages) > 2
    assert [event.pk for page in pages for event in page] == wanted
    # From the end it leads to the same rows; the last of them, from which it begins, is none of them.
    assert [event.pk for page in reversed(back) for event in page] == wanted[:-1]


def test_too_many_ranges_are_asked_for_in_one_condition(everywhere, plant, monkeypatch):
    a_row(plant, "x-1", timezone.now())
    a_row(a_service("lab"), "x-2", timezone.now())
    monkeypatch.setattr(history_filtering, "MOST_RANGES", 3)

    assert {row.subject_name for row in shown(everywhere, "/history/", event="shuts-out")} == {"x-1", "x-2"}


def test_ranges_that_hold_nothing_are_left_out(db):
    from django.db.models import Q

    rows = HistoryEvent.objects.all()

    assert first_ids(rows, [Q(pk__in=[])], "at", descending=True, limit=5) == []


def test_installation_shows_a_person_of_one_service_nothing(client, plant):
    client.force_login(a_user(Role.ADMINISTRATOR, plant))

    for path in ("/history/", "/history/export/", "/people/p/somebody/history/"):
        assert client.get(path).status_code == 403


def test_labels_keep_capitals_and_say_where_a_name_follows():
    assert label_of(Event.TOKEN_ADDED) == "Made API token"
    assert label_of(Event.ROLE_CHANGED) == "Changed the role of …"
    assert label_of(Event.SIGNED_IN) == "Signed in"


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads a plan of SQLite")
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "history_by_time_with_texts"),
        ("event=enrollment.disabled", "history_by_event"),
        ("way=service+API", "history_by_way"),
        ("actor=user:alice", "history_by_actor"),
        ("subject=%3Dpump-042", "history_by_name"),
        ("kind=HubDevice&subject=%3Dpump-042", "history_by_name"),
        ("kind=HubDevice", "history_by_kind"),
        ("reason=4711", "history_by_time_with_texts"),
        ("since=2026-05-01T00:00", "history_by_time_with_texts"),
    ],
)
def test_filter_is_answered_by_its_index_and_nothing_is_sorted(query, index):
    service = a_service("plant")
    form = HistoryFilter(QueryDict(query))
    assert form.is_valid()

    found = history_filtering.search(HistoryEvent.objects.of_service(service.pk), form, service)
    plan = found.rows.order_by("-at", "-id")[:51].explain()

    assert index in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads bytecode of SQLite")
@pytest.mark.parametrize(
    "query", ["reason=4711", "reason=caf%C3%A9", "subject=pump", "actor=%C3%A4&reason=x"]
)
def test_text_is_looked_for_in_the_index_before_a_row_is_fetched(query):
    service = a_service("plant")
    form = HistoryFilter(QueryDict(query))
    assert form.is_valid()

    found = history_filtering.search(HistoryEvent.objects.of_service(service.pk), form, service)
    sql, parameters = found.rows.order_by("-at", "-id")[:26].query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", parameters)
        steps = [(opcode, numbers) for _, opcode, *numbers in cursor.fetchall()]

    # The table is moved to when one of its columns is read for the first time, which is after each text was compared.
    (moves,) = [place for place, (opcode, _) in enumerate(steps) if opcode == "DeferredSeek"]
    table = steps[moves][1][2]
    compares = max(place for place, (opcode, _) in enumerate(steps) if opcode == "Function")
    reads = [
        place for place, (opcode, numbers) in enumerate(steps) if opcode == "Column" and numbers[0] == table
    ]
    assert min(reads) > compares > moves


@pytest.mark.django_db
def test_texts_as_long_as_they_may_be_are_taken_though_an_index_holds_them(plant):
    chance = random.Random(7)
    # Of four bytes each, with nothing to be compressed.
    texts = {
        name: "".join(chr(chance.randrange(0x10000, 0x110000)) for _ in range(length))
        for name, length in (("actor_name", 150), ("subject_name", 200), ("reason", 500))
    }

    row = a_row(plant, texts.pop("subject_name"), timezone.now(), **texts)

    assert HistoryEvent.objects.get(pk=row.pk).reason == texts["reason"]


@pytest.fixture
def long(plant: ProvisioningService, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """More rows than a page looks through for a text, several within a moment. Of those that have it, newest first."""
    monkeypatch.setattr("enrollments.portal.history_pages.LOOKED_THROUGH", 7)
    monkeypatch.setattr("enrollments.portal.history_pages.LOOKING_SECONDS", 600)
    lab, now = a_service("lab"), timezone.now()
    wanted = []
    for number in range(72):
        has_it = number in (3, 4, 5, 40, 41, 59) or number > 69
        row = a_row(
            (plant, plant, lab)[number % 3],
            f"x-{number % 2}",
            now + timedelta(seconds=number // 4),
            reason="ticket 4711" if has_it else "other",
            event=("enrollment.disabled", "group.disabled")[number % 2],
        )
        wanted.append(row) if has_it else None
    return [row.pk for row in reversed(wanted)]


@pytest.mark.parametrize("portion", [10_000, 2])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        (URL, "reason=4711"),
        (URL, "reason=4711&event=shuts-out"),
        (URL, "reason=4711&event=enrollment.disabled"),
        (URL, "reason=4711&subject=%3Dx-1&kind=IndividualEnrollment"),
        (URL, "actor=lic&reason=4711&sort=at"),
        ("/history/", "reason=4711"),
        ("/history/", "reason=4711&event=shuts-out"),
        ("/history/", "reason=4711&event=enrollment.disabled"),
        ("/history/", "reason=4711&service=lab"),
    ],
)
def test_text_is_looked_for_in_some_rows_at_a_time_and_found_in_all(
    everywhere, long, monkeypatch, path, query, portion
):
    monkeypatch.setattr("enrollments.portal.paging.FIRST_PORTION", portion)
    monkeypatch.setattr("enrollments.portal.paging.FEWEST", 1)
    url = f"{path}?{query}"
    everywhere.get(path)  # seals what waits
    expected = [pk for pk in long if _fits(pk, path, query)]
    expected = expected[::-1] if "sort=at" in query else expected

    pages, leads_on = [], url
    while leads_on:
        page = everywhere.get(leads_on).context["page"]
        pages.append(page.rows)
        last_url, leads_on = leads_on, page.next_url and path + page.next_url
    back = pages_of(everywhere, last_url, back=True)

    assert len(pages) > 2
    assert [row.pk for page in pages for row in page] == expected
    # From the last page back to the first, there are the same rows once more, that page's own among them.
    assert [row.pk for page in reversed(back) for row in page] == expected
    rows = jsonl_ids(everywhere, path, query)
    assert sorted(rows) == sorted(expected)


def _fits(pk: int, path: str, query: str) -> bool:
    row = HistoryEvent.objects.get(pk=pk)
    return (
        (path != URL or row.service_name == "plant")
        and ("service=lab" not in query or row.service_name == "lab")
        and ("event=enrollment" not in query or row.event == "enrollment.disabled")
        and ("x-1" not in query or row.subject_name == "x-1")
    )


def jsonl_ids(client: Client, path: str, query: str) -> list[int]:
    answer = client.get(f"{path}export/?format=jsonl&{query}")
    lines = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
    return [line["event"]["id"] for line in lines if "event" in line]


def test_page_says_how_far_it_looked(everywhere, long):
    nothing = everywhere.get(URL, {"reason": "no such text"})
    text = nothing.content.decode()
    found = everywhere.get(URL, {"reason": "4711"})
    whole = everywhere.get(URL, {"reason": "no such text", "period": "1h", "subject": "=y"})

    assert "Nothing among the rows back to" in text
    assert f'href="{nothing.context["page"].further_url}"'.replace("&", "&amp;") in text
    assert "found among the rows back to" in found.content.decode()
    assert "Nothing fits this filter" in whole.content.decode()
    # What an index has is found however many rows there are.
    for query in (
        {"event": "enrollment.disabled"},
        {"actor": "user:alice"},
        {"subject": "=x-1"},
        {"device": "x-1"},
    ):
        assert everywhere.get(URL, query).context["page"].reached is None


@pytest.mark.parametrize("seconds", [600, 0])
def test_page_that_takes_long_looks_less_far(everywhere, plant, monkeypatch, seconds):
    monkeypatch.setattr("enrollments.portal.history_pages.LOOKING_SECONDS", seconds)
    monkeypatch.setattr("enrollments.portal.paging.FIRST_PORTION", 20)
    monkeypatch.setattr("enrollments.portal.paging.FEWEST", 1)
    fill(90, service_ids=(plant.pk,))

    page = everywhere.get(URL, {"reason": "no such text"}).context["page"]

    newest = HistoryEvent.objects.of_service(plant.pk).order_by("-at", "-id")
    assert page.reached == (None if seconds else newest[19].at)


@pytest.mark.parametrize(
    ("looked", "seconds", "further"),
    [
        (10_000, 0.01, 30_000),
        (10_000, 0.001, 90_000),
        (10_000, 0.0, 90_000),
        (10_000, 0.04, 0),
        (10_000, 0.5, 0),
        (40_000, 0.0395, 0),
        (99_500, 0.01, 0),
        (100_000, 0.01, 0),
    ],
)
def test_what_a_row_costs_tells_how_many_more_a_page_looks_through(looked, seconds, further):
    reach = Reach(HistoryEvent.objects.all(), most=100_000, seconds=0.04)

    assert reach.further(looked, seconds) == further


def test_what_is_new_is_looked_through_no_further_than_it_goes(everywhere, long, plant):
    everywhere.get(URL)
    everywhere.post(f"{URL}seen/", {"index": HistoryEvent.objects.count()})
    a_row(plant, "new", timezone.now() + timedelta(hours=1))

    page = everywhere.get(URL, {"since": "last", "reason": "4711"}).context["page"]

    assert (page.rows, page.reached) == ([], None)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="counts the steps of SQLite")
@pytest.mark.parametrize("sort", ["-at", "at"])
def test_page_begins_at_its_place_and_not_at_the_bounds_of_its_filter(plant, sort):
    fill(3000, service_ids=(plant.pk,))
    within = HistoryEvent.objects.of_service(plant.pk).filter(
        at__gte=BEGIN, at__lte=BEGIN + timedelta(days=1)
    )
    place = HistoryEvent.objects.order_by(sort)[2900]
    query = QueryDict(f"sort={sort}&after={quote(place.at.isoformat())}~{place.pk}")

    def steps(rows: HistoryQuerySet) -> int:
        counted: list[None] = []
        connection.connection.set_progress_handler(lambda: counted.append(None), 100)
        try:
            assert len(paged(rows, query, {"at": "at"}, "-at").rows) == 25
        finally:
            connection.connection.set_progress_handler(None, 0)
        return len(counted)

    assert steps(within) <= steps(HistoryEvent.objects.of_service(plant.pk)) + 2
