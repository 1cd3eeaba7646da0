"""What the search for paths goes through besides what devices send, and whom it leads further than others."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from enrollments.attestation.x509 import ParsedCertificate
from enrollments.models import Certificate, HeldCertificate, HeldRole, ProvisioningService

# As many keys as are named in one query.
MOST_KEYS = 5000
# As many certificates as are read without being asked for by their keys.
MOST_READ = 500
# Entries that are disabled, or will be without anybody's doing.
MAY_BAR = Q(individual__enabled=False) | Q(individual__switches_at__isnull=False)


def possible_signers(service: ProvisioningService) -> "QuerySet[HeldCertificate]":
    """What the search for paths may go through (R7): CAs, helpers, and what bars keys or may come to (R6)."""
    held = HeldCertificate.objects.filter(service=service)
    return held.filter(~Q(role=HeldRole.DEVICE) | MAY_BAR)


# --- Leaves with a twin: another certificate of their key, above which lies what lies above no other leaf ---------


def _may_lead_on(service: ProvisioningService) -> "QuerySet[HeldCertificate]":
    return possible_signers(service).exclude(certificate__issuer_sha256=F("certificate__subject_sha256"))


def is_without_twin(service: ProvisioningService) -> Q:
    """Of registration records: such a device speaks for all that are signed as it is."""
    twins = _may_lead_on(service).filter(spki_sha256=OuterRef("leaf_spki"))
    return ~Q(Exists(twins.exclude(certificate__thumbprint_sha256=OuterRef("leaf_thumbprint"))))


class LeafNames(NamedTuple):
    """What a leaf says of who signed it, its public key, and which it is; at which place (place_of) it is kept."""

    place: str
    issuer: str
    authority_key_id: str
    spki: str
    thumbprint: str

    @classmethod
    def of(cls, place: str, leaf: Certificate | ParsedCertificate) -> "LeafNames":
        names = leaf.issuer_sha256, leaf.authority_key_id or ""
        return cls(place, *names, leaf.spki_sha256, leaf.thumbprint_sha256)


# By place: below whom the twins of a leaf stand.
Twins = Mapping[str, frozenset[str]]


def twins_of(service: ProvisioningService, leaves: Iterable[LeafNames]) -> dict[str, frozenset[str]]:
    """Of those that have any. A twin that stands below the same issuer as the leaf leads nowhere else, and is none."""
    every = list(leaves)
    columns = "thumbprint_sha256", "issuer_sha256", "authority_key_id"
    twins: dict[str, set[tuple[str, str, str]]] = {}
    asked = {one.spki for one in every}
    for spki, thumbprint, issuer, key_id in of_keys(
        _may_lead_on(service), asked, *(f"certificate__{name}" for name in columns)
    ):
        twins.setdefault(spki, set()).add((thumbprint, issuer, key_id))
    found = {}
    for one in every:
        own = one.issuer, one.authority_key_id
        others = (twin for twin in twins.get(one.spki, ()) if twin[0] != one.thumbprint and twin[1:] != own)
        if below := frozenset(f"{issuer} {key_id or '-'}" for _, issuer, key_id in others):
            found[one.place] = below
    return found


def joined_twins(one: Twins, other: Twins) -> dict[str, frozenset[str]]:
    none: frozenset[str] = frozenset()
    return {place: one.get(place, none) | other.get(place, none) for place in {**one, **other}}


def of_keys(
    held: "QuerySet[HeldCertificate]", spkis: Collection[str], *columns: str
) -> Iterator[tuple[Any, ...]]:
    """Of those that have one of these public keys: that key, and these columns.

    There are few of them as a rule, and many keys: then all of those are read, and none is named.
    """
    rows = held.order_by().values_list("spki_sha256", *columns)
    if len(spkis) > MOST_READ and len(few := list(rows[: MOST_READ + 1])) <= MOST_READ:
        yield from (row for row in few if row[0] in spkis)
        return
    every = list(spkis)
    for start in range(0, len(every), MOST_KEYS):
        yield from rows.filter(spki_sha256__in=every[start : start + MOST_KEYS])
