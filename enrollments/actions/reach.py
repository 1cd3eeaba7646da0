"""How far a change of an entry can reach, as far as access goes: who is asked before it is made, and who is not."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from django.db.models import Q

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.entry_specs import EntrySpec
from enrollments.actions.group_specs import GroupSpec
from enrollments.errors import SecretUnreadable
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.ca_certificates import with_proof

Entry = IndividualEnrollment | EnrollmentGroup


class Reach(StrEnum):
    """What a change can do to access.

    NONE: twin, hubs, policies, device ID. NARROWS: nobody comes in by it, so it is never held up. MAY_WIDEN: it
    rests on a preview.
    """

    NONE = "none"
    NARROWS = "narrows"
    MAY_WIDEN = "may_widen"


def reach_of(current: Entry | None, spec: EntrySpec) -> Reach:
    """How far it reaches to make `current` what the spec says, or to add it.

    A helper closes gaps in the chains of other groups as well, whatever the state of its own.
    """
    if current is None:
        return Reach.MAY_WIDEN if spec.enabled or _helpers_wanted(spec) else Reach.NARROWS
    if drops_pins_only(current, spec):
        return Reach.NARROWS
    if _changes_what_admits(current, spec):
        return Reach.MAY_WIDEN
    if current.enabled == spec.enabled:
        return Reach.NONE
    return Reach.MAY_WIDEN if spec.enabled else Reach.NARROWS


def drops_pins_only(current: Entry, spec: EntrySpec) -> bool:
    """Whether an individual enrollment is to hold fewer of its certificates and no other, which only shuts out."""
    if not isinstance(current, IndividualEnrollment) or not isinstance(spec, IndividualSpec):
        return False
    if spec.mechanism != AttestationMechanism.X509 or not shuts_out_by_fewer_pins(current):
        return False
    held = set(current.certificates.values_list("certificate__thumbprint_sha256", flat=True))
    return {one.thumbprint_sha256 for one in spec.certificates.values()} < held


def shuts_out_by_fewer_pins(current: IndividualEnrollment) -> bool:
    """Whether it lets nobody in to take one of its certificates away: of one that is enabled until further notice.

    It alone decides about its device (R5), so no group takes that over. It bars no key as long as it is enabled (R6),
    and what it pins is no issuer of anybody. A disabled one lifts a bar by it, and one that is to be disabled at a time
    will. Of a group this is not certain: by a CA less, a chain may end below the key of a disabled group (R7).
    """
    is_pinned = current.mechanism == AttestationMechanism.X509
    return is_pinned and current.enabled and current.switches_at is None


def may_let_groups_in(service: ProvisioningService, settings: Mapping[str, Any]) -> bool:
    """Whether these settings turn a switch by which groups admit that did not. Nothing else in them lets devices in."""
    return _allows_keys(service, settings) or _drops_proof(service, settings)


def groups_let_in_by(service: ProvisioningService, settings: Mapping[str, Any]) -> list[EnrollmentGroup]:
    """The groups that wait for such a switch of the service, enabled now or at a time to come.

    Those with symmetric keys, and those with a CA of which there is no proof of possession (R4, R7). Where there are
    any, saving the settings rests on a preview.
    """
    waiting = Q(pk__in=[])
    if _allows_keys(service, settings):
        waiting |= Q(mechanism=AttestationMechanism.SYMMETRIC_KEY)
    if _drops_proof(service, settings):
        unproven = service.trust_anchors.filter(~with_proof(service.pk))
        waiting |= Q(pk__in=unproven.values("group"))
    groups = service.enrollmentgroups.without_secrets().ever_enabled()
    return list(groups.filter(waiting).order_by("group_key"))


def _allows_keys(service: ProvisioningService, settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("symmetric_key_groups")) and not service.symmetric_key_groups


def _drops_proof(service: ProvisioningService, settings: Mapping[str, Any]) -> bool:
    return service.proof_of_possession and not settings.get("proof_of_possession", True)


def _changes_what_admits(current: Entry, spec: EntrySpec) -> bool:
    """Whether certificates, keys or the predecessor are others than before. What is not given is kept."""
    if current.mechanism != spec.mechanism:
        return True
    if spec.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        given_keys = {"primary_key": spec.primary_key, "secondary_key": spec.secondary_key}
        others = any(key and _is_other_key(current, name, key) for name, key in given_keys.items())
        return others or _changes_predecessor(current, spec)
    if isinstance(spec, IndividualSpec) and isinstance(current, IndividualEnrollment):
        given = {"endorsement_key": spec.endorsement_key, "storage_root_key": spec.storage_root_key}
        if any(key and key != bytes(getattr(current, name) or b"") for name, key in given.items()):
            return True
        if spec.endorsement_key and not spec.storage_root_key and current.storage_root_key:
            return True  # a new endorsement key comes without the former storage root key
    held = set(current.certificates.values_list("role", "certificate__thumbprint_sha256"))
    own = {one.thumbprint_sha256 for one in spec.certificates.values()}
    return (
        {thumbprint for role, thumbprint in held if role != HeldRole.HELPER} != own
        or {thumbprint for role, thumbprint in held if role == HeldRole.HELPER} != _helpers_wanted(spec)
        or _changes_predecessor(current, spec)
    )


def _is_other_key(current: Entry, name: str, given: str) -> bool:
    """Asked of a key that was given alone: who gives none can shut out although nothing can be decrypted (R16)."""
    try:
        return bool(getattr(current, name) != given)
    except SecretUnreadable:
        return True


def _changes_predecessor(current: Entry, spec: EntrySpec) -> bool:
    if not isinstance(spec, GroupSpec) or not isinstance(current, EnrollmentGroup):
        return False
    return current.predecessor_id != (spec.predecessor.pk if spec.predecessor is not None else None)


def _helpers_wanted(spec: EntrySpec) -> frozenset[str]:
    if not isinstance(spec, GroupSpec) or spec.mechanism != AttestationMechanism.X509:
        return frozenset()
    own = {one.thumbprint_sha256 for one in spec.certificates.values()}
    return frozenset(one.thumbprint_sha256 for one in spec.helpers) - own
