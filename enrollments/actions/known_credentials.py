"""What a device would show, as far as it is known here: to ask what would be answered to it, without it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Max

from enrollments.actions.attempts import shown_at_attempts
from enrollments.actions.certificates import parsed
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.attestation.symmetric_key import derive_device_key, key_bytes, make_token
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.policy.names import registration_key

TOKEN_LASTS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KnownCredential:
    """`basis`: in words, what is taken as shown. `shown` is None for a TPM, whose answer nobody else can give."""

    registration_id: str
    basis: str
    shown: PresentedCredential | None
    chain: tuple[ParsedCertificate, ...] = field(default=(), repr=False)


def known_credentials(
    service: ProvisioningService, registration_id: str, *, at: datetime
) -> list[KnownCredential]:
    """What the device proved itself with, the latest first, and then what else is enrolled for it."""
    key = registration_key(registration_id)
    record = service.registrations.filter(registration_key=key).select_related("group", "owner_group").first()
    entry = service.individualenrollments.filter(registration_key=key).first()
    known = [
        _shows(registration_id if record is None else record.registration_id, chain, _PROVED[number > 0])
        for number, chain in enumerate(proven_chains(service, registration_id))
    ]
    if record is not None and (group := key_group_of(record)) is not None:
        known.append(derived_from_group(service, group, record.registration_id, at=at))
    if entry is not None:
        known += _enrolled(service, entry, at, {one.chain[0].thumbprint_sha256 for one in known if one.chain})
    elif not known and record is not None and record.mechanism == AttestationMechanism.TPM:
        # Its entry is gone, and with it whatever could be proven.
        gone = PresentedCredential(claimed_tpm=ClaimedTpm(b""))
        known.append(
            KnownCredential(record.registration_id, "the TPM with which it proved itself last", gone)
        )
    return known


_PROVED = ("the chain with which it proved itself last", "a chain with which it proved itself before that")


def proven_chains(service: ProvisioningService, registration_id: str) -> list[tuple[ParsedCertificate, ...]]:
    """With which the device proved itself, the latest first: that of its record, and those of attempts besides."""
    key = registration_key(registration_id)
    came = shown_at_attempts(service, registration_id=key).get(key, [])
    chains = [tuple(map(parsed, one.pems)) for one in came]
    record = service.registrations.filter(registration_key=key).first()
    if record is not None and (evidence := _evidence(record)):
        shown = service.attempts.filter(registration_key=key, leaf_thumbprint=record.leaf_thumbprint)
        since = shown.exclude(chain="").aggregate(since=Max("last_at"))["since"]
        if since is None:
            is_assigned = record.status == RegistrationStatus.ASSIGNED
            since = record.updated_at if is_assigned else record.created_at
        chains.insert(sum(one.at is not None and one.at > since for one in came), evidence)
    return chains


def derived_from_group(
    service: ProvisioningService, group: EnrollmentGroup, registration_id: str, *, at: datetime
) -> KnownCredential:
    """A token such as any device of a group with symmetric keys signs it (R4). The group holds such keys."""
    key = derive_device_key(key_bytes(group.primary_key), registration_id)
    return KnownCredential(
        registration_id,
        f"a SAS token by the key that a device of enrollment group {group} derives",
        PresentedCredential(authorization=_token(service, registration_id, key, at)),
    )


def _enrolled(
    service: ProvisioningService, entry: IndividualEnrollment, at: datetime, told: Collection[str]
) -> list[KnownCredential]:
    """told: thumbprints of what is known of the device already."""
    registration_id = entry.registration_id
    if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        token = _token(service, registration_id, key_bytes(entry.primary_key), at)
        return [
            KnownCredential(
                registration_id,
                "a SAS token by the primary key of its individual enrollment",
                PresentedCredential(authorization=token),
            )
        ]
    if entry.mechanism == AttestationMechanism.TPM:
        return [
            KnownCredential(
                registration_id,
                "the TPM of its individual enrollment, taken as having answered its challenge",
                None,
            )
        ]
    held = entry.certificates.select_related("certificate").order_by("slot")
    return [
        _shows(registration_id, (parsed(one.certificate.pem),), _ENROLLED[number > 0])
        for number, one in enumerate(held)
        if one.certificate.thumbprint_sha256 not in told
    ]


_ENROLLED = (
    "the certificate of its individual enrollment",
    "the second certificate of its individual enrollment",
)


def _shows(registration_id: str, chain: tuple[ParsedCertificate, ...], basis: str) -> KnownCredential:
    shown = PresentedCredential(certificates=tuple(one.der for one in chain))
    return KnownCredential(registration_id, basis, shown, chain)


def _evidence(record: RegistrationRecord) -> tuple[ParsedCertificate, ...]:
    rows = record.evidence.order_by("position").values_list("certificate__pem", flat=True)
    return tuple(parsed(pem) for pem in rows)


def key_group_of(record: RegistrationRecord) -> EnrollmentGroup | None:
    """Of which group with symmetric keys the device is, also after it was shut out singly."""
    if record.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return None
    for group in (record.group, record.owner_group):
        if group is not None and group.mechanism == AttestationMechanism.SYMMETRIC_KEY:
            return group
    return None


def _token(service: ProvisioningService, registration_id: str, key: bytes, at: datetime) -> str:
    return make_token(service.id_scope, registration_id, key, int((at + TOKEN_LASTS).timestamp()))
