"""Databases for installations: a file of its own for each, or one PostgreSQL server with a database for each."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from shutil import which

import psycopg

from dpsportal.serving.supervisor import PROJECT_DIR

SQLITE, POSTGRESQL = "sqlite", "postgresql"
TITLES = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}


def has_postgresql() -> bool:
    """Whether its server is installed, which tests/with-postgres starts."""
    return bool(which("initdb") or glob("/usr/lib/postgresql/*/bin/initdb"))


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A throw-away server, as durable as it is by default; its URL."""
    command = [str(Path("tests") / "with-postgres"), "--durable", "sh", "-c", 'echo "$DATABASE_URL"; cat']
    with subprocess.Popen(
        command,
        cwd=PROJECT_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the benchmark, which ends it.
        start_new_session=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        if not url:
            raise RuntimeError("PostgreSQL did not start")
        try:
            yield url
        finally:
            server.stdin.close()  # `cat` ends, and the server with it


def new_database(server: str, name: str) -> str:
    """Its URL."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.rpartition("/")[0] + f"/{name}"
