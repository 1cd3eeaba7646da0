"""Registration IDs that nothing keeps any more once an individual enrollment is deleted (R5, R7).

A preview judges devices by what is known that they show. A group admits others too: whoever holds the key that it
derives for a name, or has a certificate of its CA for it, and never came here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from enrollments.actions.judging import group_ref, individual_ref
from enrollments.actions.preview.effects import Preview
from enrollments.actions.preview.touched import Entry
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key

# Groups that are named; of more it is said that there are more.
MAX_GROUPS = 5


@dataclass(frozen=True, slots=True)
class OpenNames:
    """`groups`: some of those that admit a device of one of these names which has the group's credential for it."""

    names: tuple[str, ...] = ()
    groups: tuple[EntryRef, ...] = ()
    are_all: bool = True

    def __bool__(self) -> bool:
        return bool(self.names)


NO_NAMES = OpenNames()


def names_left_open(service: ProvisioningService, preview: Preview, entries: Sequence[Entry]) -> OpenNames:
    """The names of individuals among `entries`, whose devices, as far as they are known, do not come in by themselves.

    Whatever is known of the device of such a name: with a group with keys, a key can be derived for any (R4), and a
    group with certificates may have issued one for it.
    """
    individuals = [one for one in entries if isinstance(one, IndividualEnrollment)]
    if not individuals:
        return NO_NAMES
    gone = {individual_ref(one) for one in individuals}
    told = {registration_key(one.registration_id) for one in preview.passing_to_others(gone)}
    kept_by_nobody = [one for one in individuals if one.registration_key not in told]
    deleted = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    groups = service.enrollmentgroups.ever_enabled().exclude(pk__in=deleted).without_secrets().order_by("pk")
    if not ProvisioningService.what_decisions_read(service.pk).groups_with_keys_admit:
        groups = groups.filter(mechanism=AttestationMechanism.X509)
    found = list(groups[: MAX_GROUPS + 1]) if kept_by_nobody else []
    if not found or not kept_by_nobody:
        return NO_NAMES
    return OpenNames(
        tuple(one.registration_id for one in kept_by_nobody),
        tuple(map(group_ref, found[:MAX_GROUPS])),
        are_all=len(found) <= MAX_GROUPS,
    )
