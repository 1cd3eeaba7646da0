"""A state of things as decisions about many devices need it: read once, with as few questions as there are classes."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Case, IntegerField, QuerySet, Value, When

from enrollments.actions.certificates import parsed
from enrollments.actions.judging import individual_ref, judge
from enrollments.actions.preview.secrets import (
    NO_SECRETS,
    KeyGroup,
    Secrets,
    is_fingerprint,
    own_among,
    secrets_enrolled,
    secrets_in_columns,
)
from enrollments.actions.preview.signing import of_keys
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import has_name_constraints
from enrollments.models import (
    AttestationMechanism,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationEvidence,
    RegistrationRecord,
)
from enrollments.models.enrollments import KEY_IDS
from enrollments.models.switches import AsOf
from enrollments.policy.facts import BarredKey, EntryKind, EntryRef, GroupFacts, Mechanism
from enrollments.policy.reasons import Reason

# So many values are looked for by name. Of more the database finds out itself which they are.
MOST_LOOKED_FOR = 5000


@dataclass(frozen=True, slots=True)
class Above:
    """What lies above the leaves of one class of evidence: the groups that are met, the keys that are barred.

    is_shared: whether it is so for each device of the class. It is not where a CA constrains the names below it.
    """

    groups: tuple[GroupFacts, ...] = ()
    barred: tuple[BarredKey, ...] = ()
    problem: Reason | None = None
    is_shared: bool = True

    def names(self, refs: Collection[EntryRef]) -> bool:
        return any(group.ref in refs for group in self.groups)


NOTHING_ABOVE = Above()


@dataclass(frozen=True, slots=True)
class Individual:
    """An individual enrollment as it decides about its device. `secrets`: what of its keys the device may hold.

    has_ids, has_fingerprints: whether all of that is there by the one name and by the other.
    """

    ref: EntryRef
    enabled: bool
    mechanism: Mechanism
    pins: frozenset[str] = frozenset()
    spkis: frozenset[str] = frozenset()
    secrets: Secrets = field(default=NO_SECRETS, repr=False)
    has_ids: bool = True
    has_fingerprints: bool = True

    @property
    def holds_keys(self) -> bool:
        return self.mechanism is not Mechanism.X509

    def knows_of(self, secrets: Secrets) -> bool:
        """Whether it can be seen that none of these is one of its own."""
        own = own_among(secrets)
        if secrets and not own:
            return False  # a key that a group derives, and no more is known of it: the entry may hold that very key
        return all(self.has_fingerprints if is_fingerprint(one) else self.has_ids for one in own)


@dataclass(slots=True)
class World:
    """What decides in one state. Of individual enrollments only those are there that were asked for.

    followed: by the key of a group, the group that it names as its predecessor. gone: groups that another state had.
    """

    above: dict[str, Above] = field(default_factory=dict)
    individuals: dict[str, Individual] = field(default_factory=dict)
    key_groups: dict[int, KeyGroup] = field(default_factory=dict)
    key_groups_admit: bool = False
    leaf_bars: dict[str, dict[int, EntryRef]] = field(default_factory=dict)
    followed: dict[str, int] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()

    def changed(self, keys: Iterable[str], now: "World") -> "World":
        """This world with what `now` says of the individuals of these keys; all else comes from `now` as it is."""
        individuals = {key: one for key, one in self.individuals.items() if key not in set(keys)}
        bars = {spki: dict(refs) for spki, refs in self.leaf_bars.items()}
        gone = {one.ref.pk for key, one in self.individuals.items() if key in set(keys)}
        for refs in bars.values():
            for pk in gone:
                refs.pop(pk, None)
        for one in now.individuals.values():
            if not one.enabled:
                for spki in one.spkis:
                    bars.setdefault(spki, {})[one.ref.pk] = one.ref
        return replace(now, individuals={**individuals, **now.individuals}, leaf_bars=bars)


def read_followed(service: ProvisioningService) -> dict[str, int]:
    """See World."""
    groups = service.enrollmentgroups.filter(predecessor__isnull=False).order_by()
    return {key: pk for key, pk in groups.values_list("group_key", "predecessor") if pk is not None}


def read_individuals(rows: "QuerySet[IndividualEnrollment]", as_of: AsOf) -> dict[str, Individual]:
    """By registration key, with certificates and secrets: for the few that a change is about."""
    return {
        row.registration_key: _individual(row, list(row.certificates.select_related("certificate")), as_of)
        for row in rows
    }


def _individual(row: IndividualEnrollment, held: list[HeldCertificate], as_of: AsOf) -> Individual:
    return Individual(
        individual_ref(row),
        as_of.enabled(row),
        Mechanism(row.mechanism),
        frozenset(one.certificate.thumbprint_sha256 for one in held),
        frozenset(one.spki_sha256 for one in held),
        secrets_enrolled(row),
    )


def read_individuals_of(
    service: ProvisioningService, records: "QuerySet[RegistrationRecord]", as_of: AsOf
) -> dict[str, Individual]:
    """Those that share their registration ID with one of many records. No secret is read."""
    # Not by EXISTS: then the database would ask for each of a hundred thousand records, be there few entries.
    enrolled = service.individualenrollments.values("registration_key")
    keys = _few(records.filter(registration_key__in=enrolled), "registration_key")
    return read_many_individuals(service.individualenrollments.filter(registration_key__in=keys), as_of)


def _few(records: "QuerySet[RegistrationRecord]", column: str) -> "Collection[str] | QuerySet[Any, Any]":
    """What some records have in a column, to be looked for: by values where that are few, as most often."""
    found = list(records.values_list(column, flat=True)[: MOST_LOOKED_FOR + 1])
    return found if len(found) <= MOST_LOOKED_FOR else records.values(column)


def read_many_individuals(rows: "QuerySet[IndividualEnrollment]", as_of: AsOf) -> dict[str, Individual]:
    """By registration key, as far as it can be known without reading a secret."""
    # By the database: of a hundred thousand switches none has to be asked here.
    stands = Case(
        When(as_of.where(enabled=True), then=Value(1)), default=Value(0), output_field=IntegerField()
    )
    columns = rows.annotate(stands=stands).values_list(
        "pk", "registration_key", "registration_id", "stands", "mechanism", *KEY_IDS, "endorsement_key"
    )
    read = list(columns.iterator(chunk_size=5000))
    certificates: dict[int, list[tuple[str, str]]] = {}
    if any(mechanism == AttestationMechanism.X509 for _, _, _, _, mechanism, *_ in read):
        held = HeldCertificate.objects.filter(individual__in=rows.values("pk"), role=HeldRole.DEVICE)
        for pk, thumbprint, spki in held.values_list(
            "individual", "certificate__thumbprint_sha256", "spki_sha256"
        ):
            certificates.setdefault(pk or 0, []).append((thumbprint, spki))
    found: dict[str, Individual] = {}
    for pk, key, name, enabled, mechanism, first, second, endorsement_key in read:
        secrets = secrets_in_columns(mechanism, (first, second), endorsement_key)
        found[key] = Individual(
            EntryRef(EntryKind.INDIVIDUAL, pk, name),
            bool(enabled),
            Mechanism(mechanism),
            frozenset(thumbprint for thumbprint, _ in certificates.get(pk, ())),
            frozenset(spki for _, spki in certificates.get(pk, ())),
            secrets or NO_SECRETS,
            has_ids=secrets is not None,
            has_fingerprints=mechanism != AttestationMechanism.SYMMETRIC_KEY,
        )
    return found


def read_leaf_bars(
    service: ProvisioningService, records: "QuerySet[RegistrationRecord]", as_of: AsOf
) -> dict[str, dict[int, EntryRef]]:
    """R6: the leaf keys of these records that disabled individual enrollments bar, and which enrollments those are."""
    barred = _barring(service, as_of).values("spki_sha256")
    return bars_of_keys(service, _few(records.filter(leaf_spki__in=barred), "leaf_spki"), as_of)


def bars_of_keys(
    service: ProvisioningService, spkis: "Collection[str] | QuerySet[Any, Any]", as_of: AsOf
) -> dict[str, dict[int, EntryRef]]:
    """The same of these public keys."""
    barring, columns = _barring(service, as_of), ("individual", "individual__registration_id")
    rows = (
        barring.filter(spki_sha256__in=spkis).values_list("spki_sha256", *columns)
        if isinstance(spkis, QuerySet)
        else of_keys(barring, set(spkis), *columns)
    )
    bars: dict[str, dict[int, EntryRef]] = {}
    for spki, pk, name in rows:
        bars.setdefault(spki, {})[pk or 0] = EntryRef(EntryKind.INDIVIDUAL, pk or 0, name or "")
    return bars


def _barring(service: ProvisioningService, as_of: AsOf) -> "QuerySet[HeldCertificate]":
    return HeldCertificate.objects.filter(
        as_of.where(enabled=False, prefix="individual__"), service=service, role=HeldRole.DEVICE
    )


def chain_of(record: RegistrationRecord) -> PresentedCredential:
    rows = RegistrationEvidence.objects.filter(registration=record).order_by("position")
    pems = rows.values_list("certificate__pem", flat=True)
    return PresentedCredential(certificates=tuple(parsed(pem).der for pem in pems))


def look_above_shown(
    service: ProvisioningService,
    registration_id: str,
    shown: PresentedCredential,
    at: datetime,
    entries_at: datetime | None = None,
    *,
    least_steps: int = 1,
) -> Above:
    """Judge one device of a class by what it shows (see `judge`), and keep what holds for all of them.

    least_steps: 0 for a device that shares this with nobody. Then groups whose CA has the key of its leaf are met too.
    """
    judgement = judge(service, registration_id, shown, at=at, entries_at=entries_at)
    facts = judgement.facts
    groups = tuple(group for group in facts.groups if group.steps_to_key >= least_steps)
    # Who bars the key of the leaf itself is told by read_leaf_bars.
    barred = tuple(bar for bar in facts.barred_keys if bar.steps > 0)
    is_shared = not any(map(has_name_constraints, judgement.met))
    return Above(groups, barred, facts.credential.problem, is_shared=is_shared)
