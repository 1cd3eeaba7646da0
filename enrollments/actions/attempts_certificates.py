"""The certificates by which devices proved themselves at attempts, where no registration record has them (R3)."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.utils import timezone

from enrollments.actions.attempts import OVERFLOW_NAME, above_leaf
from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import UNSIGNED, is_signed
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.models import Certificate, HeldCertificate, ProvisioningService, RegistrationRecord
from enrollments.policy.reasons import Reason


class Classed(NamedTuple):
    """What counts of a leaf whose class of evidence is known, and how to find all of it.

    chain: the thumbprints of all that was kept of what was shown, the leaf first.
    """

    evidence: str
    chain: tuple[str, ...]
    spki: str
    not_before: datetime
    not_after: datetime


class Came(NamedTuple):
    """What a device showed at an attempt: the leaf first of what was kept of its certificates, as PEM.

    is_registered: whether there is a registration record of it besides. at: the time of that attempt.
    classed: in place of the certificates, where enough is known without them.
    """

    registration_id: str
    pems: tuple[str, ...]
    is_registered: bool = False
    at: datetime | None = None
    classed: Classed | None = None

    @property
    def thumbprint(self) -> str:
        return self.classed.chain[0] if self.classed else parsed(self.pems[0]).thumbprint_sha256

    @property
    def spki(self) -> str:
        return self.classed.spki if self.classed else parsed(self.pems[0]).spki_sha256

    def read_chain(self) -> list[ParsedCertificate]:
        """All that was kept of what it showed, the leaf first."""
        pems: Iterable[str] = self.pems
        if self.classed is not None:
            found = _pems(self.classed.chain)
            pems = (found[one] for one in self.classed.chain if one in found)
        return list(map(parsed, pems))


def problem_of(classed: Classed, at: datetime) -> Reason | None:
    """What is wrong with the leaf at that time: it proved its device before, so only its dates may be."""
    return None if classed.not_before <= at <= classed.not_after else Reason.LEAF_REFUSED


# Of one device so many certificates are looked at, those that it showed last.
MAX_LEAVES = 4


def shown_at_attempts(
    service: ProvisioningService,
    most: int | None = None,
    *,
    only: Collection[str] | None = None,
    but_outlived: bool = False,
) -> dict[str, list[Came]]:
    """By what devices proved themselves that no registration record has. By registration key, the latest first.

    Of each leaf as it was shown at the latest such attempt, be it that it was admitted with it, before another one
    took its place in the record: the device may well have it still.
    most: so many attempts are looked at, the latest of all. only: the registration keys of the devices that are asked
    for, as many as are named in one query. but_outlived: see _outlived.
    """
    records = RegistrationRecord.objects.filter(
        service=OuterRef("service"), registration_key=OuterRef("registration_key")
    )
    recorded = records.filter(leaf_thumbprint=OuterRef("leaf_thumbprint"))
    attempts = service.attempts.filter(~Exists(recorded)).exclude(chain="")
    attempts = attempts.exclude(claimed_registration_id=OVERFLOW_NAME)
    if but_outlived:
        attempts = attempts.filter(~Exists(_outlived(service, records)))
    if only is not None:
        attempts = attempts.filter(registration_key__in=only)
    elif most is not None:
        attempts = attempts.filter(pk__in=service.attempts.order_by("-last_at").values("pk")[:most])
    columns = (
        "registration_key",
        "leaf_thumbprint",
        "chain",
        "evidence_class",
        "claimed_registration_id",
        "is_registered",
        "last_at",
    )
    rows = attempts.annotate(is_registered=Exists(records)).order_by("last_at", "pk").values_list(*columns)
    latest: dict[str, dict[str, _Shown]] = {}
    for key, leaf, chain, evidence, *rest in rows.iterator():
        shown = latest.setdefault(key, {})
        shown.pop(leaf, None)  # the latest go behind all others
        shown[leaf] = _Shown((leaf, *above_leaf(chain)), evidence, *rest)
        if len(shown) > MAX_LEAVES:
            del shown[next(iter(shown))]
    return dict(_read(latest))


def _outlived(
    service: ProvisioningService, records: "QuerySet[RegistrationRecord]"
) -> "QuerySet[RegistrationRecord]":
    """The record whose leaf lets the device in wherever that of an attempt would, as most often after a renewal.

    Both are of one class of evidence, and that of the record is valid for longer. Nothing else tells them apart:
    neither an individual enrollment of the device, nor one that has the key of that leaf.
    """
    leaf = Certificate.objects.filter(thumbprint_sha256=OuterRef(OuterRef("leaf_thumbprint")))
    own = service.individualenrollments.filter(registration_key=OuterRef("registration_key"))
    held = HeldCertificate.objects.filter(service=service, spki_sha256=OuterRef("leaf_spki"))
    return (
        records.filter(evidence_class=OuterRef("evidence_class"), leaf_not_before__lte=timezone.now())
        .exclude(evidence_class="")
        .exclude(evidence_class__startswith=UNSIGNED)
        .filter(leaf_not_after__gte=Subquery(leaf.values("not_after")[:1]))
        .filter(~Exists(own), ~Exists(held))
    )


class _Shown(NamedTuple):
    chain: tuple[str, ...]
    evidence: str
    registration_id: str
    is_registered: bool
    at: datetime

    @property
    def is_classed(self) -> bool:
        return self.evidence != "" and is_signed(self.evidence)


def _read(latest: Mapping[str, Mapping[str, _Shown]]) -> Iterator[tuple[str, list[Came]]]:
    every = [one for shown in latest.values() for one in shown.values()]
    pems = _pems({thumbprint for one in every if not one.is_classed for thumbprint in one.chain})
    leaves = _leaves({one.chain[0] for one in every if one.is_classed})

    def came(one: _Shown) -> Came:
        if one.is_classed:
            classed = Classed(one.evidence, one.chain, *leaves[one.chain[0]])
            return Came(one.registration_id, (), one.is_registered, one.at, classed)
        # What was on no path is not kept for ever (actions/certificates.py).
        kept = tuple(pems[thumbprint] for thumbprint in one.chain if thumbprint in pems)
        return Came(one.registration_id, kept, one.is_registered, one.at)

    for key, shown in latest.items():
        found = [
            came(one)
            for one in reversed(list(shown.values()))
            if one.chain[0] in leaves or one.chain[0] in pems
        ]
        if found:
            yield key, found


# As many as are named in one query.
_PORTION = 5000


def _pems(thumbprints: Collection[str]) -> dict[str, str]:
    return dict(_columns(thumbprints, "pem"))


def _leaves(thumbprints: Collection[str]) -> dict[str, tuple[str, datetime, datetime]]:
    rows = _columns(thumbprints, "spki_sha256", "not_before", "not_after")
    return {one: (spki, not_before, not_after) for one, spki, not_before, not_after in rows}


def _columns(thumbprints: Collection[str], *columns: str) -> Iterator[tuple[Any, ...]]:
    every = sorted(thumbprints)
    for start in range(0, len(every), _PORTION):
        certificates = Certificate.objects.filter(thumbprint_sha256__in=every[start : start + _PORTION])
        yield from certificates.values_list("thumbprint_sha256", *columns).iterator(chunk_size=_PORTION)
