"""The devices of one portion, each by all of its credentials: those that its entry holds or gets are among them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from enrollments.actions.attempts_certificates import Came, problem_of
from enrollments.actions.certificates import parsed_once
from enrollments.actions.evidence import is_signed
from enrollments.actions.preview.above import Looking
from enrollments.actions.preview.credentials import (
    device_at,
    enrolled_for,
    is_settled,
    keys_enrolled,
    place_of,
    together,
    with_derived,
)
from enrollments.actions.preview.effects import Device
from enrollments.actions.preview.holders import Holders
from enrollments.actions.preview.kinds import leaf_problem
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.planned import Plan
from enrollments.actions.preview.world import Individual, World, bars_of_keys
from enrollments.models import ProvisioningService
from enrollments.models.switches import AsOf
from enrollments.policy.facts import Mechanism

# Of a leaf that is in no record: what lies above it was not looked at.
_NO_CLASS = "none"
# Certificates of devices, by registration key and thumbprint.
Given = Mapping[str, Mapping[str, Came]]


def by_leaf(place: str, came: Came, at: datetime) -> Known:
    """A device as what is at that place (place_of) has it."""
    if came.classed is not None:
        problem, found_by = problem_of(came.classed), (came.thumbprint, came.spki)
    else:
        leaf = parsed_once(came.pems[0])
        problem, found_by = leaf_problem(leaf, at), (leaf.thumbprint_sha256, leaf.spki_sha256)
    return Known(
        device_at(place),
        came.registration_id,
        Mechanism.X509,
        _NO_CLASS,
        *found_by,
        problem=problem,
        place=place,
        is_former=came.was_outlived,
    )


@dataclass(slots=True)
class _Several:
    """By what one device is known: its record, and what that alone makes of it; what it showed at attempts.

    pins: thumbprints of what its entry holds besides. gifts: of what the list gives to that.
    """

    recorded: Known | None
    decided: Device | None
    shown: list[Known]
    pins: frozenset[str] = frozenset()
    gifts: frozenset[str] = frozenset()
    held: list[Known] = field(default_factory=list)
    brought: list[Known] = field(default_factory=list)


class Portion:
    """`beyond`: how many there are of whom nothing is said. `late`: see Deciding."""

    def __init__(
        self,
        service: ProvisioningService,
        plan: Plan,
        looking: Looking,
        holders: Holders,
        worlds: tuple[World, World],
        as_of: AsOf,
    ) -> None:
        self._service, self._plan, self._as_of = service, plan, as_of
        self._looking, self._looked, self._holders = looking, looking.looked, holders
        self._worlds = worlds
        self._deciders = Decider(worlds[0]), Decider(worlds[1])
        self._key_groups = [group for world in worlds for group in world.key_groups.values()]
        self.beyond = 0
        self.late: set[str] = set()

    def devices(
        self,
        keys: Iterable[str],
        recorded: Mapping[str, Known],
        shown: Mapping[str, list[Known]],
        given: Given,
    ) -> Iterator[Device]:
        """given: what the list gives to some of these; who needs that of others is late."""
        unsettled: dict[str, _Several] = {}
        for key in keys:
            one = recorded.get(key)
            decided = self._device(one) if one is not None else None
            is_last = all(one.is_former for one in shown.get(key, ()))
            if decided is not None and is_settled(decided, key, self._worlds, is_last=is_last):
                yield decided
            else:
                unsettled[key] = self._several(key, one, decided, shown.get(key, []))
        places = self._read(unsettled, given)
        for key, several in unsettled.items():
            yield from self._told(key, several, is_given=key in given)
        self._looking.forget(places)

    def _several(
        self, key: str, recorded: Known | None, decided: Device | None, shown: list[Known]
    ) -> _Several:
        known = {one.leaf_thumbprint for one in (recorded, *shown) if one is not None}
        before = self._before(key)
        pins = before.pins if before is not None else frozenset()
        planned = self._plan.individuals.get(key)
        gifts = frozenset(thumbprint for thumbprint, _ in planned.certificates) if planned else frozenset()
        if recorded is not None:
            shown = [replace(one, holder=recorded.holder) for one in shown]
        if any(key in world.individuals for world in self._worlds):
            shown = [with_derived(one, self._key_groups) for one in shown]
            if recorded is not None and recorded.mechanism is Mechanism.SYMMETRIC_KEY:
                recorded = with_derived(recorded, self._key_groups)
                decided = self._device(recorded)
        return _Several(recorded, decided, shown, pins - known, gifts - known - pins)

    def _before(self, key: str) -> Individual | None:
        return self._worlds[0].individuals.get(key)

    def _read(self, unsettled: Mapping[str, _Several], given: Given) -> list[str]:
        """What is enrolled for these, or is given; and what lies above that, where it matters: the places of those."""
        found: dict[str, Came] = {}
        with_pins = [key for key, several in unsettled.items() if several.pins]
        for key, thumbprint, came in enrolled_for(self._service, with_pins) if with_pins else ():
            if thumbprint in unsettled[key].pins:
                found[place_of(key, thumbprint)] = came
        for key in unsettled.keys() & given.keys():
            found |= {place_of(key, one): given[key][one] for one in unsettled[key].gifts & given[key].keys()}
        known = [by_leaf(place, came, self._looking.time.at) for place, came in found.items()]
        self._read_bars({one.leaf_spki for one in known})
        unclear = {
            one.place: found[one.place]
            for one in known
            if not self._looked.has(one.place) and not self._is_clear(one)
        }
        if unclear:
            self._looking.at_enrolled(unclear)
        for one in known:
            several = unsettled[one.registration_key]
            if several.recorded is not None:
                one = replace(one, holder=several.recorded.holder)
            (several.held if one.leaf_thumbprint in several.pins else several.brought).append(one)
        return list(unclear)

    def _read_bars(self, spkis: set[str]) -> None:
        before, after = self._worlds
        new = spkis - before.leaf_bars.keys()
        bars = bars_of_keys(self._service, new, self._as_of) if new else {}
        before.leaf_bars = {**before.leaf_bars, **bars}
        after.leaf_bars = {**after.leaf_bars, **self._plan.bars_after(bars, new)}

    def _told(self, key: str, several: _Several, *, is_given: bool) -> Iterator[Device]:
        before, after = (world.individuals.get(key) for world in self._worlds)
        keys_held, keys_brought = keys_enrolled(key, before, after)
        held, brought = [*keys_held, *several.held], [*keys_brought, *several.brought]
        every = [several.recorded, *several.shown, *held, *brought]
        own = before or after
        name = next((one.registration_id for one in every if one is not None), own.ref.name if own else key)
        last = [several.decided] if several.recorded is not None else []
        since = [one for one in several.shown if not one.is_former]
        former = [one for one in several.shown if one.is_former]
        known = [*map(self._device, since), *last, *map(self._device, former)]
        unshown = list(map(self._device, held))
        device = together(name, known, unshown, []) if known or unshown else None
        is_all = device is not None and (
            _is_in(device) or is_settled(device, key, self._worlds, is_last=True)
        )
        if not is_all and several.gifts and not is_given:
            self.late.add(key)
            return
        if not is_all and (known or unshown or brought):
            device = together(name, known, unshown, list(map(self._device, brought)))
        elif not known and not unshown:
            device = Device(name, None, None)
        if device is None:
            self.beyond += 1
        else:
            yield device

    def _device(self, one: Known) -> Device | None:
        """By one of its credentials. None: it was not examined."""
        if not one.is_judgeable:
            return Device(one.registration_id, None, None)
        if one.mechanism is Mechanism.X509 and not self._is_clear(one):
            return None
        kind = self._looked.evidence.get(one.looked_at_as)
        known = replace(one, evidence=kind) if kind is not None else one
        outcomes = (decider.outcome(known) for decider in self._deciders)
        return self._holders.device(known, self._worlds, outcomes)

    def _is_clear(self, device: Known) -> bool:
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
            for world in self._worlds
        )


def _is_in(device: Device) -> bool:
    return device.before is not None and device.before.admitted and device.held_before is None


def _decides_alone(individual: Individual | None, thumbprint: str) -> bool:
    """R5: whether what an entry says of its device is the same whatever groups say of it.

    To a disabled one only the proof matters: a device that shows another certificate may have it from a group (R3).
    """
    return individual is not None and (individual.enabled or thumbprint in individual.pins)
