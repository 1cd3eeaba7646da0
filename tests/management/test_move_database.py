"""`manage.py move_database`: from SQLite to a real PostgreSQL server, all of it or nothing."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.audit.canonical import json_form
from tests.audit.tampering import TOOL
from tests.certificates import root
from tests.live import installation
from tests.models.test_json_columns import with_types

pytestmark = pytest.mark.skipif(
    not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="PostgreSQL's server is not installed"
)

# Where odd numbers can come from outside.
JSON_COLUMNS = {
    "enrollments_historyevent": ("before", "after"),
    "enrollments_individualenrollment": ("initial_twin", "device_information"),
}


@pytest.fixture(scope="module")
def server():
    """The address of a server that is thrown away."""
    process = subprocess.Popen(
        [PROJECT_DIR / "tests" / "with-postgres", "sh", "-c", "echo $DATABASE_URL; exec sleep 600"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process.stdout.readline().strip()
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


@pytest.fixture
def database(server, request):
    """A database of its own, empty."""
    name = f"moved_{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    with closing(psycopg.connect(server, autocommit=True)) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.replace("/postgres", f"/{name}")


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """An installation with a bit of everything; no listener runs."""
    with installation(tmp_path_factory.mktemp("move")) as live:
        live.enroll_ca("plant-7", root("Plant CA"))
        live.enroll_keys("key-1")
        live.python(
            "from enrollments.actions.revocation import deny_device\n"
            "from enrollments.audit.actor import Actor, Way\n"
            "from enrollments.models import ProvisioningService\n"
            "service = ProvisioningService.objects.get(name='local')\n"
            "deny_device(service, 'stolen', actor=Actor('cli', 'test', Way.COMMAND_LINE), reason='stölen')\n"
        )
        yield live


def there(live, database, *command, **settings):
    """A command on the new database."""
    return subprocess.run(
        live.command(*command),
        cwd=PROJECT_DIR,
        env={**live.environment, "DATABASE_URL": database, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def query(database, sql):
    with closing(psycopg.connect(database, autocommit=True)) as connection:
        return connection.execute(sql).fetchall()


def test_everything_arrives_and_goes_on_working_there(live, database):
    told = json.loads(live.manage("move_database", "--to", database, "--json").stdout)

    assert told["tables"]["enrollments_individualenrollment"] == 2
    assert told["history_rows"] >= 3
    assert told["head"] == json.loads(there(live, database, "audit_verify", "--json").stdout)["head"]
    assert query(database, "SELECT subject_name FROM enrollments_historyevent WHERE reason = 'stölen'") == [
        ("stolen",)
    ]
    # New rows are numbered behind those that came, secrets are read with the same key, and the history is final.
    done = there(live, database, "disable", "individual", "key-1", "--service", "local", "--reason", "moved")
    assert done.returncode == 0, done.stderr
    keys = (
        "from enrollments.models import IndividualEnrollment\n"
        "print(len(IndividualEnrollment.objects.get(registration_key='key-1').primary_key))"
    )
    assert there(live, database, "shell", "--verbosity", "0", "-c", keys).stdout.strip() == "88"
    assert there(live, database, "audit_verify").returncode == 0
    with pytest.raises(psycopg.errors.RaiseException):
        query(database, "UPDATE enrollments_historyevent SET reason = ''")


def test_odd_numbers_are_there_what_was_sealed_here(live, database, tmp_path):
    """Also for the auditor's own tool, and as the text that either database gives: it could be moved back."""
    live.python(
        "from enrollments.actions.enrollments import add_individual_enrollment\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import ProvisioningService\n"
        "from tests.audit.test_odd_numbers import SPEC\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "add_individual_enrollment(service, SPEC, actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
    )
    key = live.manage("history_checkpoint", "--show-verifier-key").stdout.strip()
    live.manage("move_database", "--to", database)
    export = tmp_path / "export.jsonl"
    # What is signed there is of no concern to the other tests, which move the same installation again.
    elsewhere = {"DPS_CHECKPOINT_FILE": str(tmp_path / "checkpoints")}
    assert there(live, database, "export_history", "--out", export, **elsewhere).returncode == 0

    by_tool = [sys.executable, "-I", TOOL, export, "--key", key]
    assert subprocess.run(by_tool, capture_output=True, text=True, check=False).returncode == 0
    for table, columns in JSON_COLUMNS.items():
        sql = f"SELECT {', '.join(f'CAST({name} AS text)' for name in columns)} FROM {table} ORDER BY id"
        here = [tuple(row.values()) for row in live.rows(sql)]
        assert [forms(row) for row in query(database, sql)][: len(here)] == [forms(row) for row in here]
        assert "1e+22" in str([forms(row) for row in here])


def forms(row):
    """In canonical form, and with 1 and 1.0 told apart."""
    return [(json_form(text), with_types(json.loads(text))) for text in row if text]


def test_a_database_that_is_in_use_is_left_alone(live, database):
    live.manage("move_database", "--to", database)

    again = live.manage("move_database", "--to", database, check=False)

    assert (again.returncode, "is in use" in again.stderr) == (1, True)


def test_nothing_is_moved_while_the_service_listens(live, database):
    with socket.create_server(("127.0.0.1", live.portal_port)):
        refused = live.manage("move_database", "--to", database, check=False)

    assert (refused.returncode, "Stop the service first" in refused.stderr) == (1, True)


def test_what_does_not_fit_there_leaves_it_empty(live, database):
    """As where it is killed half-way: one transaction has all of it or nothing."""
    assert there(live, database, "migrate", "--noinput", "--verbosity", "0").returncode == 0
    with closing(psycopg.connect(database, autocommit=True)) as connection:
        connection.execute("ALTER TABLE enrollments_historyseal ADD CONSTRAINT none_fits CHECK (index < 0)")

    refused = live.manage("move_database", "--to", database, check=False)

    assert (refused.returncode, "none_fits" in refused.stderr) == (1, True)
    assert query(database, "SELECT count(*) FROM enrollments_individualenrollment") == [(0,)]
    assert query(database, "SELECT count(*) FROM pg_trigger WHERE tgenabled = 'D'") == [(0,)]


@pytest.mark.parametrize("url", ["sqlite:///elsewhere.sqlite3", "plant"])
def test_only_the_address_of_a_postgresql_database_is_taken(live, url):
    refused = live.manage("move_database", "--to", url, check=False)

    assert (refused.returncode, "postgres://user@host/name" in refused.stderr) == (2, True)


def test_a_server_that_does_not_answer_is_named(live):
    refused = live.manage("move_database", "--to", "postgres://127.0.0.1:1/none", check=False)

    assert refused.returncode == 1
    assert "migrate failed on the database to move to" in refused.stderr
