"""Looking at what lies above devices: above many at once by one of them, or above one that shares it with nobody."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from enrollments.actions.preview.touched import in_portions
from enrollments.actions.preview.world import Above, chain_of, look_above_shown
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.models.services import Standing
from enrollments.models.switches import NO_TIME, AsOf

# In one rehearsal: on SQLite others who write wait for as long as it takes.
MOST_LOOKS = 100


@dataclass(frozen=True, slots=True)
class Time:
    """For which decisions are made. `to_come`: none is for now, by the clocks that registrations go by.

    at: by which dates of certificates are judged. With all open, or all shut, that is no time that comes: they are
    judged as of now.
    """

    at: datetime
    to_come: datetime | None

    @classmethod
    def of(cls, to_come: datetime | None) -> "Time":
        return cls(timezone.now() if to_come in (None, *NO_TIME) else to_come, to_come)

    def as_of(self, standing: Standing) -> AsOf:
        return standing.as_of_now() if self.to_come is None else standing.as_of(self.to_come)


@dataclass(frozen=True, slots=True)
class Look:
    """`evidence`: what is seen is kept under that name. The others: by which device it is seen."""

    evidence: str
    registration_key: str
    registration_id: str
    credential: PresentedCredential
    is_alone: bool = False

    def above(self, service: ProvisioningService, time: Time) -> Above:
        # Only who shares with nobody can have the key of a CA.
        least = 0 if self.is_alone else 1
        return look_above_shown(
            service, self.registration_id, self.credential, time.at, time.to_come, least_steps=least
        )


def look_at_class(representative: RegistrationRecord) -> Look:
    return Look(
        representative.evidence_class,
        representative.registration_key,
        representative.registration_id,
        chain_of(representative),
    )


def look_alone(key: str, name: str, credential: PresentedCredential) -> Look:
    return Look(alone_name(key), key, name, credential, is_alone=True)


def alone_name(key: str) -> str:
    """Under which it is kept what lies above a device that shares with nobody."""
    return f"alone {key}"


def registered_alone(service: ProvisioningService, keys: Iterable[str]) -> Iterator[Look]:
    """Those of these devices that have a record, read as they are looked at."""
    for some in in_portions(keys, MOST_LOOKS):
        for record in service.registrations.filter(registration_key__in=some).order_by("-updated_at", "-pk"):
            yield look_alone(record.registration_key, record.registration_id, chain_of(record))
