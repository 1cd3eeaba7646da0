"""What Django's own commands do to people and to the history: nothing, or nothing without a row (R15)."""

import json
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, get_commands

from enrollments.actions.people import add_person
from enrollments.management.past_the_history import RefusedCommand
from enrollments.models import HistoryEvent
from enrollments.policy.roles import Role
from tests.devices import ALICE
from tests.management.calls import printed_by, refusal_of

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]

# Each with what is to be done instead.
REFUSED = {
    "createsuperuser": "restore_administrator",
    "changepassword": "restore_administrator",
    "loaddata": "import_enrollments",
    "dumpdata": "export_history",
}
# What the others do. A command that a later version of Django brings fails below until somebody has looked at it.
HARMLESS = {
    "check": "reads settings and code",
    "diffsettings": "reads settings",
    "showmigrations": "reads which migrations are there",
    "sqlflush": "prints SQL",
    "sqlmigrate": "prints SQL",
    "sqlsequencereset": "prints SQL",
    "inspectdb": "prints tables as code",
    "findstatic": "looks for a file",
    "sendtestemail": "sends a mail",
    "collectstatic": "copies files of the portal",
    "compilemessages": "writes files of the source code",
    "makemessages": "writes files of the source code",
    "makemigrations": "writes files of the source code",
    "optimizemigration": "writes files of the source code",
    "squashmigrations": "writes files of the source code",
    "startapp": "writes files of the source code",
    "startproject": "writes files of the source code",
    "test": "uses a database of its own",
    "testserver": "uses a database of its own",
    "runserver": "serves the portal, whose acts leave their rows",
    "createcachetable": "makes a table for a cache",
    "clearsessions": "deletes sessions that have expired",
    "remove_stale_contenttypes": "deletes names of tables that are gone, which nothing here refers to",
}
# The database refuses it, as soon as there is a history.
BY_THE_DATABASE = {"flush"}
# Whoever runs these has the database in their hands: docs/history.md, «Who could forge what».
WITH_THE_DATABASE_IN_HAND = {"shell", "dbshell", "migrate"}


def brought_by_django() -> set[str]:
    return {name for name, app in get_commands().items() if app != "enrollments"}


def test_every_command_that_is_not_ours_is_known_for_what_it_does():
    assert brought_by_django() == {*HARMLESS, *BY_THE_DATABASE, *WITH_THE_DATABASE_IN_HAND}


def test_what_is_told_of_them_is_documented():
    page = (ROOT / "docs/commands.md").read_text()

    for name in (*REFUSED, *BY_THE_DATABASE, *WITH_THE_DATABASE_IN_HAND):
        assert f"`{name}`" in page


@pytest.fixture
def a_fixture(tmp_path):
    """A person as `loaddata` would add one."""
    path = tmp_path / "people.json"
    fields = {"username": "mallory", "password": "!", "date_joined": "2026-01-01T00:00:00Z"}
    path.write_text(json.dumps([{"model": "auth.user", "pk": 4711, "fields": fields}]))
    return str(path)


@pytest.mark.parametrize(
    "options",
    [
        ("createsuperuser", "--noinput", "--username", "mallory", "--email", "m@example.org"),
        ("createsuperuser", "--skip-checks"),
        ("changepassword", "root"),
        ("changepassword",),
        ("loaddata", "PATH"),
        ("dumpdata", "auth.User", "--indent", "2"),
    ],
    ids=" ".join,
)
def test_what_would_go_past_the_history_is_refused_and_says_what_does_it(options, a_fixture, monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct-horse-battery")
    monkeypatch.setattr("getpass.getpass", lambda *_: "correct-horse-battery")
    add_person("root", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    people, rows = list(User.objects.values()), HistoryEvent.objects.count()

    code, sentence = refusal_of(*(a_fixture if one == "PATH" else one for one in options))

    assert code == 1
    assert sentence.startswith(f"{options[0]} would leave no row in the history, so it does nothing here.")
    assert f"manage.py {REFUSED[options[0]]}" in sentence
    assert list(User.objects.values()) == people
    assert HistoryEvent.objects.count() == rows


def test_all_that_is_refused_is_tried_above():
    ours = {name for name, app in get_commands().items() if app == "enrollments"}
    folder = ROOT / "enrollments/management/commands"

    assert {*REFUSED} <= ours
    assert {*REFUSED} == {
        path.stem for path in folder.glob("*.py") if RefusedCommand.__name__ in path.read_text()
    }


def test_flush_takes_nobody_away_once_there_is_a_history():
    add_person("root", role=Role.ADMINISTRATOR, service=None, actor=ALICE)

    with pytest.raises(CommandError, match="couldn't be flushed"):
        printed_by("flush", "--noinput")

    assert User.objects.filter(username="root").exists()
    assert HistoryEvent.objects.exists()
