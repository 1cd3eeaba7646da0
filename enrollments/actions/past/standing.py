"""What stood at one time, of a whole service: the entries by values, and what of them decides about many devices."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from enrollments.actions.key_identifiers import endorsement_identifier
from enrollments.actions.past.entries import NOT_NOTED, PastEntry, Subject
from enrollments.actions.past.names import By, NameNotTold, Names
from enrollments.actions.past.proofs import Proofs
from enrollments.actions.past.putting_back import stored_certificates
from enrollments.actions.past.walking import read_entries
from enrollments.actions.preview import Outcome
from enrollments.actions.preview.world import Individual, World
from enrollments.models import AttestationMechanism, HeldRole, ProvisioningService
from enrollments.policy.facts import EntryKind, EntryRef, Mechanism
from enrollments.policy.names import registration_key


@dataclass(frozen=True, slots=True)
class Doubts:
    """Why nothing can be said about devices with certificates: of everybody, or by registration key."""

    everybody: str = ""
    of: Mapping[str, str] = field(default_factory=dict)

    def about(self, key: str) -> str:
        return self.everybody or self.of.get(key, "")


NO_DOUBTS = Doubts()
OfOne = tuple[Outcome, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Withheld(Outcome):
    """Admitted by an entry, while another one held the name, `held_by`: so it fails (R11)."""

    held_by: EntryRef | None = None

    @property
    def admitted(self) -> bool:
        return False


@dataclass(slots=True)
class Standing:
    """What stood at one time. `entries`: those that changes are about, with their switches as of then.

    by: up to which row. singles: of who was judged alone, what was decided, and the groups to which a path was found.
    """

    at: datetime
    entries: dict[Subject, PastEntry | None]
    key_groups_admit: bool
    proofs: Proofs
    by: By
    names: Names
    individuals: dict[str, PastEntry] = field(default_factory=dict)
    key_groups: list[PastEntry] = field(default_factory=list)
    world: World = field(default_factory=World)
    singles: dict[str, OfOne | None] = field(default_factory=dict)
    unclear: dict[str, str] = field(default_factory=dict)
    doubts: Doubts = NO_DOUBTS

    def if_it_may_have_the_name(
        self, key: str, outcome: Outcome | None, groups_proven: Collection[int]
    ) -> tuple[Outcome | None, str]:
        """R11. Where it is not known who held the name, it is not known whether it could have come in."""
        if outcome is None or not outcome.admitted:
            return outcome, ""
        try:
            holder = self.names.in_the_way(key, outcome.through, groups_proven, self.by)
        except NameNotTold as problem:
            return None, str(problem)
        return outcome if holder is None else Withheld(outcome.verdict, outcome.through, holder), ""


def individuals_of_now(service: ProvisioningService) -> dict[int, PastEntry]:
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


def overlay(service: ProvisioningService, time: Standing, live: Mapping[int, PastEntry]) -> None:
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


def is_the_same(entry: PastEntry | None, now: PastEntry | None) -> bool:
    if entry is None or now is None:
        return entry is now
    return entry.decides_like(now)


def bars(entry: PastEntry | None) -> bool:
    """Whether its keys are barred wherever they are met (R6)."""
    return (
        entry is not None and bool(entry.certificates) and not (entry.enabled and entry.switches_at is None)
    )


def as_values(individuals: Mapping[str, PastEntry]) -> dict[str, Individual]:
    """As what decides about certificates needs them: whose keys are barred is told apart from it."""
    return {
        key: Individual(one.ref, one.enabled, Mechanism(one.mechanism), frozenset(one.thumbprints))
        for key, one in individuals.items()
        if not one.doubt
    }


def leaf_bars(individuals: Iterable[PastEntry]) -> dict[str, dict[int, EntryRef]]:
    disabled = [one for one in individuals if not one.enabled and one.certificates and not one.doubt]
    rows = stored_certificates(thumbprint for one in disabled for thumbprint in one.thumbprints)
    bars: dict[str, dict[int, EntryRef]] = {}
    for one in disabled:
        for thumbprint in one.thumbprints:
            bars.setdefault(rows[thumbprint].spki_sha256, {})[one.pk] = one.ref
    return bars
