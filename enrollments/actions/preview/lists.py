"""What a list of changes would do to the devices that are known, however long the list is.

Individual enrollments are decided about on values (`planned.py`), in portions, and nothing is locked meanwhile. What
can lie above devices, groups above all, is asked of the decision itself: those few lines are rehearsed, and `near.py`
says which they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from django.db.models import QuerySet

from enrollments.actions.evidence import is_signed
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.preview.above import Looked, look_at_all
from enrollments.actions.preview.effects import Device, Preview
from enrollments.actions.preview.near import lines_above
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.planned import Plan, Portions, read_after, read_plan
from enrollments.actions.preview.secrets import Secrets
from enrollments.actions.preview.singles import Time
from enrollments.actions.preview.touched import (
    COLUMNS,
    in_portions,
    known_device,
    records_touched,
    secrets_of_groups,
    with_dates_judged,
)
from enrollments.actions.preview.world import (
    World,
    bars_of_keys,
    read_individuals,
    read_many_individuals,
)
from enrollments.actions.schedule import standing_now
from enrollments.models import AttestationMechanism, ProvisioningService, RegistrationRecord
from enrollments.models.switches import AsOf
from enrollments.policy.facts import Mechanism

# Devices that are decided about together.
PORTION = 1000


def preview_of_list(service: ProvisioningService, portions: Portions) -> Preview:
    """As if all of it were carried out that would not be refused. Raises SecretUnreadable."""
    with secret_read_once():
        standing = standing_now(service)  # what is due by now is no part of the change
        time = Time.of(None)
        as_of = time.as_of(standing)
        plan = read_plan(service, portions, as_of)
        looked = look_at_all(service, plan, lines_above(service, plan, portions), time)
        deciding = _Deciding(service, plan, looked, time, as_of)
        devices = tuple(deciding.devices())
    return Preview(standing.epoch, devices, deciding.beyond)


class _Deciding:
    """Decides about devices in portions, each in both worlds. `beyond`: how many there are of whom nothing is said."""

    def __init__(
        self, service: ProvisioningService, plan: Plan, looked: Looked, time: Time, as_of: AsOf
    ) -> None:
        self._service, self._plan, self._looked, self._as_of = service, plan, looked, as_of
        self._at = time.at
        self._records = with_dates_judged(service.registrations.all(), time.at)
        self._of_groups: list[Secrets] = secrets_of_groups([looked.before, looked.after])
        self._told: set[str] = set()
        self.beyond = 0

    def devices(self) -> Iterator[Device]:
        for keys in in_portions(self._plan.individuals, PORTION):
            yield from self._registered(self._records.filter(registration_key__in=keys))
        looked = self._looked
        for some in records_touched(self._service, looked.touched, looked.before, looked.after, self._at):
            yield from self._registered(some)
        yield from self._registered(self._records.filter(evidence_class__in=looked.too_deep))
        for spkis in in_portions(self._plan.spkis):
            of_keys = self._service.registrations.filter(leaf_spki__in=spkis)
            others = set(of_keys.values_list("registration_key", flat=True)) - self._told
            for portion in in_portions(others, PORTION):
                yield from self._registered(self._records.filter(registration_key__in=portion))
        for keys in in_portions({*looked.alone, *looked.unexamined} - self._told, PORTION):
            yield from self._registered(self._records.filter(registration_key__in=keys))
        for keys in in_portions(self._plan.known_by_entry(), PORTION):
            yield from self._unregistered([key for key in keys if key not in self._told])

    def _registered(self, records: "QuerySet[RegistrationRecord]") -> Iterator[Device]:
        rows = records.values_list(*COLUMNS).iterator(chunk_size=PORTION)
        while portion := list(islice(rows, PORTION)):
            once = {row[0]: row for row in portion if row[0] not in self._told}
            portion = list(once.values())
            self._told.update(row[0] for row in portion)
            vague = {row[0] for row in portion if row[2] != AttestationMechanism.X509 and not row[7]}
            worlds = self._worlds([row[0] for row in portion], {row[5] for row in portion if row[5]}, vague)
            deciders = Decider(worlds[0]), Decider(worlds[1])
            for row in portion:
                known = known_device(row, self._of_groups, worlds)
                if self._is_beyond(known):
                    self.beyond += 1
                    continue
                yield _decided(self._as_looked_at(known), deciders)

    def _unregistered(self, keys: Sequence[str]) -> Iterator[Device]:
        shown = self._looked.shown
        worlds = self._worlds(keys, {shown[key][1] for key in keys if key in shown}, set())
        deciders = Decider(worlds[0]), Decider(worlds[1])
        for key in keys:
            if key in self._looked.unexamined:
                self.beyond += 1
                continue
            own = worlds[0].individuals.get(key) or worlds[1].individuals[key]
            if key in shown:
                known = Known(key, own.ref.name, Mechanism.X509, self._looked.alone[key], *shown[key])
            else:
                known = Known(
                    key, own.ref.name, own.mechanism, readings=(own.secrets,) if own.secrets else ()
                )
            yield _decided(known, deciders)

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

    def _is_beyond(self, known: Known) -> bool:
        """Of a class that was not looked at, or of those that share with nobody what lies above them, one too many."""
        if known.registration_key in self._looked.unexamined:
            return True
        if known.registration_key in self._looked.alone or not known.evidence:
            return False
        return is_signed(known.evidence) and known.evidence not in self._looked.before.above

    def _as_looked_at(self, known: Known) -> Known:
        alone = self._looked.alone.get(known.registration_key)
        return replace(known, evidence=alone) if alone else known


def _decided(known: Known, deciders: tuple[Decider, Decider]) -> Device:
    if not known.is_judgeable:
        return Device(known.registration_id, None, None)
    before, after = (decider.outcome(known) for decider in deciders)
    return Device(known.registration_id, before, after)
