"""What the search for paths goes through besides what devices send, and whom it leads further than others."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from enrollments.models import HeldCertificate, HeldRole, ProvisioningService

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


def with_a_twin(service: ProvisioningService, leaves: Iterable[tuple[str, str, str]]) -> set[str]:
    """The places of those. leaves: place, public key and thumbprint of each."""
    every = list(leaves)
    twins: dict[str, set[str]] = {}
    for spki, thumbprint in of_keys(
        _may_lead_on(service), {spki for _, spki, _ in every}, "certificate__thumbprint_sha256"
    ):
        twins.setdefault(spki, set()).add(thumbprint)
    return {place for place, spki, thumbprint in every if twins.get(spki, set()) - {thumbprint}}


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
