"""What it would do to turn a setting of a service by which whole kinds of groups admit or do not (R4, R7)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from enrollments.actions.preview.acts import preview_of_settings, told_afterwards
from enrollments.actions.preview.effects import Preview
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.proofs import groups_without_proof
from enrollments.models import AttestationMechanism, EnrollmentGroup, ProvisioningService

# The settings that decisions about devices read.
SWITCHES = ("symmetric_key_groups", "proof_of_possession")


def switches_of(service: ProvisioningService) -> dict[str, bool]:
    """As they stand at present."""
    standing = ProvisioningService.what_decisions_read(service.pk)
    return dict(zip(SWITCHES, (standing.groups_with_keys_admit, standing.proof_of_possession), strict=True))


def preview_of_switching(
    service: ProvisioningService,
    values: Mapping[str, Any],
    *,
    at: datetime | None = None,
    limits: Limits | None = None,
    undoes: bool = False,
) -> Preview:
    """What changing settings to these would do to the devices that are known. Raises Invalid, SecretUnreadable.

    at, limits, undoes: see preview_of.
    """
    groups = _groups_touched(service, values)
    return preview_of_settings(service, dict(values), groups, at=at, limits=limits, undoes=undoes)


def what_switching_did(service: ProvisioningService, before: Mapping[str, bool]) -> Preview | None:
    """Told by rehearsing the way back to what stood before, now that it is done (see what_disabling_did)."""
    return told_afterwards(service, lambda: preview_of_switching(service, before, undoes=True))


def _groups_touched(service: ProvisioningService, values: Mapping[str, Any]) -> list[EnrollmentGroup]:
    """Groups with keys, and those with a CA of which there is no proof, where that switch turns.

    A group that is disabled for good goes on barring, whatever these say.
    """
    keys, proof = (bool(values.get(name, now)) != now for name, now in switches_of(service).items())
    groups = service.enrollmentgroups.without_secrets().ever_enabled().order_by("group_key")
    touched = list(groups.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY)) if keys else []
    unproven = {one.pk for one in groups_without_proof(service)} if proof else set()
    return touched + [one for one in groups.filter(pk__in=unproven) if one not in touched]
