"""What is enrolled with the keys that a chain meets: for the search for paths, and for the facts about the device."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce

from enrollments.actions.certificates import parsed
from enrollments.actions.judging.world import World
from enrollments.attestation.x509 import MAX_HELD, ParsedCertificate
from enrollments.models import HeldCertificate, HeldRole
from enrollments.models.ca_certificates import with_proof
from enrollments.models.certificates import HeldCertificateQuerySet
from enrollments.models.prepared import Prepared
from enrollments.models.switches import AsOf
from enrollments.policy.facts import EntryKind, EntryRef


class Met(NamedTuple):
    """A held certificate whose public key was met, with what decides about the entry that holds it.

    enabled, switches_at: as they are stored. Whether the entry is enabled is a question of the time (AsOf).
    """

    pk: int
    role: str
    spki_sha256: str
    thumbprint_sha256: str
    subject: str
    pem: str
    individual_pk: int | None
    individual_name: str
    group_pk: int | None
    group_name: str
    group_created: datetime
    enabled: bool
    switches_at: datetime | None
    lacks_proof: bool

    @property
    def group(self) -> EntryRef:
        assert self.group_pk is not None  # a database constraint: held_certificate_has_its_place
        return EntryRef(EntryKind.GROUP, self.group_pk, self.group_name)

    @property
    def individual(self) -> EntryRef:
        assert self.individual_pk is not None  # the same
        return EntryRef(EntryKind.INDIVIDUAL, self.individual_pk, self.individual_name)


class KeyLookup:
    """Answers the search for paths of one leaf, and then what is enrolled with the keys that it met.

    An ordinary chain costs one query: the rows that answer the search say as well whose they are.
    """

    def __init__(self, world: World, leaf: ParsedCertificate) -> None:
        self._world = world
        self._leaf = leaf
        self._rows: dict[int, Met] = {}
        self._is_whole = True

    def __call__(
        self, *, subjects: frozenset[str], key_ids: frozenset[str], spkis: frozenset[str]
    ) -> Iterable[ParsedCertificate]:
        """What the search for paths asks for: all that we hold of each key that may have signed."""
        of, as_of = self._world.service.pk, self._world.as_of
        names, identifiers, keys = (sorted(asked) or _NONE for asked in (subjects, key_ids, spkis))
        rows = [Met(*row) for row in _of_issuing_keys(of, names, identifiers, keys, *self._circumstances())]
        if len(rows) < MOST_ROWS:
            self._rows |= {one.pk: one for one in rows}
            return {one.pem: parsed(one.pem) for one in rows if not self._is_enabled_device(one)}.values()
        self._is_whole = False
        # One more than MAX_HELD shows the search that there would be more.
        pems = _issuers(of, names, identifiers, keys, as_of.at, as_of.any_due, as_of.recorded_only)
        return map(parsed, pems)

    def met(self, spkis: Collection[str]) -> list[Met]:
        """Of these keys, all of which the search met: CAs, disabled individuals, and whoever holds the leaf.

        Looked up whatever of it is of interest: the time of a refusal must not tell (R3).
        """
        if self._is_whole:
            rows = [one for one in self._rows.values() if one.spki_sha256 in spkis]
        else:
            rows = [
                Met(*row) for row in _of_keys(self._world.service.pk, list(spkis), *self._circumstances())
            ]
        return sorted((one for one in rows if one.role != HeldRole.HELPER), key=lambda one: one.pk)

    def _is_enabled_device(self, one: Met) -> bool:
        return one.role == HeldRole.DEVICE and self._world.as_of.enabled(one)

    def _circumstances(self) -> tuple[str, datetime, bool, bool, bool]:
        as_of, demanded = self._world.as_of, self._world.proof_of_possession
        return self._leaf.thumbprint_sha256, as_of.at, as_of.any_due, as_of.recorded_only, demanded


# A certificate may be a helper of any number of groups. With so many rows the two questions are asked one by one.
MOST_ROWS = 64
# Nothing is called so.
_NONE = ["-"]


@Prepared
def _of_issuing_keys(
    service: int,
    subjects: list[str],
    key_ids: list[str],
    spkis: list[str],
    leaf: str,
    at: datetime,
    any_due: bool,
    recorded_only: bool,
    proof_demanded: bool,
) -> "QuerySet[HeldCertificate, Any]":
    keys = HeldCertificate.objects.filter(service=service).keys_that_may_have_issued(subjects, key_ids, spkis)
    asked = _usable_or_of(leaf, AsOf(at, any_due, recorded_only), HeldRole.ANCHOR, HeldRole.HELPER)
    found = HeldCertificate.objects.filter(asked, service=service, spki_sha256__in=keys)
    return _as_met(found, service, proof_demanded=proof_demanded)[:MOST_ROWS]


@Prepared
def _of_keys(
    service: int,
    spkis: list[str],
    leaf: str,
    at: datetime,
    any_due: bool,
    recorded_only: bool,
    proof_demanded: bool,
) -> "QuerySet[HeldCertificate, Any]":
    asked = _usable_or_of(leaf, AsOf(at, any_due, recorded_only), HeldRole.ANCHOR)
    found = HeldCertificate.objects.filter(asked, service=service, spki_sha256__in=spkis)
    return _as_met(found, service, proof_demanded=proof_demanded)


def _usable_or_of(leaf: str, as_of: AsOf, *roles: HeldRole) -> Q:
    disabled = as_of.where(enabled=False, prefix="individual__")
    return Q(role__in=roles) | Q(role=HeldRole.DEVICE) & (disabled | Q(certificate__thumbprint_sha256=leaf))


def _as_met(
    found: HeldCertificateQuerySet, service: int, *, proof_demanded: bool
) -> "QuerySet[HeldCertificate, Any]":
    columns: tuple[Any, ...] = (
        "pk",
        "role",
        "spki_sha256",
        "certificate__thumbprint_sha256",
        "certificate__subject",
        "certificate__pem",
        "individual",
        "individual__registration_id",
        "group",
        "group__group_id",
        "group__created_at",
        Coalesce("group__enabled", "individual__enabled"),
        Coalesce("group__switches_at", "individual__switches_at"),
        # Each enrolled CA with whether it lacks a proof that this service demands (R7).
        ~with_proof(service) if proof_demanded else Value(False),
    )
    return found.values_list(*columns)


@Prepared
def _issuers(
    service: int,
    subjects: list[str],
    key_ids: list[str],
    spkis: list[str],
    at: datetime,
    any_due: bool,
    recorded_only: bool,
) -> "QuerySet[HeldCertificate, str]":
    held = HeldCertificate.objects.filter(service=service)
    rows = held.that_may_have_issued(subjects, key_ids, spkis, AsOf(at, any_due, recorded_only))
    return rows.values_list("certificate__pem", flat=True).distinct()[: MAX_HELD + 1]
