"""What devices of a service are known to have besides what is on record of them, as `credentials_of` has it of one."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic

from django.db.models import Case, Exists, F, Min, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Concat, Length

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.attempts_certificates import looked_at_from
from enrollments.actions.evidence import is_signed
from enrollments.actions.kept_attempts import above_leaf
from enrollments.actions.key_identifiers import DIGITS, OF_GROUP
from enrollments.actions.past.attempted import (
    Proof,
    of_proofs,
    proofs_of,
    that_matter,
    tried_of_old,
    with_derived_keys,
)
from enrollments.actions.past.by_key import tells_of
from enrollments.actions.past.credentials import (
    FOR_EVER,
    TIMES,
    credentials_in,
    held_before,
    is_told_by_attempts,
    mechanism_of,
    proven_at,
    shown_on_record,
)
from enrollments.actions.past.deciding import Several, Stranger
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.putting_back import stored_certificates
from enrollments.actions.past.showing import NEVER_SHOWN, Showings
from enrollments.actions.preview.touched import in_portions
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationEvidence,
    RegistrationRecord,
)
from enrollments.policy.facts import EntryKind, Mechanism
from enrollments.policy.names import registration_key

# An entry in one of its states, with the time until which it was so.
State = tuple[PastEntry, datetime]


@dataclass(slots=True)
class States:
    """Those of individual enrollments that were changed, by registration key: noted on the way back, newest first.

    named: thumbprints of whatever any entry held or may have held, groups included.
    """

    by_key: dict[str, list[State]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def note(self, entry: PastEntry | None, until: datetime) -> None:
        if entry is None:
            return
        self.named |= entry.named
        if entry.kind is EntryKind.INDIVIDUAL:
            self.by_key.setdefault(registration_key(entry.name), []).append((entry, until))

    def of(self, key: str, live: PastEntry | None) -> list[State]:
        """The oldest first. live: the entry of now."""
        states = list(reversed(self.by_key.get(key, ())))
        return states if live is None else [*states, (live, FOR_EVER)]


# What was proven, what was enrolled, and where that is going to stand.
_Wanted = tuple[list[Proof], dict[tuple[str, str], PastEntry], Several]


@dataclass(frozen=True, slots=True)
class Besides:
    """By registration key, of whoever has anything besides what is on record.

    without_record: those of these of whom nothing is on record that could be judged. bare: who has a record and nothing
    that could be judged, by name. since: the attempts before that time were looked at of some devices only, which are
    `looked_at`; None: all were.
    """

    of: Mapping[str, Several]
    without_record: Collection[str]
    bare: Mapping[str, str]
    since: datetime | None
    looked_at: Collection[str]


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A record, as far as it tells what is like it. above: thumbprints of what was kept above its leaf."""

    name: str
    mechanism: Mechanism
    leaf: str
    above: tuple[str, ...]
    key_ids: frozenset[str]
    status: str
    done: datetime
    showings: Showings

    def has(self, proof: Proof) -> bool:
        if proof.mechanism is not self.mechanism:
            return False
        if self.mechanism is not Mechanism.X509:
            return tells_of((self.key_ids,), proof.readings)
        return proof.leaf == self.leaf and set(proof.above) == set(self.above)


