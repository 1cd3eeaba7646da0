"""Shutting single devices out, and taking them off their hubs (R5, R13)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.utils import timezone

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.certificates import readable
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment, disable_enrollment
from enrollments.actions.entries import AlreadyEnrolled
from enrollments.actions.entry_specs import Certificates
from enrollments.actions.kept_attempts import proven_leaf
from enrollments.actions.known_credentials import Proven, leaves_among, proven_by_name, unreadable_among
from enrollments.actions.name_claims import check_name_version
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record, require_still
from enrollments.errors import ChangedMeanwhile, Conflict, HubUnavailable, NotFound
from enrollments.hubs import connector_of
from enrollments.models import (
    AttestationMechanism,
    HubDevice,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
    RegistrationStatus,
    Slot,
)
from enrollments.models.enrollments import new_etag, secrets_of
from enrollments.models.locks import change_lock
from enrollments.policy.names import registration_key


@dataclass(frozen=True, slots=True)
class Deprovisioned:
    """What is confirmed. `hub_problem` is empty when the hub has confirmed, or knew nothing of the device.

    deregistered: whether the record said anything else before.
    """

    entry: IndividualEnrollment
    hub_problem: str = ""
    deregistered: bool = False

    @property
    def done(self) -> bool:
        return not self.hub_problem


def deny_device(
    service: ProvisioningService,
    registration_id: str,
    *,
    actor: Actor,
    reason: str = "",
    certificates: Certificates | None = None,
) -> IndividualEnrollment:
    """Shut one device out by a disabled individual enrollment: the existing one, or a new one (R5).

    A new one holds certificates of the device, so that their keys are barred under any name (R6): those given, or
    else those that it proved itself with last. Where none is known, as of devices that sign, the registration ID alone
    is barred, as it is where none can be read (R16).
    """
    if service.individualenrollments.filter(registration_key=registration_key(registration_id)).exists():
        return disable_enrollment(service, registration_id, actor=actor, reason=reason)
    if not certificates:
        certificates = in_slots(proven_leaves(service, registration_id))
    spec = IndividualSpec(
        registration_id=registration_id,
        mechanism=AttestationMechanism.X509,
        certificates=certificates,
        enabled=False,
    )
    try:
        return add_individual_enrollment(service, spec, actor=actor, reason=reason)
    except AlreadyEnrolled:
        # Somebody enrolled it in between; what is asked for is that it is shut out.
        return disable_enrollment(service, registration_id, actor=actor, reason=reason)


def deny_devices(
    service: ProvisioningService, registration_ids: Iterable[str], *, actor: Actor, reason: str = ""
) -> list[IndividualEnrollment]:
    """The same of several, all of them or none."""
    with change_lock(service, raises_epoch=False):
        return [deny_device(service, name, actor=actor, reason=reason) for name in registration_ids]


def deny_device_of(
    service: ProvisioningService, attempt: RegistrationAttempt, *, actor: Actor, reason: str = ""
) -> IndividualEnrollment:
    """Shut out whoever registers under the name of this attempt, and bar the keys that are known of that device.

    That which it proved at this attempt comes first. Raises Conflict for an attempt that stands for many.
    """
    if attempt.claimed_registration_id == OVERFLOW_NAME:
        raise Conflict("This row counts many devices together, so there is no one device to deny.")
    proven = in_slots(leaves_of(service, attempt))
    return deny_device(
        service, attempt.claimed_registration_id, actor=actor, reason=reason, certificates=proven
    )


def deprovision_device(
    service: ProvisioningService, registration_id: str, *, actor: Actor, reason: str = ""
) -> Deprovisioned:
    """Disenroll a device, then deregister it at its hub (R13). Can be repeated until the hub has confirmed.

    Raises NotFound where there is no registration record.
    """
    reason = clean_reason(reason)
    registration = _get(service, registration_id)
    entry = deny_device(service, registration.registration_id, actor=actor, reason=reason)
    try:
        deregistered = _deregister(
            service, registration, actor=actor, reason=reason, event=Event.DEVICE_DEPROVISIONED
        )
    except HubUnavailable as failure:
        return Deprovisioned(entry, failure.message)
    return Deprovisioned(entry, deregistered=deregistered)


def delete_registration(
    service: ProvisioningService,
    registration_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_etags: tuple[str, ...] = (),
    expected_name: str = "",
) -> None:
    """Delete a registration record, which frees its name (R11). Neither the entry nor the hub's identity changes (R13).

    With `expected_etags`, only if it still has one of these; expected_name: the name_version that was looked at.
    Raises NotFound, ChangedMeanwhile, PreviewOutdated.
    """
    reason = clean_reason(reason)
    with change_lock(service):
        registration = _get(service, registration_id, for_update=True)
        if expected_etags and registration.etag not in expected_etags:
            raise ChangedMeanwhile(f"The registration record of {registration}")
        check_name_version(registration, expected_name)
        record(
            Event.REGISTRATION_DELETED,
            subject=registration,
            actor=actor,
            service=service,
            reason=reason,
            before=_state(registration),
        )
        registration.delete()


def release_registration(
    service: ProvisioningService,
    registration_id: str,
    *,
    actor: Actor,
    reason: str = "",
    expected_name: str = "",
) -> None:
    """Let a registration ID pass to whichever entry admits it next (R11).

    expected_name: the name_version that was looked at. Raises NotFound, PreviewOutdated.
    """
    reason = clean_reason(reason)
    with change_lock(service):
        registration = _get(service, registration_id, for_update=True)
        check_name_version(registration, expected_name)
        if registration.owner_individual_id is None and registration.owner_group_id is None:
            require_still(actor)
            return
        before = _state(registration)
        registration.owner_individual = registration.owner_group = None
        registration.save(update_fields=["owner_individual", "owner_group"])
        record(
            Event.REGISTRATION_RELEASED,
            subject=registration,
            actor=actor,
            service=service,
            reason=reason,
            before={"held_by": before["held_by"]},
            after={"held_by": None},
        )


def free_names(
    service: ProvisioningService,
    versions: Mapping[str, str],
    *,
    by_deleting: bool,
    actor: Actor,
    reason: str = "",
) -> None:
    """Release registration IDs, or delete their records: all of them or none.

    versions: of each the name_version that was looked at. Raises NotFound, PreviewOutdated.
    """
    free = delete_registration if by_deleting else release_registration
    with change_lock(service, raises_epoch=False):
        # All before the first: each of them raises the epoch.
        for name, version in versions.items():
            check_name_version(_get(service, name), version)
        for name in versions:
            free(service, name, actor=actor, reason=reason)


def deregister_device(
    service: ProvisioningService, device: HubDevice, *, actor: Actor, reason: str = ""
) -> None:
    """Remove an identity from its built-in hub. The device may come back by registering again (R13)."""
    reason = clean_reason(reason)
    with change_lock(service):
        if device.hub.service_id != service.pk:
            raise NotFound(f"Device {device.device_id} is at no hub of this service.")
        gone = connector_of(device.hub).deregister(device.hub, device.device_id, device.registration_key)
        if not gone:
            raise NotFound(f"Hub {device.hub} does not know device {device.device_id} any more.")
        record(
            Event.DEVICE_DEREGISTERED,
            subject=device,
            actor=actor,
            service=service,
            reason=reason,
            before={"hub": device.hub.host_name, "device_id": device.device_id},
        )


def _deregister(
    service: ProvisioningService, registration: RegistrationRecord, *, actor: Actor, reason: str, event: Event
) -> bool:
    """Take the device off its hub, then say so. A hub that is not ours is asked outside of any transaction.

    Of who is off already there is nothing to change, and nothing to record: returns whether there was.
    """
    hub = registration.hub
    if hub is not None and not connector_of(hub).transactional:
        connector_of(hub).deregister(hub, registration.device_id, registration.registration_key)
    with change_lock(service, raises_epoch=False):
        current = _get(service, registration.registration_id, for_update=True)
        before = _state(current)
        if before == _DEREGISTERED:
            require_still(actor)
            return False
        if current.hub is not None and connector_of(current.hub).transactional:
            connector_of(current.hub).deregister(current.hub, current.device_id, current.registration_key)
        current.hub, current.device_id, current.assigned_at = None, "", None
        current.owner_individual = current.owner_group = None
        current.status, current.substatus = RegistrationStatus.DISABLED, ""
        current.reason = "individual_disabled"
        current.updated_at, current.etag = timezone.now(), new_etag()
        current.save()
        record(
            event,
            subject=current,
            actor=actor,
            service=service,
            reason=reason,
            before=before,
            after=_state(current),
        )
        service.raise_epoch()
    return True


def _get(
    service: ProvisioningService, registration_id: str, *, for_update: bool = False
) -> RegistrationRecord:
    owners = ("owner_individual", "owner_group")
    records = service.registrations.select_related("hub", *owners).defer(*secrets_of(*owners))
    if for_update:
        records = records.select_for_update(of=("self",))
    try:
        return records.by_registration_id(registration_id)
    except RegistrationRecord.DoesNotExist:
        raise NotFound(f"There is no registration record of {registration_id[:130]}.") from None


def _state(registration: RegistrationRecord) -> dict[str, str | None]:
    holder = registration.owner_individual or registration.owner_group
    return {
        "status": registration.status,
        "hub": registration.hub.host_name if registration.hub else None,
        "device_id": registration.device_id or None,
        "held_by": str(holder) if holder else None,
    }


_DEREGISTERED: dict[str, str | None] = {
    "status": RegistrationStatus.DISABLED.value,
    "hub": None,
    "device_id": None,
    "held_by": None,
}


def proven_leaves(service: ProvisioningService, registration_id: str) -> list[ParsedCertificate]:
    """The certificates with which a device proved itself, the latest first, as far as they can be read (R16)."""
    return leaves_among(proven_by_name(service, registration_id))


def leaves_of(service: ProvisioningService, attempt: RegistrationAttempt) -> list[ParsedCertificate]:
    """The certificates of whoever made this attempt: the one that it proved, then the others, the latest first."""
    certificate = proven_leaf(attempt)
    first = readable(certificate.pem) if certificate else None
    others = proven_leaves(service, attempt.claimed_registration_id)
    return [first, *others] if first is not None else others


def unread_leaves(proven: Iterable[Proven], attempt: RegistrationAttempt | None = None) -> list[str]:
    """Of a device that proved itself by these, or at this attempt: thumbprints of certificates that cannot be read."""
    certificate = proven_leaf(attempt) if attempt is not None else None
    is_unread = certificate is not None and readable(certificate.pem) is None
    first = [certificate.thumbprint_sha256] if certificate is not None and is_unread else []
    return list(dict.fromkeys([*first, *unreadable_among(proven)]))


def in_slots(leaves: Iterable[ParsedCertificate]) -> dict[Slot, ParsedCertificate]:
    """As many as an entry holds, of different keys: it is keys that it bars."""
    of_keys: dict[str, ParsedCertificate] = {}
    for leaf in leaves:
        of_keys.setdefault(leaf.spki_sha256, leaf)
    return dict(zip(Slot, of_keys.values(), strict=False))
