"""On PostgreSQL the server keeps the plan of what is asked again and again, where nobody stands in between."""

import os
import socket
import subprocess
import sys
import threading

import psycopg
import pytest
from django.db import NotSupportedError, connection

from dpsportal.databases.postgresql import base
from enrollments.models import RegistrationRecord
from tests.devices import new_service
from tests.live import PROJECT_DIR

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")
THRESHOLD = (
    "import django; django.setup()\n"
    "from django.db import connection\n"
    "connection.ensure_connection(); print(connection.connection.prepare_threshold)"
)


def prepared() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [statement for (statement,) in cursor.fetchall()]


@pytest.mark.django_db
def test_what_is_asked_for_the_third_time_is_planned_once():
    service = new_service()

    for _ in range(base.ASKED_BEFORE + 2):
        RegistrationRecord.of(service.pk, "pump-042")

    assert len([one for one in prepared() if 'FROM "enrollments_registrationrecord"' in one]) == 1


def threshold_over(address: str, **said: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", THRESHOLD],
        cwd=PROJECT_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "dpsportal.settings",
            "DATABASE_URL": address,
            **said,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_nothing_is_prepared_where_it_is_said_so():
    assert threshold_over(os.environ["DATABASE_URL"]) == str(base.ASKED_BEFORE)
    assert threshold_over(os.environ["DATABASE_URL"], DPS_PREPARED_STATEMENTS="false") == "None"


@pytest.mark.django_db
def test_nothing_is_prepared_through_a_pooler():
    """It tells clients a number of its own, and gives each transaction another connection to the server."""
    connection.ensure_connection()
    with Pooler(connection.connection) as pooler:
        direct = connection.connection.info
        address = f"host=127.0.0.1 port={pooler.port} user={direct.user} dbname={direct.dbname}"
        with psycopg.connect(f"{address} sslmode=disable gssencmode=disable") as through:
            assert not base.is_the_server(through)
            assert through.execute("SELECT 1").fetchone() == (1,)
    assert base.is_the_server(connection.connection)


@pytest.mark.django_db(transaction=True)
def test_a_connection_whose_plan_was_overtaken_by_a_migration_is_given_up():
    def ask() -> list[object]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT kept FROM of_a_test WHERE kept = %s", ["a"])
            return cursor.fetchall()

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_a_test (kept varchar(5)); INSERT INTO of_a_test VALUES ('a')")
    try:
        for _ in range(base.ASKED_BEFORE + 2):
            ask()
        with psycopg.connect(connection.connection.info.dsn, autocommit=True) as another:
            another.execute("ALTER TABLE of_a_test ALTER COLUMN kept TYPE text")

        with pytest.raises(NotSupportedError):
            ask()
        connection.close_if_unusable_or_obsolete()  # as at the end of a request

        assert ask() == [("a",)]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE of_a_test")


class Pooler:
    """Between a client and the server, and as poolers do, with a cancellation key of its own for the client."""

    def __init__(self, server: psycopg.Connection) -> None:
        self._server = server.info.host, server.info.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> "Pooler":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        host, port = self._server
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port}")
        else:
            server = socket.create_connection((host, port))
        threading.Thread(target=_copy, args=(client, server), daemon=True).start()
        _copy(server, client, with_own_key=True)


def _copy(source: socket.socket, target: socket.socket, *, with_own_key: bool = False) -> None:
    try:
        while data := source.recv(65536):
            # BackendKeyData: "K", its length of 12, the number of the process and a secret.
            key = data.find(b"K\0\0\0\x0c") if with_own_key else -1
            if key >= 0:
                data, with_own_key = data[: key + 5] + b"\0\0\x27\x0f" + data[key + 9 :], False
            target.sendall(data)
    except OSError:
        return
    finally:
        target.close()