def known_besides(
    service: ProvisioningService,
    states: States,
    live: Mapping[str, PastEntry],
    until: datetime,
    most: int | None,
) -> Besides:
    """live: the individual enrollments of now, by registration key. until: the later of the times.

    most: among so many attempts, the latest of all, devices are looked for that have proven something besides.
    """
    attempts = _of_devices(service)
    since = _time_of(service, most)
    latest = attempts if since is None else attempts.filter(last_at__gte=since)
    found = _that_tell_more(service, latest)
    unjudgeable = _unjudgeable(service)
    registered = set(service.registrations.values_list("registration_key", flat=True)) - unjudgeable
    asked = {*found, *states.by_key, *unjudgeable}
    enrolled_only = live.keys() - registered
    if since is not None:
        asked |= enrolled_only
    proofs: dict[str, list[Proof]] = {}
    records: dict[str, _Recorded] = {}
    for some in in_portions(sorted(asked)):
        proofs |= with_derived_keys(service, proofs_of(attempts.filter(registration_key__in=some)))
        records |= _records(service, some)
    wanted: dict[str, _Wanted] = {}
    for key in enrolled_only - asked:
        # It never came, and its entry is the one that it was.
        if held := _held_by_one(live[key]):
            wanted[key] = [], held, Several()
    for key in asked:
        found_of_it = _wanted(proofs.get(key, ()), records.get(key), states.of(key, live.get(key)), until)
        if key in unjudgeable and key in records:
            found_of_it = _by_evidence(records[key], found_of_it)
        if found_of_it is not None:
            wanted[key] = found_of_it
    old = tried_of_old(latest, wanted.keys() | registered)
    wanted |= {key: ([one], {}, Several()) for key, one in old.items()}
    several = dict(_read(wanted))
    bare: dict[str, str] = {}
    for some in in_portions(sorted(unjudgeable - several.keys())):
        rows = service.registrations.filter(registration_key__in=some)
        bare.update(rows.values_list("registration_key", "registration_id"))
    return Besides(several, several.keys() - registered, bare, since, asked)


def _held_by_one(entry: PastEntry) -> dict[tuple[str, str], PastEntry]:
    """Of keys any one will do: whatever the entry makes of it, it makes of the other."""
    held = dict.fromkeys(credentials_in(entry), entry)
    return held if entry.mechanism == AttestationMechanism.X509 else dict(list(held.items())[:1])


def _wanted(
    proofs: Sequence[Proof], record: _Recorded | None, states: Sequence[State], until: datetime
) -> _Wanted | None:
    """As `credentials_of` chooses; None: nothing besides the record."""
    chosen = that_matter(proofs, until)
    first = min((one.first for one in proofs), default=FOR_EVER)
    several = Several(has_more=len(chosen) < len(proofs))
    if record is not None:
        same = [one for one in chosen if record.has(one)]
        times = [time for one in same for time in (one.first, one.last)]
        showings = sum((one.showings for one in same), NEVER_SHOWN)
        if not (times and is_told_by_attempts(record.status, record.done, chosen)):
            times, showings = [record.done, *times], record.showings + showings
        several.recorded, several.showings = (min(times), max(times)), showings
        first = min(first, several.recorded[0])
        chosen = [one for one in chosen if not record.has(one)]
    held = {
        (mechanism, name): entry
        for (mechanism, name), entry in held_before(states, first).items()
        if not _is_known(mechanism, name, chosen, record)
    }
    return (chosen, held, several) if chosen or held or several.has_more else None


def _by_evidence(record: _Recorded, wanted: _Wanted | None) -> _Wanted:
    """With what is on record as one of those that are looked at by themselves, the first."""
    of_record = Several(recorded=(record.done, record.done), showings=record.showings)
    proofs, held, several = wanted or ([], {}, of_record)
    first, last = several.recorded or (record.done, record.done)
    shown = Proof(record.name, record.mechanism, record.leaf, record.above, (), first, last, several.showings)
    return [shown, *proofs], held, replace(several, recorded=None, showings=NEVER_SHOWN)


def _is_known(mechanism: str, name: str, proofs: Sequence[Proof], record: _Recorded | None) -> bool:
    """Whether what an entry held tells nothing more than what was proven."""
    if mechanism == Mechanism.X509.value:
        is_bare = record is not None and (record.leaf, record.above) == (name, ())
        return is_bare or any((one.leaf, one.above) == (name, ()) for one in proofs)
    if record is not None and record.mechanism.value == mechanism and name in record.key_ids:
        return True
    held = (frozenset({name}),)
    return any(tells_of(one.readings, held) for one in proofs if one.mechanism.value == mechanism)


