"""On SQLite the places of values are looked for once in each statement, and found where Django finds them."""

import pytest
from django.db import connection
from django.db.backends.sqlite3.base import SQLiteCursorWrapper
from django.test.utils import CaptureQueriesContext

from dpsportal.databases.sqlite3 import base

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="another database has `%s` itself"),
]


def ask(statement, values=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


@pytest.mark.parametrize(
    ("statement", "values", "row"),
    [
        ("SELECT %s, %s", ["a", 2], ("a", 2)),
        ("SELECT %s, '100%%'", ["%s"], ("%s", "100%")),
        ("SELECT %(one)s, %(two)s, %(one)s", {"one": "a", "two": "b"}, ("a", "b", "a")),
        ("SELECT 'what is no value: %s'", None, ("what is no value: %s",)),
        (f"SELECT %s /* {'long ' * base.LONGEST} */", ["a"], ("a",)),
    ],
    ids=["values", "percent", "named", "no values", "too long to be kept"],
)
def test_values_stand_where_they_are_said_to(statement, values, row):
    assert ask(statement, values) == [row]


def test_each_statement_is_looked_through_once(monkeypatch):
    base._with_question_marks.cache_clear()

    for number in range(3):
        assert ask("SELECT %s + 1", [number]) == [(number + 1,)]

    assert (base._with_question_marks.cache_info().misses, base._with_question_marks.cache_info().hits) == (
        1,
        2,
    )


@pytest.mark.parametrize("statement", ["SELECT %s", "'%%' || %s || '%%%%'", "%%s %s", "%s%s", "100%%"])
def test_as_django_does(statement):
    assert base._with_question_marks(statement) == SQLiteCursorWrapper.convert_query(None, statement)


def test_queries_can_be_counted():
    with CaptureQueriesContext(connection) as queries:
        ask("SELECT %s", ["a"])

    assert [one["sql"] for one in queries] == ["SELECT 'a'"]
