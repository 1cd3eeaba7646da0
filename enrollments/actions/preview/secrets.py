"""By what devices that sign are known: identifiers of keys, and fingerprints where records have no identifier yet.

A key that is a device's own and a key that a group derives from are never the same secret, be the bytes the same: who
holds the one signs with it, who holds a derived one has never seen the other. So what is of a group says so.
"""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.db.models import Q

from enrollments.actions.judging import group_ref
from enrollments.actions.judging.tokens import key_ids_of_individual, secrets_of_individual
from enrollments.actions.key_identifiers import (
    OF_GROUP,
    endorsement_identifier,
    identifier_of_derived,
    identifier_of_group_key,
    key_identifier,
)
from enrollments.attestation.symmetric_key import derive_device_key, key_bytes
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationStatus,
)
from enrollments.models.fields import current_key_name, fingerprint
from enrollments.models.switches import AsOf
from enrollments.policy.facts import EntryRef

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from enrollments.models import RegistrationRecord

# Identifiers and fingerprints of symmetric keys, and of what a TPM is known by.
Secrets = frozenset[str]
NO_SECRETS: Secrets = frozenset()
# A key that is made when the change is carried out: nobody has it.
MADE: Secrets = frozenset({"(made)"})


def own_among(secrets: Secrets) -> Secrets:
    """Those that are a device's own, and not what its own is derived from."""
    return frozenset(one for one in secrets if not one.startswith(OF_GROUP))


