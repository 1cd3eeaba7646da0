"""What devices are known by besides their records. Most of them are alike: of few it is made what decides about one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.attempts_keys import Signed
from enrollments.actions.preview.credentials import device_at, known_by_key
from enrollments.actions.preview.kinds import BARE
from enrollments.actions.preview.outcomes import Known
from enrollments.policy.facts import Mechanism


@dataclass(slots=True)
class Besides:
    """places: by registration key; what was shown last is the first. At a place is a certificate or a key."""

    places: dict[str, list[str]] = field(default_factory=dict)
    certificates: Mapping[str, Came] = field(default_factory=dict)
    keys: Mapping[str, Signed] = field(default_factory=dict)

    def of(self, key: str) -> list[Known]:
        """This device, as each of that has it."""
        return list(map(self._at, self.places.get(key, ())))

    def _at(self, place: str) -> Known:
        if (signed := self.keys.get(place)) is not None:
            return known_by_key(place, signed)
        came = self.certificates[place]
        return Known(
            device_at(place),
            came.registration_id,
            Mechanism.X509,
            BARE,
            came.thumbprint,
            came.spki,
            place=place,
            is_former=came.was_outlived,
        )

    def add(self, more: "Besides") -> None:
        """Behind what is there."""
        for key, places in more.places.items():
            self.places[key] = [*self.places.get(key, ()), *places]
        self.certificates = {**self.certificates, **more.certificates}
        self.keys = {**self.keys, **more.keys}
