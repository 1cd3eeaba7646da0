"""The certificates by which devices proved themselves at attempts, where no registration record has them (R3)."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from django.db.models import (
    BooleanField,
    Case,
    CharField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast
from django.utils import timezone

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import is_signed
from enrollments.actions.kept_attempts import above_leaf
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.models import (
    AttemptOutcome,
    Certificate,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.policy.reasons import Reason


def was_outlived(records: "QuerySet[RegistrationRecord]") -> Case:
    """Of attempts: whether the device was admitted then, before it was by what its record has, or came since by that.

    Or was admitted since by anything. records: those of the devices of these attempts.
    """
    of_record = RegistrationRecord.objects.filter(
        service=OuterRef("service"), registration_key=OuterRef("registration_key")
    )
    by_its_leaf = ~Q(chain="") & Q(Exists(of_record.filter(leaf_thumbprint=OuterRef("leaf_thumbprint"))))
    by_its_key = ~Q(key_id="") & Q(Exists(of_record.filter(key_ids__contains=OuterRef("key_id"))))
    since = RegistrationAttempt.objects.filter(
        Q(outcome=AttemptOutcome.ASSIGNED) | by_its_leaf | by_its_key,
        service=OuterRef("service"),
        registration_key=OuterRef("registration_key"),
        last_at__gt=OuterRef("last_at"),
    )
    return Case(
        When(~Exists(records), then=Value(False)),
        When(outcome=AttemptOutcome.ASSIGNED, then=Value(True)),
        default=Exists(since),
        output_field=BooleanField(),
    )


class Classed(NamedTuple):
    """What counts of a leaf whose class of evidence is known, and how to find all of it.

    chain: the thumbprints of all that was kept of what was shown, the leaf first. is_current: whether the leaf is valid
    by its dates at the time that was asked about.
    """

    evidence: str
    chain: tuple[str, ...]
    spki: str
    is_current: bool


class Came(NamedTuple):
    """What a device showed at an attempt: the leaf first of what was kept of its certificates, as PEM.

    is_registered: whether there is a registration record of it besides. at: the time of that attempt.
    classed: in place of the certificates, where enough is known without them. is_whole: whether that is all that there
    was; if not, it may have come in by what is not known any more. was_outlived: see there.
    """

    registration_id: str
    pems: tuple[str, ...]
    is_registered: bool = False
    at: datetime | None = None
    classed: Classed | None = None
    is_whole: bool = True
    was_outlived: bool = False

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


def problem_of(classed: Classed) -> Reason | None:
    """What is wrong with the leaf: it proved its device before, so only its dates may be."""
    return None if classed.is_current else Reason.LEAF_REFUSED


# Of one device so many certificates are looked at, unless all is, those that it showed last (as in Back in time).
MAX_LEAVES = 40


def shown_at_attempts(
    service: ProvisioningService,
    most: int | None = None,
    *,
    only: Collection[str] | None = None,
    at: datetime | None = None,
) -> dict[str, list[Came]]:
    """By what devices proved themselves that no registration record has. By registration key, the latest first.

    Of each leaf and class of evidence as it was shown at the latest such attempt, be it that it was admitted with it,
    before another one took its place in the record: the device may well have it still.
    most: so many attempts are looked at, the latest of all. only: the registration keys of the devices that are asked
    for, as many as are named in one query. at: for which time it is asked; now, unless it is said.
    """
    records = RegistrationRecord.objects.filter(
        service=OuterRef("service"), registration_key=OuterRef("registration_key")
    )
    # The same leaf below other certificates may come in where the record's does not. Of an attempt of the version
    # before it is not known what class it is of.
    of_class = ExpressionWrapper(OuterRef("evidence_class"), output_field=CharField())
    same = records.alias(of_class=of_class).filter(leaf_thumbprint=OuterRef("leaf_thumbprint"))
    recorded = same.filter(Q(evidence_class=F("of_class")) | Q(of_class=""))
    attempts = service.attempts.filter(~Exists(recorded)).exclude(chain="")
    attempts = attempts.exclude(claimed_registration_id=OVERFLOW_NAME)
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
        "came_at",
        "outlived",
        "leaf_spki",
        "leaf_is_current",
    )
    # By the database, as text that comes as it is: Django takes its time to read a hundred thousand dates.
    at = at or timezone.now()
    is_valid = When(not_before__lte=at, not_after__gte=at, then=Value("yes"))
    leaves = Certificate.objects.filter(thumbprint_sha256=OuterRef("leaf_thumbprint"))
    attempts = attempts.annotate(
        is_registered=Exists(records),
        came_at=Cast("last_at", TextField()),
        outlived=was_outlived(records),
        leaf_spki=Subquery(leaves.values("spki_sha256")),
        leaf_is_current=Subquery(
            leaves.values(text=Case(is_valid, default=Value(""), output_field=CharField())),
        ),
    )
    rows = attempts.order_by("last_at", "pk").values_list(*columns)
    latest: dict[str, dict[tuple[str, str], _Shown]] = {}
    too_many, is_everything = set(), only is None and most is None
    for key, leaf, chain, evidence, *rest in rows.iterator():
        shown = latest.setdefault(key, {})
        shown.pop((leaf, evidence), None)  # the latest go behind all others
        shown[leaf, evidence] = _Shown((leaf, *above_leaf(chain)), evidence, *rest)
        if len(shown) > MAX_LEAVES and not is_everything:
            del shown[next(iter(shown))]
            too_many.add(key)
    return dict(_read(latest, too_many))


def looked_at_from(service: ProvisioningService, most: int | None) -> datetime | None:
    """The time of the earliest of so many attempts, one at the least; None where there are not more."""
    if most is None:
        return None
    latest = service.attempts.order_by("-last_at").values_list("last_at", flat=True)
    return latest[most - 1] if latest[most : most + 1] else None


class _Shown(NamedTuple):
    """leaf_spki: None where the leaf is kept no more."""

    chain: tuple[str, ...]
    evidence: str
    registration_id: str
    is_registered: bool
    came_at: str
    was_outlived: bool
    leaf_spki: str | None
    leaf_is_current: str | None

    @property
    def at(self) -> datetime:
        """SQLite writes no offset to what is UTC."""
        at = datetime.fromisoformat(self.came_at)
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)

    @property
    def is_classed(self) -> bool:
        return self.evidence != "" and is_signed(self.evidence)


def _read(
    latest: Mapping[str, Mapping[tuple[str, str], _Shown]], too_many: Collection[str]
) -> Iterator[tuple[str, list[Came]]]:
    every = [one for shown in latest.values() for one in shown.values()]
    pems = _pems({thumbprint for one in every if not one.is_classed for thumbprint in one.chain})
    # What was on no path is not kept for ever (actions/certificates.py).
    above = {thumbprint for one in every if one.is_classed for thumbprint in one.chain[1:]}
    gone = above - {one for one, _ in _columns(above, "thumbprint_sha1")}

    def came(one: _Shown) -> Came:
        if one.is_classed:
            classed = Classed(one.evidence, one.chain, one.leaf_spki or "", bool(one.leaf_is_current))
            is_whole = gone.isdisjoint(one.chain)
            return Came(
                one.registration_id, (), one.is_registered, one.at, classed, is_whole, one.was_outlived
            )
        kept = tuple(pems[thumbprint] for thumbprint in one.chain if thumbprint in pems)
        is_whole = len(kept) == len(one.chain)
        return Came(one.registration_id, kept, one.is_registered, one.at, None, is_whole, one.was_outlived)

    for key, shown in latest.items():
        found = [came(one) for one in reversed(list(shown.values())) if one.leaf_spki is not None]
        if key in too_many and found:
            found[-1] = found[-1]._replace(is_whole=False)
        if found:
            yield key, found


# As many as are named in one query.
_PORTION = 5000


def _pems(thumbprints: Collection[str]) -> dict[str, str]:
    return dict(_columns(thumbprints, "pem"))


def _columns(thumbprints: Collection[str], column: str) -> Iterator[tuple[str, str]]:
    """Of certificates: the thumbprint, and that column."""
    every = sorted(thumbprints)
    for start in range(0, len(every), _PORTION):
        certificates = Certificate.objects.filter(thumbprint_sha256__in=every[start : start + _PORTION])
        yield from certificates.values_list("thumbprint_sha256", column).iterator(chunk_size=_PORTION)
