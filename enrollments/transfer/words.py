"""An import in words, for pages and for the command."""

from collections.abc import Mapping

from enrollments.actions.outcomes import Outcome
from enrollments.models import ImportFormat

OUTCOMES = {
    Outcome.ADDED: "added",
    Outcome.ADDED_DISABLED: "added, disabled from the start",
    Outcome.CHANGED: "changed",
    Outcome.ENABLED: "enabled",
    Outcome.DISABLED: "disabled",
    Outcome.ENABLED_LATER: "disabled until a time, and let in from then on",
    Outcome.UNCHANGED: "as they are already",
    Outcome.REFUSED: "refused",
}
_ENDINGS = {
    ".csv": ImportFormat.CSV,
    ".txt": ImportFormat.CSV,
    ".jsonl": ImportFormat.JSON_LINES,
    ".ndjson": ImportFormat.JSON_LINES,
    ".json": ImportFormat.JSON_LINES,
}


def in_words(counts: Mapping[str, int]) -> str:
    """`3 added, 1 disabled`."""
    told = [f"{counts[one]} {words}" for one, words in OUTCOMES.items() if counts.get(one)]
    return ", ".join(told) or "nothing"


def format_of(file_name: str) -> ImportFormat | None:
    """As the name says; None where it says nothing."""
    endings = (format for ending, format in _ENDINGS.items() if file_name.lower().endswith(ending))
    return next(endings, None)
