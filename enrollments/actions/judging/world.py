"""What a service holds when a device is judged, as the facts name it."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from django.db import connection
from django.db.models import QuerySet

from enrollments.attestation.symmetric_key import key_bytes
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.certificates import HeldCertificateQuerySet
from enrollments.models.enrollments import KEY_IDS, NOT_ASKED
from enrollments.models.prepared import Prepared
from enrollments.models.services import Standing
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


@dataclass(frozen=True, slots=True)
class GroupWithKeys:
    """A group with symmetric keys, as tokens are tried against it. `secrets` are the keys as they are enrolled.

    enabled, switches_at: as they are stored. Whether the group is enabled is a question of the time (AsOf).
    """

    ref: EntryRef
    enabled: bool
    switches_at: datetime | None
    created: tuple[float, int]
    keys: tuple[bytes, bytes] = field(repr=False)
    secrets: tuple[str, str] = field(repr=False)
    key_ids: tuple[str, str]


def _read_groups_with_keys(service_pk: int) -> tuple[GroupWithKeys, ...]:
    rows = EnrollmentGroup.objects.filter(
        service=service_pk, mechanism=AttestationMechanism.SYMMETRIC_KEY
    ).order_by("pk")
    columns = (
        "pk",
        "group_id",
        "enabled",
        "switches_at",
        "created_at",
        "primary_key",
        "secondary_key",
        *KEY_IDS,
    )
    return tuple(
        GroupWithKeys(
            EntryRef(EntryKind.GROUP, pk, name),
            enabled,
            switches_at,
            (created.timestamp(), pk),
            (key_bytes(primary), key_bytes(secondary)),
            (primary, secondary),
            (ids[0], ids[1]),
        )
        for pk, name, enabled, switches_at, created, primary, secondary, *ids in rows.values_list(*columns)
    )


@lru_cache(maxsize=32)
def _groups_with_keys(service_pk: int, epoch: int) -> tuple[GroupWithKeys, ...]:
    return _read_groups_with_keys(service_pk)


@Prepared
def _individual(service: int, key: str) -> "QuerySet[IndividualEnrollment]":
    # Challenges are joined for every mechanism: one question more for TPMs would tell by its time which those are (R3).
    found = IndividualEnrollment.objects.filter(service=service, registration_key=key)
    return found.select_related("tpm_challenges").defer(*NOT_ASKED, "device_information")


class World:
    """What a service holds, and which way its switches stand at a time."""

    def __init__(self, service: ProvisioningService, standing: Standing, as_of: AsOf) -> None:
        self.service = service
        self.epoch = standing.epoch
        self.as_of = as_of
        self.groups_with_keys_admit = standing.groups_with_keys_admit
        self.proof_of_possession = standing.proof_of_possession

    @classmethod
    def at(cls, service: ProvisioningService, at: datetime | None) -> "World":
        """To look at: as of now by the database's clock, or of a time to come."""
        standing = ProvisioningService.what_decisions_read(service.pk)
        return cls(service, standing, standing.as_of_now() if at is None else standing.as_of(at))

    def individual(self, claimed_registration_id: str) -> IndividualEnrollment | None:
        return _individual.one(self.service.pk, registration_key(claimed_registration_id))

    def groups_with_keys(self) -> tuple[GroupWithKeys, ...]:
        """Decrypted once for each epoch: whatever changes a group raises it, so nothing here is older (R12).

        Inside a transaction they are read anew: one that is taken back raises an epoch that another change will have.
        """
        if connection.in_atomic_block:
            return _read_groups_with_keys(self.service.pk)
        return _groups_with_keys(self.service.pk, self.epoch)

    def held(self) -> HeldCertificateQuerySet:
        return HeldCertificate.objects.filter(service=self.service)


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
