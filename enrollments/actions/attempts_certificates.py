"""The certificates by which devices proved themselves at attempts, where no registration record has them (R3)."""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from django.db.models import (
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
from django.db.models.functions import Cast, Coalesce, Concat
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

    Or was admitted since by anything. records: those of the devices of these attempts; where there is none, what this
    says of an attempt at which the device was admitted does not count. As text, which comes as it is; empty where it is
    not so.
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
        When(outcome=AttemptOutcome.ASSIGNED, then=Value("yes")),
        When(~Exists(records), then=Value("")),
        When(Exists(since), then=Value("yes")),
        default=Value(""),
        output_field=CharField(),
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

    class_of_record: that of its registration record, if there is one besides. last_at: the time of that attempt, as the
    database writes it.
    classed: in place of the certificates, where enough is known without them. kept: the thumbprints of `pems`, of what
    attempts have. is_whole: whether that is all that there
    was; if not, it may have come in by what is not known any more. was_outlived: see there.
    """

    registration_id: str
    pems: tuple[str, ...]
    class_of_record: str | None = None
    last_at: str = ""
    classed: Classed | None = None
    is_whole: bool = True
    was_outlived: bool = False
    kept: tuple[str, ...] = ()

    @property
    def is_registered(self) -> bool:
        return self.class_of_record is not None

    @property
    def at(self) -> datetime | None:
        """The time of that attempt. SQLite writes no offset to what is UTC."""
        if not self.last_at:
            return None
        at = datetime.fromisoformat(self.last_at)
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)

    @property
    def thumbprint(self) -> str:
        return self.classed.chain[0] if self.classed else parsed(self.pems[0]).thumbprint_sha256

    @property
    def spki(self) -> str:
        return self.classed.spki if self.classed else parsed(self.pems[0]).spki_sha256

    def read_chain(self) -> list[ParsedCertificate]:
        """All that was kept of what it showed, the leaf first. Raises StoredUnreadable."""
        pems: Iterable[str] = self.pems
        if self.classed is not None:
            pems = self.kept_chain().values()
        return list(map(parsed, pems))

    def kept_chain(self) -> dict[str, str]:
        """The same as PEM, by thumbprints."""
        if self.classed is None:
            return dict(zip(self.kept, self.pems, strict=True))
        found = _pems(self.classed.chain)
        return {one: found[one] for one in self.classed.chain if one in found}


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
    # By the database, as text that comes as it is: Django takes its time to read a hundred thousand dates.
    at = at or timezone.now()
    is_valid = When(not_before__lte=at, not_after__gte=at, then="spki_sha256")
    of_leaf = Case(is_valid, default=Concat(Value(_NOT_CURRENT), "spki_sha256"), output_field=CharField())
    leaves = Certificate.objects.filter(thumbprint_sha256=OuterRef("leaf_thumbprint"))
    attempts = attempts.annotate(
        class_of_record=Subquery(records.values("evidence_class")),
        came_at=Cast("last_at", TextField()),
        outlived=was_outlived(records),
        leaf_spki=Coalesce(Subquery(leaves.values(text=of_leaf)), Value("")),
    )
    columns = ("registration_key", "leaf_thumbprint", "evidence_class", "chain", "claimed_registration_id")
    rows = attempts.order_by("-last_at", "-pk").values_list(
        *columns, "class_of_record", "came_at", "outlived", "leaf_spki"
    )
    latest: dict[str, list[_Shown]] = {}
    seen: set[tuple[str, ...]] = set()
    too_many, is_everything = set(), only is None and most is None
    for row in rows.iterator():
        if (which := row[:3]) in seen:
            continue
        seen.add(which)
        shown = latest.setdefault(row[0], [])
        if len(shown) < MAX_LEAVES or is_everything:
            shown.append(row)
        else:
            too_many.add(row[0])
    return dict(_read(latest, too_many))


# Before the key of a leaf that is not valid by its dates.
_NOT_CURRENT = "-"
# Registration key, leaf, class of evidence, chain; as which device it came, that of its record, when, whether that was
# outlived; and the public key of the leaf. The latter is empty where the leaf is kept no more.
_Shown = tuple[str, str, str, str, str, str | None, str, str, str]


def looked_at_from(service: ProvisioningService, most: int | None) -> datetime | None:
    """The time of the earliest of so many attempts, one at the least; None where there are not more."""
    if most is None:
        return None
    latest = service.attempts.order_by("-last_at").values_list("last_at", flat=True)
    return latest[most - 1] if latest[most : most + 1] else None


def _read(latest: dict[str, list[_Shown]], too_many: Collection[str]) -> Iterator[tuple[str, list[Came]]]:
    """Devices in the order in which they came."""
    every = [row for shown in latest.values() for row in shown]
    above = {chain: above_leaf(chain) for chain in {row[3] for row in every}}
    signed = {evidence for evidence in {row[2] for row in every} if evidence and is_signed(evidence)}
    pems = _pems({one for row in every if row[2] not in signed for one in (row[1], *above[row[3]])})
    # What was on no path is not kept for ever (actions/certificates.py).
    of_signed = {one for chain in {row[3] for row in every if row[2] in signed} for one in above[chain]}
    gone = of_signed - {one for one, _ in _columns(of_signed, "thumbprint_sha1")}
    whole = {chain: gone.isdisjoint(thumbprints) for chain, thumbprints in above.items()}

    def came(row: _Shown) -> Came:
        _, leaf, evidence, kept, name, of_record, at, outlived, spki = row
        was_outlived = of_record is not None and outlived != ""
        chain = leaf, *above[kept]
        if evidence in signed:
            spki, is_current = (spki, True) if spki[0] != _NOT_CURRENT else (spki[1:], False)
            classed = Classed(evidence, chain, spki, is_current)
            return Came(name, (), of_record, at, classed, whole[kept], was_outlived)
        there = tuple(one for one in chain if one in pems)
        known, is_whole = tuple(pems[one] for one in there), len(there) == len(chain)
        return Came(name, known, of_record, at, None, is_whole, was_outlived, there)

    for key, shown in reversed(latest.items()):
        found = [came(row) for row in shown if row[-1]]
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
