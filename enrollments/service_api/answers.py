"""From rows to answers, members in the order of the contract (6.5). What is not known is left out."""

import base64
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db.models import Prefetch, QuerySet

from enrollments.actions.certificates import as_held
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.models.switches import AsOf
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.reprovisioning import ReprovisioningPolicy
from enrollments.wire.errors import failure_of
from enrollments.wire.requests import utc
from enrollments.wire.schedules import schedule_told

Held = IndividualEnrollment | EnrollmentGroup
Entries = TypeVar("Entries", bound=QuerySet[Any])
UNASSIGNED = "unassigned"


def with_what_is_shown(entries: Entries) -> Entries:
    """Everything that an answer needs in a fixed number of queries; keys are not read (R16)."""
    certificates = HeldCertificate.objects.exclude(role=HeldRole.HELPER).select_related(
        "certificate", "ca_certificate"
    )
    return entries.prefetch_related("hubs", Prefetch("certificates", certificates.order_by("slot")))


def individual_body(
    entry: IndividualEnrollment,
    as_of: AsOf,
    *,
    with_keys: bool = False,
    state: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return _present(
        registrationId=entry.registration_id,
        deviceId=entry.device_id or None,
        registrationState=state,
        optionalDeviceInformation=entry.device_information,
        **_common(entry, as_of, with_keys=with_keys),
    )


def group_body(group: EnrollmentGroup, as_of: AsOf, *, with_keys: bool = False) -> dict[str, Any]:
    return _present(enrollmentGroupId=group.group_id, **_common(group, as_of, with_keys=with_keys))


def attestation_body(entry: Held, *, with_keys: bool = False) -> dict[str, Any]:
    """Certificates are described and not repeated; keys are told only where that is asked for."""
    body: dict[str, Any] = {"type": entry.mechanism}
    if entry.mechanism == AttestationMechanism.X509:
        body["x509"] = _x509(entry)
    elif entry.mechanism == AttestationMechanism.TPM and isinstance(entry, IndividualEnrollment):
        body["tpm"] = _present(
            endorsementKey=_base64(entry.endorsement_key), storageRootKey=_base64(entry.storage_root_key)
        )
    elif with_keys:
        body["symmetricKey"] = {"primaryKey": entry.primary_key, "secondaryKey": entry.secondary_key}
    return body


def _x509(entry: Held) -> dict[str, Any]:
    """A group that refers to CA certificates by name is told of by these names, as it was sent."""
    held = [one for one in entry.certificates.all() if one.role != HeldRole.HELPER]
    if references := {one.slot: one.ca_certificate.name for one in held if one.ca_certificate}:
        return {"caReferences": references}
    member = "clientCertificates" if isinstance(entry, IndividualEnrollment) else "signingCertificates"
    return {member: {one.slot: {"info": _info(one)} for one in held}}


def registration_body(record: RegistrationRecord) -> dict[str, Any]:
    """DeviceRegistrationState (contract 6.8). Hub and device ID stand as long as the hub knows the device (R13)."""
    code, message = failure_of(record.reason) if record.status == RegistrationStatus.FAILED else (None, None)
    return _present(
        registrationId=record.registration_id,
        createdDateTimeUtc=utc(record.created_at),
        assignedHub=record.hub.host_name if record.hub else None,
        deviceId=record.device_id or None,
        status=record.status,
        substatus=record.substatus or None,
        errorCode=code,
        errorMessage=message,
        lastUpdatedDateTimeUtc=utc(record.updated_at),
        etag=record.etag,
        payload=record.returned_payload,
    )


def state_of(entry: IndividualEnrollment) -> dict[str, Any]:
    """What became of the device, or that it has not called yet."""
    record = (
        RegistrationRecord.objects.filter(service=entry.service_id, registration_key=entry.registration_key)
        .select_related("hub")
        .first()
    )
    if record is None:
        return {"registrationId": entry.registration_id, "status": UNASSIGNED}
    return registration_body(record)


def _common(entry: Held, as_of: AsOf, *, with_keys: bool) -> dict[str, Any]:
    policy = ReprovisioningPolicy(entry.reprovisioning_policy)
    return {
        "attestation": attestation_body(entry, with_keys=with_keys),
        "capabilities": {"iotEdge": entry.iot_edge},
        "initialTwin": entry.initial_twin,
        "etag": entry.etag,
        "provisioningStatus": "enabled" if as_of.enabled(entry) else "disabled",
        "reprovisionPolicy": {
            "updateHubAssignment": policy is not ReprovisioningPolicy.NEVER,
            "migrateDeviceData": policy is ReprovisioningPolicy.MIGRATE,
        },
        "createdDateTimeUtc": utc(entry.created_at),
        "lastUpdatedDateTimeUtc": utc(entry.updated_at),
        "allocationPolicy": entry.allocation_policy or None,
        "iotHubs": sorted(hub.host_name for hub in entry.hubs.all()) or None,
        # Without its query, which may hold a key: handed back like this, the query that is held stays.
        "customAllocationDefinition": {
            "webhookUrl": entry.webhook_url,
            "apiVersion": entry.webhook_api_version,
        }
        if entry.allocation_policy == AllocationPolicy.CUSTOM
        else None,
        **schedule_told(entry, as_of),
    }


def _info(one: HeldCertificate) -> dict[str, Any]:
    """Of one that cannot be read any more, what was kept of it (R16)."""
    certificate = as_held(one)
    return _present(
        subjectName=certificate.subject,
        sha1Thumbprint=certificate.thumbprint_sha1.upper(),
        sha256Thumbprint=certificate.thumbprint_sha256.upper(),
        issuerName=certificate.issuer,
        notBeforeUtc=_without_fraction(certificate.not_before),
        notAfterUtc=_without_fraction(certificate.not_after),
        serialNumber=certificate.serial_number.upper(),
        version=certificate.version or None,
    )


def _without_fraction(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _base64(key: bytes | memoryview | None) -> str | None:
    return base64.b64encode(bytes(key)).decode() if key else None


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
