"""What saving would do to an entry, or did: in one word, for whoever saves many."""

from enum import StrEnum


class Outcome(StrEnum):
    """`refused` is no outcome of saving: it is what a list says of the line that could not be saved."""

    ADDED = "added"
    ADDED_DISABLED = "added_disabled"
    CHANGED = "changed"
    ENABLED = "enabled"
    DISABLED = "disabled"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


def outcome_of(was_enabled: bool | None, is_enabled: bool, *, changed: bool) -> Outcome:
    """`was_enabled`: None where there was no entry."""
    if was_enabled is None:
        return Outcome.ADDED if is_enabled else Outcome.ADDED_DISABLED
    if was_enabled != is_enabled:
        return Outcome.ENABLED if is_enabled else Outcome.DISABLED
    return Outcome.CHANGED if changed else Outcome.UNCHANGED
