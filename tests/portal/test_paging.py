"""Keyset paging: every row once, in order, forwards and backwards, whatever the address says."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.http import QueryDict

from enrollments.models import IndividualEnrollment
from enrollments.models.keyset import starting_with
from enrollments.portal.paging import paged
from tests.factories import a_service, an_individual

pytestmark = pytest.mark.django_db
SORTS = {"name": "registration_key", "created": "created_at"}


@pytest.fixture
def rows():
    """Seven entries, of which three were created at the same moment."""
    service = a_service()
    moment = datetime(2026, 8, 1, tzinfo=UTC)
    for number, name in enumerate(("g", "F", "e", "d", "C", "b", "a")):
        entry = an_individual(service, name, keys=True)
        created = moment + timedelta(days=min(number, 4))
        IndividualEnrollment.objects.filter(pk=entry.pk).update(created_at=created)
    return service.individualenrollments.all()


def names(page):
    return "".join(row.registration_id for row in page.rows)


def follow(rows, url, **options):
    return paged(rows, QueryDict(url.removeprefix("?")), SORTS, "name", size=3, **options)


@pytest.mark.parametrize(
    ("sort", "order"),
    [("name", "abCdeFg"), ("-name", "gFedCba"), ("created", "gFedCba"), ("-created", "abCdeFg")],
)
def test_every_row_comes_once_forwards_and_backwards(rows, sort, order):
    first = follow(rows, f"sort={sort}")
    second = follow(rows, first.next_url)
    third = follow(rows, second.next_url)
    back = follow(rows, third.previous_url)

    assert names(first) + names(second) + names(third) == order
    assert (first.previous_url, third.next_url) == ("", "")
    assert names(back) == names(second)
    assert names(follow(rows, back.previous_url)) == names(first)


def test_summary_says_that_more_follow_where_they_do(rows):
    first = follow(rows, "")
    second = follow(rows, first.next_url)
    third = follow(rows, second.next_url)

    assert [one.summary for one in (first, second, third, follow(rows, third.previous_url))] == [
        "3 rows on this page, and more",
        "3 rows on this page, and more",
        "1 row on this page",
        "3 rows on this page, and more",
    ]


def test_a_page_goes_on_where_it_ended_although_rows_before_it_are_gone(rows):
    first = follow(rows, "")
    rows.filter(registration_key__in=["b", "c"]).delete()

    assert names(follow(rows, first.next_url)) == "deF"


@pytest.mark.parametrize(
    "query",
    [
        "after=",
        "after=b",
        "after=b~",
        "after=b~x",
        "after=b~--1",
        "after=b~99999999999999999999",
        "after=b%00~1",
        "sort=created&after=yesterday~3",
        "sort=created&after=2026-08-01~3",
        "sort=password",
        "sort=--name",
    ],
)
def test_a_place_that_cannot_be_read_means_the_first_page(rows, query):
    page = follow(rows, query)

    assert len(page.rows) == 3
    assert page.previous_url == ""


def test_filters_stay_in_the_addresses_and_the_place_does_not(rows):
    page = follow(rows, "q=pump&after=a~7")

    assert page.next_url.startswith("?q=pump&after=")
    assert page.headers["created"].url == "?q=pump&sort=created"


def test_headers_say_how_the_list_is_sorted_and_turn_it_around(rows):
    page = follow(rows, "sort=-created")

    assert (page.headers["created"].direction, page.headers["created"].url) == ("descending", "?sort=created")
    assert (page.headers["name"].direction, page.headers["name"].url) == ("", "?sort=name")


def test_a_prefix_finds_what_begins_with_it_and_nothing_else():
    service = a_service()
    for name in ("pump-1", "pump-10", "PUMP-2", "pumq", "pum", "pump_3", "p"):
        an_individual(service, name, keys=True)
    rows = service.individualenrollments.filter(starting_with("registration_key", "pump"))

    assert sorted(row.registration_key for row in rows) == ["pump-1", "pump-10", "pump-2", "pump_3"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases plan by the size of the table")
def test_a_prefix_is_found_by_the_index():
    rows = a_service().individualenrollments.filter(starting_with("registration_key", "pump"))

    assert "USING INDEX" in rows.explain()
