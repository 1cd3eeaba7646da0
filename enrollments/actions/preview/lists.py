"""What a list of changes would do to the devices that are known, however long the list is.

Individual enrollments are decided about on values (`planned.py`), in portions, and nothing is locked meanwhile. What
can lie above devices, groups above all, is asked of the decision itself: those few lines are rehearsed, and `near.py`
says which they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from operator import itemgetter

from django.db.models import QuerySet

from enrollments.actions.attempts import Came, shown_at_attempts
from enrollments.actions.attempts_keys import Signed, keys_at_attempts
from enrollments.actions.certificates import parsed_once
from enrollments.actions.evidence import is_signed
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.preview.above import Looked, look_at_all
from enrollments.actions.preview.credentials import (
    NEVER,
    device_at,
    is_settled,
    is_signed_for,
    keys_enrolled,
    known_by_key,
    place_of,
    together,
    with_derived,
)
from enrollments.actions.preview.effects import Device, Preview
from enrollments.actions.preview.holders import Holders
from enrollments.actions.preview.kinds import leaf_problem
from enrollments.actions.preview.leaves import enrolled_leaves
from enrollments.actions.preview.limits import Limits, at_a_glance
from enrollments.actions.preview.looking import Time
from enrollments.actions.preview.near import lines_above
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.planned import Plan, Portions, read_after, read_plan
from enrollments.actions.preview.progress import Step, Tell, tell_nobody
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
    Individual,
    World,
    bars_of_keys,
    read_individuals,
    read_many_individuals,
)
from enrollments.actions.schedule import standing_now
from enrollments.attestation.x509 import ParsedCertificate, parse_der
from enrollments.collecting import without_collecting
from enrollments.models import (
    AttestationMechanism,
    ProvisioningService,
    RegistrationEvidence,
    RegistrationRecord,
)
from enrollments.models.switches import AsOf
from enrollments.policy.facts import Mechanism

# Devices that are decided about together.
PORTION = 1000


def preview_of_list(
    service: ProvisioningService,
    portions: Portions,
    limits: Limits | None = None,
    came: Mapping[str, Sequence[Came]] | None = None,
    signed: Mapping[str, Sequence[Signed]] | None = None,
    tell: Tell = tell_nobody,
) -> Preview:
    """As if all of it were carried out that would not be refused. Raises SecretUnreadable.

    limits: as much as can be told at a glance, unless it is said.
    came, signed: shown_at_attempts and keys_at_attempts, where these were asked for.
    tell: of looking and judging; the portions are read by whoever gives them. What it raises ends the preview.
    """
    limits = limits or at_a_glance()
    if came is None:
        came = shown_at_attempts(service, limits.attempts)
    if signed is None:
        signed = keys_at_attempts(service, limits.attempts)
    shown = {
        place_of(key, parsed_once(one.pems[0]).thumbprint_sha256): one
        for key, several in came.items()
        for one in several
    }
    with secret_read_once(), without_collecting():
        standing = standing_now(service)  # what is due by now is no part of the change
        time = Time.of(None)
        as_of = time.as_of(standing)
        plan = read_plan(service, portions, as_of, limits, shown)
        plan.signed = signed
        lines = lines_above(service, plan, portions)
        looked = look_at_all(service, plan, lines, time, limits, tell)
        deciding = _Deciding(service, plan, looked, time, as_of)
        devices = tuple(_counted(deciding.devices(), tell))
    return Preview(standing.epoch, devices, deciding.beyond)


def _counted(devices: Iterable[Device], tell: Tell) -> Iterator[Device]:
    for number, device in enumerate(devices):
        if number % PORTION == 0:
            tell(Step.JUDGING, number)
        yield device


class _Deciding:
    """Decides about devices in portions, each in both worlds. `beyond`: how many there are of whom nothing is said."""

    def __init__(
        self, service: ProvisioningService, plan: Plan, looked: Looked, time: Time, as_of: AsOf
    ) -> None:
        self._service, self._plan, self._looked, self._as_of = service, plan, looked, as_of
        self._at = time.at
        self._holders = Holders(service)
        self._records = with_dates_judged(service.registrations.all(), time.at)
        self._of_groups: list[Secrets] = secrets_of_groups([looked.before, looked.after])
        worlds = looked.before, looked.after
        self._key_groups = [group for world in worlds for group in world.key_groups.values()]
        self._told: set[str] = set()
        self._others: dict[str, list[str]] = {}
        for place in plan.came:
            self._others.setdefault(device_at(place), []).append(place)
        self._came = {*self._others, *plan.signed}
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
        moved = touched_classes(looked.touched, looked.before, looked.after)
        of_kinds = {device_at(place) for place, kind in looked.evidence.items() if kind in moved}
        touched = {*of_kinds, *map(device_at, looked.unexamined), *self._plan.individuals}
        for place, came in self._plan.came.items():
            if parsed_once(came.pems[0]).spki_sha256 in self._plan.spkis:
                touched.add(device_at(place))
        key_groups = touched_key_groups(looked.touched, looked.before, looked.after)
        for key, several in self._plan.signed.items():
            if any(is_signed_for(one, key_groups) for one in several):
                touched.add(key)
        for keys in in_portions(touched - self._told - self._plan.individuals.keys(), PORTION):
            yield from self._registered(self._records.filter(registration_key__in=keys))
        for keys in in_portions(self._plan.known_by_entry(), PORTION):
            yield from self._enrolled([key for key in keys if key not in self._told])
        for keys in in_portions((touched & self._came) - self._told, PORTION):
            yield from self._that_came(keys)

    def _registered(self, records: "QuerySet[RegistrationRecord]") -> Iterator[Device]:
        rows = records.values_list(*COLUMNS).iterator(chunk_size=PORTION)
        while portion := list(islice(rows, PORTION)):
            once = {row[0]: row for row in portion if row[0] not in self._told}
            portion = list(once.values())
            self._told.update(row[0] for row in portion)
            vague = {row[0] for row in portion if row[2] != AttestationMechanism.X509 and not row[7]}
            others = {row[0]: self._shown_by(row[0]) for row in portion if row[0] in self._came}
            spkis = _leaf_keys(others)
            spkis.update(row[5] for row in portion if row[5])
            worlds = self._worlds([row[0] for row in portion], spkis, vague)
            known = [known_device(row, self._of_groups, worlds) for row in portion]
            yield from self._decided(self._with_leaves(known), worlds, others)

    def _enrolled(self, keys: Sequence[str]) -> Iterator[Device]:
        """Devices that never came with a certificate, and are known by their entries."""
        self._told.update(keys)
        leaves = enrolled_leaves(self._service, keys)
        leaves |= {key: leaf for key in keys if key not in leaves and (leaf := self._leaf_to_be(key))}
        worlds = self._worlds(keys, {one.spki_sha256 for one in leaves.values()}, set())
        known = []
        for key in keys:
            own = worlds[0].individuals.get(key) or worlds[1].individuals[key]
            if key in leaves:
                known.append(self._with_leaf(key, own.ref.name, leaves[key]))
            else:
                readings = (own.secrets,) if own.secrets else ()
                known.append(Known(key, own.ref.name, own.mechanism, readings=readings))
        yield from self._decided(known, worlds, {key: self._shown_by(key) for key in keys})

    def _that_came(self, keys: Sequence[str]) -> Iterator[Device]:
        """Devices that are known by attempts alone."""
        others = {key: self._shown_by(key) for key in keys}
        worlds = self._worlds(keys, _leaf_keys(others), set())
        self._told.update(keys)
        yield from self._decided((several[0] for several in others.values()), worlds, others)

    def _shown_by(self, key: str) -> list[Known]:
        """By what a device proved itself at attempts, the latest first."""
        shown: list[tuple[datetime, Known]] = []
        for place in self._others.get(key, ()):
            came = self._plan.came[place]
            known = self._with_leaf(key, came.registration_id, parsed_once(came.pems[0]))
            shown.append((came.at or NEVER, replace(known, place=place)))
        for number, signed in enumerate(self._plan.signed.get(key, ())):
            shown.append((signed.at, known_by_key(place_of(key, f"key {number}"), signed)))
        return [known for _, known in sorted(shown, key=itemgetter(0), reverse=True)]

    def _with_leaf(self, key: str, name: str, leaf: ParsedCertificate) -> Known:
        found_by = leaf.thumbprint_sha256, leaf.spki_sha256
        return Known(key, name, Mechanism.X509, _NO_CLASS, *found_by, problem=leaf_problem(leaf, self._at))

    def _leaf_to_be(self, key: str) -> ParsedCertificate | None:
        """The certificate that the list gives to a device of which none is enrolled."""
        return parse_der(self._plan.shown[key]) if key in self._plan.shown else None

    def _decided(
        self,
        devices: Iterable[Known],
        worlds: tuple[World, World],
        others: Mapping[str, Sequence[Known]] | None = None,
    ) -> Iterator[Device]:
        """others: what some of these are known by besides, of what they showed."""
        deciders = Decider(worlds[0]), Decider(worlds[1])
        for one in devices:
            key = one.registration_key
            device = self._device(one, worlds, deciders)
            if not is_settled(device, key, worlds):
                shown = [each for each in (others or {}).get(key, ()) if each.place != one.place]
                if any(key in world.individuals for world in worlds):
                    shown = [with_derived(each, self._key_groups) for each in shown]
                    one = with_derived(one, self._key_groups)
                    device = self._device(one, worlds, deciders)
                held, brought = keys_enrolled(key, *(world.individuals.get(key) for world in worlds))
                known = [*(replace(each, holder=one.holder) for each in shown), one, *held]
                if len(known) > 1 or brought:
                    each_known, each_brought = (
                        [device if each is one else self._device(each, worlds, deciders) for each in several]
                        for several in (known, brought)
                    )
                    device = together(one.registration_id, each_known, each_brought)
            if device is None:
                self.beyond += 1
            else:
                yield device

    def _device(
        self, one: Known, worlds: tuple[World, World], deciders: tuple[Decider, Decider]
    ) -> Device | None:
        """By one of its credentials. None: it was not examined."""
        if not one.is_judgeable:
            return Device(one.registration_id, None, None)
        if one.mechanism is Mechanism.X509 and not self._is_clear(one, worlds):
            return None
        kind = self._looked.evidence.get(one.looked_at_as)
        known = replace(one, evidence=kind) if kind is not None else one
        return self._holders.device(known, worlds, (decider.outcome(known) for decider in deciders))

    def _is_clear(self, device: Known, worlds: tuple[World, World]) -> bool:
        """Whether what lies above it is known, or cannot matter."""
        looked, place = self._looked, device.looked_at_as
        if place not in looked.unexamined and (
            place in looked.evidence
            or device.evidence in looked.before.above
            or not is_signed(device.evidence)
        ):
            return True
        return not looked.may_bar and all(
            _decides_alone(world.individuals.get(device.registration_key), device.leaf_thumbprint)
            for world in worlds
        )

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


def _leaf_keys(others: Mapping[str, Sequence[Known]]) -> set[str]:
    return {one.leaf_spki for several in others.values() for one in several if one.leaf_spki}


# Of a device that never came: what lies above its leaf was not looked at.
_NO_CLASS = "none"


def _decides_alone(individual: Individual | None, thumbprint: str) -> bool:
    """R5: whether what an entry says of its device is the same whatever groups say of it.

    To a disabled one only the proof matters: a device that shows another certificate may have it from a group (R3).
    """
    return individual is not None and (individual.enabled or thumbprint in individual.pins)
