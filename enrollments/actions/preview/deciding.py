"""Deciding about the devices that a list of changes touches, in portions, each in both worlds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any

from django.db.models import QuerySet

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.certificates import parsed_once
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.import_changes import Change
from enrollments.actions.preview.above import Looking
from enrollments.actions.preview.credentials import (
    NEVER,
    device_at,
    is_signed_for,
    known_by_key,
    place_of,
)
from enrollments.actions.preview.effects import Device
from enrollments.actions.preview.holders import Holders
from enrollments.actions.preview.kinds import leaf_problem
from enrollments.actions.preview.looking import Time
from enrollments.actions.preview.outcomes import Known
from enrollments.actions.preview.planned import Plan, Portions, read_after
from enrollments.actions.preview.portion import Portion, by_leaf
from enrollments.actions.preview.progress import Step, Tell
from enrollments.actions.preview.secrets import Secrets
from enrollments.actions.preview.touched import (
    COLUMNS,
    in_portions,
    known_device,
    records_touched,
    secrets_of_groups,
    touched_classes,
    touched_key_groups,
    with_dates_judged,
)
from enrollments.actions.preview.world import (
    World,
    bars_of_keys,
    read_individuals,
    read_many_individuals,
)
from enrollments.models import (
    AttestationMechanism,
    ProvisioningService,
    RegistrationEvidence,
    RegistrationRecord,
)
from enrollments.models.switches import AsOf
from enrollments.policy.names import registration_key

# Devices that are decided about together.
PORTION = 1000


class Deciding:
    """`beyond`: how many devices there are of whom nothing is said.

    late: registration keys of those about whom that decides what the list gives to their entries. None of that is kept:
    their lines are read once more. given: by registration key and thumbprint, of those that are at hand.
    """

    def __init__(
        self,
        service: ProvisioningService,
        plan: Plan,
        portions: Portions,
        looking: Looking,
        time: Time,
        as_of: AsOf,
        tell: Tell,
    ) -> None:
        self._service, self._plan, self._portions = service, plan, portions
        self._tell = tell
        self._looking, self._looked, self._as_of = looking, looking.looked, as_of
        self._at = time.at
        self._holders = Holders(service)
        self._records = with_dates_judged(service.registrations.all(), time.at)
        self._of_groups: list[Secrets] = secrets_of_groups([self._looked.before, self._looked.after])
        self._told: set[str] = set()
        self._others: dict[str, list[str]] = {}
        for place in plan.came:
            self._others.setdefault(device_at(place), []).append(place)
        self._came = {*self._others, *plan.signed}
        self._late: set[str] = set()
        self._given: dict[str, dict[str, Came]] = {}
        self.beyond = 0

    def devices(self) -> Iterator[Device]:
        looked = self._looked
        touched = (
            self._touched()
        )  # before anything else is looked at: that is of devices that are told about anyhow
        for keys in in_portions(self._plan.individuals, PORTION):
            yield from self._of(keys)
        for some in records_touched(self._service, looked.touched, looked.before, looked.after, self._at):
            yield from self._registered(some)
        yield from self._registered(self._records.filter(evidence_class__in=looked.too_deep))
        for spkis in in_portions(self._plan.spkis):
            of_keys = self._service.registrations.filter(leaf_spki__in=spkis)
            touched.update(of_keys.values_list("registration_key", flat=True))
        for keys in in_portions(touched - self._told - self._plan.individuals.keys(), PORTION):
            yield from self._of(keys)
        for changes in self._portions(self._late) if self._late else ():
            self._given = dict(map(_given_by, changes))
            self._late -= self._given.keys()
            self._told -= self._given.keys()
            yield from self._of(list(self._given))
        self.beyond += len(self._late)  # whose lines were not there any more

    def _touched(self) -> set[str]:
        """Devices that something else than their line may touch, and than a change above the class of their record."""
        looked = self._looked
        moved = touched_classes(looked.touched, looked.before, looked.after)
        of_kinds = {device_at(place) for place, kind in looked.evidence.items() if kind in moved}
        of_keys = {
            device_at(place) for place, came in self._plan.came.items() if came.spki in self._plan.spkis
        }
        key_groups = touched_key_groups(looked.touched, looked.before, looked.after)
        signing = {
            key
            for key, several in self._plan.signed.items()
            if any(is_signed_for(one, key_groups) for one in several)
        }
        return {*of_kinds, *of_keys, *signing, *map(device_at, looked.unexamined), *self._plan.sharing}

    def _of(self, keys: Sequence[str]) -> Iterator[Device]:
        """These, by their records, or else by attempts or by their entries alone."""
        yield from self._registered(self._records.filter(registration_key__in=keys))
        others = [key for key in keys if key not in self._told]
        known = [key for key in others if key in self._came or self._plan.tells_of(key)]
        if known:
            self._told.update(known)
            yield from self._decided(dict.fromkeys(known))

    def _registered(self, records: "QuerySet[RegistrationRecord]") -> Iterator[Device]:
        rows = records.values_list(*COLUMNS).iterator(chunk_size=PORTION)
        while portion := list(islice(rows, PORTION)):
            once: dict[str, Sequence[Any] | None] = {
                row[0]: row for row in portion if row[0] not in self._told
            }
            self._told.update(once)
            yield from self._decided(once)

    def _decided(self, rows: Mapping[str, Sequence[Any] | None]) -> Iterator[Device]:
        """Of each device the row of its record, as COLUMNS says, or None."""
        self._tell(Step.JUDGING, len(self._told) - len(rows))
        found = [row for row in rows.values() if row is not None]
        others = {key: self._shown_by(key) for key in rows if key in self._came}
        spkis = {one.leaf_spki for several in others.values() for one in several if one.leaf_spki}
        spkis.update(row[5] for row in found if row[5])
        vague = {row[0] for row in found if row[2] != AttestationMechanism.X509 and not row[7]}
        worlds = self._worlds(list(rows), spkis, vague)
        records = self._with_leaves([known_device(row, self._of_groups, worlds) for row in found])
        recorded = {one.registration_key: one for one in records}
        portion = Portion(self._service, self._plan, self._looking, self._holders, worlds, self._as_of)
        yield from portion.devices(rows, recorded, others, self._given)
        self.beyond += portion.beyond
        self._late |= portion.late

    def _shown_by(self, key: str) -> list[Known]:
        """By what a device proved itself at attempts, the latest first."""
        shown: list[tuple[datetime, Known]] = []
        for place in self._others.get(key, ()):
            came = self._plan.came[place]
            shown.append((came.at or NEVER, by_leaf(place, came, self._at)))
        for number, signed in enumerate(self._plan.signed.get(key, ())):
            shown.append((signed.at, known_by_key(place_of(key, f"key {number}"), signed)))
        return [known for _, known in sorted(shown, key=itemgetter(0), reverse=True)]

    def _with_leaves(self, devices: Sequence[Known]) -> Iterator[Known]:
        """What is wrong with the leaf of whoever has no class that was looked at."""
        looked = self._looked
        keys = [
            one.registration_key
            for one in devices
            if one.evidence
            and one.evidence not in looked.before.above
            and one.registration_key not in looked.evidence
        ]
        leaves = RegistrationEvidence.objects.filter(
            registration__service=self._service, registration__registration_key__in=keys, position=0
        )
        rows = leaves.values_list("registration__registration_key", "certificate__pem")
        problems = {key: leaf_problem(parsed_once(pem), self._at) for key, pem in rows}
        for one in devices:
            problem = looked.problems.get(one.registration_key) or problems.get(one.registration_key)
            yield replace(one, problem=problem) if problem else one

    def _worlds(self, keys: Sequence[str], spkis: set[str], vague: set[str]) -> tuple[World, World]:
        """Both, with the individual enrollments and the barred keys of these devices.

        vague: devices whose key the record does not identify: what is enrolled for them is read, to be recognised.
        """
        individuals = self._service.individualenrollments
        before = read_many_individuals(individuals.filter(registration_key__in=list(keys)), self._as_of)
        planned = {key: self._plan.individuals[key] for key in keys if key in self._plan.individuals}
        vague = (vague | {key for key, one in before.items() if not one.has_ids}) & planned.keys()
        if vague:
            before |= read_individuals(individuals.filter(registration_key__in=vague), self._as_of)
        after = {**before, **read_after(self._service, planned, before)}
        bars = bars_of_keys(self._service, spkis, self._as_of)
        return (
            replace(self._looked.before, individuals=before, leaf_bars=bars),
            replace(self._looked.after, individuals=after, leaf_bars=self._plan.bars_after(bars, spkis)),
        )


def _given_by(change: Change) -> tuple[str, dict[str, Came]]:
    """The certificates that a line about a device gives, by registration key and thumbprint."""
    key, spec = registration_key(change.name), change.spec
    if not isinstance(spec, IndividualSpec):
        return key, {}
    return key, {one.thumbprint_sha256: Came(change.name, (one.pem,)) for one in spec.certificates.values()}
