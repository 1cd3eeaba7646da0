"""Devices that differ in nothing that counts: what is decided about one of them is said of each.

Of a hundred thousand devices most are known by their record alone, and differ from each other in nothing but their
names and the keys of their leaves.
"""

from collections.abc import Callable, Collection, Hashable, Sequence

from enrollments.actions.key_identifiers import OF_GROUP
from enrollments.actions.preview.effects import Device, Sides
from enrollments.actions.preview.kinds import Kinds
from enrollments.actions.preview.outcomes import Known
from enrollments.actions.preview.touched import Row
from enrollments.actions.preview.world import World
from enrollments.models import AttestationMechanism
from enrollments.policy.facts import Mechanism


class Alike:
    """Decides about one of them for all.

    apart: the registration keys of devices that are looked at by themselves, and of those with an individual
    enrollment. kinds: of what is in no record. unexamined: the places of what was not looked at.
    decided: what is decided about one device by all that is known of it; None: it was not examined.
    """

    def __init__(
        self,
        worlds: Sequence[World],
        apart: Collection[str],
        kinds: Kinds,
        unexamined: Collection[str],
        decided: Callable[[Row], Device | None],
    ) -> None:
        self._apart, self._kinds, self._unexamined, self._decided = apart, kinds, unexamined, decided
        self._barred: set[str] = set().union(*(world.leaf_bars for world in worlds))
        self._said: dict[Hashable, Sides | None] = {}

    def likeness(self, row: Row, others: Sequence[Known]) -> Hashable | None:
        """What alone counts of this record, and of what the device is known by besides.

        None where the device is decided about by itself.
        """
        own = self._of_record(row)
        if own is None or not others:
            return own
        besides = tuple(map(self._of_other, others))
        return None if None in besides else (own, *besides)

    def _of_other(self, one: Known) -> Hashable | None:
        if one.place in self._unexamined:
            return None
        if one.mechanism is Mechanism.X509:
            if one.leaf_spki in self._barred or (kind := self._kinds.evidence.get(one.place)) is None:
                return None
            return kind, self._kinds.problems.get(one.place), one.is_former
        is_of_groups = all(key_id.startswith(OF_GROUP) for secrets in one.readings for key_id in secrets)
        return (one.mechanism, one.readings, one.is_former) if is_of_groups else None

    def _of_record(self, row: Row) -> Hashable | None:
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
