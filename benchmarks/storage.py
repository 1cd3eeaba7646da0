"""`python -m benchmarks.storage`: how many bytes of the database a device takes, by filling one (docs/scaling.md).

DATABASE_URL names an empty database of PostgreSQL; without, a file of SQLite is made and thrown away.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import django
from django.db import connection

from tests.live import installation

# A row of the history is one of three tables, or of two once it is sealed.
HISTORY = ("historyevent", "historyseal", "unsealedevent", "historycheckpoint")


def sizes() -> dict[str, int]:
    """Bytes of each table with its indexes."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
                " AND relname LIKE 'enrollments_%%'"
            )
        else:
            cursor.execute(
                "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name)"
                " WHERE tbl_name LIKE 'enrollments_%%' GROUP BY tbl_name"
            )
        return {name.removeprefix("enrollments_"): int(size) for name, size in cursor.fetchall()}


def grown(act: Callable[[], object]) -> tuple[int, int]:
    """By how many bytes all tables grew, and of these by how many the history."""
    from enrollments.audit.sealer import seal_everything

    before = sizes()
    act()
    seal_everything()
    after = sizes()
    by = {name: size - before.get(name, 0) for name, size in after.items()}
    return sum(by.values()), sum(by.get(name, 0) for name in HISTORY)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=__doc__)
    parser.add_argument("--devices", type=int, default=5000, metavar="N", help="of each kind")
    number = parser.parse_args().devices
    given = {name: os.environ[name] for name in ("DATABASE_URL",) if name in os.environ}
    with (
        tempfile.TemporaryDirectory(prefix="dpsportal-storage-") as folder,
        installation(Path(folder), **given) as live,
    ):
        os.environ.update(live.environment)
        django.setup()
        for what, (bytes_of_all, of_history) in measured(number):
            print(f"{what:<58} {bytes_of_all / number:8.0f}  of which history {of_history / number:6.0f}")


def measured(number: int) -> list[tuple[str, tuple[int, int]]]:
    from enrollments.models import ProvisioningService
    from tests.certificates import root
    from tests.devices import enroll_ca, enroll_keys, new_service, register, shows, signs

    service = new_service("filled")
    ProvisioningService.objects.update(registrations_per_minute=1_000_000)
    service.refresh_from_db()
    ca = root("Filled CA")
    enroll_ca(service, ca)
    keys, leaves = {}, {f"leaf-{n:07}": ca.leaf(f"leaf-{n:07}") for n in range(number)}

    def enroll() -> None:
        for n in range(number):
            keys[f"keyed-{n:07}"] = enroll_keys(service, f"keyed-{n:07}").primary_key

    def register_keyed() -> None:
        for name, key in keys.items():
            register(service, signs(service, name, key), name)

    def register_leaves() -> None:
        for name, leaf in leaves.items():
            register(service, shows(leaf), name)

    return [
        ("an individual enrollment with keys", grown(enroll)),
        ("its first registration: record, hub device, attempts", grown(register_keyed)),
        ("a registration of it again", grown(register_keyed)),
        ("the first registration of a device below a group, X.509", grown(register_leaves)),
        ("a registration of it again", grown(register_leaves)),
    ]


if __name__ == "__main__":
    main()
