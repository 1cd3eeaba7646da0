"""Devices that differ in nothing that counts: what is decided about one of them is said of each.

Of a hundred thousand devices most are known by their record alone, and differ from each other in nothing but their
names and the keys of their leaves.
"""

from collections.abc import Callable, Collection, Hashable, Sequence

from enrollments.actions.key_identifiers import OF_GROUP
from enrollments.actions.preview.effects import Device, Sides
from enrollments.actions.preview.touched import Row
from enrollments.actions.preview.world import World
from enrollments.models import AttestationMechanism


class Alike:
    """Decides about one of them for all.

    apart: the registration keys of devices that are known by more than their records, or looked at by themselves, and
    of those with an individual enrollment. decided: what is decided about one device; None: it was not examined.
    """

    def __init__(
        self, worlds: Sequence[World], apart: Collection[str], decided: Callable[[Row], Device | None]
    ) -> None:
        self._apart, self._decided = apart, decided
        self._barred: set[str] = set().union(*(world.leaf_bars for world in worlds))
        self._said: dict[Hashable, Sides | None] = {}

    def likeness(self, row: Row) -> Hashable | None:
        """What alone counts of this record; None where the device is decided about by itself."""
        key, _, mechanism, evidence, _, spki, is_current, key_ids, _, _, holder, _ = row
        if key in self._apart:
            return None
        if mechanism == AttestationMechanism.X509:
            return (mechanism, evidence, is_current, holder) if spki not in self._barred else None
        # A key that is known to be derived from a group's is that group's, whatever the name (KeyGroup.signs_for).
        groups = [one for one in key_ids.split() if one.startswith(OF_GROUP)]
        return (mechanism, *groups, holder) if groups else None

    def device(self, row: Row, likeness: Hashable) -> Device | None:
        if likeness not in self._said:
            one = self._decided(row)
            self._said[likeness] = one.sides if one is not None else None
        sides = self._said[likeness]
        key, name, *_ = row
        # One text where they are the same, as most often: the key is kept until all are told.
        return Device.with_sides(key if key == name else name, sides) if sides is not None else None
