"""All devices of a service at two times: who could have registered then, through which entry, and what differs.

As previews do, this decides about devices that are known: by their records, and by individual enrollments. What is the
same above the leaves of many devices is looked at once for each time, in a rehearsal in which the entries stand as they
did then; that holds the one write lock of SQLite. Everything else is decided on values, with no lock.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import monotonic

from django.db.models import Case, Count, IntegerField, Q, Value, When
from django.utils import timezone

from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import UNSIGNED, is_signed
from enrollments.actions.judging import judge
from enrollments.actions.key_identifiers import endorsement_identifier
from enrollments.actions.past.by_key import judge_by_key
from enrollments.actions.past.entries import NOT_NOTED, PastEntry, Subject
from enrollments.actions.past.proofs import Proofs, put_back_proofs
from enrollments.actions.past.putting_back import put_back, stored_certificates
from enrollments.actions.past.walking import (
    MOST_ROWS,
    Walk,
    changes_since,
    check_time,
    check_unmoved,
    read_entries,
    undisturbed,
)
from enrollments.actions.preview import Device, Outcome, Preview
from enrollments.actions.preview.limits import MAX_CLASSES
from enrollments.actions.preview.looking import MOST_LOOKS
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.touched import in_portions
from enrollments.actions.preview.world import Above, Individual, World, chain_of, look_above
from enrollments.attestation.credential import PresentedCredential
from enrollments.errors import Invalid
from enrollments.models import (
    AttestationMechanism,
    HeldCertificate,
    HeldRole,
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.models.locks import rehearsal
from enrollments.policy.facts import EntryKind, EntryRef, Mechanism
from enrollments.policy.names import registration_key

# Of devices that have to be judged one by one: as many as there is time for, at each of the two times.
MOST_SINGLY = 2000
SECONDS_SINGLY = 1.0
# How long one rehearsal of them may last.
SECONDS_AT_ONCE = 0.4


class NotExamined:
    """For lack of time, and not of knowledge."""


_NOT_EXAMINED = NotExamined()
# None: it is not known what would have been decided.
Decided = Outcome | NotExamined | None


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """None: as much as there is. Whoever writes on SQLite waits for as long as devices are judged one by one."""

    rows: int | None = MOST_ROWS
    classes: int | None = MAX_CLASSES
    singly: int | None = MOST_SINGLY
    seconds: float | None = SECONDS_SINGLY


@dataclass(frozen=True, slots=True)
class Comparison:
    """All known devices at `at` and at `until`: in `preview`, before and after. `is_now`: `until` is the present.

    unclear: by registration key, why it is not known what would have been decided.
    """

    at: datetime
    until: datetime
    is_now: bool
    preview: Preview
    unclear: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Standing:
    """What stood at one time. `entries`: those that changes are about, with their switches as of then."""

    at: datetime
    entries: dict[Subject, PastEntry | None]
    key_groups_admit: bool
    proofs: Proofs
    individuals: dict[str, PastEntry] = field(default_factory=dict)
    key_groups: list[PastEntry] = field(default_factory=list)
    world: World = field(default_factory=World)
    singles: dict[str, Outcome | None] = field(default_factory=dict)
    unclear: dict[str, str] = field(default_factory=dict)
    doubt: str = field(init=False)

    def __post_init__(self) -> None:
        """Why nothing can be said about any device with a certificate: some entry that it may meet is not clear."""
        doubtful = [
            one for one in self.entries.values() if one is not None and one.doubt and not one.has_keys()
        ]
        self.doubt = f"of {doubtful[0].ref}, {doubtful[0].doubt}" if doubtful else ""


def compare(
    service: ProvisioningService,
    at: datetime,
    until: datetime | None = None,
    *,
    limits: FleetLimits = FleetLimits(),
) -> Comparison:
    """Raises Invalid for times that cannot be asked about, TooFarBack, NotTold."""
    check_time(service, "at", at)
    is_now = until is None
    until = until or timezone.now()
    check_time(service, "until", until)
    if until < at:
        raise Invalid({"until": ["This is before the time that is asked about."]})
    return undisturbed(service, lambda: _Fleet(service, at, until, limits).compared(is_now))


class _Fleet:
    def __init__(
        self, service: ProvisioningService, at: datetime, until: datetime, limits: FleetLimits
    ) -> None:
        self.service, self.limits = service, limits
        self.epoch = ProvisioningService.epoch_of(service.pk)
        changes = changes_since(service, at, limits.rows)
        walk = Walk.from_now(service, changes)
        self.now, self.proofs = walk.now, walk.proofs
        walk.undo_all(change for change in changes if change.at > until)
        self.second = _Standing(until, walk.standing(until), walk.key_groups_admit, walk.proofs)
        walk.undo_all(change for change in changes if change.at <= until)
        self.first = _Standing(at, walk.standing(at), walk.key_groups_admit, walk.proofs)
        self.times = (self.first, self.second)

    def compared(self, is_now: bool) -> Comparison:
        live = _individuals_of_now(self.service)
        for time in self.times:
            _overlay(self.service, time, live)
        registered = set(self.service.registrations.values_list("registration_key", flat=True))
        strangers = self._never_registered(registered)
        for time in self.times:
            self._look(time, strangers)
        check_unmoved(self.service, self.epoch)
        devices: list[Device] = []
        beyond = 0
        for name, (before, after) in self._decided(strangers):
            if isinstance(before, NotExamined) or isinstance(after, NotExamined):
                beyond += 1
            else:
                devices.append(Device(name, before, after))
        return Comparison(
            self.first.at,
            self.second.at,
            is_now,
            Preview(self.epoch, tuple(devices), beyond),
            {**self.second.unclear, **self.first.unclear},
        )

    # --- One time: what stands above the leaves ----------------------------------------------------

    def _look(self, time: _Standing, strangers: Mapping[str, "_Stranger"]) -> None:
        """In a rehearsal, with the entries that stood then: what is above each class, and who is judged alone."""
        classes = _classes_at(self.service, time.at, self.limits.classes)
        differing = {
            subject: entry
            for subject, entry in time.entries.items()
            if not _is_the_same(entry, self.now[subject])
        }
        # Of individual enrollments only those can matter to anybody else that bar, then or now.
        wanted = {
            subject: entry
            for subject, entry in differing.items()
            if subject[0] is EntryKind.GROUP or _bars(entry) or _bars(self.now[subject])
        }
        above: dict[str, Above] = {}
        *others, last = [*in_portions(classes, MOST_LOOKS)] or [[]]
        for some in others:
            with self._as_it_was(time, wanted):
                above |= {one.evidence_class: look_above(self.service, one, time.at) for one in some}
        with self._as_it_was(time, wanted):
            above |= {one.evidence_class: look_above(self.service, one, time.at) for one in last}
            time.world = World(
                above=above,
                individuals=_as_values(time.individuals),
                leaf_bars=_leaf_bars(time.individuals.values()),
            )
            singles = self._singles(above, strangers)
        own = {single.key for single in singles}
        wanted |= {
            subject: entry for subject, entry in differing.items() if self._name_of(subject, entry) in own
        }
        self._judge_singly(time, singles, wanted)

    @contextmanager
    def _as_it_was(self, time: _Standing, entries: Mapping[Subject, PastEntry | None]) -> Iterator[None]:
        """With these entries and the proofs as they stood. Where none has to be put back, nobody has to wait either."""
        others = not time.proofs.decide_like(self.proofs)
        with rehearsal() if entries or others else nullcontext():
            check_unmoved(self.service, self.epoch)
            put_back(self.service, entries)
            if others:
                put_back_proofs(self.service, time.proofs)
            yield

    def _name_of(self, subject: Subject, entry: PastEntry | None) -> str:
        known = entry or self.now[subject]
        return registration_key(known.name) if known is not None else ""

    def _judge_singly(
        self,
        time: _Standing,
        singles: Sequence["_Single"],
        entries: Mapping[Subject, PastEntry | None],
    ) -> None:
        """As many as the limits allow, some at a time: in between, whoever waits to write has a turn."""
        began, examined = monotonic(), 0
        most = len(singles) if self.limits.singly is None else min(self.limits.singly, len(singles))
        seconds = self.limits.seconds
        while examined < most and (seconds is None or monotonic() - began < seconds):
            with self._as_it_was(time, entries):
                deadline = monotonic() + SECONDS_AT_ONCE
                for one in singles[examined:most]:
                    decision = judge(self.service, one.name, one.shown(), at=time.at).decision
                    time.singles[one.key] = Outcome(decision.verdict, decision.entry)
                    examined += 1
                    if monotonic() > deadline:
                        break
        for one in singles[examined:]:
            time.singles[one.key] = None

    def _singles(self, above: Mapping[str, Above], strangers: Mapping[str, "_Stranger"]) -> list["_Single"]:
        """Whoever shares with nobody what is above its leaf, and may have something there."""
        unshared = [name for name, one in above.items() if not one.is_shared]
        held = HeldCertificate.objects.filter(service=self.service)
        held = held.filter(~Q(role=HeldRole.DEVICE) | Q(individual__enabled=False))
        known_issuer = Q(evidence__certificate__issuer_sha256__in=held.values("subject_sha256")) | Q(
            evidence__certificate__authority_key_id__in=held.exclude(subject_key_id="").values(
                "subject_key_id"
            )
        )
        unsigned = Q(evidence_class__startswith=UNSIGNED, evidence__position=0) & known_issuer
        records = self.service.registrations.filter(Q(evidence_class__in=unshared) | unsigned).distinct()
        found = [
            _Single(one.registration_key, one.registration_id, partial(chain_of, one))
            for one in records.order_by("-updated_at").iterator(chunk_size=2000)
        ]
        return found + [
            _Single(key, one.name, one.shown)
            for key, one in strangers.items()
            if one.mechanism is Mechanism.X509
        ]

    # --- Devices that never registered -------------------------------------------------------------

    def _never_registered(self, registered: set[str]) -> dict[str, "_Stranger"]:
        """With what was enrolled for them at the first of the times at which something was."""
        strangers: dict[str, _Stranger] = {}
        for time in self.times:
            for key, entry in time.individuals.items():
                if key in registered or key in strangers or entry.doubt:
                    continue
                thumbprint = next(iter(entry.thumbprints), "")
                key_ids = frozenset(filter(None, entry.key_ids[:1]))
                strangers[key] = _Stranger(entry.name, Mechanism(entry.mechanism), thumbprint, key_ids)
        wanted = [one.thumbprint for one in strangers.values() if one.thumbprint]
        rows = stored_certificates(wanted)
        for one in strangers.values():
            one.pem = rows[one.thumbprint].pem if one.thumbprint else ""
        return {key: one for key, one in strangers.items() if one.pem or one.mechanism is not Mechanism.X509}

    # --- Deciding ---------------------------------------------------------------------------------

    def _decided(self, strangers: Mapping[str, "_Stranger"]) -> Iterator[tuple[str, list[Decided]]]:
        """Each device with what is decided about it at both times."""
        first, second = (_Deciding(time) for time in self.times)
        for row in self._rows():
            yield row.name, [first.about(row, row.current[0]), second.about(row, row.current[1])]
        for key, one in strangers.items():
            yield one.name, [deciding.about_stranger(key, one) for deciding in (first, second)]

    def _rows(self) -> Iterator["_Row"]:
        records = self.service.registrations.annotate(
            **{f"current_{number}": _is_current(time.at) for number, time in enumerate(self.times)}
        )
        for row in records.values_list(*_COLUMNS, "current_0", "current_1").iterator(chunk_size=5000):
            key, name, mechanism, evidence, thumbprint, spki, key_ids, *current = row
            yield _Row(
                key,
                name,
                Mechanism(mechanism),
                evidence,
                thumbprint,
                spki,
                key_ids,
                (bool(current[0]), bool(current[1])),
            )


@dataclass(frozen=True, slots=True)
class _Single:
    """A device that is judged by itself."""

    key: str
    name: str
    shown: Callable[[], PresentedCredential]


_COLUMNS = (
    "registration_key",
    "registration_id",
    "mechanism",
    "evidence_class",
    "leaf_thumbprint",
    "leaf_spki",
    "key_ids",
)


@dataclass(frozen=True, slots=True)
class _Row:
    """A record. current: whether its leaf is valid by its dates, at each of the times."""

    key: str
    name: str
    mechanism: Mechanism
    evidence: str
    thumbprint: str
    spki: str
    key_ids: str
    current: tuple[bool, bool]

    def known(self, *, is_current: bool) -> Known:
        return Known(
            self.key, self.name, Mechanism.X509, self.evidence, self.thumbprint, self.spki, is_current
        )


@dataclass(slots=True)
class _Stranger:
    """A device that never registered, with the credential that was enrolled for it."""

    name: str
    mechanism: Mechanism
    thumbprint: str
    key_ids: frozenset[str]
    pem: str = ""

    def shown(self) -> PresentedCredential:
        return PresentedCredential(certificates=(parsed(self.pem).der,))


class _Deciding:
    """Decides about devices at one time."""

    def __init__(self, time: _Standing) -> None:
        self._time = time
        self._by_chain = Decider(time.world)
        self._by_key = _ByKey(time)

    def about(self, row: _Row, is_current: bool) -> Decided:
        time = self._time
        if row.mechanism is not Mechanism.X509:
            return self._by_key.outcome(row.key, row.name, row.mechanism, frozenset(row.key_ids.split()))
        if time.doubt:
            time.unclear[row.key] = time.doubt
            return None
        if row.key in time.singles:
            return time.singles[row.key] or _NOT_EXAMINED
        if row.evidence not in time.world.above and is_signed(row.evidence) and row.evidence:
            return _NOT_EXAMINED
        known = row.known(is_current=is_current)
        return self._by_chain.outcome(known) if known.is_judgeable else None

    def about_stranger(self, key: str, stranger: _Stranger) -> Decided:
        if stranger.mechanism is not Mechanism.X509:
            return self._by_key.outcome(key, stranger.name, stranger.mechanism, stranger.key_ids)
        if self._time.doubt:
            self._time.unclear[key] = self._time.doubt
            return None
        return self._time.singles.get(key) or _NOT_EXAMINED


class _ByKey:
    """Decides about devices that sign. Those that differ in nothing that counts are decided about once."""

    def __init__(self, time: _Standing) -> None:
        self._time = time
        self._decided: dict[object, tuple[Outcome | None, str]] = {}

    def outcome(self, key: str, name: str, mechanism: Mechanism, key_ids: frozenset[str]) -> Outcome | None:
        time = self._time
        own = time.individuals.get(key)
        if own is not None:
            # One that alone decides: nothing is shared with another device.
            outcome, unknown = self._judged(name, mechanism, key_ids, own)
        else:
            alike = (mechanism, key_ids)
            if alike not in self._decided:
                self._decided[alike] = self._judged(name, mechanism, key_ids, None)
            outcome, unknown = self._decided[alike]
        if unknown:
            time.unclear[key] = unknown
        return outcome

    def _judged(
        self, name: str, mechanism: Mechanism, key_ids: frozenset[str], own: PastEntry | None
    ) -> tuple[Outcome | None, str]:
        time = self._time
        judged = judge_by_key(
            name,
            mechanism,
            key_ids,
            own,
            time.key_groups,
            key_groups_admit=time.key_groups_admit,
            at=time.at,
        )
        if judged.decision is None:
            return None, judged.unknown
        return Outcome(judged.decision.verdict, judged.decision.entry), ""


# --- Reading what stands now, and what stood then ---------------------------------------------------


def _individuals_of_now(service: ProvisioningService) -> dict[int, PastEntry]:
    """All of them, by primary key, read as values: there may be a hundred thousand."""
    certificates: dict[int, list[tuple[str, str]]] = {}
    held = service.held_certificates.filter(role=HeldRole.DEVICE)
    for pk, slot, thumbprint in held.values_list(
        "individual", "slot", "certificate__thumbprint_sha256"
    ).iterator(chunk_size=5000):
        certificates.setdefault(pk or 0, []).append((slot, thumbprint))
    found: dict[int, PastEntry] = {}
    columns = (
        "pk",
        "registration_id",
        "enabled",
        "mechanism",
        "switches_at",
        "endorsement_key",
        "primary_key_id",
        "secondary_key_id",
    )
    rows = service.individualenrollments.values_list(*columns)
    for pk, name, enabled, mechanism, switches_at, endorsement, primary, secondary in rows.iterator(
        chunk_size=5000
    ):
        key_ids: tuple[str, ...] = ()
        if mechanism == AttestationMechanism.SYMMETRIC_KEY:
            key_ids = (primary, secondary)
        elif endorsement is not None:
            key_ids = (endorsement_identifier(bytes(endorsement)),)
        found[pk] = PastEntry(
            EntryKind.INDIVIDUAL,
            pk,
            name,
            enabled,
            mechanism,
            tuple(sorted(certificates.get(pk, ()))),
            key_ids,
            switches_at,
            key_doubt="" if all(key_ids) else NOT_NOTED,
        )
    return found


def _overlay(service: ProvisioningService, time: _Standing, live: Mapping[int, PastEntry]) -> None:
    """All individual enrollments and groups with keys of one time: of now, but for those that changes are about."""
    individuals = dict(live)
    groups = service.enrollmentgroups.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY)
    key_groups = dict(
        read_entries(service, [(EntryKind.GROUP, pk) for pk in groups.values_list("pk", flat=True)])
    )
    for (kind, pk), entry in time.entries.items():
        if kind is EntryKind.GROUP:
            key_groups[kind, pk] = entry if entry is not None and entry.has_keys() else None
        elif entry is None:
            individuals.pop(pk, None)
        else:
            individuals[pk] = entry
    time.individuals = {registration_key(one.name): one for one in individuals.values()}
    time.key_groups = [one for one in key_groups.values() if one is not None]


def _classes_at(service: ProvisioningService, at: datetime, most: int | None) -> list[RegistrationRecord]:
    """One record for each class that shares a verified signature: one whose leaf was valid at that time, if any was."""
    records = service.registrations.exclude(evidence_class="").exclude(evidence_class__startswith=UNSIGNED)
    counted = records.order_by().values("evidence_class").annotate(devices=Count("pk")).order_by("-devices")
    representatives = []
    for name in counted.values_list("evidence_class", flat=True)[:most]:
        members = service.registrations.filter(evidence_class=name)
        current = members.filter(leaf_not_before__lte=at, leaf_not_after__gte=at)
        if (record := current.first() or members.first()) is not None:
            representatives.append(record)
    return representatives


def _is_the_same(entry: PastEntry | None, now: PastEntry | None) -> bool:
    if entry is None or now is None:
        return entry is now
    return entry.decides_like(now)


def _bars(entry: PastEntry | None) -> bool:
    """Whether its keys are barred wherever they are met (R6)."""
    return (
        entry is not None and bool(entry.certificates) and not (entry.enabled and entry.switches_at is None)
    )


def _as_values(individuals: Mapping[str, PastEntry]) -> dict[str, Individual]:
    """As what decides about certificates needs them: whose keys are barred is told apart from it."""
    return {
        key: Individual(one.ref, one.enabled, Mechanism(one.mechanism), frozenset(one.thumbprints))
        for key, one in individuals.items()
        if not one.doubt
    }


def _leaf_bars(individuals: Iterable[PastEntry]) -> dict[str, dict[int, EntryRef]]:
    disabled = [one for one in individuals if not one.enabled and one.certificates and not one.doubt]
    rows = stored_certificates(thumbprint for one in disabled for thumbprint in one.thumbprints)
    bars: dict[str, dict[int, EntryRef]] = {}
    for one in disabled:
        for thumbprint in one.thumbprints:
            bars.setdefault(rows[thumbprint].spki_sha256, {})[one.pk] = one.ref
    return bars


def _is_current(at: datetime) -> Case:
    current = Q(leaf_not_before__isnull=True) | Q(leaf_not_before__lte=at, leaf_not_after__gte=at)
    return Case(When(current, then=Value(1)), default=Value(0), output_field=IntegerField())