def _read(wanted: Mapping[str, _Wanted]) -> Iterator[tuple[str, Several]]:
    """With the certificates that are named."""
    shown = {
        thumbprint
        for chosen, _, _ in wanted.values()
        for one in chosen
        for thumbprint in (one.leaf, *one.above)
        if thumbprint
    }
    rows: dict[str, Certificate] = {}
    for some in in_portions(sorted(shown)):
        kept = Certificate.objects.filter(thumbprint_sha256__in=some)
        rows |= {one.thumbprint_sha256: one for one in kept}
    rows |= stored_certificates(
        name
        for _, held, _ in wanted.values()
        for mechanism, name in held
        if mechanism == Mechanism.X509.value and name not in rows
    )
    for key, (chosen, held, several) in wanted.items():
        others = [*_as_shown(chosen, rows), *_as_enrolled(held, rows)]
        several.others = tuple((f"{key} {number}", one) for number, one in enumerate(others))
        if others or several.recorded is not None:
            yield key, several


def _as_shown(proofs: Iterable[Proof], rows: Mapping[str, Certificate]) -> Iterator[Stranger]:
    for one in proofs:
        times = one.first, one.last
        if one.mechanism is not Mechanism.X509:
            yield Stranger(
                one.registration_id, one.mechanism, one.readings, proven=times, showings=one.showings
            )
        elif one.leaf in rows:
            kept = [name for name in (one.leaf, *one.above) if name in rows]
            yield Stranger(
                one.registration_id,
                Mechanism.X509,
                leaf=rows[one.leaf],
                pems=tuple(rows[name].pem for name in kept),
                proven=times,
                showings=one.showings,
                lacks=len(kept) <= len(one.above),
            )


def _as_enrolled(
    held: Mapping[tuple[str, str], PastEntry], rows: Mapping[str, Certificate]
) -> Iterator[Stranger]:
    for (mechanism, name), entry in held.items():
        if mechanism == Mechanism.X509.value:
            yield Stranger(entry.name, Mechanism.X509, leaf=rows[name], pems=(rows[name].pem,))
        else:
            yield Stranger(entry.name, Mechanism(mechanism), (frozenset([name]),))


# --- Who has proven something besides ---------------------------------------------------------------


def _of_devices(service: ProvisioningService) -> "QuerySet[RegistrationAttempt]":
    return service.attempts.exclude(claimed_registration_id=OVERFLOW_NAME)


def _time_of(service: ProvisioningService, most: int | None) -> datetime | None:
    """The time of the earliest of so many attempts; None where there are not more."""
    if most == 0:
        return FOR_EVER if service.attempts.exists() else None
    return looked_at_from(service, most)


def _that_tell_more(service: ProvisioningService, attempts: "QuerySet[RegistrationAttempt]") -> set[str]:
    """Registration keys of whom one of these attempts has proven something that is not on record.

    By certificate: devices of one class of evidence share what lies above their leaves, so of each class and each chain
    that was shown below it one comparison is enough.
    """
    records = RegistrationRecord.objects.filter(
        service=OuterRef("service"), registration_key=OuterRef("registration_key")
    )
    proofs = of_proofs(attempts).order_by()
    same_leaf = records.filter(leaf_thumbprint=OuterRef("leaf_thumbprint"))
    by_chain = proofs.exclude(leaf_thumbprint="").annotate(
        evidence=Subquery(same_leaf.values("evidence_class")[:1])
    )
    whose = Case(When(evidence__isnull=True, then=F("registration_key")), default=Value(""))
    rows = list(by_chain.annotate(whose=whose).values_list("evidence", "chain", "whose").distinct())
    found = {key for evidence, _, key in rows if evidence is None}
    pairs = {(evidence, chain) for evidence, chain, _ in rows if evidence is not None}
    above = _above_of_classes(service, {evidence for evidence, _ in pairs})
    unlike = {
        (evidence, chain)
        for evidence, chain in pairs
        if not evidence or above.get(evidence, frozenset()) != frozenset(above_leaf(chain))
    }
    for some in in_portions(sorted({chain for _, chain in unlike})):
        shown = by_chain.filter(chain__in=some, evidence__isnull=False)
        columns = shown.values_list("registration_key", "evidence", "chain").distinct()
        found |= {key for key, evidence, chain in columns.iterator() if (evidence, chain) in unlike}
    return found | _by_another_key(proofs, records)


