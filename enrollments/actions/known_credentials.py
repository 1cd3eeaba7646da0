"""What a device would show, as far as it is known here: to ask what would be answered to it, without it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

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


def known_credential(
    service: ProvisioningService, registration_id: str, *, at: datetime
) -> KnownCredential | None:
    """What the device showed last or, if it never came, what is enrolled for it. None where nothing is known."""
    key = registration_key(registration_id)
    record = service.registrations.filter(registration_key=key).select_related("group", "owner_group").first()
    entry = service.individualenrollments.filter(registration_key=key).first()
    if record is not None and (chain := _evidence(record)):
        return _shows(record.registration_id, chain, "the chain with which it proved itself last")
    if record is not None and (group := key_group_of(record)) is not None:
        return derived_from_group(service, group, record.registration_id, at=at)
    if entry is not None:
        return _enrolled(service, entry, at)
    if record is not None and record.mechanism == AttestationMechanism.TPM:
        # Its entry is gone, and with it whatever could be proven.
        return KnownCredential(
            record.registration_id,
            "the TPM with which it proved itself last",
            PresentedCredential(claimed_tpm=ClaimedTpm(b"")),
        )
    return None


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
    service: ProvisioningService, entry: IndividualEnrollment, at: datetime
) -> KnownCredential | None:
    registration_id = entry.registration_id
    if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        token = _token(service, registration_id, key_bytes(entry.primary_key), at)
        return KnownCredential(
            registration_id,
            "a SAS token by the primary key of its individual enrollment",
            PresentedCredential(authorization=token),
        )
    if entry.mechanism == AttestationMechanism.TPM:
        return KnownCredential(
            registration_id,
            "the TPM of its individual enrollment, taken as having answered its challenge",
            None,
        )
    held = entry.certificates.select_related("certificate").order_by("slot").first()
    if held is None:
        return None
    return _shows(
        registration_id, (parsed(held.certificate.pem),), "the certificate of its individual enrollment"
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
