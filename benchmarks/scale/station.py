"""`python -m benchmarks.scale.station`: fill the database of an installation, then ask its pages as often as told.

A process of its own for each installation, since Django knows one database. It tells on standard error what it is
doing; on standard output the devices that may be asked for, then a line of JSON for each line that it reads, which
names a page.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import django

from benchmarks.scale.names import BELOW_GROUP, CERTIFICATE_NAME, FOREIGN, KEY_NAME, KNOWN, name_of

WHILE_FILLING = {
    "sqlite": ["PRAGMA synchronous=OFF"],
    "postgresql": [
        "SET synchronous_commit TO OFF",
        # Each batch that is sealed would read the whole history, of which so much waits.
        "SET enable_hashjoin TO OFF",
        "SET enable_mergejoin TO OFF",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.station")
    parser.add_argument("--enrollments", type=int, required=True)
    parser.add_argument("--certificates", type=int, required=True, help="devices of each kind to be made")
    parser.add_argument("--folder", type=Path, required=True, help="where their certificates are written")
    given = parser.parse_args()
    django.setup()
    logging.disable(logging.CRITICAL)
    from django.db import connection

    with connection.cursor() as cursor:
        # While nobody else is there, and of this connection only.
        for statement in WHILE_FILLING[connection.vendor]:
            cursor.execute(statement)
    service, key = _fill(given.enrollments, given.certificates, given.folder)
    connection.close()
    _answer(_pages(service, given.enrollments), {"id_scope": service.id_scope, "key": key})


def _fill(enrollments: int, certificates: int, folder: Path) -> tuple[Any, str]:
    from benchmarks.scale.stock import fill_up
    from tests.certificates import root

    stock = fill_up(enrollments, _tell)
    lines = [ca.intermediate(f"Line {number}") for number, ca in enumerate(stock.cas)]
    foreign = root("Somebody").intermediate("Somebody's line")
    for number in range(certificates):
        for kind, line in ((KNOWN, lines[number % len(lines)]), (FOREIGN, foreign)):
            stem = f"{kind}-{number}"
            line.leaf(stem).write(folder, stem)
    return stock.service, stock.key


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _pages(service: Any, enrollments: int) -> dict[str, str]:
    """Addresses, whose answers are as full at each size: what is searched for is there, in the middle."""
    middle = enrollments // 2
    whole, below = name_of(KEY_NAME, middle), name_of(BELOW_GROUP, enrollments // 20)
    at = f"/services/{service.name}/"
    return {
        "list": f"{at}enrollments/",
        "search-exact": f"{at}enrollments/?q={whole}",
        # What it finds is more than a page at each size.
        "search-prefix": f"{at}enrollments/?q={KEY_NAME}-0",
        "detail": f"{at}enrollments/i/{whole}/",
        "detail-certificate": f"{at}enrollments/i/{name_of(CERTIFICATE_NAME, enrollments // 20)}/",
        "groups": f"{at}groups/",
        "registrations": f"{at}registrations/",
        "registration": f"{at}registrations/{below}/",
        "history": f"{at}history/",
    }


def _client() -> Any:
    """An administrator, with all that a page can have on it."""
    from django.conf import settings
    from django.test import Client

    from enrollments.actions.people import add_person
    from enrollments.policy.roles import Role
    from tests.devices import ALICE

    settings.ALLOWED_HOSTS = ["testserver"]
    # Without the files of the pages, which nobody loads here.
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    user, _ = add_person("measuring", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    client = Client()
    client.force_login(user)
    return client


def _answer(pages: dict[str, str], told: dict[str, str]) -> None:
    client = _client()
    print(json.dumps({**told, "pages": list(pages)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_asked(client, pages[line.strip()])), flush=True)


def _asked(client: Any, address: str) -> dict[str, float]:
    from django.db import connection

    queries = 0

    def count(execute: Any, *given: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(*given)

    with connection.execute_wrapper(count):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = client.get(address)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "status": answer.status_code,
        "cpu": cpu,
        "wall": wall,
        "queries": queries,
        "bytes": len(answer.content),
    }


if __name__ == "__main__":
    main()
