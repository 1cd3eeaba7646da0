"""The two kinds of entry as commands name and find them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from enrollments.actions.preview import Entry, ref_of
from enrollments.errors import NotFound
from enrollments.management.dialogue import list_of
from enrollments.models import AttestationMechanism, ProvisioningService
from enrollments.policy.names import registration_key


@dataclass(frozen=True, slots=True)
class EntryKindWords:
    """What differs between the two kinds of entry. `held_by`: the column of a held certificate that names the entry."""

    one: str
    several: str
    id_of: str
    id_column: str
    key_column: str
    held_by: str
    mechanisms: tuple[AttestationMechanism, ...]
    rows: Callable[[ProvisioningService], QuerySet[Any]]

    def named(self, entries: Sequence[Entry]) -> str:
        if len(entries) == 1:
            return str(ref_of(entries[0]))
        return f"{len(entries)} {self.several} ({list_of([str(one) for one in entries])})"

    def found(self, service: ProvisioningService, names: Sequence[str]) -> list[Entry]:
        """All of them, in the order given. Raises NotFound, which names those that are not there."""
        keys = [registration_key(name) for name in names]
        rows = self.rows(service).filter(**{f"{self.key_column}__in": keys})
        found: dict[str, Entry] = {getattr(row, self.key_column): row for row in rows}
        if missing := [name for name, key in zip(names, keys, strict=True) if key not in found]:
            none = f"is no {self.one}" if len(missing) == 1 else f"are no {self.several}"
            raise NotFound(f"There {none} {list_of(missing)} in {service}. Nothing was changed.")
        return [found[key] for key in keys]


INDIVIDUALS = EntryKindWords(
    "individual enrollment",
    "individual enrollments",
    "Registration IDs",
    "registration_id",
    "registration_key",
    "individual",
    tuple(AttestationMechanism),
    lambda service: service.individualenrollments.without_secrets(),
)
GROUPS = EntryKindWords(
    "enrollment group",
    "enrollment groups",
    "IDs of enrollment groups",
    "group_id",
    "group_key",
    "group",
    (AttestationMechanism.X509, AttestationMechanism.SYMMETRIC_KEY),
    lambda service: service.enrollmentgroups.without_secrets(),
)
