"""Lists of registration records for commands, with the filters of the portal's list."""

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from enrollments.management.dialogue import add_list_options
from enrollments.management.previewing import entry_named
from enrollments.management.tables import Column, as_json_lines, as_table, moment
from enrollments.models import ProvisioningService, RegistrationRecord, RegistrationStatus
from enrollments.models.keyset import pages_of, starting_with
from enrollments.policy.names import registration_key

Page = list[dict[str, Any]]

_COLUMNS = (
    Column("REGISTRATION ID", 36),
    Column("STATUS", 9),
    Column("HUB", 16),
    Column("ENTRY", 32),
    Column("UPDATED (UTC)", 16),
)
_VALUES = (
    "registration_id",
    "status",
    "hub__host_name",
    "hub__name",
    "device_id",
    "individual__registration_id",
    "group__group_id",
    "entry_name",
    "updated_at",
)


def add_options(parser: ArgumentParser) -> None:
    add_list_options(parser, RegistrationStatus.values)
    entry = parser.add_mutually_exclusive_group()
    entry.add_argument("--group", default="", metavar="ID", help="Those that this group decided about last.")
    entry.add_argument("--enrollment", default="", metavar="ID", help="The same of an individual enrollment.")


def lines(
    service: ProvisioningService,
    *,
    search: str,
    status: str | None,
    group: str,
    enrollment: str,
    limit: int | None,
    json: bool,
    **_: Any,
) -> Iterator[str]:
    """Raises NotFound for an entry that is not there."""
    records = service.registrations.all()
    if group:
        records = records.of_entry(entry_named(service, "group", group))
    if enrollment:
        records = records.of_entry(entry_named(service, "individual", enrollment))
    if search:
        records = records.filter(starting_with("registration_key", registration_key(search)))
    if status:
        records = records.filter(status=status)
    pages = _pages(records, limit or 0)
    return as_json_lines(pages) if json else as_table(_COLUMNS, map(_cells, pages))


def _pages(records: QuerySet[RegistrationRecord], limit: int) -> Iterator[Page]:
    for page in pages_of(records, "registration_key", *_VALUES, limit=limit):
        yield [
            {
                "registration_id": name,
                "status": status,
                "hub": host,
                "hub_name": hub,
                "device_id": device or None,
                "enrollment": individual,
                "group": group,
                "entry": individual or group or entry or None,
                "updated": moment(updated),
            }
            for _, name, status, host, hub, device, individual, group, entry, updated in page
        ]


def _cells(page: Page) -> Iterator[list[str]]:
    for row in page:
        own = row["enrollment"]
        entry = (
            f"individual {own}" if own else f"group {row['group']}" if row["group"] else row["entry"] or "-"
        )
        updated = (row["updated"] or "-")[:16].replace("T", " ")
        yield [row["registration_id"], row["status"], row["hub_name"] or "-", entry, updated]
