"""Which devices are looked at for all at a time: one of each class of evidence, and those that are alone."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When

from enrollments.actions.evidence import UNSIGNED
from enrollments.actions.past.deciding import Stranger
from enrollments.actions.past.standing import Standing
from enrollments.actions.preview.touched import in_portions
from enrollments.actions.preview.world import chain_of
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import ProvisioningService, RegistrationRecord


@dataclass(frozen=True, slots=True)
class Single:
    """A device that is judged by itself."""

    key: str
    name: str
    shown: Callable[[], PresentedCredential]
    shown_last: str


def singles_at(
    service: ProvisioningService,
    time: Standing,
    alone: Collection[str],
    strangers: Mapping[str, Stranger],
) -> list[Single]:
    """Whoever shares with nobody what is above its leaf: the registered ones that came last first."""
    unshared = [name for name, one in time.world.above.items() if not one.is_shared]
    records = service.registrations
    portions = [
        records.filter(evidence_class__in=unshared),
        *(
            records.filter(registration_key__in=some)
            for some in in_portions(sorted(alone - strangers.keys()))
        ),
    ]
    registered = {
        one.registration_key: Single(
            one.registration_key, one.registration_id, partial(chain_of, one), one.updated_at.isoformat()
        )
        for some in portions
        for one in some.order_by("-updated_at").iterator(chunk_size=2000)
    }
    return [
        *registered.values(),
        *(
            Single(key, strangers[key].name, strangers[key].shown, str(hash(strangers[key].pems)))
            for key in sorted(alone & strangers.keys())
        ),
    ]


def classes_at(service: ProvisioningService, time: Standing, most: int | None) -> list[RegistrationRecord]:
    """One record for each class that shares a verified signature: one whose leaf was valid at that time, if any was."""
    records = service.registrations.exclude(evidence_class="").exclude(evidence_class__startswith=UNSIGNED)
    counted = records.order_by().values("evidence_class").annotate(devices=Count("pk")).order_by("-devices")
    representatives = []
    for name in counted.values_list("evidence_class", flat=True)[:most]:
        members = service.registrations.filter(evidence_class=name)
        current = members.filter(leaf_not_before__lte=time.at, leaf_not_after__gte=time.at)
        record = _unbarred(current, time) or current.first() or _unbarred(members, time) or members.first()
        if record is not None:
            representatives.append(record)
    return representatives


def _unbarred(members: "QuerySet[RegistrationRecord]", time: Standing) -> RegistrationRecord | None:
    """One whose key no disabled entry holds: above such a leaf there may be what was issued to that key besides."""
    keys = members.order_by("pk").values_list("pk", "leaf_spki").iterator(chunk_size=500)
    pk = next((pk for pk, spki in keys if spki not in time.world.leaf_bars), None)
    return members.filter(pk=pk).first() if pk is not None else None


def is_current(at: datetime) -> Case:
    current = Q(leaf_not_before__isnull=True) | Q(leaf_not_before__lte=at, leaf_not_after__gte=at)
    return Case(When(current, then=Value(1)), default=Value(0), output_field=IntegerField())