def is_fingerprint(secret: str) -> bool:
    """By its form: that of an identifier has no colon but behind `group`."""
    return ":" in secret.removeprefix(OF_GROUP)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a record says of the key that its device proved last, and the kind of entry that it is surely of."""

    key_ids: str
    fingerprint: str
    of_group: bool = False
    of_individual: bool = False


@dataclass(frozen=True, slots=True)
class KeyGroup:
    """A group with symmetric keys, the primary one first."""

    ref: EntryRef
    enabled: bool
    created: tuple[float, int]
    secrets: Secrets = field(repr=False)
    keys: tuple[bytes, ...] = field(default=(), repr=False)

    def signs_for(self, registration_id: str, secrets: Secrets) -> bool:
        """Whether a device that is known by these has the key that this group derives for it."""
        if secrets & self.secrets:
            return True
        own = own_among(secrets)
        # What is known to be derived from another group's key is not derived from this one's.
        if len(own) < len(secrets):
            return False
        return any(self._derives(registration_id, one) for one in own)

    def derived_by(self, registration_id: str, secrets: Secrets) -> Secrets:
        """The keys that a device of this name has from this group, if it is known by the keys that they come from."""
        keys = (key for key in self.keys if identifier_of_group_key(key) in secrets)
        return frozenset(filter(None, (identifier_of_derived(key, registration_id) for key in keys)))

    def _derives(self, registration_id: str, secret: str) -> bool:
        """Whether that is a key which a device gets from this group that spells its name so."""
        if not is_fingerprint(secret):
            return any(secret == identifier_of_derived(key, registration_id) for key in self.keys)
        derived = (derive_device_key(key, registration_id) for key in self.keys)
        return any(secret == fingerprint(base64.b64encode(one).decode()) for one in derived)


def read_key_groups(service: ProvisioningService, as_of: AsOf) -> dict[int, KeyGroup]:
    rows = service.enrollmentgroups.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY)
    return {row.pk: _key_group(row, as_of) for row in rows}


def _key_group(row: EnrollmentGroup, as_of: AsOf) -> KeyGroup:
    keys = row.primary_key, row.secondary_key
    ids = _identified(keys, (row.primary_key_id, row.secondary_key_id))
    secrets = frozenset(f"{OF_GROUP}{one}" for one in (*ids, *map(fingerprint, keys)))
    decoded = tuple(map(key_bytes, keys))
    return KeyGroup(
        group_ref(row), as_of.enabled(row), (row.created_at.timestamp(), row.pk), secrets, decoded
    )


def secrets_enrolled(row: IndividualEnrollment) -> Secrets:
    """Of an individual enrollment, by every name that a record may have for them."""
    return NO_SECRETS.union(*secrets_in_place(row))


def secrets_in_place(row: IndividualEnrollment) -> tuple[Secrets, ...]:
    """The same, each by itself: its two keys, or what its TPM is known by."""
    secrets, ids = secrets_of_individual(row), key_ids_of_individual(row)
    pairs = zip(secrets, ids, strict=True)
    return tuple(
        frozenset(filter(None, (fingerprint(one), known or _identifier(row, one)))) for one, known in pairs
    )


def _identifier(row: IndividualEnrollment, secret: str) -> str:
    """Made, where an entry has none yet."""
    return key_identifier(secret) if row.mechanism == AttestationMechanism.SYMMETRIC_KEY else ""


def _identified(keys: Iterable[str], ids: Iterable[str]) -> tuple[str, ...]:
    """Identifiers, made where an entry has none yet."""
    pairs = zip(keys, ids, strict=True)
    return tuple(filter(None, (one or key_identifier(key) for key, one in pairs)))


def secrets_in_columns(
    mechanism: str, key_ids: Iterable[str], endorsement_key: bytes | None
) -> Secrets | None:
    """Of an individual enrollment of which no key is read: identifiers alone. None where it has keys without one."""
    if mechanism == AttestationMechanism.TPM:
        key = bytes(endorsement_key or b"")
        return frozenset({endorsement_identifier(key), fingerprint(key.hex())})
    if mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return NO_SECRETS
    ids = frozenset(key_ids)
    return None if "" in ids else ids


# --- What a record says ---------------------------------------------------------------------------


def proof_in(
    key_ids: str, key_fingerprint: str, status: str, owner_group: int | None, owner_individual: int | None
) -> Proof:
    """An assigned record was proven to the entry that holds its name; of others that is not certain."""
    is_assigned = status == RegistrationStatus.ASSIGNED
    return Proof(
        key_ids,
        key_fingerprint,
        of_group=is_assigned and owner_group is not None,
        of_individual=is_assigned and owner_individual is not None,
    )


def readings(proof: Proof, enrolled: Iterable[Secrets]) -> tuple[Secrets, ...]:
    """What the device may hold: one, where that is known.

    enrolled: what some entry holds that it may have proven, for records of which nothing but that is known.
    """
    if proof.key_ids:
        return (frozenset(proof.key_ids.split()),)
    of_group = f"{OF_GROUP}{proof.fingerprint}"
    if proof.fingerprint.startswith(current_key_name()):
        if proof.of_group:
            return (frozenset({of_group}),)
        if proof.of_individual:
            return (frozenset({proof.fingerprint}),)
        return (frozenset({proof.fingerprint}), frozenset({of_group}))
    # Proven under another key of the installation, or by a certificate before it came with a token: any, or none.
    return tuple(dict.fromkeys((NO_SECRETS, *enrolled)))


def records_of_keys(groups: Iterable[KeyGroup]) -> Q:
    """The records of devices that have their keys from these groups' keys, whatever group it was when they came."""
    wanted = Q(pk__in=())
    for secret in frozenset().union(*(group.secrets for group in groups)):
        if is_fingerprint(secret):
            wanted |= Q(key_ids="", key_fingerprint=secret.removeprefix(OF_GROUP))
        else:
            wanted |= Q(key_ids__contains=secret)
    return wanted


def derived_all_the_same(
    records: "QuerySet[RegistrationRecord]", groups: Iterable[KeyGroup]
) -> Iterator[int]:
    """Records of devices that proved a key of their own, which one of these groups derives for them all the same."""
    groups = list(groups)
    if not groups:
        return
    own = records.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY).exclude(key_ids="", key_fingerprint="")
    rows = own.exclude(key_ids__contains=OF_GROUP)
    columns = rows.values_list("pk", "registration_id", "key_ids", "key_fingerprint")
    for pk, name, key_ids, proven in columns.iterator(chunk_size=5000):
        secrets = frozenset(key_ids.split() or [proven])
        if any(group.signs_for(name, secrets) for group in groups):
            yield pk
