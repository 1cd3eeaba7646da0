"""Whether a registration ID may pass from the entry that holds it to another (R11)."""

from collections.abc import Collection

from enrollments.policy.facts import EntryKind, EntryRef


def may_take_name(
    holder: EntryRef | None,
    taker: EntryRef,
    *,
    predecessor: int | None = None,
    groups_proven: Collection[int] = (),
) -> bool:
    """`holder` is None where nobody holds the name, the holder was deleted, or an operator released it.

    predecessor: the group that the taker names as the one it follows.
    groups_proven: groups to which a valid path was found for this very device.
    """
    if holder is None or taker.kind is EntryKind.INDIVIDUAL:
        return True
    if holder.kind is EntryKind.INDIVIDUAL:
        # It exists and yet a group decided: that cannot come from R5, so nothing is given away.
        return False
    return holder.pk == taker.pk or holder.pk == predecessor or holder.pk in groups_proven
