"""What a change changed, leaf by leaf: `initial_twin.tags.hall` from one value to another, and nothing that stayed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from enrollments.actions.schedule import as_text
from enrollments.models.history_reading import CANNOT_BE_READ, UnreadableState

# A page shows so much; exports have all of it.
MOST_LEAVES, MOST_CHARACTERS, MOST_DEPTH = 100, 400, 20
_ABSENT = object()
# Members that hold a time of ours, which is kept as ISO 8601. What others hold is somebody else's, and stays as it is.
_TIMES = frozenset({"at", "created_at", "expires", "expires_at", "last", "last_used", "since", "until"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One leaf. `how`: added, removed or changed; before and after are empty where there was nothing."""

    field: str
    before: str
    after: str
    how: str


@dataclass(frozen=True, slots=True)
class Differences:
    """`more`: how many leaves are not shown here."""

    shown: tuple[Difference, ...] = ()
    more: int = 0

    def __bool__(self) -> bool:
        return bool(self.shown)

    @property
    def has_before(self) -> bool:
        return any(one.how != "added" for one in self.shown)

    @property
    def has_after(self) -> bool:
        return any(one.how != "removed" for one in self.shown)


def differences(before: dict[str, Any] | None, after: dict[str, Any] | None) -> Differences:
    """The leaves that differ. An object that was added or deleted has all its leaves on one side."""
    found = [*_unreadable(before, after), *_compared((), before or {}, after or {})]
    return Differences(tuple(found[:MOST_LEAVES]), max(0, len(found) - MOST_LEAVES))


def _unreadable(before: Any, after: Any) -> Iterator[Difference]:
    """Of what is on one side or both, and is no state of an object."""
    was, now = (CANNOT_BE_READ if isinstance(side, UnreadableState) else "" for side in (before, after))
    if was or now:
        how = "changed" if was and now else "removed" if was else "added"
        yield Difference("all of it", was, now, how)


def _compared(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict) and len(path) < MOST_DEPTH:
        for name in {**before, **after}:
            yield from _compared((*path, name), before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif _is_nested(before, after) and len(path) < MOST_DEPTH:
        # A whole subtree came or went: each of its leaves did.
        yield from _compared(path, *(side if isinstance(side, dict) else {} for side in (before, after)))
    elif isinstance(before, list) and isinstance(after, list) and _are_sets(before, after):
        yield from _items(path, before, after)
    elif not _same(before, after):
        how = "added" if before is _ABSENT else "removed" if after is _ABSENT else "changed"
        show = _time_shown if len(path) == 1 and path[0] in _TIMES else _shown
        yield Difference(_named(path), show(before), show(after), how)


def _is_nested(before: Any, after: Any) -> bool:
    """Whether there is a subtree on one side and nothing on the other."""
    one, other = (before, after) if isinstance(before, dict) else (after, before)
    return isinstance(one, dict) and bool(one) and (other is _ABSENT or other is None)


def _are_sets(before: list[Any], after: list[Any]) -> bool:
    """Lists of names, in which the order says nothing and nothing stands twice."""
    return all(
        all(isinstance(one, str) for one in side) and len(set(side)) == len(side) for side in (before, after)
    )


def _items(path: tuple[str, ...], before: list[str], after: list[str]) -> Iterator[Difference]:
    for one in before:
        if one not in after:
            yield Difference(_named(path), _shown(one), "", "removed")
    for one in after:
        if one not in before:
            yield Difference(_named(path), "", _shown(one), "added")


def _same(before: Any, after: Any) -> bool:
    """Equal as JSON: true is not 1 there. Nothing at all, and something empty, are the same to a reader."""
    if before is _ABSENT or after is _ABSENT:
        return (after if before is _ABSENT else before) in (None, "", [], {}) or before is after
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


def _named(path: tuple[str, ...]) -> str:
    """The member's own name in words; below it, names are somebody else's and stay as they are."""
    first, *rest = path
    words = " ".join("ID" if word == "id" else word for word in first.split("_"))
    return _bounded(".".join([words, *rest]))


def _time_shown(value: Any) -> str:
    """As times are written everywhere; what is none, such as a filter that somebody typed, as it is."""
    try:
        moment = datetime.fromisoformat(value)
        return as_text(moment) if moment.tzinfo is not None else _shown(value)
    except (TypeError, ValueError, OverflowError):
        return _shown(value)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return ""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return _bounded(", ".join(value)) or "none"
    return _bounded(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _bounded(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}… ({len(text)} characters; an export has them all)"
