"""A preview in sentences, for pages and commands alike."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from enrollments.actions.preview.effects import OWN_ENTRY, Effect, Preview
from enrollments.actions.preview.open_names import OpenNames
from enrollments.actions.preview.table import in_order
from enrollments.actions.preview.to_come import Coming
from enrollments.actions.schedule import as_text
from enrollments.policy.facts import EntryRef
from enrollments.policy.words import counted

NOBODY_KNOWN = "No device that is known is touched."
NOT_TOLD = "What that changed for the devices could not be worked out."
MAX_ENTRIES = 3
MAX_NAMES = 5

_DONE = {
    Effect.REFUSED: ("is refused from now on", "are refused from now on"),
    Effect.STILL_ADMITTED: ("is still admitted", "are still admitted"),
    Effect.COMES_IN: ("is admitted from now on", "are admitted from now on"),
    Effect.STILL_OUT: ("was shut out already", "were shut out already"),
    Effect.UNKNOWN: ("has shown nothing that could be judged", "have shown nothing that could be judged"),
}
_TO_COME = {
    Effect.REFUSED: ("will be refused", "will be refused"),
    Effect.STILL_ADMITTED: ("will still be admitted", "will still be admitted"),
    Effect.COMES_IN: ("will come in anew", "will come in anew"),
    Effect.STILL_OUT: ("is shut out already", "are shut out already"),
    Effect.UNKNOWN: _DONE[Effect.UNKNOWN],
}


# Of whom something is said behind what tells of them and of nobody else.
_THESE = "these"


def will(
    effect: Effect,
    count: int,
    out_until: datetime | None = None,
    *,
    is_looked: bool = True,
    stays: bool = False,
) -> str:
    """What becomes of so many devices: the words behind their number. out_until: see Preview. stays: see Coming.

    is_looked: whether that is known; else nothing is said of how long somebody stays out.
    """
    if stays:
        return "will stay in"
    words = _TO_COME[effect][count != 1]
    if effect is not Effect.STILL_OUT or not is_looked:
        return words
    if out_until is not None:
        # Somebody may come in then: whether one of these does, this is not about.
        return f"{words}, not counting what is scheduled from {as_text(out_until)} on"
    return f"{words}, and {'stays' if count == 1 else 'stay'} so"


def fails(count: int, holder: EntryRef | str, whom: str = _THESE) -> str:
    """Of devices that are admitted: what becomes of so many of them, whose names are not theirs (R11).

    whom: of whom, where more than these were told of.
    """
    fail, names = (
        ("fails", "its registration ID is") if count == 1 else ("fail", "their registration IDs are")
    )
    return (
        f"{count:,} of {whom} {fail} all the same: {names} held through {holder}. Name that as the predecessor of the "
        f"group that admits {'it' if count == 1 else 'them'}, or release the {'name' if count == 1 else 'names'}."
    )


def otherwise(count: int, entry: EntryRef | str, whom: str = _THESE, *, is_sent_along: bool = False) -> str:
    """Of devices that are out: that so many of them are let in all the same by something else that they may send."""
    is_one = count == 1
    are = f"{count:,} of {whom} {'is' if is_one else 'are'} admitted all the same, through {of_so_many(entry, count)}"
    sends = "it sends" if is_one else "they send"
    if is_sent_along:
        return f"{are}, if {sends} the CA certificates along that are removed."
    return f"{are}, if {sends} another credential that is known of {'it' if is_one else 'them'}."


def asides(preview: Preview, effect: Effect, whom: str = _THESE) -> list[str]:
    """What is to be said of some of the devices of one effect."""
    said = [fails(count, holder, whom) for holder, count in preview.held(effect)]
    return said + [
        otherwise(count, entry, whom, is_sent_along=along)
        for entry, along, count in preview.otherwise_by(effect)
    ]


def of_so_many(entry: EntryRef | str, count: int) -> str:
    """An entry in words, behind a number of devices and "through": several come in through several of their own."""
    own = f"individual enrollment {OWN_ENTRY}"
    return "individual enrollments of their own" if count != 1 and str(entry) == own else str(entry)


def did(preview: Preview | None) -> str:
    """What an act did, as one sentence that goes on behind a colon, or stands alone."""
    if preview is None:
        return NOT_TOLD
    parts: list[str] = []
    for effect in Effect:
        count = preview.counts[effect]
        if count:
            noun = (" device" if count == 1 else " devices") if not parts else ""
            parts.append(f"{count:,}{noun} {_DONE[effect][count != 1]}{_through(preview, effect)}")
    if preview.not_examined:
        parts.append(f"{preview.not_examined:,} more were too many to examine")
    besides: list[str] = []
    for effect in Effect:
        # Behind a sentence about several effects it has to be said which of them is meant.
        besides += asides(preview, effect, f"those that {_DONE[effect][1]}" if len(parts) > 1 else _THESE)
    return " ".join([f"{', '.join(parts)}.", *besides]) if parts else NOBODY_KNOWN


PROVEN_THEN = "by what a device proved then alone, it may come in all the same."


def in_lines(preview: Preview, *, stays: bool = False) -> list[str]:
    """A line per effect, with the first devices by name. stays: see Coming."""
    lines = []
    for effect in Effect:
        if count := preview.counts[effect]:
            names = [one.registration_id for one in in_order(preview, effect)]
            shown = ", ".join(names[:MAX_NAMES]) + (
                f" and {count - MAX_NAMES:,} more" if count > MAX_NAMES else ""
            )
            what = f"{will(effect, count, preview.out_until, stays=stays)}{_through(preview, effect)}"
            lines.append(f"{counted(count, 'device')} {what}: {shown}.")
            lines += asides(preview, effect)
    if preview.not_examined:
        were = "was" if preview.not_examined == 1 else "were"
        lines.append(f"{counted(preview.not_examined, 'device')} {were} too many to be examined one by one.")
    lines = lines or [NOBODY_KNOWN]
    if preview.attempts_since is not None:
        lines.append(f"Attempts before {as_text(preview.attempts_since)} were not looked at: {PROVEN_THEN}")
    return lines


def from_when(coming: Coming) -> str:
    """What stands above the devices that come in from a time on, or stay in by the change."""
    why = ", when these would be refused without this change" if coming.stays else ""
    if coming.at is None:
        more = why or ", when more switches turn by themselves"
        return f"At other times, which were not looked at one by one{more}:"
    earlier = "" if coming.is_first else " or earlier"
    return f"From {as_text(coming.at)} on{earlier}{why}, with whatever else is scheduled until then:"


def coming_in_lines(comings: Iterable[Coming], mark: str = "") -> list[str]:
    """Who comes in later, below a line that says when. mark: see Foreseen."""
    return [
        line
        for one in comings
        for line in (from_when(one), *(f"{mark}{told}" for told in in_lines(one.preview, stays=one.stays)))
    ]


def coming_as_json(comings: Iterable[Coming]) -> list[dict[str, Any]]:
    return [
        {
            "at": one.at.isoformat() if one.at is not None else None,
            "stays_in": one.stays,
            **as_json(one.preview),
        }
        for one in comings
    ]


def bars_in_lines(bars: Sequence[tuple[EntryRef, datetime]]) -> list[str]:
    """What is said before entries are deleted that are to be disabled (bars_to_come)."""
    lines = [
        f"{str(ref)[0].upper()}{str(ref)[1:]} is to be disabled at {as_text(at)}: deleting it drops that bar."
        for ref, at in bars[:MAX_NAMES]
    ]
    if more := len(bars) - MAX_NAMES:
        lines += [f"The same holds for {more:,} more."] if more > 0 else []
    return lines


def bars_as_json(bars: Sequence[tuple[EntryRef, datetime]]) -> dict[str, Any]:
    """The same for programs; nothing where there are none."""
    dropped = [{"entry": str(ref), "at": at.isoformat()} for ref, at in bars]
    return {"bars_dropped": dropped} if dropped else {}


def turning_in_line(entries: int) -> str:
    """What stands above the preview of the time when these, of a list, have turned by themselves."""
    if entries == 1:
        return "1 entry turns by itself at a time that the list gives. Once it has:"
    return f"{entries:,} entries turn by themselves at times that the list gives. Once all of them have:"


def in_line(left_open: OpenNames) -> str:
    """That names are left open, as a sentence. There are some."""
    names = ", ".join(left_open.names[:MAX_NAMES])
    if more := len(left_open.names) - MAX_NAMES:
        names += f" and {more:,} more" if more > 0 else ""
    through = ", ".join(map(str, left_open.groups)) + ("" if left_open.are_all else " and others")
    one = len(left_open.names) == 1
    return (
        f"Nothing keeps the registration {'ID' if one else 'IDs'} {names} any more: a device that nobody knows here "
        f"can come in under {'it' if one else 'them'} through {through}. Only a disabled entry keeps it out."
    )


def as_json(preview: Preview) -> dict[str, Any]:
    """The numbers, and through which entries, for programs."""
    return {
        "epoch": preview.epoch,
        "known": preview.known,
        "not_examined": preview.not_examined,
        **({"attempts_since": preview.attempts_since.isoformat()} if preview.attempts_since else {}),
        "effects": {
            effect.value: {
                "devices": preview.counts[effect],
                "through": [
                    {"entry": str(entry) if entry is not None else None, "devices": count}
                    for entry, count in preview.through(effect)
                ],
                "name_held_through": [
                    {"entry": str(holder), "devices": count} for holder, count in preview.held(effect)
                ],
                "admitted_otherwise_through": [
                    {"entry": str(entry), "devices": count} for entry, count in preview.otherwise(effect)
                ],
            }
            for effect in Effect
        },
    }


def _through(preview: Preview, effect: Effect) -> str:
    if effect not in (Effect.STILL_ADMITTED, Effect.COMES_IN):
        return ""
    return f" through {_some(of_so_many(entry, count) for entry, count in preview.through(effect) if entry)}"


def named(entries: list[EntryRef]) -> str:
    """Entries in a sentence: the first of them by name, the others by their number. Of none, nothing."""
    return _some(map(str, entries))


def _some(words: Iterable[str]) -> str:
    entries = list(words)
    if not entries:
        return ""
    names = entries[:MAX_ENTRIES]
    if more := len(entries) - len(names):
        names.append(f"{more} {'other' if more == 1 else 'others'}")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
