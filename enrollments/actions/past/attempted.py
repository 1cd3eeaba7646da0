"""What devices have proven at attempts, as far back as these are kept."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import Exists, Max, Min, OuterRef, Q, QuerySet

from enrollments.actions.attempts import above_leaf, is_proven
from enrollments.actions.key_identifiers import (
    DIGITS,
    OF_GROUP,
    identifier_of_derived,
    secret_read_once,
)
from enrollments.actions.preview.touched import in_portions
from enrollments.attestation.symmetric_key import key_bytes
from enrollments.models import (
    AttemptOutcome,
    AttestationMechanism,
    Certificate,
    ProvisioningService,
    RegistrationAttempt,
)
from enrollments.policy.facts import EntryKind, Mechanism

# So much is looked at, the latest of what was proven by the end of the period first.
MOST_PROVEN = 40
_ADMITTED = (AttemptOutcome.ASSIGNED, AttemptOutcome.FAILED)


class Proof(NamedTuple):
    """A credential that attempts have proven, with the first and the last of these times.

    leaf, above: thumbprints. key_ids: of a device that signs, what identifies its key.
    """

    registration_id: str
    mechanism: Mechanism
    leaf: str
    above: tuple[str, ...]
    key_ids: frozenset[str]
    first: datetime
    last: datetime

    @property
    def identity(self) -> tuple[str, frozenset[str]]:
        return self.leaf, frozenset(self.above) | self.key_ids

    def joined_with(self, other: "Proof") -> "Proof":
        later = max(self, other, key=lambda one: one.last)
        return later._replace(first=min(self.first, other.first))


def proofs_of(rows: "QuerySet[RegistrationAttempt]") -> dict[str, list[Proof]]:
    """What these attempts have proven, by registration key, the latest first: as far back as attempts are kept."""
    columns = ("registration_key", "leaf_thumbprint", "chain", "key_id", "entry_kind")
    alike = of_proofs(rows).order_by().values_list(*columns)
    alike = alike.annotate(name=Max("claimed_registration_id"), first=Min("first_at"), last=Max("last_at"))
    found: dict[str, dict[object, Proof]] = {}
    for key, leaf, chain, key_id, entry_kind, name, first, last in alike.iterator(chunk_size=2000):
        mechanism, key_ids = Mechanism.X509, frozenset[str]()
        if not leaf:
            mechanism = Mechanism.TPM if len(key_id) > DIGITS else Mechanism.SYMMETRIC_KEY
            is_of_group = mechanism is not Mechanism.TPM and entry_kind == EntryKind.GROUP.value
            key_ids = frozenset([f"{OF_GROUP}{key_id}" if is_of_group else key_id])
        one = Proof(name, mechanism, leaf, tuple(above_leaf(chain)), key_ids, first, last)
        known = found.setdefault(key, {})
        known[one.identity] = one.joined_with(known[one.identity]) if one.identity in known else one
    return {
        key: sorted(known.values(), key=lambda one: one.last, reverse=True) for key, known in found.items()
    }


def that_matter(proofs: Sequence[Proof], until: datetime) -> list[Proof]:
    """As many as are looked at, the latest first: before others those that were proven by that time."""
    by_then = [one for one in proofs if one.first <= until]
    later = [one for one in reversed(proofs) if one.first > until]
    chosen = [*by_then, *later][:MOST_PROVEN]
    return [one for one in proofs if one in chosen]


def pems_of(thumbprints: Iterable[str]) -> dict[str, str]:
    """Those that are kept."""
    found: dict[str, str] = {}
    for some in in_portions(sorted(set(thumbprints))):
        rows = Certificate.objects.filter(thumbprint_sha256__in=some)
        found.update(rows.values_list("thumbprint_sha256", "pem"))
    return found


def of_proofs(rows: "QuerySet[RegistrationAttempt]") -> "QuerySet[RegistrationAttempt]":
    """Those of these attempts of which it is kept what they proved."""
    # A group's key is told from a device's own by the entry that admitted; of who was refused that is not kept.
    by_key = ~Q(key_id="") & (Q(entry_kind=EntryKind.GROUP.value) | Q(outcome__in=_ADMITTED))
    by_chain = ~Q(chain="") | (~Q(outcome=AttemptOutcome.REFUSED) & ~Q(leaf_thumbprint=""))
    return rows.filter(by_key | by_chain)


def with_derived_keys(service: ProvisioningService, proofs: dict[str, list[Proof]]) -> dict[str, list[Proof]]:
    """With what identifies the device's own key, where it is derived from one that a group has still."""
    derived = {key for key, some in proofs.items() if any(_derived_from(one) for one in some)}
    if not derived:
        return proofs
    groups = service.enrollmentgroups.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY)
    keys = {
        key_id: key
        for group in groups
        for key_id, key in (
            (group.primary_key_id, group.primary_key),
            (group.secondary_key_id, group.secondary_key),
        )
        if key_id
    }
    with secret_read_once():
        found = {key: [_with_own_key(one, keys) for one in proofs[key]] for key in derived}
    return {**proofs, **found}


def _derived_from(proof: Proof) -> str:
    """What identifies the key of the group."""
    return next((one.removeprefix(OF_GROUP) for one in proof.key_ids if one.startswith(OF_GROUP)), "")


def _with_own_key(proof: Proof, keys: Mapping[str, str]) -> Proof:
    if (group_key := keys.get(_derived_from(proof))) is None:
        return proof
    own = identifier_of_derived(key_bytes(group_key), proof.registration_id)
    return proof._replace(key_ids=proof.key_ids | {own}) if own else proof


def tried_of_old(rows: "QuerySet[RegistrationAttempt]", known: Collection[str]) -> dict[str, Proof]:
    """The latest certificate of devices of which nothing else is known: rows of older versions say no more of it.

    known: registration keys of all others.
    """
    kept = Certificate.objects.filter(thumbprint_sha256=OuterRef("leaf_thumbprint"))
    tried = rows.filter(Exists(kept), outcome=AttemptOutcome.REFUSED, chain="").exclude(leaf_thumbprint="")
    return {
        one.registration_key: Proof(
            one.claimed_registration_id,
            Mechanism.X509,
            one.leaf_thumbprint,
            (),
            frozenset(),
            one.first_at,
            one.last_at,
        )
        for one in tried.order_by("last_at", "pk").iterator(chunk_size=500)
        if one.registration_key not in known and is_proven(one)
    }
