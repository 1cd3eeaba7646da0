"""Rehearsing a change: what is decided about the devices that it touches, before it and after it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from time import monotonic

from django.db.models import Case, Count, IntegerField, Max, Q, QuerySet, Value, When
from django.utils import timezone

from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import UNSIGNED, is_signed
from enrollments.actions.judging import group_ref, judge
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.preview.effects import Device, Outcome, Preview
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.secrets import (
    KeyGroup,
    derived_all_the_same,
    proof_in,
    read_key_groups,
    readings,
    records_of_keys,
)
from enrollments.actions.preview.world import (
    Individual,
    World,
    chain_of,
    look_above,
    read_individuals,
    read_individuals_of,
    read_leaf_bars,
)
from enrollments.actions.schedule import standing_now
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.models.locks import rehearsal
from enrollments.models.services import Standing
from enrollments.models.switches import AsOf
from enrollments.policy.facts import EntryRef, Mechanism

Entry = IndividualEnrollment | EnrollmentGroup

# Classes of evidence that are looked at, those of most devices first: each costs a search for paths, twice.
MAX_CLASSES = 300
# Devices that share their evidence with nobody are judged one by one, as many as there is time for.
MAX_SINGLY = 300
SECONDS_SINGLY = 1.0
# Records that are named one by one in a query.
MAX_NAMED = 5000


@dataclass(frozen=True, slots=True)
class Time:
    """For which decisions are made. `to_come`: none is for now, by the clocks that registrations go by."""

    at: datetime
    to_come: datetime | None

    @classmethod
    def of(cls, to_come: datetime | None) -> "Time":
        return cls(to_come or timezone.now(), to_come)

    def as_of(self, standing: Standing) -> AsOf:
        return standing.as_of_now() if self.to_come is None else standing.as_of(self.to_come)


@dataclass(frozen=True, slots=True)
class _Touched:
    """What a change is about: its entries before and after it."""

    groups: frozenset[EntryRef]
    group_pks: frozenset[int]
    keys: frozenset[str]
    spkis: frozenset[str]


@dataclass(slots=True)
class _Single:
    """A device that shares its evidence with nobody, or that has never registered."""

    registration_key: str
    registration_id: str
    credential: PresentedCredential
    before: Outcome | None = None
    after: Outcome | None = None

    def judged(self, service: ProvisioningService, time: Time) -> Outcome:
        shown = self.credential
        decision = judge(service, self.registration_id, shown, at=time.at, entries_at=time.to_come).decision
        return Outcome(decision.verdict, decision.entry)

    @property
    def told(self) -> Device:
        return Device(self.registration_id, self.before, self.after)


def preview_of(
    service: ProvisioningService,
    change: Callable[[], Iterable[Entry]],
    entries: Sequence[Entry] = (),
    *,
    at: datetime | None = None,
    instead_of: Callable[[], object] | None = None,
) -> Preview:
    """What `change` would do to the devices that are known. Raises whatever `change` raises.

    change: makes the change by its action, and returns the entries that it added, if any. It is run in a transaction
    that is taken back. entries: those that it changes or deletes. The preview holds for the epoch that it names.
    at: what is decided at that time to come, with all that is scheduled until then, instead of now.
    instead_of: what the change is compared with, made and taken back likewise, if not with leaving all as it is.
    """
    with secret_read_once():
        return _preview_of(service, change, entries, Time.of(at), instead_of)


def _preview_of(
    service: ProvisioningService,
    change: Callable[[], Iterable[Entry]],
    entries: Sequence[Entry],
    time: Time,
    instead_of: Callable[[], object] | None,
) -> Preview:
    standing = standing_now(service)  # what is due by now is no part of the change
    epoch, as_of = standing.epoch, time.as_of(standing)
    classes = _classes(service)
    touched = _touched(entries)
    unregistered = _unregistered(service, touched)
    # Looked at in any case: what a change adds is not known before it is made.
    with _made(instead_of):
        before = _world(service, classes, time)
        other = _individuals(service, touched, _as_of(service, time)) if instead_of else {}
    with rehearsal():
        added = list(change())
        touched = _joined(touched, _touched([*_still_there(entries), *added]))
        after = _world(service, classes, time)
        after.individuals = _individuals(service, touched, _as_of(service, time))
        singles, too_many = _single_devices(service, touched, before, after)
        by_key = {one.registration_key: one for one in [*_unregistered(service, touched), *unregistered]}
        singles = [*singles, *by_key.values()]
        _judge_singly(service, singles, time)
    with _made(instead_of):
        for single in singles:
            if single.after is not None:
                single.before = single.judged(service, time)
    before.individuals = _individuals(service, touched, as_of)
    records = _records(service, touched, before, after, time.at)
    for some in records:
        others = read_individuals_of(service, some, as_of)
        before.individuals = {**others, **before.individuals}
        before.leaf_bars = {**before.leaf_bars, **read_leaf_bars(service, some, as_of)}
    changed = before.changed(touched.keys, after)
    if instead_of is not None:
        before = before.changed(touched.keys, replace(before, individuals=other))
    deciders = Decider(before), Decider(changed)
    examined = [one.told for one in singles if one.after is not None]
    beyond = too_many + len(singles) - len(examined)
    told = {one.registration_key for one in singles}
    devices = list(examined)
    known = chain.from_iterable(_known(some, before, after) for some in records)
    for one in [*known, *_known_by_secrets(before, after, told)]:
        if one.registration_key in told:
            continue
        told.add(one.registration_key)
        if one.evidence and one.evidence not in before.above and (is_signed(one.evidence) or too_many):
            beyond += 1  # of a class that was not looked at
        elif not one.is_judgeable:
            devices.append(Device(one.registration_id, None, None))
        else:
            first, second = (decider.outcome(one) for decider in deciders)
            devices.append(Device(one.registration_id, first, second))
    devices += _known_by_name_alone(before, after, told)
    return Preview(epoch, tuple(devices), beyond)


@contextmanager
def _made(change: Callable[[], object] | None) -> Iterator[None]:
    """Inside, that is done; or nothing, and then nothing is locked."""
    if change is None:
        yield
        return
    with rehearsal():
        change()
        yield


def _world(service: ProvisioningService, classes: Iterable[RegistrationRecord], time: Time) -> World:
    standing = ProvisioningService.what_decisions_read(service.pk)
    return World(
        above={
            record.evidence_class: look_above(service, record, time.at, time.to_come) for record in classes
        },
        key_groups=read_key_groups(service, time.as_of(standing)),
        key_groups_admit=standing.groups_with_keys_admit,
    )


def _as_of(service: ProvisioningService, time: Time) -> AsOf:
    return time.as_of(ProvisioningService.what_decisions_read(service.pk))


def _individuals(service: ProvisioningService, touched: _Touched, as_of: AsOf) -> dict[str, Individual]:
    return read_individuals(service.individualenrollments.filter(registration_key__in=touched.keys), as_of)


def _judge_singly(service: ProvisioningService, singles: Iterable[_Single], time: Time) -> None:
    deadline = monotonic() + SECONDS_SINGLY
    for single in singles:
        if monotonic() > deadline:
            return
        single.after = single.judged(service, time)


_COLUMNS = (
    "registration_key",
    "registration_id",
    "mechanism",
    "evidence_class",
    "leaf_thumbprint",
    "leaf_spki",
    "is_current",
    "key_ids",
    "key_fingerprint",
    "status",
    "owner_group_id",
    "owner_individual_id",
)


def _known(records: "QuerySet[RegistrationRecord]", *worlds: World) -> Iterator[Known]:
    groups = {secret for world in worlds for one in world.key_groups.values() for secret in one.secrets}
    of_groups = [frozenset({one}) for one in groups]
    for row in records.values_list(*_COLUMNS).iterator(chunk_size=5000):
        key, name, mechanism, evidence, thumbprint, spki, is_current, *proof = row
        if mechanism == AttestationMechanism.X509:
            yield Known(key, name, Mechanism.X509, evidence, thumbprint, spki, bool(is_current))
            continue
        enrolled = [world.individuals[key].secrets for world in worlds if key in world.individuals]
        secrets = readings(proof_in(*proof), [*enrolled, *of_groups])
        yield Known(key, name, Mechanism(mechanism), readings=secrets)


def _known_by_secrets(before: World, after: World, told: Collection[str]) -> Iterable[Known]:
    """The devices of individual enrollments that never registered, and hold the keys that are enrolled for them."""
    for key, one in {**after.individuals, **before.individuals}.items():
        if one.secrets and key not in told:
            yield Known(key, one.ref.name, one.mechanism, readings=(one.secrets,))


def _known_by_name_alone(before: World, after: World, told: Collection[str]) -> list[Device]:
    """A deny entry may be of a device that never showed anything."""
    named = {**after.individuals, **before.individuals}
    return [Device(one.ref.name, None, None) for key, one in named.items() if key not in told]


# --- What the change touches -----------------------------------------------------------------------


def _touched(entries: Iterable[Entry]) -> _Touched:
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    individuals = [one for one in entries if isinstance(one, IndividualEnrollment)]
    held = HeldCertificate.objects.filter(
        individual__in=[one.pk for one in individuals], role=HeldRole.DEVICE
    )
    return _Touched(
        frozenset(map(group_ref, groups)),
        frozenset(one.pk for one in groups),
        frozenset(one.registration_key for one in individuals),
        frozenset(held.values_list("spki_sha256", flat=True)),
    )


def _joined(one: _Touched, other: _Touched) -> _Touched:
    return _Touched(
        one.groups | other.groups,
        one.group_pks | other.group_pks,
        one.keys | other.keys,
        one.spkis | other.spkis,
    )


def _still_there(entries: Iterable[Entry]) -> list[Entry]:
    """The entries as they are in the rehearsal, after the change; what was deleted is not among them."""
    found: list[Entry] = []
    for entry in entries:
        found += type(entry).objects.without_secrets().filter(pk=entry.pk)
    return found


# --- Classes of evidence ------------------------------------------------------------------------------


def _classes(service: ProvisioningService) -> list[RegistrationRecord]:
    """One record for each class that shares a verified signature: the one whose leaf is valid for longest."""
    counted = (
        service.registrations.exclude(evidence_class="")
        .exclude(evidence_class__startswith=UNSIGNED)
        .order_by()
        .values("evidence_class")
        .annotate(devices=Count("pk"), latest=Max("leaf_not_after"))
        .order_by("-devices")[:MAX_CLASSES]
    )
    representatives = []
    for row in counted:
        members = service.registrations.filter(
            evidence_class=row["evidence_class"], leaf_not_after=row["latest"]
        )
        if (record := members.first()) is not None:
            representatives.append(record)
    return representatives


def _touched_classes(touched: _Touched, before: World, after: World) -> set[str]:
    return {
        name
        for name, above in before.above.items()
        if above != after.above[name]
        or above.names(touched.groups)
        or after.above[name].names(touched.groups)
    }


def _records(
    service: ProvisioningService, touched: _Touched, before: World, after: World, at: datetime
) -> "list[QuerySet[RegistrationRecord]]":
    """The records of all devices that the change could matter to. A record may be in several of these."""
    classes = _touched_classes(touched, before, after)
    wanted = Q(registration_key__in=touched.keys) | Q(evidence_class__in=classes)
    wanted |= Q(group__in=touched.group_pks) | Q(owner_group__in=touched.group_pks)
    if touched.spkis:
        wanted |= Q(leaf_spki__in=touched.spkis)
    key_groups = _touched_key_groups(touched, before, after)
    if key_groups:
        wanted |= records_of_keys(key_groups)
    # As a number, and by the database: of a hundred thousand devices no date has to be read.
    current = Q(leaf_not_before__isnull=True) | Q(leaf_not_before__lte=at, leaf_not_after__gte=at)
    is_current = Case(When(current, then=Value(1)), default=Value(0), output_field=IntegerField())
    records = service.registrations.annotate(is_current=is_current)
    derived = list(derived_all_the_same(service.registrations.all(), key_groups))
    portions = [derived[start : start + MAX_NAMED] for start in range(0, len(derived), MAX_NAMED)]
    return [records.filter(wanted), *(records.filter(pk__in=pks) for pks in portions)]


def _touched_key_groups(touched: _Touched, before: World, after: World) -> list[KeyGroup]:
    return [
        group
        for world in (before, after)
        for pk, group in world.key_groups.items()
        if pk in touched.group_pks
    ]


# --- Devices that are judged one by one -----------------------------------------------------------------


def _single_devices(
    service: ProvisioningService, touched: _Touched, before: World, after: World
) -> tuple[list[_Single], int]:
    """Those that have to be looked at one by one, and how many there are beyond that."""
    unshared = {
        name for world in (before, after) for name, above in world.above.items() if not above.is_shared
    }
    unsigned = Q(evidence_class__startswith=UNSIGNED)
    held = HeldCertificate.objects.filter(service=service).exclude(role=HeldRole.DEVICE)
    known_issuer = Q(evidence__certificate__issuer_sha256__in=held.values("subject_sha256")) | Q(
        evidence__certificate__authority_key_id__in=held.exclude(subject_key_id="").values("subject_key_id")
    )
    wanted = Q(evidence_class__in=unshared & _touched_classes(touched, before, after))
    wanted |= unsigned & (
        Q(registration_key__in=touched.keys)
        | Q(leaf_spki__in=touched.spkis)
        | (Q(evidence__position=0) & known_issuer)
    )
    records = service.registrations.filter(wanted).distinct()
    found = list(records.order_by("-updated_at")[: MAX_SINGLY + 1])
    beyond = records.count() - MAX_SINGLY if len(found) > MAX_SINGLY else 0
    singles = [
        _Single(one.registration_key, one.registration_id, chain_of(one)) for one in found[:MAX_SINGLY]
    ]
    return singles, beyond


def _unregistered(service: ProvisioningService, touched: _Touched) -> list[_Single]:
    """The devices of the entries themselves that have no record yet, with the certificates that are enrolled."""
    records = service.registrations.filter(registration_key__in=touched.keys)
    registered = set(records.values_list("registration_key", flat=True))
    held = HeldCertificate.objects.filter(
        service=service, role=HeldRole.DEVICE, individual__registration_key__in=touched.keys
    ).order_by("individual", "slot")
    singles: dict[str, _Single] = {}
    columns = ("individual__registration_key", "individual__registration_id", "certificate__pem")
    for key, name, pem in held.values_list(*columns):
        if key is not None and key not in registered and key not in singles:
            shown = PresentedCredential(certificates=(parsed(pem).der,))
            singles[key] = _Single(key, name or "", shown)
    return list(singles.values())