def _above_of_classes(service: ProvisioningService, classes: Iterable[str]) -> dict[str, frozenset[str]]:
    """The thumbprints of what was kept above the leaves of each class; nothing was, where nobody's signature was."""
    signed = sorted(one for one in classes if one and is_signed(one))
    found: dict[str, set[str]] = {}
    for some in in_portions(signed):
        members = service.registrations.filter(evidence_class__in=some).order_by()
        chosen = dict(members.values_list("evidence_class").annotate(one=Min("pk")))
        names = {pk: name for name, pk in chosen.items()}
        evidence = RegistrationEvidence.objects.filter(registration__in=names, position__gt=0)
        for pk, thumbprint in evidence.values_list("registration", "certificate__thumbprint_sha256"):
            found.setdefault(names[pk], set()).add(thumbprint)
    return {name: frozenset(some) for name, some in found.items()}


def _by_another_key(
    proofs: "QuerySet[RegistrationAttempt]", records: "QuerySet[RegistrationRecord]"
) -> set[str]:
    """Of devices that sign: an identifier stands between spaces, or where it is not known whose it is, anywhere."""
    either = When(id_length__lte=DIGITS, of_group=None, then=F("key_id"))
    is_of_group = When(id_length__lte=DIGITS, of_group=True, then=Value(OF_GROUP))
    whole = Concat(Value(" "), Case(is_of_group, default=Value("")), F("key_id"), Value(" "))
    identifier = Case(either, default=whole)
    noted = records.alias(noted=Concat(Value(" "), F("key_ids"), Value(" ")))
    by_key = proofs.filter(leaf_thumbprint="").alias(id_length=Length("key_id"))
    unlike = by_key.alias(identifier=identifier).filter(
        ~Exists(noted.filter(leaf_thumbprint="", noted__contains=OuterRef("identifier")))
    )
    return set(unlike.values_list("registration_key", flat=True).distinct())


def unlooked(
    service: ProvisioningService, keys: Iterable[str], since: datetime, deadline: float
) -> Iterator[str]:
    """Those of these devices that have proven something besides before that time, or for whom there was no time."""
    for some in in_portions(sorted(keys)):
        if monotonic() > deadline:
            yield from some
        else:
            earlier = _of_devices(service).filter(registration_key__in=some, last_at__lt=since)
            yield from _that_tell_more(service, earlier)


# --- What is on record -------------------------------------------------------------------------------


def unjudgeable() -> Q:
    """Of records: by certificate, and nothing in short of what was kept as evidence."""
    by_certificate = ~Q(leaf_thumbprint="") | Q(mechanism=AttestationMechanism.X509, key_ids="")
    return Q(evidence_class="") & by_certificate


def _unjudgeable(service: ProvisioningService) -> set[str]:
    return set(service.registrations.filter(unjudgeable()).values_list("registration_key", flat=True))


def _records(service: ProvisioningService, keys: Collection[str]) -> dict[str, _Recorded]:
    """Those by which a device is judged."""
    columns = ("pk", "registration_key", "registration_id", "mechanism", "key_ids", "status", *TIMES)
    rows = list(service.registrations.filter(registration_key__in=keys).values_list(*columns))
    evidence = RegistrationEvidence.objects.filter(registration__in=[row[0] for row in rows])
    above: dict[int, list[str]] = {}
    for pk, thumbprint in evidence.order_by("position").values_list(
        "registration_id", "certificate__thumbprint_sha256"
    ):
        above.setdefault(pk, []).append(thumbprint)
    found = {}
    for pk, key, name, latest, key_ids, *times in rows:
        chain, identifiers = above.get(pk, []), frozenset(key_ids.split())
        mechanism = Mechanism.X509 if chain else mechanism_of(latest, identifiers)
        if chain or mechanism is not Mechanism.X509:
            leaf = chain[0] if chain else ""
            identifiers = frozenset() if chain else identifiers
            done = proven_at(*times)
            showings = shown_on_record(times[0], done)
            found[key] = _Recorded(
                name, mechanism, leaf, tuple(chain[1:]), identifiers, times[0], done, showings
            )
    return found
