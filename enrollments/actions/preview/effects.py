"""What a preview says: for each known device what is decided about it now and after the change, and in sum."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

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
class Device:
    """One device of a preview. `before` and `after` are None where nothing is known that could be judged.

    held_before, held_after: the entry that holds its name, where another one admits it: it fails all the same (R11).
    """

    registration_id: str
    before: Outcome | None
    after: Outcome | None
    held_before: EntryRef | None = None
    held_after: EntryRef | None = None

    @property
    def effect(self) -> Effect:
        if self.before is None or self.after is None:
            return Effect.UNKNOWN
        if self.after.admitted:
            return Effect.STILL_ADMITTED if self.before.admitted else Effect.COMES_IN
        return Effect.REFUSED if self.before.admitted else Effect.STILL_OUT

    def decided_by(self, entries: Collection[EntryRef]) -> bool:
        """Whether one of these decides about it before the change."""
        return self.before is not None and self.before.through in entries

    @property
    def through(self) -> EntryRef | None:
        """The entry through which it is admitted after the change, or by which it is kept out."""
        return self.after.through if self.after is not None else None


@dataclass(frozen=True, slots=True)
class Preview:
    """The effect of one change on the devices that it touches, as of one epoch.

    not_examined: devices that would have had to be judged one by one, and were too many.
    """

    epoch: int
    devices: tuple[Device, ...]
    not_examined: int = 0
    counts: Counter[Effect] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter(device.effect for device in self.devices))

    @property
    def known(self) -> int:
        return len(self.devices)

    @property
    def touches_nobody(self) -> bool:
        return not self.devices and not self.not_examined

    @property
    def reversed(self) -> "Preview":
        """Of the act that takes this one back: what was done already is told by rehearsing its opposite."""
        back = tuple(
            Device(one.registration_id, one.after, one.before, one.held_after, one.held_before)
            for one in self.devices
        )
        return Preview(self.epoch, back, self.not_examined)

    def passing_to_others(self, gone: Collection[EntryRef]) -> list[Device]:
        """The devices that another entry lets in once these are deleted: those they admitted, and those they barred.

        Whoever another entry admits already now is not among them.
        """
        return [
            device
            for device in self.devices
            if device.effect is Effect.COMES_IN
            or (device.effect is Effect.STILL_ADMITTED and device.decided_by(gone))
        ]

    def of(self, effect: Effect) -> Iterator[Device]:
        return (device for device in self.devices if device.effect is effect)

    def through(self, effect: Effect) -> list[tuple[EntryRef | None, int]]:
        """The entries that decide about the devices of one effect, the most frequent first."""
        # Told apart by their names: one that the change adds has another number in each rehearsal.
        named: dict[tuple[EntryKind, str], EntryRef] = {}
        counted: Counter[EntryRef | None] = Counter()
        for device in self.of(effect):
            ref = None if device.through is None else _without_own_name(device.through, device)
            counted[ref if ref is None else named.setdefault((ref.kind, ref.name), ref)] += 1
        return counted.most_common()

    def held(self, effect: Effect) -> list[tuple[EntryRef, int]]:
        """Of those that are admitted after the change: whose names are held by another entry, the most first."""
        return Counter(one.held_after for one in self.of(effect) if one.held_after is not None).most_common()


def _without_own_name(entry: EntryRef, device: Device) -> EntryRef:
    """Each device's own individual enrollment counts as one and the same answer: its own."""
    is_own = entry.kind is EntryKind.INDIVIDUAL and entry.name.lower() == device.registration_id.lower()
    return EntryRef(entry.kind, 0, OWN_ENTRY) if is_own else entry


# Read behind "individual enrollment": of each device its own.
OWN_ENTRY = "of its own"
