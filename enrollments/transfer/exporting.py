"""Entries as lines that an import takes: groups before individuals, a group's predecessor before the group."""

import base64
import csv
import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Prefetch, QuerySet

from enrollments.actions.history import note_export
from enrollments.actions.preview.table import Echo
from enrollments.actions.schedule import switches_now
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    ImportFormat,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.enrollments import secrets_of
from enrollments.models.switches import AsOf
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.reprovisioning import ReprovisioningPolicy
from enrollments.transfer.columns import COLUMNS, Line, row_of_line

PAGE = 500
E = TypeVar("E", IndividualEnrollment, EnrollmentGroup)


def export_entries(
    service: ProvisioningService,
    format: ImportFormat,
    *,
    groups: "QuerySet[EnrollmentGroup] | None",
    individuals: "QuerySet[IndividualEnrollment] | None",
    with_secrets: bool,
    filters: dict[str, Any],
    actor: Actor,
) -> Iterator[bytes]:
    """The file, piece by piece in constant memory. It is history before its first byte leaves (R17).

    with_secrets: keys and queries of webhooks too, which is a disclosure of its own.
    """
    what = " and ".join(
        name for name, entries in (("groups", groups), ("enrollments", individuals)) if entries is not None
    )
    note_export(
        f"{what} of {service}", {**filters, "with secrets": with_secrets}, actor=actor, service=service
    )
    if with_secrets:
        _note_disclosure(service, what, actor)
    lines = _lines(groups, individuals, switches_now(service), with_secrets=with_secrets)
    return _csv(lines) if format == ImportFormat.CSV else _json_lines(lines)


def _note_disclosure(service: ProvisioningService, what: str, actor: Actor) -> None:
    with transaction.atomic():
        record(
            Event.KEYS_REVEALED,
            subject=Subject("export", f"{what} of {service}"),
            actor=actor,
            service=service,
        )


def _json_lines(lines: Iterable[Line]) -> Iterator[bytes]:
    for line in lines:
        yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _csv(lines: Iterable[Line]) -> Iterator[bytes]:
    """With a mark that tells spreadsheets that it is UTF-8."""
    writer = csv.writer(Echo())
    yield b"\xef\xbb\xbf" + writer.writerow(COLUMNS).encode()
    for line in lines:
        yield writer.writerow(row_of_line(line)).encode()


def _lines(
    groups: "QuerySet[EnrollmentGroup] | None",
    individuals: "QuerySet[IndividualEnrollment] | None",
    as_of: AsOf,
    *,
    with_secrets: bool,
) -> Iterator[Line]:
    if groups is not None:
        for pk_batch in _pages_of(_in_order_of_succession(groups)):
            held = _complete(EnrollmentGroup.objects.filter(pk__in=pk_batch), with_secrets)
            held = held.select_related("predecessor").defer(*secrets_of("predecessor"))
            by_pk = {one.pk: one for one in held}
            for pk in pk_batch:
                if pk in by_pk:  # deleted while the export ran
                    yield _group(by_pk[pk], as_of, with_secrets=with_secrets)
    if individuals is not None:
        for entry in _by_pages(_complete(individuals, with_secrets)):
            yield _individual(entry, as_of, with_secrets=with_secrets)


def _complete(entries: "QuerySet[E]", with_secrets: bool) -> "QuerySet[E]":
    certificates = HeldCertificate.objects.select_related("certificate", "ca_certificate").order_by(
        "slot", "pk"
    )
    if not with_secrets:
        entries = entries.defer("primary_key", "secondary_key")
    return entries.prefetch_related("hubs", Prefetch("certificates", certificates))


def _by_pages(entries: "QuerySet[E]") -> Iterator[E]:
    """By primary key: none twice, and none missed that was there throughout."""
    last = 0
    while page := list(entries.filter(pk__gt=last).order_by("pk")[:PAGE]):
        yield from page
        last = page[-1].pk


def _pages_of(pks: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(pks), PAGE):
        yield pks[start : start + PAGE]


def _in_order_of_succession(groups: "QuerySet[EnrollmentGroup]") -> list[int]:
    """So that whoever imports the lines one by one finds each predecessor there. What runs in a circle is cut once."""
    above = dict(groups.order_by("pk").values_list("pk", "predecessor_id"))
    ordered: dict[int, None] = {}
    for pk in above:
        line: list[int] = []
        at: int | None = pk
        while at is not None and at in above and at not in ordered and at not in line:
            line.append(at)
            at = above[at]
        ordered.update(dict.fromkeys(reversed(line)))
    return list(ordered)


