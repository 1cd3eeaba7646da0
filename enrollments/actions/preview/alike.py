"""Devices that differ in nothing that counts: what is decided about one of them is said of each.

Of a hundred thousand devices most are known by their record alone, and differ from each other in nothing but their
names and the keys of their leaves.
"""

from collections.abc import Callable, Collection, Hashable, Sequence

from enrollments.actions.key_identifiers import OF_GROUP
from enrollments.actions.preview.besides import Besides
from enrollments.actions.preview.effects import Device, Sides
from enrollments.actions.preview.kinds import Kinds
from enrollments.actions.preview.touched import Row
from enrollments.actions.preview.world import World
from enrollments.models import AttestationMechanism

_X509 = AttestationMechanism.X509.value


class Alike:
    """Decides about one of them for all.

    apart: the registration keys of devices that are looked at by themselves, and of those with an individual
    enrollment. besides: what devices are known by besides their records. kinds: of what is in no record.
    unexamined: the places of what was not looked at.
    decided: what is decided about one device by all that is known of it; None: it was not examined.
    """

    def __init__(
        self,
        worlds: Sequence[World],
        apart: Collection[str],
        kinds: Kinds,
        unexamined: Collection[str],
        besides: Besides,
        decided: Callable[[Row], Device | None],
    ) -> None:
        self._besides = besides
        self._apart, self._kinds, self._unexamined, self._decided = apart, kinds, unexamined, decided
        self._barred: set[str] = set().union(*(world.leaf_bars for world in worlds))
        self._said: dict[Hashable, Sides | None] = {}

    def likeness(self, row: Row) -> Hashable | None:
        """What alone counts of this record, and of what the device is known by besides.

        None where the device is decided about by itself.
        """
        # For each of a hundred thousand: nothing is called where it need not be.
        key, _, mechanism, evidence, _, spki, is_current, key_ids, _, _, holder, _ = row
        own: Hashable
        if key in self._apart:
            return None
        if mechanism == _X509:
            if spki in self._barred:
                return None
            own = mechanism, evidence, is_current, holder
        else:
            # A key that is known to be derived from a group's is that group's, whatever the name (KeyGroup.signs_for).
            groups = [one for one in key_ids.split() if one.startswith(OF_GROUP)]
            if not groups:
                return None
            own = mechanism, *groups, holder
        if (places := self._besides.places.get(key)) is None:
            return own
        others = tuple(map(self._of_other, places))
        return None if None in others else (own, others)

    def _of_other(self, place: str) -> Hashable | None:
        if place in self._unexamined:
            return None
        if (came := self._besides.certificates.get(place)) is not None:
            if (kind := self._kinds.evidence.get(place)) is None or came.spki in self._barred:
                return None
            return kind, self._kinds.problems.get(place), came.was_outlived
        signed = self._besides.keys[place]
        is_of_groups = all(key_id.startswith(OF_GROUP) for key_id in signed.key_ids)
        return (signed.mechanism, signed.key_ids, signed.was_outlived) if is_of_groups else None

    def device(self, row: Row, likeness: Hashable) -> Device | None:
        if likeness not in self._said:
            one = self._decided(row)
            self._said[likeness] = one.sides if one is not None else None
        sides = self._said[likeness]
        key, name, *_ = row
        # One text where they are the same, as most often: the key is kept until all are told.
        return Device.with_sides(key if key == name else name, sides) if sides is not None else None
