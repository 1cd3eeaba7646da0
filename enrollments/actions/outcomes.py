"""What saving would do to an entry, or did: in one word, for whoever saves many."""

from enum import StrEnum

from enrollments.actions.schedule import Span
from enrollments.models.switches import Switch


class Outcome(StrEnum):
    """`refused` is no outcome of saving: it is what a list says of the line that could not be saved.

    enabled_later: off by now, and on from a time on at which the entry was not on before, or was not there.
    """

    ADDED = "added"
    ADDED_DISABLED = "added_disabled"
    CHANGED = "changed"
    ENABLED = "enabled"
    DISABLED = "disabled"
    ENABLED_LATER = "enabled_later"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


def outcome_of(before: Switch | None, after: Switch, *, changed: bool) -> Outcome:
    """`before`: None where there was no entry."""
    if not after.enabled and not _is_on_within(before, after):
        return Outcome.ENABLED_LATER
    if before is None:
        return Outcome.ADDED if after.enabled else Outcome.ADDED_DISABLED
    if before.enabled != after.enabled:
        return Outcome.ENABLED if after.enabled else Outcome.DISABLED
    return Outcome.CHANGED if changed else Outcome.UNCHANGED


def _is_on_within(before: Switch | None, after: Switch) -> bool:
    """Whether nobody comes in by it, at any time, who would not have come in without."""
    if before is None:
        return after.switches_at is None
    return Span.of(after).is_within(Span.of(before))
