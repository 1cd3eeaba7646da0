"""What devices have proven at attempts, as far back as these are kept."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q, QuerySet

from enrollments.actions.attempts_keys import KEY_COLUMNS, is_key_of_group, key_proven
from enrollments.actions.kept_attempts import above_leaf, is_proven
from enrollments.actions.key_identifiers import OF_GROUP, identifier_of_derived, secret_read_once
from enrollments.actions.past.by_key import Readings, tells_of
from enrollments.actions.past.showing import Showings
from enrollments.actions.preview.touched import in_portions
from enrollments.attestation.symmetric_key import key_bytes
from enrollments.models import (
    AttemptOutcome,
    AttestationMechanism,
    Certificate,
    ProvisioningService,
    RegistrationAttempt,
)
from enrollments.policy.facts import Mechanism

# So many are looked at of a device, the latest of what was proven by the end of the period first.
MOST_PROVEN = 40


class Proof(NamedTuple):
    """A credential that attempts have proven, with the first and the last of these times.

    leaf, above: thumbprints. readings: of a device that signs, what identifies its key. showings: when, one by one.
    """

    registration_id: str
    mechanism: Mechanism
    leaf: str
    above: tuple[str, ...]
    readings: Readings
    first: datetime
    last: datetime
    showings: Showings

    @property
    def identity(self) -> tuple[str, frozenset[str], Readings]:
        return self.leaf, frozenset(self.above), self.readings

    def joined_with(self, other: "Proof") -> "Proof":
        later = max(self, other, key=lambda one: one.last)
        return later._replace(first=min(self.first, other.first), showings=self.showings + other.showings)

    def at_the_times_of(self, other: "Proof") -> "Proof":
        return self._replace(
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            showings=self.showings + other.showings,
        )


def proofs_of(rows: "QuerySet[RegistrationAttempt]") -> dict[str, list[Proof]]:
    """What these attempts have proven, by registration key, the latest first: as far back as attempts are kept."""
    columns = ("registration_key", "leaf_thumbprint", "chain", *KEY_COLUMNS)
    times = ("claimed_registration_id", "outcome", "first_at", "last_at")
    each = of_proofs(rows).order_by().values_list(*columns, *times)
    found: dict[str, dict[object, Proof]] = {}
    for key, leaf, chain, key_id, of_group, name, outcome, first, last in each.iterator(chunk_size=2000):
        mechanism, readings = Mechanism.X509, Readings()
        if not leaf:
            mechanism, key_ids = key_proven(key_id, of_group)
            readings = tuple(frozenset({one}) for one in key_ids)
        showings = Showings.at(first, last, let_in=outcome == AttemptOutcome.ASSIGNED)
        one = Proof(name, mechanism, leaf, tuple(above_leaf(chain)), readings, first, last, showings)
        known = found.setdefault(key, {})
        known[one.identity] = one.joined_with(known[one.identity]) if one.identity in known else one
    return {
        key: sorted(_told_apart(known.values()), key=lambda one: one.last, reverse=True)
        for key, known in found.items()
    }


def _told_apart(proofs: Collection[Proof]) -> Collection[Proof]:
    """Where one attempt does not say whose key it was, and another one with that key does, it is that one."""
    doubtful = [one for one in proofs if len(one.readings) > 1]
    if not doubtful:
        return proofs
    told = [one for one in proofs if len(one.readings) <= 1]
    for one in doubtful:
        for number, other in enumerate(told):
            if tells_of(other.readings, one.readings):
                told[number] = other.at_the_times_of(one)
                break
        else:
            told.append(one)
    return told


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
    """Those of these attempts of which it is kept what they proved; `of_group`: whether that is the key of a group."""
    by_chain = ~Q(chain="") | (~Q(outcome=AttemptOutcome.REFUSED) & ~Q(leaf_thumbprint=""))
    return rows.filter(~Q(key_id="") | by_chain).annotate(of_group=is_key_of_group())


def with_derived_keys(service: ProvisioningService, proofs: dict[str, list[Proof]]) -> dict[str, list[Proof]]:
    """With what identifies the device's own key, where it is derived from one that a group has still."""
    derived = {key for key, some in proofs.items() for one in some if any(map(_derived_from, one.readings))}
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


def _derived_from(key_ids: frozenset[str]) -> str:
    """What identifies the key of the group."""
    return next((one.removeprefix(OF_GROUP) for one in key_ids if one.startswith(OF_GROUP)), "")


def _with_own_key(proof: Proof, keys: Mapping[str, str]) -> Proof:
    def derived(key_ids: frozenset[str]) -> frozenset[str]:
        if (group_key := keys.get(_derived_from(key_ids))) is None:
            return key_ids
        own = identifier_of_derived(key_bytes(group_key), proof.registration_id)
        return key_ids | {own} if own else key_ids

    return proof._replace(readings=tuple(map(derived, proof.readings)))


def tried_of_old(rows: "QuerySet[RegistrationAttempt]", known: Collection[str]) -> dict[str, Proof]:
    """The latest certificate of devices of which nothing else is known: rows of older versions say no more of it.

    known: registration keys of all others. Whoever called a name without proof, however often, hides nobody: of such a
    certificate the thumbprint is all that is kept.
    """
    kept = Certificate.objects.filter(thumbprint_sha256=OuterRef("leaf_thumbprint"))
    tried = rows.filter(Exists(kept), outcome=AttemptOutcome.REFUSED, chain="").exclude(leaf_thumbprint="")
    return {
        one.registration_key: Proof(
            one.claimed_registration_id,
            Mechanism.X509,
            one.leaf_thumbprint,
            (),
            (),
            one.first_at,
            one.last_at,
            Showings.at(one.first_at, one.last_at, let_in=False),
        )
        for one in tried.order_by("last_at", "pk").iterator(chunk_size=500)
        if one.registration_key not in known and is_proven(one)
    }
