"""Enrolling simulated devices, through the same actions as every other door."""

from cryptography.hazmat.primitives.serialization import Encoding

from enrollments.actions.ca_certificates import (
    add_ca_certificate,
    make_verification_code,
    verify_ca_certificate,
)
from enrollments.actions.enrollment_groups import add_enrollment_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.services import change_settings
from enrollments.attestation.x509 import ParsedCertificate, parse_der
from enrollments.audit.actor import Actor
from enrollments.models import (
    AttestationMechanism,
    CaCertificate,
    EnrollmentGroup,
    HeldCertificate,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
    Slot,
)
from enrollments.policy.names import registration_key
from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.pki import Authority, read_certificates, verification_certificate
from enrollments.simulator.tpm_structures import Tpm


def enroll_authority(
    service: ProvisioningService,
    group_id: str,
    authority: Authority,
    *,
    actor: Actor,
    reason: str,
    enabled: bool = True,
) -> EnrollmentGroup:
    """Enroll a CA, unless it is. Raises AlreadyEnrolled where the group of that ID holds another CA."""
    certificate = parse_der(authority.certificate.public_bytes(Encoding.DER))
    held = (
        HeldCertificate.objects.filter(
            service=service, certificate__thumbprint_sha256=certificate.thumbprint_sha256
        )
        .anchors()
        .select_related("group")
        .first()
    )
    if held is not None and held.group is not None:
        return held.group
    spec = GroupSpec(group_id=group_id, certificates={Slot.PRIMARY: certificate}, enabled=enabled)
    return add_enrollment_group(service, spec, actor=actor, reason=reason)


def upload_authority(
    service: ProvisioningService, name: str, authority: Authority, *, actor: Actor, reason: str
) -> CaCertificate:
    """Upload a CA certificate under a name that is free."""
    certificate = parse_der(authority.certificate.public_bytes(Encoding.DER))
    return add_ca_certificate(service, name, certificate, actor=actor, reason=reason)


def prove_possession(
    service: ProvisioningService, name: str, authority: Authority, *, actor: Actor, reason: str
) -> CaCertificate:
    """Have a code made, sign it with the key of the CA, and answer."""
    code = make_verification_code(service, name, actor=actor, reason=reason).code
    proof = verification_certificate(authority, code).public_bytes(Encoding.DER)
    return verify_ca_certificate(service, name, parse_der(proof), actor=actor, reason=reason)


def enroll_certificate(
    service: ProvisioningService,
    registration_id: str,
    files: CertificateFiles,
    *,
    actor: Actor,
    reason: str,
    enabled: bool = True,
) -> IndividualEnrollment:
    """Pin a device's own certificate, unless it is. Raises AlreadyEnrolled where the entry holds another."""
    leaf = leaf_of(files)
    existing = _existing(service, registration_id)
    if existing is not None and existing.certificates.filter(
        certificate__thumbprint_sha256=leaf.thumbprint_sha256
    ):
        return existing
    spec = IndividualSpec(registration_id=registration_id, certificates={Slot.PRIMARY: leaf}, enabled=enabled)
    return add_individual_enrollment(service, spec, actor=actor, reason=reason)


def enroll_key(
    service: ProvisioningService,
    registration_id: str,
    key: str,
    *,
    actor: Actor,
    reason: str,
    enabled: bool = True,
    device_id: str = "",
    hubs: tuple[LinkedHub, ...] = (),
) -> IndividualEnrollment:
    """Enroll a device with its symmetric key, unless it is. Raises AlreadyEnrolled if it has another."""
    existing = _existing(service, registration_id)
    if existing is not None and key in (existing.primary_key, existing.secondary_key):
        return existing
    spec = IndividualSpec(
        registration_id=registration_id,
        mechanism=AttestationMechanism.SYMMETRIC_KEY,
        primary_key=key,
        enabled=enabled,
        device_id=device_id,
        hubs=hubs,
    )
    return add_individual_enrollment(service, spec, actor=actor, reason=reason)


def enroll_tpm(
    service: ProvisioningService, registration_id: str, tpm: Tpm, *, actor: Actor, reason: str
) -> IndividualEnrollment:
    """Enroll a device with its TPM, unless it is. Raises AlreadyEnrolled if the entry holds another TPM."""
    existing = _existing(service, registration_id)
    if existing is not None and bytes(existing.endorsement_key or b"") == tpm.endorsement_key:
        return existing
    spec = IndividualSpec(
        registration_id=registration_id,
        mechanism=AttestationMechanism.TPM,
        endorsement_key=tpm.endorsement_key,
        storage_root_key=tpm.storage_root_key,
    )
    return add_individual_enrollment(service, spec, actor=actor, reason=reason)


def allow_symmetric_key_groups(service: ProvisioningService, *, actor: Actor, reason: str) -> None:
    """Turn the switch of the service on, without which it takes no group with a symmetric key."""
    if not service.symmetric_key_groups:
        change_settings(service, {"symmetric_key_groups": True}, actor=actor, reason=reason)


def enroll_group_key(
    service: ProvisioningService, group_id: str, key: str, *, actor: Actor, reason: str
) -> EnrollmentGroup:
    """Enroll a group with a symmetric key, unless it is. Raises AlreadyEnrolled if it has another."""
    existing = service.enrollmentgroups.filter(group_key=registration_key(group_id)).first()
    if existing is not None and key in (existing.primary_key, existing.secondary_key):
        return existing
    spec = GroupSpec(group_id=group_id, mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=key)
    return add_enrollment_group(service, spec, actor=actor, reason=reason)


def is_enrolled(service: ProvisioningService, registration_id: str) -> bool:
    return _existing(service, registration_id) is not None


def leaf_of(files: CertificateFiles) -> ParsedCertificate:
    return parse_der(read_certificates(files.chain)[0].public_bytes(Encoding.DER))


def _existing(service: ProvisioningService, registration_id: str) -> IndividualEnrollment | None:
    return service.individualenrollments.filter(registration_key=registration_key(registration_id)).first()
