"""Devices for tests of actions: what they show, how they register, and entries that let them in."""

import base64
import hmac
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.utils import timezone

from enrollments.actions.attempts import Peer
from enrollments.actions.ca_certificates import (
    add_ca_certificate,
    make_verification_code,
    verify_ca_certificate,
)
from enrollments.actions.certificates import parsed
from enrollments.actions.enrollment_groups import add_enrollment_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.registrations import DeviceRequest, RegistrationAnswer, register_device
from enrollments.actions.services import add_service, change_settings
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.attestation.tpm import read_storage_root_key
from enrollments.audit.actor import Actor, Way
from enrollments.models import (
    AttestationMechanism,
    CaCertificate,
    Certificate,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    Slot,
)
from tests.certificates import Minted, root
from tests.sas import sas_token
from tests.soft_tpm import SoftTpm

ALICE = Actor("user", "alice", Way.PORTAL, "192.0.2.7")
PEER = Peer("198.51.100.20", "test device")


def new_service(name: str = "plant") -> ProvisioningService:
    return add_service(name, actor=ALICE)


def enroll_line(service: ProvisioningService, *registered: str) -> Minted:
    """Group `plant-7` below the group `root`, both enabled, with devices that came in by it. Its CA is returned."""
    top = root("Root")
    plant = top.intermediate("Plant 7")
    enroll_ca(service, top, "root")
    enroll_ca(service, plant, "plant-7")
    for name in registered:
        register(service, plant.leaf(name))
    return plant


def enroll_ca(
    service: ProvisioningService, ca: Minted, group_id: str = "", *, enabled: bool = True, **spec: Any
) -> EnrollmentGroup:
    group_id = group_id or ca.parsed.common_names[0].lower().replace(" ", "-")
    spec.setdefault("certificates", {Slot.PRIMARY: ca.parsed})
    return add_enrollment_group(service, GroupSpec(group_id=group_id, enabled=enabled, **spec), actor=ALICE)


def enroll_device(
    service: ProvisioningService, leaf: Minted, *, enabled: bool = True, **spec: Any
) -> IndividualEnrollment:
    spec.setdefault("certificates", {Slot.PRIMARY: leaf.parsed})
    return add_individual_enrollment(service, IndividualSpec(enabled=enabled, **spec), actor=ALICE)


def enroll_keys(service: ProvisioningService, registration_id: str, **spec: Any) -> IndividualEnrollment:
    return add_individual_enrollment(
        service,
        IndividualSpec(registration_id=registration_id, mechanism=AttestationMechanism.SYMMETRIC_KEY, **spec),
        actor=ALICE,
    )


def enroll_key_group(service: ProvisioningService, group_id: str = "line-9", **spec: Any) -> EnrollmentGroup:
    """A group with symmetric keys, in a service that is made to allow them."""
    change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)
    return add_enrollment_group(
        service,
        GroupSpec(group_id=group_id, mechanism=AttestationMechanism.SYMMETRIC_KEY, **spec),
        actor=ALICE,
    )


def upload_ca(service: ProvisioningService, ca: Minted, name: str = "") -> CaCertificate:
    """A CA certificate that nobody has proven to have the key of."""
    name = name or ca.parsed.common_names[0].lower().replace(" ", "-")
    return add_ca_certificate(service, name, ca.parsed, actor=ALICE)


def prove(service: ProvisioningService, ca: Minted, name: str = "") -> CaCertificate:
    """The same, with its code answered by who holds the key."""
    row = make_verification_code(service, upload_ca(service, ca, name).name, actor=ALICE)
    return verify_ca_certificate(service, row.name, ca.leaf(row.code).parsed, actor=ALICE)


def demand_proof(service: ProvisioningService, demanded: bool = True) -> None:
    change_settings(service, {"proof_of_possession": demanded}, actor=ALICE)
    service.refresh_from_db()


def enroll_tpm(
    service: ProvisioningService, registration_id: str = "press-01", **spec: Any
) -> IndividualEnrollment:
    """An individual enrollment of a TPM of its own."""
    spec.setdefault("endorsement_key", SoftTpm().keys.endorsement_key)
    return add_individual_enrollment(
        service,
        IndividualSpec(registration_id=registration_id, mechanism=AttestationMechanism.TPM, **spec),
        actor=ALICE,
    )


def derived_key(group_key: str, registration_id: str) -> str:
    """What a device of a group with symmetric keys is given as its own (contract 2.2)."""
    digest = hmac.digest(base64.b64decode(group_key), registration_id.encode(), "sha256")
    return base64.b64encode(digest).decode()


def shows(*chain: Minted) -> PresentedCredential:
    """The certificates that a device sends; with one given, that one and the intermediates above it."""
    sent = chain[0].chain if len(chain) == 1 else list(chain)
    return PresentedCredential(certificates=tuple(one.der for one in sent))


def signs(service: ProvisioningService, registration_id: str, key: str, **token: Any) -> PresentedCredential:
    return PresentedCredential(authorization=sas_token(service.id_scope, registration_id, key, **token))


def challenged(
    service: ProvisioningService,
    tpm: SoftTpm,
    registration_id: str = "press-01",
    *,
    at: datetime | None = None,
) -> PresentedCredential:
    """What a TPM shows that was sent a challenge and has opened it. An entry has to enroll it."""
    at = at or timezone.now()
    claimed = ClaimedTpm(tpm.keys.endorsement_key, read_storage_root_key(tpm.keys.storage_root_key))
    answer = register(service, PresentedCredential(claimed_tpm=claimed), registration_id, at=at)
    tpm.activate(answer.tpm_blob)
    key = base64.b64encode(tpm.key).decode()
    return replace(signs(service, registration_id, key), claimed_tpm=claimed)


def asks(registration_id: str, credential: PresentedCredential, at: datetime | None = None) -> DeviceRequest:
    return DeviceRequest(registration_id, credential, PEER, at or timezone.now())


def register(
    service: ProvisioningService,
    device: Minted | PresentedCredential,
    registration_id: str = "",
    *,
    at: datetime | None = None,
) -> RegistrationAnswer:
    """Register a device, by default under the common name of its certificate."""
    if isinstance(device, Minted):
        registration_id = registration_id or device.parsed.common_names[0]
        device = shows(device)
    return register_device(service, asks(registration_id, device, at))


def make_unreadable(*certificates: Minted) -> None:
    """As if the library read them when they came in, and does not any more."""
    for one in certificates:
        stored = Certificate.objects.filter(thumbprint_sha256=one.parsed.thumbprint_sha256)
        assert stored.update(pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    parsed.cache_clear()


def came_with_unreadable(service: ProvisioningService, ca: Minted) -> Minted:
    """What pump-1 came in with below that CA, and what cannot be read by now."""
    leaf = ca.leaf("pump-1")
    register(service, leaf)
    make_unreadable(leaf)
    return leaf


def key_left_open(leaf: Minted) -> str:
    """What denying its device by name alone says of it."""
    thumbprint = leaf.parsed.thumbprint_sha256
    return (
        f"Certificate {thumbprint} of the device cannot be read, so its key is not barred under other names."
    )
