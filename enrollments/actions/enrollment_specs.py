"""What an administrator wants an individual enrollment to be, and whether it can be that."""

import json
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from enrollments.actions.entry_specs import EntrySpec, check_hubs, check_spec
from enrollments.attestation.tpm import read_endorsement_key, read_storage_root_key
from enrollments.attestation.x509 import registration_id_of
from enrollments.errors import AttestationError, DpsError, Invalid
from enrollments.models import AttestationMechanism, IndividualEnrollment, ProvisioningService
from enrollments.policy.documents import MAX_TWIN_BYTES, DocumentProblem, parse_json
from enrollments.policy.names import is_registration_id, same_registration_id


class Keep(Enum):
    """For what a caller does not know of, and leaves as it is."""

    AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndividualSpec(EntrySpec):
    """`registration_id` may be empty: it is then the certificates' common name, or made of the endorsement key.

    endorsement_key, storage_root_key: each a TPM2B_PUBLIC. Without an endorsement key the one that is held stays, and
    with it its storage root key.
    """

    registration_id: str = ""
    device_id: str = ""
    endorsement_key: bytes = b""
    storage_root_key: bytes = b""
    device_information: dict[str, Any] | Keep | None = Keep.AS_IT_IS


def check_enrollment(
    service: ProvisioningService, spec: IndividualSpec, current: IndividualEnrollment | None
) -> IndividualSpec:
    """The spec with its registration ID, or raises Invalid for all that could be refused when it is written.

    That a name is taken is not looked at.
    """
    if current is not None:
        spec = replace(spec, registration_id=current.registration_id)
    spec = checked(service, spec)
    holds_key = current is not None and current.endorsement_key is not None
    if spec.mechanism == AttestationMechanism.TPM and not spec.endorsement_key and not holds_key:
        raise no_endorsement_key()
    return spec


def checked_or_problem(service: ProvisioningService, spec: IndividualSpec) -> IndividualSpec | DpsError:
    try:
        return checked(service, spec)
    except Invalid as problem:
        return problem


def checked(service: ProvisioningService, spec: IndividualSpec) -> IndividualSpec:
    """The spec with the registration ID that its certificates carry. Raises Invalid."""
    if spec.mechanism == AttestationMechanism.TPM:
        spec = _named_by_tpm(spec)
    if spec.mechanism == AttestationMechanism.X509:
        spec = _named_by_certificates(spec)
    check_spec(spec, spec.registration_id, "registration_id", "device")
    if spec.device_id and not is_registration_id(spec.device_id):
        raise Invalid({"device_id": ["A device ID has the form of a registration ID."]})
    check_hubs(service, spec.hubs)
    _check_device_information(spec)
    return spec


def _check_device_information(spec: IndividualSpec) -> None:
    if isinstance(spec.device_information, dict):
        try:
            parse_json(json.dumps(spec.device_information), max_bytes=MAX_TWIN_BYTES)
        except DocumentProblem as problem:
            raise Invalid({"device_information": [str(problem)]}) from None


def _named_by_tpm(spec: IndividualSpec) -> IndividualSpec:
    """Raises Invalid for keys with which no TPM could be challenged. The same one may be in several entries."""
    for key_field, key, read in (
        ("endorsement_key", spec.endorsement_key, read_endorsement_key),
        ("storage_root_key", spec.storage_root_key, read_storage_root_key),
    ):
        try:
            if key:
                read(key)
        except AttestationError as problem:
            raise Invalid({key_field: [problem.message]}) from None
    if spec.storage_root_key and spec.storage_root_key == spec.endorsement_key:
        raise Invalid({"storage_root_key": ["This is the endorsement key once more."]})
    if spec.endorsement_key and not spec.registration_id:
        named = read_endorsement_key(spec.endorsement_key).default_registration_id
        return replace(spec, registration_id=named)
    return spec


def _named_by_certificates(spec: IndividualSpec) -> IndividualSpec:
    """R3: exactly one CN, and it is the registration ID; primary and secondary carry the same."""
    if not spec.certificates:
        if spec.enabled:
            raise Invalid(
                {"primary_certificate": ["Give the certificate with which the device will prove itself."]}
            )
        return spec  # a deny entry needs none: it bars the registration ID (R5)
    for slot, certificate in spec.certificates.items():
        try:
            common_name = registration_id_of(certificate)
        except AttestationError as problem:
            raise Invalid({f"{slot}_certificate": [problem.message]}) from None
        if not spec.registration_id:
            spec = replace(spec, registration_id=common_name)
        if not same_registration_id(common_name, spec.registration_id):
            raise Invalid(
                {
                    f"{slot}_certificate": [
                        f"The certificate's common name is {common_name[:130]!r}, and the registration ID is "
                        f"{spec.registration_id[:130]!r}: they must be the same."
                    ]
                }
            )
    return spec


def no_endorsement_key() -> Invalid:
    return Invalid({"endorsement_key": ["Give the endorsement key of the device's TPM."]})