def _individual(entry: IndividualEnrollment, as_of: AsOf, *, with_secrets: bool) -> Line:
    line: Line = {"operation": "createOrUpdate", "registrationId": entry.registration_id}
    if entry.device_id:
        line["deviceId"] = entry.device_id
    if entry.device_information is not None:
        line["optionalDeviceInformation"] = entry.device_information
    return {**line, **_common(entry, as_of, "clientCertificates", with_secrets=with_secrets)}


def _group(group: EnrollmentGroup, as_of: AsOf, *, with_secrets: bool) -> Line:
    line: Line = {"operation": "createOrUpdate", "enrollmentGroupId": group.group_id}
    if group.predecessor is not None:
        line["predecessor"] = group.predecessor.group_id
    return {**line, **_common(group, as_of, "signingCertificates", with_secrets=with_secrets)}


def _common(
    entry: IndividualEnrollment | EnrollmentGroup, as_of: AsOf, member: str, *, with_secrets: bool
) -> dict[str, Any]:
    policy = ReprovisioningPolicy(entry.reprovisioning_policy)
    line: dict[str, Any] = {
        "provisioningStatus": "enabled" if as_of.enabled(entry) else "disabled",
        **_schedule(entry, as_of),
        "attestation": _attestation(entry, member, with_secrets=with_secrets),
        "initialTwin": entry.initial_twin,
        "reprovisionPolicy": {
            "updateHubAssignment": policy is not ReprovisioningPolicy.NEVER,
            "migrateDeviceData": policy is ReprovisioningPolicy.MIGRATE,
        },
        "capabilities": {"iotEdge": entry.iot_edge},
    }
    withheld = entry.mechanism == AttestationMechanism.SYMMETRIC_KEY
    if entry.allocation_policy:
        line["allocationPolicy"] = entry.allocation_policy
    if hubs := sorted(hub.host_name for hub in entry.hubs.all()):
        line["iotHubs"] = hubs
    if entry.allocation_policy == AllocationPolicy.CUSTOM:
        query = entry.webhook_query
        withheld = withheld or bool(query)
        line["customAllocationDefinition"] = {
            "webhookUrl": f"{entry.webhook_url}?{query}" if query and with_secrets else entry.webhook_url,
            "apiVersion": entry.webhook_api_version,
        }
    if withheld and not with_secrets:
        line["secretsWithheld"] = True
    return line


def _attestation(
    entry: IndividualEnrollment | EnrollmentGroup, member: str, *, with_secrets: bool
) -> dict[str, Any]:
    attestation: dict[str, Any] = {"type": entry.mechanism}
    if entry.mechanism == AttestationMechanism.X509:
        attestation["x509"] = _x509(list(entry.certificates.all()), member)
    elif isinstance(entry, IndividualEnrollment) and entry.mechanism == AttestationMechanism.TPM:
        keys = {"endorsementKey": entry.endorsement_key, "storageRootKey": entry.storage_root_key}
        attestation["tpm"] = {
            name: base64.b64encode(bytes(key)).decode() for name, key in keys.items() if key
        }
    elif with_secrets:
        attestation["symmetricKey"] = {"primaryKey": entry.primary_key, "secondaryKey": entry.secondary_key}
    return attestation


def _schedule(entry: IndividualEnrollment | EnrollmentGroup, as_of: AsOf) -> dict[str, str]:
    """Until when it stands as it is said to. Who wanted that stays behind: elsewhere it is whoever imports it."""
    # What is due has turned, or keeps out where that cannot be recorded (R16): either way there is no more to come.
    if entry.switches_at is None or entry.is_due(as_of.at):
        return {}
    told = {"switchesAt": f"{entry.switches_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    return {**told, "scheduleReason": entry.schedule_reason} if entry.schedule_reason else told


def _x509(held: list[HeldCertificate], member: str) -> dict[str, Any]:
    """The certificates in any case; and the names by which a group refers to them, for where they are the same."""
    references = {one.slot: one.ca_certificate.name for one in held if one.ca_certificate}
    return {member: _pair(held), **({"caReferences": references} if references else {})}


def _pair(held: list[HeldCertificate]) -> dict[str, dict[str, str]]:
    """Helpers stand behind the first certificate, where an upload has them."""
    helpers = "".join(one.certificate.pem for one in held if one.role == HeldRole.HELPER)
    pair = {one.slot: {"certificate": one.certificate.pem} for one in held if one.role != HeldRole.HELPER}
    if pair and helpers:
        first = "primary" if "primary" in pair else "secondary"
        pair[first]["certificate"] += helpers
    return pair
