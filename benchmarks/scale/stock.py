"""What a database is filled with: entries, groups, what their devices left behind, and a history as long.

Of N enrollments a tenth are certificates and the others symmetric keys, every fifth of which is disabled. N/100 groups
of X.509 devices, 60 at least, each with a CA of its own. A fifth of the keys have registered, and N/10 devices below a
group. N rows of history, sealed. All devices with keys have the same one, so that each of them can be asked for.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.copying import analyze, copy_row, copy_rows, digest, digits, moment, next_number
from benchmarks.scale.names import BELOW_GROUP, CERTIFICATE_NAME, DISABLED_EVERY, KEY_NAME, WIDTH, name_of
from enrollments.actions.services import change_settings
from enrollments.audit.sealer import seal_batch
from enrollments.models import (
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HistoryEvent,
    HubDevice,
    ProvisioningService,
    RegistrationAttempt,
    TrustAnchor,
)
from tests.audit.histories import fill
from tests.certificates import Minted, root
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service, register, signs

# As high as they go, and refused devices stay held back for as long as a run takes.
RATES = {
    "device_registrations_per_minute": 60,
    "registrations_per_minute": 1_000_000,
    "retry_after_seconds": 300,
    "longest_retry_after_seconds": 300,
}
SECONDS_APART = 5
# More than a page of them holds, so that pages are as full everywhere.
FEWEST_GROUPS = 60
DIFFERENT_ROWS = 1000
SEALED_AT_ONCE = 2000
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stock:
    """`key`: the primary symmetric key of all. `cas`: some of the enrolled ones, from all over the groups."""

    service: ProvisioningService
    key: str
    cas: tuple[Minted, ...]


def fill_up(enrollments: int, tell: Tell) -> Stock:
    service = new_service("plant")
    change_settings(service, RATES, actor=ALICE)
    start = datetime.now(UTC) - timedelta(seconds=SECONDS_APART * (enrollments + 1))
    key = _devices_with_keys(service, enrollments - enrollments // 10, start, tell)
    _devices_with_certificates(service, enrollments // 10, start, tell)
    cas = _groups(service, max(FEWEST_GROUPS, enrollments // 100), tell)
    _devices_below_a_group(service, cas[0], enrollments // 10, start, tell)
    _history(service, enrollments, start, tell)
    analyze()
    return Stock(service, key, cas)


def _devices_with_keys(service: ProvisioningService, number: int, start: datetime, tell: Tell) -> str:
    tell("devices with keys")
    first = name_of(KEY_NAME, 0)
    entry = enroll_keys(service, first)
    name, at = _named(KEY_NAME), moment(start, f"i * {SECONDS_APART}")
    before = copy_row(
        entry,
        number - 1,
        {
            "registration_id": name,
            "registration_key": name,
            "enabled": f"i % {DISABLED_EVERY} <> 0",
            "created_at": at,
            "updated_at": at,
        },
    )
    tell("their registrations")
    register(service, signs(service, first, entry.primary_key), first)
    entry_of_copy = f"{before} + i"
    _copy_registration(
        service,
        first,
        name,
        number // 5,
        at,
        {"individual_id": entry_of_copy, "owner_individual_id": entry_of_copy},
    )
    return entry.primary_key


def _devices_with_certificates(
    service: ProvisioningService, number: int, start: datetime, tell: Tell
) -> None:
    tell("devices with certificates")
    leaf = root("Pump maker").leaf(name_of(CERTIFICATE_NAME, 0))
    entry = enroll_device(service, leaf)
    held = entry.certificates.get()
    name, at = _named(CERTIFICATE_NAME), moment(start, f"i * {SECONDS_APART}")
    certificates = _copy_certificate(held.certificate, number - 1, "i")
    entries = copy_row(
        entry,
        number - 1,
        {"registration_id": name, "registration_key": name, "created_at": at, "updated_at": at},
    )
    copy_row(
        held,
        number - 1,
        {
            "certificate_id": f"{certificates} + i",
            "individual_id": f"{entries} + i",
            "subject_sha256": digest("i + 500000000"),
            "spki_sha256": digest("i + 1000000000"),
            "subject_key_id": digest("i + 1500000000", 40),
        },
    )


def _groups(service: ProvisioningService, number: int, tell: Tell) -> tuple[Minted, ...]:
    """CAs are made one by one, each with a key and a name of its own: what searches meet is what they would meet."""
    tell("groups")
    cas = [root(f"CA of line {line:05}") for line in range(number)]
    group = enroll_ca(service, cas[0], "line-00000")
    anchor, held = group.trust_anchors.get(), group.certificates.get()
    rows = Certificate.objects.store_all(ca.parsed for ca in cas)
    groups = [
        _copied(group, group_id=f"line-{line:05}", group_key=f"line-{line:05}") for line in range(1, number)
    ]
    EnrollmentGroup.objects.bulk_create(groups, batch_size=500)
    identities = [{"subject_sha256": row.subject_sha256, "spki_sha256": row.spki_sha256} for row in rows[1:]]
    anchors = [
        _copied(anchor, group=one, **identity) for one, identity in zip(groups, identities, strict=True)
    ]
    TrustAnchor.objects.bulk_create(anchors, batch_size=500)
    HeldCertificate.objects.bulk_create(
        [
            _copied(
                held,
                group=one.group,
                anchor=one,
                certificate=row,
                subject_key_id=row.subject_key_id,
                **identity,
            )
            for one, row, identity in zip(anchors, rows[1:], identities, strict=True)
        ],
        batch_size=500,
    )
    return tuple(cas[:: max(1, number // 10)])


def _devices_below_a_group(
    service: ProvisioningService, ca: Minted, number: int, start: datetime, tell: Tell
) -> None:
    tell("devices below groups")
    first = name_of(BELOW_GROUP, 0)
    register(service, ca.intermediate("Line").leaf(first))
    record = service.registrations.by_registration_id(first)
    leaf, *issuers = record.evidence.all()
    certificates = _copy_certificate(leaf.certificate, number - 1, "i + 100000000")
    records = _copy_registration(
        service,
        first,
        _named(BELOW_GROUP),
        number - 1,
        moment(start, f"i * {SECONDS_APART}"),
        {"leaf_thumbprint": digest("i + 100000000"), "leaf_spki": digest("i + 1100000000")},
    )
    copy_row(leaf, number - 1, {"registration_id": f"{records} + i", "certificate_id": f"{certificates} + i"})
    for issuer in issuers:
        copy_row(issuer, number - 1, {"registration_id": f"{records} + i"})


def _history(service: ProvisioningService, number: int, start: datetime, tell: Tell) -> None:
    """So many rows besides those of the devices above, of some that differ in every column."""
    tell("history")
    before = next_number(HistoryEvent) - 1
    different = min(number, DIFFERENT_ROWS)
    fill(different, service_ids=(service.pk,))
    copy_rows(
        HistoryEvent,
        f"{before + 1} + i % {different}",
        number - different,
        {"at": moment(start, f"i * {SECONDS_APART}"), "subject_name": _named(CERTIFICATE_NAME)},
    )
    tell("sealing the history")
    analyze()
    while seal_batch(limit=SEALED_AT_ONCE):
        pass


def _copy_registration(
    service: ProvisioningService, first: str, name: str, copies: int, at: str, changed: dict[str, str]
) -> int:
    """The record, the device at its hub, and the attempt."""
    record = service.registrations.by_registration_id(first)
    own = {"registration_id": name, "registration_key": name, "device_id": name}
    records = copy_row(
        record, copies, {**own, "created_at": at, "updated_at": at, "assigned_at": at, **changed}
    )
    device = HubDevice.objects.get(hub=record.hub, registration_key=first)
    copy_row(device, copies, {"device_id": name, "device_key": name, "registration_key": name})
    attempt = RegistrationAttempt.objects.get(service=service, registration_key=first)
    named = {"claimed_registration_id": name, "registration_key": name, "entry_name": name}
    copy_row(attempt, copies, {**named, "first_at": at, "last_at": at})
    return records


def _copy_certificate(certificate: Certificate, copies: int, number: str) -> int:
    return copy_row(
        certificate,
        copies,
        {
            "thumbprint_sha256": digest(number),
            "thumbprint_sha1": digest(number, 40),
            "subject_sha256": digest(f"{number} + 500000000"),
            "spki_sha256": digest(f"{number} + 1000000000"),
            "subject_key_id": digest(f"{number} + 1500000000", 40),
        },
    )


def _named(kind: str) -> str:
    return f"'{kind}-' || {digits('i', WIDTH)}"


def _copied(row: Any, **changed: object) -> Any:
    """A row of its own that is not stored yet."""
    one = copy.copy(row)
    one._state = copy.copy(row._state)
    one._state.adding, one._state.fields_cache, one.pk = True, {}, None
    for attribute, value in changed.items():
        setattr(one, attribute, value)
    return one
