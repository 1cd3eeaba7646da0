"""What a change touches: its entries before and after it, the classes of evidence, and the records of devices."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import Case, CharField, Count, Max, Q, QuerySet, Value, When

from enrollments.actions.evidence import UNSIGNED
from enrollments.actions.judging import group_ref
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.outcomes import Known
from enrollments.actions.preview.secrets import (
    KeyGroup,
    Secrets,
    derived_all_the_same,
    proof_in,
    readings,
    records_of_keys,
)
from enrollments.actions.preview.signing import is_without_twin
from enrollments.actions.preview.world import World
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.policy.facts import EntryRef, Mechanism

V = TypeVar("V")
Entry = IndividualEnrollment | EnrollmentGroup

# Records that are named one by one in a query.
MAX_NAMED = 5000


@dataclass(frozen=True, slots=True)
class Touched:
    """What a change is about: its entries before and after it."""

    groups: frozenset[EntryRef]
    group_pks: frozenset[int]
    keys: frozenset[str]
    spkis: frozenset[str]


def touched_by(entries: Iterable[Entry]) -> Touched:
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    individuals = [one for one in entries if isinstance(one, IndividualEnrollment)]
    held = HeldCertificate.objects.filter(
        individual__in=[one.pk for one in individuals], role=HeldRole.DEVICE
    )
    return Touched(
        frozenset(map(group_ref, groups)),
        frozenset(one.pk for one in groups),
        frozenset(one.registration_key for one in individuals),
        frozenset(held.values_list("spki_sha256", flat=True)),
    )


def joined(one: Touched, other: Touched) -> Touched:
    return Touched(
        one.groups | other.groups,
        one.group_pks | other.group_pks,
        one.keys | other.keys,
        one.spkis | other.spkis,
    )


def still_there(entries: Iterable[Entry]) -> list[Entry]:
    """The entries as they are in the rehearsal, after the change; what was deleted is not among them."""
    found: list[Entry] = []
    for entry in entries:
        found += type(entry).objects.without_secrets().filter(pk=entry.pk)
    return found


def in_portions(values: Iterable[V], most: int = MAX_NAMED) -> Iterator[list[V]]:
    """As many as are named in one query at a time."""
    every = list(values)
    return (every[start : start + most] for start in range(0, len(every), most))


# --- Classes of evidence, and records of devices ------------------------------------------------------


def classes_of(
    service: ProvisioningService,
    limits: Limits,
    groups: Collection[int] = (),
    *,
    at: datetime,
    bars: Collection[str] = (),
) -> Iterator[RegistrationRecord]:
    """One record for each class that shares a verified signature: one whose leaf is valid at that time, if any is.

    bars: keys of certificates that may come to bar. Who has one speaks for no others, nor does who has a twin already
    (see is_without_twin), where there is another.

    groups: those that a change is about. Classes with devices that came through one of them come first, then those of
    most devices.
    """
    signed = service.registrations.exclude(evidence_class="").exclude(evidence_class__startswith=UNSIGNED)
    counted = list(
        signed.order_by()
        .values("evidence_class")
        .annotate(latest=Max("leaf_not_after", filter=Q(leaf_not_before__lte=at)), devices=Count("pk"))
        .order_by("-devices", "evidence_class")
        .values_list("evidence_class", "latest")
    )
    if limits.classes is not None and len(counted) > limits.classes:
        of_groups = signed.filter(Q(group__in=groups) | Q(owner_group__in=groups)).order_by()
        first = set(of_groups.values_list("evidence_class", flat=True).distinct())
        counted.sort(key=lambda row: row[0] not in first)
    for name, latest in counted[: limits.classes]:
        members = service.registrations.filter(evidence_class=name)
        valid = members.filter(leaf_not_before__lte=at, leaf_not_after__gte=at)
        # Of those that are valid already, the one for longest: if it is not valid any more, none of the class is.
        begun = members.filter(leaf_not_before__lte=at, leaf_not_after=latest) if latest else members
        for some in (begun, valid):
            alike = some.filter(is_without_twin(service)).exclude(leaf_spki__in=bars)
            if (record := alike.first()) is not None:
                break
        if (record := record or begun.first()) is not None:
            yield record


def touched_classes(touched: Touched, before: World, after: World) -> set[str]:
    return {
        name
        for name, above in before.above.items()
        if above != after.above[name]
        or above.names(touched.groups)
        or after.above[name].names(touched.groups)
    }


def records_touched(
    service: ProvisioningService, touched: Touched, before: World, after: World, at: datetime
) -> "list[QuerySet[RegistrationRecord]]":
    """The records of all devices that the change could matter to. A record may be in several of these."""
    wanted = whom_it_touches(touched, before, after)
    key_groups = touched_key_groups(touched, before, after)
    if key_groups:
        wanted |= records_of_keys(key_groups)
    records = with_dates_judged(service.registrations.all(), at)
    derived = list(derived_all_the_same(service.registrations.all(), key_groups))
    return [records.filter(wanted), *(records.filter(pk__in=pks) for pks in in_portions(derived))]


def whom_it_touches(touched: Touched, before: World, after: World) -> Q:
    """Of records, those of devices with certificates among them."""
    classes = touched_classes(touched, before, after)
    wanted = Q(registration_key__in=touched.keys) | Q(evidence_class__in=classes)
    wanted |= Q(group__in=touched.group_pks) | Q(owner_group__in=touched.group_pks)
    return wanted | Q(leaf_spki__in=touched.spkis) if touched.spkis else wanted


def with_dates_judged(
    records: "QuerySet[RegistrationRecord]", at: datetime
) -> "QuerySet[RegistrationRecord]":
    """With `is_current`, by the database: of a hundred thousand devices no date has to be read.

    As text, which comes as it is; empty where it is not so.
    """
    current = Q(leaf_not_before__isnull=True) | Q(leaf_not_before__lte=at, leaf_not_after__gte=at)
    is_current = Case(When(current, then=Value("yes")), default=Value(""), output_field=CharField())
    return records.annotate(is_current=is_current)


def touched_key_groups(touched: Touched, before: World, after: World) -> list[KeyGroup]:
    """As they are before the change, and as they are after it."""
    return [
        group
        for world in (before, after)
        for pk, group in world.key_groups.items()
        if pk in touched.group_pks
    ]


COLUMNS = (
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


# A record, as COLUMNS says.
Row = Sequence[Any]


def read_rows(records: "QuerySet[RegistrationRecord]") -> Iterator[Row]:
    return records.values_list(*COLUMNS).iterator(chunk_size=5000)


def known_device(row: Row, of_groups: Sequence[Secrets], worlds: Sequence[World]) -> Known:
    key, name, mechanism, evidence, thumbprint, spki, is_current, *proof = row
    *_, holder, _ = proof
    # Before, a refusal wrote the mechanism of what was refused beside the evidence that stayed.
    if mechanism == AttestationMechanism.X509 or thumbprint:
        return Known(
            key, name, Mechanism.X509, evidence, thumbprint, spki, bool(is_current), None, (), holder
        )
    enrolled = [world.individuals[key].secrets for world in worlds if key in world.individuals]
    secrets = readings(proof_in(*proof), [*enrolled, *of_groups])
    return Known(key, name, Mechanism(mechanism), readings=secrets, holder=holder)


def secrets_of_groups(worlds: Iterable[World]) -> list[Secrets]:
    """Each by itself: what a device may have proven, of which it is not known what it was."""
    groups = {secret for world in worlds for one in world.key_groups.values() for secret in one.secrets}
    return [frozenset({one}) for one in groups]
