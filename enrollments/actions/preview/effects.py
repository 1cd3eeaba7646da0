"""What a preview says: for each known device what is decided about it now and after the change, and in sum."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from enrollments.actions.times_to_come import NO_TIMES, TimesToCome
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryKind, EntryRef


class Effect(StrEnum):
    """What a change does to one device."""

    REFUSED = "refused"
    STILL_ADMITTED = "still_admitted"
    STILL_OUT = "still_out"
    COMES_IN = "comes_in"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is decided about a device in one state of things. `through`: the entry that decides, if one does."""

    verdict: Verdict
    through: EntryRef | None = None

    @property
    def admitted(self) -> bool:
        return self.verdict is Verdict.ADMIT


@dataclass(frozen=True, slots=True)
class Sides:
    """What is decided before and after: None where nothing is known that could be judged.

    held_before, held_after: the entry that holds the name, where another one admits its device: it fails all the same
    (R11). effect: what the change does. unless: where it is out after the change, the entry that would admit it by
    another credential that is known of it, or, is_sent_along, with certificates that the change takes away.
    """

    before: Outcome | None
    after: Outcome | None
    held_before: EntryRef | None = None
    held_after: EntryRef | None = None
    unless: EntryRef | None = None
    is_sent_along: bool = False
    effect: Effect = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "effect", _effect(self))

    @property
    def through(self) -> EntryRef | None:
        """The entry through which a device is admitted after the change, or by which it is kept out."""
        return self.after.through if self.after is not None else None

    def passes_to_others(self, gone: Collection[EntryRef]) -> bool:
        """See Preview.passing_to_others."""
        if self.effect is Effect.COMES_IN:
            return True
        if self.is_sent_along and self.before is not None and not self.before.admitted:
            return True  # with that at hand, which is gone, it was barred whatever it sent
        is_in = self.effect is Effect.STILL_ADMITTED or self.unless is not None
        return is_in and self.before is not None and self.before.through in gone


def _effect(sides: Sides) -> Effect:
    """Who is admitted before, and fails as another entry holds its name, is out; after it, that is said besides."""
    before, after = sides.before, sides.after
    if before is None or after is None:
        return Effect.UNKNOWN
    is_in = before.admitted and sides.held_before is None
    fails_as_before = before.admitted and sides.held_before is not None and sides.held_after is not None
    if after.admitted and not fails_as_before:
        return Effect.STILL_ADMITTED if is_in else Effect.COMES_IN
    return Effect.REFUSED if is_in else Effect.STILL_OUT


class _Device(NamedTuple):
    registration_id: str
    sides: Sides


class Device(_Device):
    """One device of a preview. Those that are alike have one and the same object as their sides.

    A tuple, as there are a hundred thousand of them: that takes half as long to make as another frozen object.
    """

    __slots__ = ()

    def __new__(
        cls,
        registration_id: str,
        before: Outcome | None,
        after: Outcome | None,
        held_before: EntryRef | None = None,
        held_after: EntryRef | None = None,
        unless: EntryRef | None = None,
    ) -> "Device":
        return cls.with_sides(registration_id, Sides(before, after, held_before, held_after, unless))

    @classmethod
    def with_sides(cls, registration_id: str, sides: Sides) -> "Device":
        return tuple.__new__(cls, (registration_id, sides))

    def of(self, registration_id: str) -> "Device":
        """The same of a device of that name."""
        return Device.with_sides(registration_id, self.sides)

    @property
    def before(self) -> Outcome | None:
        return self.sides.before

    @property
    def after(self) -> Outcome | None:
        return self.sides.after

    @property
    def held_before(self) -> EntryRef | None:
        return self.sides.held_before

    @property
    def held_after(self) -> EntryRef | None:
        return self.sides.held_after

    @property
    def unless(self) -> EntryRef | None:
        return self.sides.unless

    @property
    def effect(self) -> Effect:
        """What the change does to it."""
        return self.sides.effect

    @property
    def through(self) -> EntryRef | None:
        return self.sides.through


_SIDES, _EFFECT = attrgetter("sides"), attrgetter("sides.effect")


