"""Whether a device that is admitted may have its name: while another entry holds it, it fails all the same (R11)."""

from collections.abc import Iterable

from enrollments.actions.judging import group_ref
from enrollments.actions.preview.effects import Device, Outcome
from enrollments.actions.preview.outcomes import Known
from enrollments.actions.preview.world import NOTHING_ABOVE, World
from enrollments.models import EnrollmentGroup, ProvisioningService
from enrollments.policy.facts import EntryKind, EntryRef, Mechanism
from enrollments.policy.names import registration_key
from enrollments.policy.ownership import may_take_name


class Holders:
    """Of which entry a device's name is, where that is another one than the entry that would admit it.

    Only groups are asked about: where a device has an individual enrollment, that alone decides (R5).
    """

    def __init__(self, service: ProvisioningService) -> None:
        self._service = service
        self._groups: dict[int, EntryRef | None] = {}

    def device(self, known: Known, worlds: tuple[World, World], outcomes: Iterable[Outcome | None]) -> Device:
        """With what is decided before and after the change."""
        before, after = outcomes
        return Device(
            known.registration_id,
            before,
            after,
            held_before=self._in_the_way(known, worlds[0], before),
            held_after=self._in_the_way(known, worlds[1], after),
        )

    def _in_the_way(self, known: Known, world: World, outcome: Outcome | None) -> EntryRef | None:
        if known.holder is None or outcome is None or not outcome.admitted:
            return None
        taker = outcome.through
        if taker is None or taker.kind is not EntryKind.GROUP or taker.pk == known.holder:
            return None
        if known.holder in world.gone:
            return None
        holder = self._named(known.holder)
        predecessor = world.followed.get(registration_key(taker.name))
        proven = _groups_proven(known, world)
        return None if may_take_name(holder, taker, predecessor=predecessor, groups_proven=proven) else holder

    def _named(self, pk: int) -> EntryRef | None:
        if pk not in self._groups:
            group = EnrollmentGroup.objects.without_secrets().filter(service=self._service, pk=pk).first()
            self._groups[pk] = group_ref(group) if group is not None else None
        return self._groups[pk]


def _groups_proven(known: Known, world: World) -> set[int]:
    if known.mechanism is Mechanism.X509:
        above = world.above.get(known.evidence, NOTHING_ABOVE)
        return {group.ref.pk for group in above.groups if group.proves}
    return {
        pk
        for pk, group in world.key_groups.items()
        if any(group.signs_for(known.registration_id, secrets) for secrets in known.readings)
    }
