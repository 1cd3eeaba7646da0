"""From a message to what an action is asked for: certificates parsed, hubs looked up, what is held kept where meant."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

from enrollments.actions.certificates import as_held
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.group_specs import Ca, GroupSpec, referred
from enrollments.attestation.tpm import unwrapped
from enrollments.attestation.x509 import DeviceCertificate, read_upload
from enrollments.errors import AttestationError
from enrollments.models import (
    AttestationMechanism,
    CaCertificate,
    EnrollmentGroup,
    HeldRole,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
    Slot,
)
from enrollments.models.ca_certificates import NAME_IN_WORDS, is_ca_name
from enrollments.models.enrollments import empty_twin
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.reprovisioning import ReprovisioningPolicy
from enrollments.wire import messages
from enrollments.wire.errors import NOT_ACCEPTED, ApiError
from enrollments.wire.schedules import schedule_of

Held = IndividualEnrollment | EnrollmentGroup
_NO_KEYS = messages.SymmetricKeyAttestation()
C = TypeVar("C")


class Common(TypedDict):
    mechanism: AttestationMechanism
    primary_key: str
    secondary_key: str
    allocation_policy: str
    hubs: tuple[LinkedHub, ...]
    reprovisioning_policy: str
    initial_twin: dict[str, Any]
    enabled: bool
    for_good: bool
    switches_at: datetime | None
    schedule_reason: str | None
    iot_edge: bool
    webhook_url: str
    webhook_api_version: str


def individual_spec(
    service: ProvisioningService,
    message: messages.IndividualEnrollment,
    current: IndividualEnrollment | None,
    known: Mapping[str, DeviceCertificate] = MappingProxyType({}),
) -> IndividualSpec:
    """`current`: the enrollment that is to be changed; its certificates and keys stay where none are given.

    known: certificates that the caller has read already, by the texts of the message.
    """
    _check_attestation(message.attestation)
    bundles: dict[Slot, tuple[DeviceCertificate | Ca, ...]] = {}

    def read(text: str) -> tuple[DeviceCertificate, ...]:
        found = known.get(text)
        return (found,) if found is not None else tuple(map(DeviceCertificate.of, read_upload(text)))

    if (x509 := message.attestation.x509) is not None:
        if x509.client_certificates is None:
            raise _refused("attestation.x509", "an individual enrollment holds clientCertificates.")
        bundles = _bundles(x509.client_certificates, current, "clientCertificates", read)
        for slot, bundle in bundles.items():
            if len(bundle) > 1:
                where = f"attestation.x509.clientCertificates.{slot}.certificate"
                raise _refused(where, f"this holds {len(bundle)} certificates, and one is taken.")
    tpm = message.attestation.tpm
    return IndividualSpec(
        **_common(service, message, current),
        certificates={slot: bundle[0] for slot, bundle in bundles.items()},
        registration_id=message.registration_id,
        device_id=message.device_id or "",
        endorsement_key=_tpm_key(tpm.endorsement_key, "endorsementKey") if tpm else b"",
        storage_root_key=_tpm_key(tpm.storage_root_key, "storageRootKey")
        if tpm and tpm.storage_root_key
        else b"",
        device_information=message.optional_device_information,
    )


def group_spec(
    service: ProvisioningService,
    message: messages.EnrollmentGroup,
    current: EnrollmentGroup | None,
    *,
    names_beside_certificates: bool = False,
) -> GroupSpec:
    """As for an individual. Certificates behind the first one of a text are helpers (R7).

    names_beside_certificates: caReferences may stand beside signingCertificates, as an export has them. The group holds
    these certificates in any case, and by these names where all of them are here and the same.
    """
    _check_attestation(message.attestation, names_beside_certificates=names_beside_certificates)
    bundles: dict[Slot, tuple[Ca, ...]] = {}
    references: dict[Slot, CaCertificate] = {}
    if (x509 := message.attestation.x509) is not None:
        if x509.signing_certificates is not None:
            bundles = _bundles(x509.signing_certificates, current, "signingCertificates", read_upload)
            if x509.ca_references is not None:
                references = _references_to(service, x509.ca_references, bundles)
        elif x509.ca_references is not None:
            references = _references(service, x509.ca_references)
            bundles = {slot: (one,) for slot, one in referred(references).items()}
        else:
            raise _refused("attestation.x509", "a group holds signingCertificates, or caReferences.")
    given = tuple(helper for bundle in bundles.values() for helper in bundle[1:])
    return GroupSpec(
        **_common(service, message, current),
        certificates={slot: bundle[0] for slot, bundle in bundles.items()},
        group_id=message.enrollment_group_id,
        helpers=given or (_helpers_of(current) if current and bundles and not references else ()),
        predecessor=current.predecessor if current else None,
        references=references,
    )


def _references(service: ProvisioningService, names: messages.CaReferences) -> dict[Slot, CaCertificate]:
    """The CA certificates that are named (contract 6.9): verified or not, which decisions ask where it matters (R7)."""
    found: dict[Slot, CaCertificate] = {}
    for slot, name in _names(names).items():
        named = _named(service, name)
        if named is None:
            raise _refused(f"{_REFERENCES}.{slot}", f"{name[:70]!a} is no CA certificate of this service.")
        found[slot] = named
    return found


def _references_to(
    service: ProvisioningService,
    names: messages.CaReferences,
    bundles: Mapping[Slot, tuple[Ca, ...]],
) -> dict[Slot, CaCertificate]:
    """The CA certificates under these names, where all are here: else none. Another one under a name is refused."""
    wanted = _names(names)
    if wanted.keys() != bundles.keys():
        raise _refused(_REFERENCES, "beside certificates, give a name for each of them, or none at all.")
    found: dict[Slot, CaCertificate] = {}
    for slot, name in wanted.items():
        where = f"{_REFERENCES}.{slot}"
        if not is_ca_name(name):
            raise _refused(where, f"{name[:70]!a} cannot be a name. {NAME_IN_WORDS}")
        given, *helpers = bundles[slot]
        if helpers:
            raise _refused(
                where, "a group that refers to uploaded CA certificates has no helpers: leave out either."
            )
        if (named := _named(service, name)) is None:
            continue
        if named.certificate.thumbprint_sha256 != given.thumbprint_sha256:
            raise _refused(
                where,
                f"in this service {named} is another certificate than the one that is given. Leave the name out, or "
                "upload the one that is given under another name.",
            )
        found[slot] = named
    return found if found.keys() == wanted.keys() else {}


_REFERENCES = "attestation.x509.caReferences"


def _names(names: messages.CaReferences) -> dict[Slot, str]:
    given = {Slot.PRIMARY: names.primary, Slot.SECONDARY: names.secondary}
    wanted = {slot: name for slot, name in given.items() if name is not None}
    if not wanted:
        raise _refused(_REFERENCES, "name a CA certificate as primary, secondary, or both.")
    return wanted


def _named(service: ProvisioningService, name: str) -> CaCertificate | None:
    # No name is longer or has other characters; a database need not be asked for a NUL.
    if not is_ca_name(name):
        return None
    try:
        return service.ca_certificates.select_related("certificate").by_name(name)
    except CaCertificate.DoesNotExist:
        return None


def _refused(member: str, sentence: str) -> ApiError:
    return ApiError(NOT_ACCEPTED, f"{member}: {sentence}")


def _check_attestation(attestation: messages.Attestation, *, names_beside_certificates: bool = False) -> None:
    """One mechanism, and the object that belongs to it (R4)."""
    given = {
        "x509": attestation.x509,
        "tpm": attestation.tpm,
        "symmetricKey": attestation.symmetric_key,
    }
    if given.pop(attestation.type) is None and attestation.type != "symmetricKey":
        raise _refused(f"attestation.{attestation.type}", f"missing; the type is {attestation.type}.")
    if others := [name for name, value in given.items() if value is not None]:
        raise _refused(
            f"attestation.{others[0]}", f"the type is {attestation.type}, and an entry has one mechanism."
        )
    if (x509 := attestation.x509) is not None:
        named = (x509.client_certificates, x509.signing_certificates, x509.ca_references)
        both = x509.signing_certificates is not None and x509.ca_references is not None
        if sum(one is not None for one in named) != (2 if both and names_beside_certificates else 1):
            raise _refused(
                "attestation.x509", "give one of clientCertificates, signingCertificates and caReferences."
            )


def _common(service: ProvisioningService, message: messages.Entry, current: Held | None) -> Common:
    keys = message.attestation.symmetric_key or _NO_KEYS
    webhook = message.custom_allocation_definition
    policy, hubs = _allocation(service, message)
    schedule = schedule_of(service, message, current)
    return {
        "mechanism": AttestationMechanism(message.attestation.type),
        "primary_key": keys.primary_key or "",
        "secondary_key": keys.secondary_key or "",
        "allocation_policy": policy,
        "hubs": hubs,
        "reprovisioning_policy": _reprovisioning(message.reprovision_policy).value,
        "initial_twin": _twin(message.initial_twin),
        "enabled": message.provisioning_status != "disabled",
        "for_good": schedule.for_good,
        "switches_at": schedule.at,
        "schedule_reason": schedule.reason,
        "iot_edge": message.capabilities.iot_edge if message.capabilities else False,
        "webhook_url": webhook.webhook_url if webhook else "",
        "webhook_api_version": (webhook.api_version or "") if webhook else "",
    }


def _allocation(service: ProvisioningService, message: messages.Entry) -> tuple[str, tuple[LinkedHub, ...]]:
    policy, names = message.allocation_policy or "", message.iot_hubs or []
    if message.iot_hub_host_name:
        # What there was before allocation policies: one hub, named.
        if names and [name.lower() for name in names] != [message.iot_hub_host_name.lower()]:
            raise _refused("iotHubHostName", "this is another hub than iotHubs names.")
        if policy not in ("", AllocationPolicy.STATIC):
            raise _refused("iotHubHostName", f"this names one hub, and allocationPolicy is {policy}.")
        policy, names = AllocationPolicy.STATIC.value, [message.iot_hub_host_name]
    linked = {hub.host_name.lower(): hub for hub in service.hubs.all()} if names else {}
    for name in names:
        if name.lower() not in linked:
            raise _refused("iotHubs", f"{name[:100]!a} is no hub that is linked to this service.")
    return policy, tuple(dict.fromkeys(linked[name.lower()] for name in names))


def _reprovisioning(policy: messages.ReprovisionPolicy | None) -> ReprovisioningPolicy:
    """Contract 7.4. Where the hub stays, there is nothing to migrate."""
    if policy is None or (policy.update_hub_assignment and policy.migrate_device_data):
        return ReprovisioningPolicy.MIGRATE
    return ReprovisioningPolicy.RESET if policy.update_hub_assignment else ReprovisioningPolicy.NEVER


def _twin(twin: messages.InitialTwin | None) -> dict[str, Any]:
    if twin is None:
        return empty_twin()
    desired = twin.properties.desired if twin.properties else None
    return {"tags": twin.tags or {}, "properties": {"desired": desired or {}}}


def _tpm_key(text: str, member: str) -> bytes:
    try:
        return unwrapped(text, "key")
    except AttestationError as problem:
        raise _refused(f"attestation.tpm.{member}", problem.message) from None


def _bundles(
    pair: messages.CertificatePair,
    current: Held | None,
    member: str,
    read: Callable[[str], tuple[C, ...]],
) -> dict[Slot, tuple[C | Ca, ...]]:
    given = {Slot.PRIMARY: pair.primary, Slot.SECONDARY: pair.secondary}
    return {
        slot: _bundle(
            one, partial(_held, current, slot), f"attestation.x509.{member}.{slot}.certificate", read
        )
        for slot, one in given.items()
        if one is not None
    }


def _bundle(
    given: messages.CertificateWithInfo,
    look_up: Callable[[], Ca | None],
    member: str,
    read: Callable[[str], tuple[C, ...]],
) -> tuple[C | Ca, ...]:
    """An answer holds what a certificate says and not the certificate: handed back, it means the one that is held."""
    if given.certificate:
        try:
            return read(given.certificate)
        except AttestationError as problem:
            raise _refused(member, problem.message) from None
    if (held := look_up()) is None:
        raise _refused(member, "missing; give PEM text, or base64 of PEM or DER.")
    named = given.info.sha256_thumbprint if given.info else None
    if named and named.lower() != held.thumbprint_sha256:
        raise _refused(member, "missing, and info is that of another certificate than the one that is held.")
    return (held,)


def _held(current: Held | None, slot: Slot) -> Ca | None:
    rows = current.certificates.filter(slot=slot).select_related("certificate") if current else ()
    return next(map(as_held, rows), None)


def _helpers_of(group: EnrollmentGroup) -> tuple[Ca, ...]:
    rows = group.certificates.filter(role=HeldRole.HELPER).select_related("certificate").order_by("pk")
    return tuple(map(as_held, rows))
