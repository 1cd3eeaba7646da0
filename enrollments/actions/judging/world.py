"""What a service holds when a device is judged, as the facts name it."""

from collections.abc import Collection, Iterable

from enrollments.actions.certificates import parsed
from enrollments.attestation.x509 import (
    MAX_HELD,
    ParsedCertificate,
)
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.certificates import HeldCertificateQuerySet
from enrollments.models.switches import AsOf
from enrollments.policy.facts import (
    CredentialFacts,
    EntryKind,
    EntryRef,
    IndividualFacts,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason


class World:
    """What a service holds at a time, minus the entries to be left out."""

    def __init__(
        self,
        service: ProvisioningService,
        without: Collection[EntryRef],
        groups_with_keys_admit: bool,
        as_of: AsOf,
    ) -> None:
        self.service = service
        self.as_of = as_of
        self.groups_with_keys_admit = groups_with_keys_admit
        self.left_out = {
            kind: [ref.pk for ref in without if ref.kind is kind]
            for kind in (EntryKind.INDIVIDUAL, EntryKind.GROUP)
        }

    def individual(self, claimed_registration_id: str) -> IndividualEnrollment | None:
        return (
            IndividualEnrollment.objects.filter(
                service=self.service, registration_key=registration_key(claimed_registration_id)
            )
            .exclude(pk__in=self.left_out[EntryKind.INDIVIDUAL])
            .first()
        )

    def groups_with_keys(self) -> list[EnrollmentGroup]:
        groups = EnrollmentGroup.objects.filter(
            service=self.service, mechanism=AttestationMechanism.SYMMETRIC_KEY
        )
        return list(groups.exclude(pk__in=self.left_out[EntryKind.GROUP]).order_by("pk"))

    def held(self) -> HeldCertificateQuerySet:
        held = HeldCertificate.objects.filter(service=self.service)
        if self.left_out[EntryKind.INDIVIDUAL]:
            held = held.exclude(individual__in=self.left_out[EntryKind.INDIVIDUAL])
        if self.left_out[EntryKind.GROUP]:
            held = held.exclude(group__in=self.left_out[EntryKind.GROUP])
        return held

    def issuers(
        self, *, subjects: frozenset[str], key_ids: frozenset[str], spkis: frozenset[str]
    ) -> Iterable[ParsedCertificate]:
        """What the search for paths asks for. One more than MAX_HELD shows it that there would be more."""
        rows = self.held().that_may_have_issued(subjects, key_ids, spkis, self.as_of)
        pems = rows.values_list("certificate__pem", flat=True).distinct()[: MAX_HELD + 1]
        return [parsed(pem) for pem in pems]


def credential_facts(
    world: World,
    claimed_registration_id: str,
    individual: IndividualEnrollment | None,
    credential: CredentialFacts,
) -> RegistrationFacts:
    return RegistrationFacts(
        claimed_registration_id,
        credential,
        individual=individual_facts(world, individual) if individual else None,
    )


def individual_ref(individual: IndividualEnrollment) -> EntryRef:
    return EntryRef(EntryKind.INDIVIDUAL, individual.pk, individual.registration_id)


def group_ref(group: EnrollmentGroup) -> EntryRef:
    return EntryRef(EntryKind.GROUP, group.pk, group.group_id)


def individual_facts(
    world: World,
    individual: IndividualEnrollment,
    *,
    own_credential_proven: bool = False,
    detail: str = "",
    problem: Reason | None = None,
) -> IndividualFacts:
    return IndividualFacts(
        ref=individual_ref(individual),
        enabled=world.as_of.enabled(individual),
        mechanism=Mechanism(individual.mechanism),
        own_credential_proven=own_credential_proven,
        detail=detail,
        problem=problem,
    )
