"""Devices that are judged one by one: they share what lies above their leaf with nobody, or never registered."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from django.db.models import Q
from django.utils import timezone

from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import UNSIGNED
from enrollments.actions.judging import judge
from enrollments.actions.preview.effects import Device, Outcome
from enrollments.actions.preview.touched import Touched, touched_classes
from enrollments.actions.preview.world import World, chain_of
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService
from enrollments.models.services import Standing
from enrollments.models.switches import AsOf

# As many as there is time for.
MAX_SINGLY = 300
SECONDS_SINGLY = 1.0


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


@dataclass(slots=True)
class Single:
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


def judge_singly(service: ProvisioningService, singles: Iterable[Single], time: Time) -> None:
    deadline = monotonic() + SECONDS_SINGLY
    for single in singles:
        if monotonic() > deadline:
            return
        single.after = single.judged(service, time)


def single_devices(
    service: ProvisioningService, touched: Touched, before: World, after: World
) -> tuple[list[Single], int]:
    """Those that have to be looked at one by one, and how many there are beyond that."""
    unshared = {
        name for world in (before, after) for name, above in world.above.items() if not above.is_shared
    }
    unsigned = Q(evidence_class__startswith=UNSIGNED)
    held = HeldCertificate.objects.filter(service=service).exclude(role=HeldRole.DEVICE)
    known_issuer = Q(evidence__certificate__issuer_sha256__in=held.values("subject_sha256")) | Q(
        evidence__certificate__authority_key_id__in=held.exclude(subject_key_id="").values("subject_key_id")
    )
    wanted = Q(evidence_class__in=unshared & touched_classes(touched, before, after))
    wanted |= unsigned & (
        Q(registration_key__in=touched.keys)
        | Q(leaf_spki__in=touched.spkis)
        | (Q(evidence__position=0) & known_issuer)
    )
    records = service.registrations.filter(wanted).distinct()
    found = list(records.order_by("-updated_at")[: MAX_SINGLY + 1])
    beyond = records.count() - MAX_SINGLY if len(found) > MAX_SINGLY else 0
    singles = [Single(one.registration_key, one.registration_id, chain_of(one)) for one in found[:MAX_SINGLY]]
    return singles, beyond


def unregistered_devices(service: ProvisioningService, touched: Touched) -> list[Single]:
    """The devices of the entries themselves that have no record yet, with the certificates that are enrolled."""
    records = service.registrations.filter(registration_key__in=touched.keys)
    registered = set(records.values_list("registration_key", flat=True))
    held = HeldCertificate.objects.filter(
        service=service, role=HeldRole.DEVICE, individual__registration_key__in=touched.keys
    ).order_by("individual", "slot")
    singles: dict[str, Single] = {}
    columns = ("individual__registration_key", "individual__registration_id", "certificate__pem")
    for key, name, pem in held.values_list(*columns):
        if key is not None and key not in registered and key not in singles:
            shown = PresentedCredential(certificates=(parsed(pem).der,))
            singles[key] = Single(key, name or "", shown)
    return list(singles.values())
