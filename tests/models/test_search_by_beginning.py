"""Entries are found by how their IDs begin, by an index: on PostgreSQL one of its own (migration 0021)."""

import importlib
import re

import pytest
from django.apps import apps
from django.db import connection

from benchmarks.copying import analyze, copy_row, digits
from enrollments.models.keyset import starting_with
from tests.factories import a_group, a_service, an_individual

migration = importlib.import_module("enrollments.migrations.0021_search_by_beginning")
postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="an index of PostgreSQL alone")
NAMES = {name for name, _, _ in migration.INDEXES}


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE i.indisvalid"
        )
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db
@postgresql
@pytest.mark.parametrize(
    ("kind", "name", "key", "index"),
    [
        ("individual", "registration_id", "registration_key", "individual_by_beginning"),
        ("group", "group_id", "group_key", "group_by_beginning"),
    ],
)
def test_search_begins_where_the_index_has_what_begins_alike(kind, name, key, index):
    service = a_service()
    entry = (
        an_individual(service, "pump-00000", keys=True)
        if kind == "individual"
        else a_group(service, "pump-00000")
    )
    named = f"'pump-' || {digits('i', 5)}"
    copy_row(entry, 3000, {name: named, key: named})
    analyze()
    found = type(entry).objects.filter(starting_with(key, "pump-0041"), service=service)

    assert found.count() == 10
    plan = found.explain()
    assert index in plan
    assert re.search(rf"Index Cond: .*{key}.* >= 'pump-0041'.* < 'pump-0042'", plan)


@pytest.mark.django_db(transaction=True)
@postgresql
def test_index_is_taken_away_and_built_anew_also_over_one_that_was_broken_off():
    with connection.schema_editor(atomic=False) as editor:
        migration.remove_indexes(apps, editor)
        assert not NAMES & indexes()
        # What a build that was broken off leaves has the name and is of no use.
        editor.execute("CREATE INDEX individual_by_beginning ON enrollments_individualenrollment (id)")
        migration.add_indexes(apps, editor)

    assert indexes() >= NAMES
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'individual_by_beginning'")
        assert 'registration_key COLLATE "C"' in cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="of SQLite, which needs none")
def test_sqlite_is_left_as_it_is():
    with connection.schema_editor() as editor:
        migration.add_indexes(apps, editor)

    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
        assert not NAMES & {name for (name,) in cursor.fetchall()}
