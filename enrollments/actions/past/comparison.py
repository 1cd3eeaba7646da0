"""What is told of all devices of a service at two times, and what differs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from enrollments.actions.past.turns import Turn
from enrollments.actions.preview import Device, Effect, Preview
from enrollments.actions.preview.table import in_order
from enrollments.policy.names import registration_key


@dataclass(frozen=True, slots=True)
class Comparison:
    """All known devices at `at` and at `until`: in `preview`, before and after. `is_now`: `until` is the present.

    There it is told whether they could have come in, by anything that they are known to have. turns: by registration
    key, who was shut out or let in though it could have come in at both times, by another credential.
    unclear: by registration key, why it is not known what would have been decided.
    names_asked: whether it was asked by which entries names were held (R11).
    attempts_since: before that time attempts were not looked for devices of which nothing else tells; None: all were.
    """

    at: datetime
    until: datetime
    is_now: bool
    preview: Preview
    turns: dict[str, Turn] = field(default_factory=dict)
    unclear: dict[str, str] = field(default_factory=dict)
    attempts_since: datetime | None = None
    names_asked: bool = True

    @property
    def counts(self) -> Counter[Effect]:
        """How many devices there are of each effect."""
        counts = Counter(self.preview.counts)
        counts[Effect.STILL_ADMITTED] -= len(self.turns)
        counts.update(turn.effect for turn in self.turns.values())
        return +counts

    def turn_of(self, device: Device) -> Turn | None:
        return self.turns.get(registration_key(device.registration_id)) if self.turns else None

    def effect_of(self, device: Device) -> Effect:
        turn = self.turn_of(device)
        return turn.effect if turn is not None else device.effect

    def in_order(self, effect: Effect | None = None) -> Sequence[Device]:
        """The devices, all or those of one effect, by name."""
        if not self.turns:
            return in_order(self.preview, effect)
        every = in_order(self.preview)
        return every if effect is None else [one for one in every if self.effect_of(one) is effect]
