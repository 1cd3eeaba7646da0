"""All devices of a service at two times: who could have registered then, through which entry, and what differs.

As previews do, this decides about devices that are known: by their records, and by individual enrollments. What is the
same above the leaves of many devices is looked at once for each time, in a rehearsal in which the entries stand as they
did then; that holds the one write lock of SQLite. Everything else is decided on values, with no lock.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import monotonic

from django.db.models import Case, Count, IntegerField, Q, Value, When
from django.utils import timezone

from enrollments.actions.evidence import UNSIGNED
from enrollments.actions.judging import judge
from enrollments.actions.past.deciding import COLUMNS, Decided, Deciding, NotExamined, Row, Stranger
from enrollments.actions.past.entries import PastEntry, Subject
from enrollments.actions.past.proofs import put_back_proofs
from enrollments.actions.past.putting_back import put_back, stored_certificates
from enrollments.actions.past.standing import (
    Standing,
    as_values,
    bars,
    individuals_of_now,
    is_the_same,
    leaf_bars,
    overlay,
)
from enrollments.actions.past.walking import (
    MOST_ROWS,
    Walk,
    changes_since,
    check_time,
    check_unmoved,
    undisturbed,
)
from enrollments.actions.preview import Device, Outcome, Preview
from enrollments.actions.preview.limits import MAX_CLASSES
from enrollments.actions.preview.looking import MOST_LOOKS
from enrollments.actions.preview.touched import in_portions
from enrollments.actions.preview.world import Above, World, chain_of, look_above
from enrollments.attestation.credential import PresentedCredential
from enrollments.errors import Invalid
from enrollments.models import (
    HeldCertificate,
    HeldRole,
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.models.locks import rehearsal
from enrollments.policy.facts import EntryKind, Mechanism
from enrollments.policy.names import registration_key

# Of devices that have to be judged one by one: as many as there is time for, at each of the two times.
MOST_SINGLY = 2000
SECONDS_SINGLY = 1.0
# How long one rehearsal of them may last.
SECONDS_AT_ONCE = 0.4


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
        self.second = Standing(until, walk.standing(until), walk.key_groups_admit, walk.proofs)
        walk.undo_all(change for change in changes if change.at <= until)
        self.first = Standing(at, walk.standing(at), walk.key_groups_admit, walk.proofs)
        self.times = (self.first, self.second)

    def compared(self, is_now: bool) -> Comparison:
        live = individuals_of_now(self.service)
        for time in self.times:
            overlay(self.service, time, live)
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

    def _look(self, time: Standing, strangers: Mapping[str, "Stranger"]) -> None:
        """In a rehearsal, with the entries that stood then: what is above each class, and who is judged alone."""
        classes = _classes_at(self.service, time.at, self.limits.classes)
        differing = {
            subject: entry
            for subject, entry in time.entries.items()
            if not is_the_same(entry, self.now[subject])
        }
        # Of individual enrollments only those can matter to anybody else that bar, then or now.
        wanted = {
            subject: entry
            for subject, entry in differing.items()
            if subject[0] is EntryKind.GROUP or bars(entry) or bars(self.now[subject])
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
                individuals=as_values(time.individuals),
                leaf_bars=leaf_bars(time.individuals.values()),
            )
            singles = self._singles(above, strangers)
        own = {single.key for single in singles}
        wanted |= {
            subject: entry for subject, entry in differing.items() if self._name_of(subject, entry) in own
        }
        self._judge_singly(time, singles, wanted)

    @contextmanager
    def _as_it_was(self, time: Standing, entries: Mapping[Subject, PastEntry | None]) -> Iterator[None]:
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
        time: Standing,
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

    def _singles(self, above: Mapping[str, Above], strangers: Mapping[str, "Stranger"]) -> list["_Single"]:
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

    def _never_registered(self, registered: set[str]) -> dict[str, "Stranger"]:
        """With what was enrolled for them at the first of the times at which something was."""
        strangers: dict[str, Stranger] = {}
        for time in self.times:
            for key, entry in time.individuals.items():
                if key in registered or key in strangers or entry.doubt:
                    continue
                thumbprint = next(iter(entry.thumbprints), "")
                key_ids = frozenset(filter(None, entry.key_ids[:1]))
                strangers[key] = Stranger(entry.name, Mechanism(entry.mechanism), thumbprint, key_ids)
        wanted = [one.thumbprint for one in strangers.values() if one.thumbprint]
        rows = stored_certificates(wanted)
        for one in strangers.values():
            one.pem = rows[one.thumbprint].pem if one.thumbprint else ""
        return {key: one for key, one in strangers.items() if one.pem or one.mechanism is not Mechanism.X509}

    # --- Deciding ---------------------------------------------------------------------------------

    def _decided(self, strangers: Mapping[str, "Stranger"]) -> Iterator[tuple[str, list[Decided]]]:
        """Each device with what is decided about it at both times."""
        first, second = (Deciding(time) for time in self.times)
        for row in self._rows():
            yield row.name, [first.about(row, row.current[0]), second.about(row, row.current[1])]
        for key, one in strangers.items():
            yield one.name, [deciding.about_stranger(key, one) for deciding in (first, second)]

    def _rows(self) -> Iterator["Row"]:
        records = self.service.registrations.annotate(
            **{f"current_{number}": _is_current(time.at) for number, time in enumerate(self.times)}
        )
        for row in records.values_list(*COLUMNS, "current_0", "current_1").iterator(chunk_size=5000):
            key, name, mechanism, evidence, thumbprint, spki, key_ids, *current = row
            yield Row(
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


def _is_current(at: datetime) -> Case:
    current = Q(leaf_not_before__isnull=True) | Q(leaf_not_before__lte=at, leaf_not_after__gte=at)
    return Case(When(current, then=Value(1)), default=Value(0), output_field=IntegerField())