@dataclass(frozen=True, slots=True)
class Preview:
    """The effect of one change on the devices that it touches, as of one epoch.

    not_examined: devices that would have had to be judged one by one, and were too many.
    out_until: the first time to come at which somebody may come in who is shut out; None where there is none, or where
    it was found that nobody comes in at any.
    attempts_since: what devices have proven at attempts before that time alone was not looked at; None: all was.
    times: those to come at which decisions change by themselves, with the change or without.
    """

    epoch: int
    devices: tuple[Device, ...]
    not_examined: int = 0
    out_until: datetime | None = None
    attempts_since: datetime | None = None
    times: TimesToCome = NO_TIMES
    counts: Counter[Effect] = field(init=False)
    # Kept by `in_order` (table.py), for whoever looks at page after page.
    ordered: dict[Effect | None, list[Device]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter(map(_EFFECT, self.devices)))

    @property
    def known(self) -> int:
        return len(self.devices)

    @property
    def touches_nobody(self) -> bool:
        return not self.devices and not self.not_examined

    def passing_to_others(self, gone: Collection[EntryRef]) -> list[Device]:
        """The devices that another entry lets in once these are deleted: those they admitted, and those they barred.

        By whichever credential that is known of them. Whoever another entry admits already now is not among them.
        """
        passing = {id(sides) for sides, _ in _alike(self.devices) if sides.passes_to_others(gone)}
        return [device for device in self.devices if id(device.sides) in passing]

    def of(self, effect: Effect) -> Iterator[Device]:
        return (device for device in self.devices if device.sides.effect is effect)

    def through(self, effect: Effect) -> list[tuple[EntryRef | None, int]]:
        """The entries that decide about the devices of one effect, the most frequent first."""
        # Told apart by their names: one that the change adds has another number in each rehearsal.
        named: dict[tuple[EntryKind, str], EntryRef] = {}
        counted: Counter[EntryRef | None] = Counter()
        for ref, number in self._deciding(effect):
            counted[ref if ref is None else named.setdefault((ref.kind, ref.name), ref)] += number
        return counted.most_common()

    def _deciding(self, effect: Effect) -> Iterator[tuple[EntryRef | None, int]]:
        devices = list(self.of(effect))
        alike = _alike(devices)
        if any(one.through is not None and one.through.kind is EntryKind.INDIVIDUAL for one, _ in alike):
            for device in devices:
                yield _without_own_name(device.through, device), 1
        else:
            yield from ((sides.through, number) for sides, number in alike)

    def held(self, effect: Effect) -> list[tuple[EntryRef, int]]:
        """Of those that are admitted after the change: whose names are held by another entry, the most first."""
        counted: Counter[EntryRef] = Counter()
        for sides, number in _alike(self.of(effect)):
            if sides.held_after is not None:
                counted[sides.held_after] += number
        return counted.most_common()

    def otherwise(self, effect: Effect) -> list[tuple[EntryRef, int]]:
        """Of those that are out after the change: which entries admit so many of them by something else (see Sides)."""
        counted: Counter[EntryRef] = Counter()
        for entry, _, number in self.otherwise_by(effect):
            counted[entry] += number
        return counted.most_common()

    def otherwise_by(self, effect: Effect) -> list[tuple[EntryRef, bool, int]]:
        """The same, with whether it is by what they may send along."""
        counted: Counter[tuple[EntryRef, bool]] = Counter()
        if effect in (Effect.REFUSED, Effect.STILL_OUT):
            for device in self.of(effect):
                if device.unless is not None:
                    entry = _without_own_name(device.unless, device) or device.unless
                    counted[entry, device.sides.is_sent_along] += 1
        return [(entry, along, number) for (entry, along), number in counted.most_common()]


def _alike(devices: Iterable[Device]) -> list[tuple[Sides, int]]:
    """What is said of devices, and of how many: once for those that have one object as their sides."""
    every = list(map(_SIDES, devices))
    numbers = Counter(map(id, every))
    return [(sides, numbers[one]) for one, sides in dict(zip(map(id, every), every, strict=True)).items()]


def _without_own_name(entry: EntryRef | None, device: Device) -> EntryRef | None:
    """Each device's own individual enrollment counts as one and the same answer: its own."""
    if entry is None or entry.kind is not EntryKind.INDIVIDUAL:
        return entry
    is_own = entry.name.lower() == device.registration_id.lower()
    return EntryRef(entry.kind, 0, OWN_ENTRY) if is_own else entry


# Read behind "individual enrollment": of each device its own.
OWN_ENTRY = "of its own"
