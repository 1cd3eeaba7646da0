"""What an administrator wants an enrollment group to be, and whether it can be that."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from enrollments.actions.certificates import as_stored, cannot_be_read
from enrollments.actions.entry_specs import EntrySpec, check_hubs, check_spec
from enrollments.attestation.x509 import ParsedCertificate, UnparsedCertificate
from enrollments.errors import Invalid
from enrollments.models import AttestationMechanism, CaCertificate, EnrollmentGroup, ProvisioningService, Slot

MAX_HELPERS = 10
# What cannot be parsed any more is held already, and stays.
Ca = ParsedCertificate | UnparsedCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec(EntrySpec):
    """`helpers`: issuers uploaded along with the CA, kept for finding paths and trusted for nothing (R7).

    references: the uploaded CA certificates that the group refers to, in place of certificates of its own: for each
    slot that is filled, or for none. `certificates` holds what they hold.
    """

    group_id: str = ""
    certificates: Mapping[Slot, Ca] = field(default_factory=dict)
    helpers: tuple[Ca, ...] = ()
    predecessor: EnrollmentGroup | None = None
    references: Mapping[Slot, CaCertificate] = field(default_factory=dict)


def referred(references: Mapping[Slot, CaCertificate]) -> dict[Slot, Ca]:
    """The certificates that a group holds by these references."""
    return {slot: as_stored(one.certificate) for slot, one in references.items()}


def check_group(service: ProvisioningService, spec: GroupSpec) -> None:
    if spec.mechanism not in (AttestationMechanism.X509, AttestationMechanism.SYMMETRIC_KEY):
        raise Invalid({"mechanism": ["A group holds a CA certificate or symmetric keys (R4)."]})
    if spec.mechanism == AttestationMechanism.X509 and not spec.certificates:
        raise Invalid({"primary_certificate": ["Give the CA certificate of the group."]})
    if len(spec.helpers) > MAX_HELPERS:
        raise Invalid(
            {"primary_certificate": [f"At most {MAX_HELPERS} further certificates are kept as helpers."]}
        )
    for helper in spec.helpers:
        if spec.opens and isinstance(helper, UnparsedCertificate):
            raise Invalid({"primary_certificate": [cannot_be_read(helper.thumbprint_sha256)]})
    _check_references(spec)
    check_spec(spec, spec.group_id, "group_id", "ca")
    check_hubs(service, spec.hubs)
    if spec.predecessor is not None and spec.predecessor.service_id != service.pk:
        raise Invalid({"predecessor": ["The predecessor is a group of another service."]})


def _check_references(spec: GroupSpec) -> None:
    """One way or the other: back ends are told of one kind of attestation (contract 6.4)."""
    if not spec.references:
        return
    for slot in spec.certificates:
        if slot not in spec.references:
            raise Invalid(
                {
                    f"{slot}_certificate": [
                        "A group refers to uploaded CA certificates, or holds certificates of its own, and not one of "
                        "each."
                    ]
                }
            )
    if spec.helpers:
        slot = next(iter(spec.references))
        raise Invalid(
            {f"{slot}_certificate": ["A group that refers to uploaded CA certificates has no helpers."]}
        )
