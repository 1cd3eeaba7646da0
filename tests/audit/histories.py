"""Long histories for tests and measurements: rows put in bulk, as if changes had made them, and sealed in batches."""

import json
import random
from datetime import UTC, datetime, timedelta

from django.db import connection

from enrollments.models import HistoryEvent

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_TWIN = {"tags": {"hall": "Zürich €", "n": 0.1}, "properties": {"desired": {"interval": 5}}}


# Rows from before it was kept have none.
CLIENTS = ("", "Mozilla/5.0 (X11; Linux) café", "manage.py disable")


def fill(
    rows: int,
    *,
    service_ids: tuple[int | None, ...] = (9001, 9002, None),
    clients: tuple[str, ...] = CLIENTS,
    seed: int = 7,
    first: int = 0,
) -> None:
    """Rows that differ in every column, one for each second, from second `first` on. Nothing is sealed by this."""
    chance = random.Random(seed)
    end = first + rows
    for start in range(first, end, 5000):
        HistoryEvent.objects.bulk_create(
            _row(number, chance, service_ids, clients) for number in range(start, min(end, start + 5000))
        )


def _row(
    number: int, chance: random.Random, service_ids: tuple[int | None, ...], clients: tuple[str, ...]
) -> HistoryEvent:
    service = service_ids[number % len(service_ids)]
    return HistoryEvent(
        at=BEGIN + timedelta(seconds=number, microseconds=chance.choice((0, number % 1_000_000))),
        event=chance.choice(("enrollment.disabled", "enrollment.enabled", "device.assigned")),
        service_id=service,
        service_name=f"service-{service}" if service else "",
        actor_kind=chance.choice(("user", "cli")),
        actor_name=chance.choice(("alice", "bob")),
        way="portal",
        subject_kind="IndividualEnrollment",
        subject_id=str(number),
        subject_name=f"pump-{number:06}",
        reason=chance.choice(("", "stolen, ticket 4711", 'said "no"\\ – café')),
        before=chance.choice((None, {"status": "enabled"}, {"status": "disabled", "n": number})),
        after=chance.choice((None, {"status": "disabled"}, {"initial_twin": _TWIN})),
        address="192.0.2.7",
        request_id=f"{number:032x}",
        client=clients[number % len(clients)],
    )


def execute(sql: str, *parameters: object) -> int:
    """Raw SQL, past every rule of ours; how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.rowcount


def as_json(value: object) -> str:
    return json.dumps(value)


def repeat(times: int, *, only: int | None = None) -> None:
    """The first so many rows (all of them) this many times more, put in by the database itself: in a tenth of the time,
    and alike but for the IDs of subjects and requests. Nothing is sealed by this."""
    table = HistoryEvent._meta.db_table
    columns = [field.column for field in HistoryEvent._meta.concrete_fields if field.column != "id"]
    names = ", ".join(f'"{name}"' for name in columns)
    own = {name: f"e.{name} || '-' || n.n" for name in ("subject_id", "request_id")}
    values = ", ".join(own.get(name, f'e."{name}"') for name in columns)
    first = f"SELECT * FROM {table} ORDER BY id" + (f" LIMIT {only}" if only else "")
    execute(
        f"INSERT INTO {table} ({names}) "
        f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {times}) "
        f"SELECT {values} FROM ({first}) e, n ORDER BY n.n, e.id"
    )
