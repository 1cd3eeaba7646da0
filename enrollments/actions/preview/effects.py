"""What a preview says: for each known device what is decided about it now and after the change, and in sum."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryRef


class Effect(StrEnum):
    """What a change does to one device."""

    REFUSED = "refused"
    STILL_ADMITTED = "still_admitted"
    STILL_OUT = "still_out"
    COMES_IN = "comes_in"
    UNKNOWN = "unknown"

    @property
    def in_words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Effect.REFUSED: "will be refused",
    Effect.STILL_ADMITTED: "will still be admitted",
    Effect.STILL_OUT: "are shut out already, and stay so",
    Effect.COMES_IN: "will come in anew",
    Effect.UNKNOWN: "have shown nothing that could be judged",
}


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
    """One device of a preview. `before` and `after` are None where nothing is known that could be judged."""

    registration_id: str
    before: Outcome | None
    after: Outcome | None

    @property
    def effect(self) -> Effect:
        if self.before is None or self.after is None:
            return Effect.UNKNOWN
        if self.after.admitted:
            return Effect.STILL_ADMITTED if self.before.admitted else Effect.COMES_IN
        return Effect.REFUSED if self.before.admitted else Effect.STILL_OUT

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
    def widens(self) -> bool:
        """Whether a device that is known comes in by it."""
        return self.counts[Effect.COMES_IN] > 0

    @property
    def known(self) -> int:
        return len(self.devices)

    def of(self, effect: Effect) -> Iterator[Device]:
        return (device for device in self.devices if device.effect is effect)

    def through(self, effect: Effect) -> list[tuple[EntryRef | None, int]]:
        """The entries that decide about the devices of one effect, the most frequent first."""
        return Counter(
            None if device.through is None else _without_own_name(device) for device in self.of(effect)
        ).most_common()


def _without_own_name(device: Device) -> EntryRef:
    """Each device's own individual enrollment counts as one and the same answer: its own."""
    entry = device.through
    assert entry is not None  # the caller has asked
    if entry.name.lower() == device.registration_id.lower():
        return EntryRef(entry.kind, 0, OWN_ENTRY)
    return entry


OWN_ENTRY = "of their own"
