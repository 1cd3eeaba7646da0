"""Lists of entries for commands, with the filters of the portal's lists."""

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Min, QuerySet

from enrollments.actions.schedule import switches_now
from enrollments.management.dialogue import add_list_options
from enrollments.management.entry_kinds import EntryKindWords
from enrollments.management.tables import Column, as_json_lines, as_table, moment
from enrollments.models import (
    AttestationMechanism,
    HeldCertificate,
    HeldRole,
    ProvisioningService,
    ProvisioningStatus,
)
from enrollments.models.keyset import pages_of, starting_with
from enrollments.models.switches import AsOf
from enrollments.policy.names import registration_key

Page = list[dict[str, Any]]


def add_options(parser: ArgumentParser, kind: EntryKindWords) -> None:
    add_list_options(parser, ProvisioningStatus.values)
    parser.add_argument("--mechanism", choices=[one.value for one in kind.mechanisms])


def lines(
    service: ProvisioningService,
    kind: EntryKindWords,
    *,
    search: str,
    status: str | None,
    mechanism: str | None,
    limit: int | None,
    json: bool,
    **_: Any,
) -> Iterator[str]:
    rows, as_of = kind.rows(service), switches_now(service)
    if search:
        rows = rows.filter(starting_with(kind.key_column, registration_key(search)))
    if status:
        rows = rows.filter(as_of.where(enabled=status == ProvisioningStatus.ENABLED))
    if mechanism:
        rows = rows.filter(mechanism=mechanism)
    pages = _pages(rows, kind, as_of, limit or 0)
    return as_json_lines(pages) if json else as_table(_columns(kind), map(_cells, pages))


def _columns(kind: EntryKindWords) -> list[Column]:
    title = kind.id_column.replace("_", " ").upper()
    columns = (("STATUS", 8), ("UNTIL (UTC)", 16), ("MECHANISM", 13), ("EXPIRES", 10), ("CREATED", 10))
    return [Column(title, 48), *(Column(*one) for one in columns)]


@dataclass(frozen=True, slots=True)
class _Switch:
    enabled: bool
    switches_at: datetime | None


def _pages(rows: QuerySet[Any], kind: EntryKindWords, as_of: AsOf, limit: int) -> Iterator[Page]:
    """The state is that which holds, also where a switch has turned and nobody has written that down yet."""
    columns = ("pk", kind.id_column, "enabled", "switches_at", "mechanism", "created_at", "updated_at")
    for page in pages_of(rows, kind.key_column, *columns, limit=limit):
        with_certificates = [pk for _, pk, _, _, _, one, *_ in page if one == AttestationMechanism.X509]
        expires = _expiries(kind, with_certificates)
        yield [
            {
                kind.id_column: name,
                "status": _status(as_of.enabled(_Switch(enabled, switches_at))),
                "until": moment(switches_at) if switches_at and switches_at > as_of.at else None,
                "mechanism": mechanism,
                "certificate_expires": moment(expires.get(pk)),
                "created": moment(created),
                "updated": moment(updated),
            }
            for _, pk, name, enabled, switches_at, mechanism, created, updated in page
        ]


def _status(enabled: bool) -> str:
    return (ProvisioningStatus.ENABLED if enabled else ProvisioningStatus.DISABLED).value


def _expiries(kind: EntryKindWords, pks: Iterable[int]) -> dict[int, datetime]:
    """Of each entry the end of the certificate that ends first."""
    held = HeldCertificate.objects.filter(**{f"{kind.held_by}__in": list(pks)})
    soonest = held.exclude(role=HeldRole.HELPER).order_by().values_list(kind.held_by)
    return dict(soonest.annotate(Min("certificate__not_after")))


def _cells(page: Page) -> Iterator[list[str]]:
    for row in page:
        name, status, until, mechanism, expires, created, _ = row.values()
        yield [
            name,
            status,
            (until or "-")[:16].replace("T", " "),
            mechanism,
            (expires or "-")[:10],
            created[:10],
        ]
