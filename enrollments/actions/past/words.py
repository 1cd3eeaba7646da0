"""The past in words and as values for programs, for pages and commands alike."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from enrollments.actions.past.attempted import MOST_PROVEN
from enrollments.actions.past.comparison import Comparison
from enrollments.actions.past.spells import LookBack, ShutOut, Spell
from enrollments.actions.past.standing import Withheld
from enrollments.actions.past.turns import Turn
from enrollments.actions.preview import Device, Effect, Outcome
from enrollments.actions.preview.table import cell, decided_by, verdict
from enrollments.actions.preview.words import named
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryRef
from enrollments.policy.unknown import known

# Each device's own individual enrollment counts as one and the same answer.
OWN = "individual enrollments of their own"
# otherwise by: by which other credential of it a device could come in also where it is told as refused. not asked: what
# was not, of one that counts as let in.
COLUMNS = (
    "registration ID",
    "effect",
    "then",
    "then by",
    "later",
    "later by",
    "not known because",
    "otherwise by",
    "not asked",
)
# The same in JSON.
KEYS = tuple(name.lower().replace(" ", "_") for name in COLUMNS)
# In a row of a table, which goes where the sentence about all does not.
NAME_NOT_ASKED = "whose its name was (R11): if another entry held it, the device would have failed"
# Of who is admitted by an entry while another one holds the name (R11).
FAILED = "failed"
VERDICTS = {Verdict.ADMIT: "admitted", Verdict.DISABLED: "disabled", Verdict.UNAUTHORIZED: "unauthorized"}
# In the order in which an auditor asks.
EFFECTS = {
    Effect.STILL_ADMITTED: "at both times",
    Effect.REFUSED: "shut out",
    Effect.COMES_IN: "let in",
    Effect.STILL_OUT: "at neither",
    Effect.UNKNOWN: "not known",
}


def moment(at: datetime) -> str:
    """As finely as it has to be told, in UTC."""
    utc = at.astimezone(UTC)
    fraction = f".{utc:%f}".rstrip("0") if utc.microsecond else ""
    return f"{utc:%Y-%m-%d %H:%M:%S}{fraction} UTC"


def verdict_of(spell: Spell | ShutOut) -> str:
    if spell.held_by is not None:
        return FAILED
    return VERDICTS[spell.verdict] if spell.verdict is not None else "not known"


def cause_of(spell: Spell | ShutOut) -> str:
    cause = spell.began_by
    if cause.event is not None:
        return deed(cause.event)
    return f"{cause.words}: {deed(cause.told_by)}" if cause.told_by is not None else cause.words


def deed(event: HistoryEvent) -> str:
    words = known(Event, event.event).in_words
    return f"{event.actor_name} {words} {event.subject_name} (row ID {event.pk} of the history)"


def answer(look: LookBack) -> str:
    """One sentence that answers whether it could have registered then."""
    first = look.first
    if first.verdict is None:
        return f"Whether {look.registration_id} could have registered at {moment(look.at)} is not known: {first.why}."
    if first.admitted:
        by = f", by {look.basis}" if look.has_several else ""
        return (
            f"{look.registration_id} could have registered at {moment(look.at)}, through {first.entry}{by}."
        )
    behind = ":" if first.held_by is not None else ","
    return f"{look.registration_id} could not have registered at {moment(look.at)}{behind} {_refused(first)}."


def _refused(one: Spell | ShutOut) -> str:
    if one.held_by is not None:
        return f"{one.entry} would have admitted it, and {one.why}, so that it would have failed"
    by = f" by {one.entry}" if one.entry is not None else ""
    return f"refused{by}: {one.why}"


def in_between(look: LookBack) -> str:
    """One sentence that answers whether it could have come in at any time of the period."""
    since, until = moment(look.at), "now" if look.is_now else moment(look.until)
    admitted, unknown = look.admitted_spells, [one for one in look.spells if one.verdict is None]
    if not admitted:
        if unknown:
            return f"Whether it could have come in between {since} and {until} is not known for all of that time."
        return f"At no time between {since} and {until} could it have come in."
    # An entry that was deleted and made again is called what it was.
    entries = {str(one.entry): one.entry for one in admitted if one.entry is not None}
    through = named(list(entries.values()))
    if len(admitted) == len(look.spells):
        return f"At any time between {since} and {until} it could have come in, through {through}."
    spells = "one spell" if len(admitted) == 1 else f"{len(admitted)} spells"
    besides = " Of some of the time besides it is not known." if unknown else ""
    return (
        f"Between {since} and {until} it would have been let in during {spells}, through {through}.{besides}"
    )


def at_the_end(look: LookBack) -> str:
    """One sentence that answers what would be decided at the end of the period."""
    last, when = look.spells[-1], "Now" if look.is_now else f"At {moment(look.until)}"
    if last.verdict is None:
        return f"{when} it is not known what would be decided: {last.why}."
    if last.admitted:
        return f"{when} it would be let in, through {last.entry}."
    if last.held_by is not None:
        return f"{when} {last.entry} would admit it, and {last.why}, so that it would fail."
    by = f" by {last.entry}" if last.entry is not None else ""
    return f"{when} it would be refused{by}: {last.why}."


def left_out(look: LookBack) -> str:
    """What was not looked at, in a sentence; empty where all was."""
    if not look.has_more:
        return ""
    return (
        f"{look.registration_id} has proven more than {MOST_PROVEN} credentials, of which those that it proved last "
        "are looked at: by another one it may have been let in too, and through another entry."
    )


def shut_out_otherwise(look: LookBack) -> list[str]:
    """Of each moment at which it was shut out, and could still have come in by another credential, a sentence."""
    return [
        f"At {moment(one.begins)} {look.registration_id} was shut out with what it had shown last, {one.shown}: "
        f"{_refused(one)}. Since: {cause_of(one)}. By another "
        f"credential that is known of it, it could still have come in: {one.otherwise}."
        for one in look.shut_outs
        if one.otherwise
    ]


def look_as_json(look: LookBack) -> dict[str, Any]:
    return {
        "registration_id": look.registration_id,
        "at": look.at.isoformat(),
        "until": look.until.isoformat(),
        "basis": look.basis,
        "verdict": verdict_of(look.first),
        "entry": str(look.first.entry) if look.first.entry else None,
        "because": look.first.why,
        "has_proven_more": look.has_more,
        "trace": look.explanation.as_json()["trace"] if look.explanation else None,
        "spells": [
            {
                "from": one.begins.isoformat(),
                "to": one.ends.isoformat(),
                "verdict": verdict_of(one),
                "entry": str(one.entry) if one.entry else None,
                "because": one.why,
                "began_by": cause_of(one),
                "history_row": one.began_by.told_by.pk if one.began_by.told_by else None,
            }
            for one in look.spells
        ],
        "shut_out": [
            {
                "at": one.begins.isoformat(),
                "verdict": verdict_of(one),
                "entry": str(one.entry) if one.entry else None,
                "because": one.why,
                "by": cause_of(one),
                "history_row": one.began_by.told_by.pk if one.began_by.told_by else None,
                "with": one.shown or None,
                "otherwise_by": one.otherwise or None,
            }
            for one in look.shut_outs
        ],
    }


# --- All devices of a service -----------------------------------------------------------------------


def could(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.admitted


def through_at(said: Comparison, *, first: bool) -> list[tuple[str, int]]:
    """Through which entries devices could have registered at one of the times, the most frequent first."""
    counted: Counter[str] = Counter()
    for device in said.preview.devices:
        outcome = device.before if first else device.after
        if outcome is not None and outcome.admitted and outcome.through is not None:
            counted[_entry(device, outcome.through)] += 1
    return counted.most_common()


def _entry(device: Device, entry: EntryRef) -> str:
    return OWN if entry.name.lower() == device.registration_id.lower() else str(entry)


def numbers(said: Comparison) -> tuple[int, int]:
    """How many could have registered at each of the times."""
    counts = said.preview.counts  # by anything that they have
    both = counts[Effect.STILL_ADMITTED]
    return both + counts[Effect.REFUSED], both + counts[Effect.COMES_IN]


def values(said: Comparison, device: Device) -> tuple[str, ...]:
    """One row, in the order of COLUMNS."""
    told = said.turn_of(device) or device
    sides = [(_verdict(one), _decided_by(one)) for one in (told.before, told.after)]
    why = said.unclear.get(device.registration_id.lower(), "") if told.effect is Effect.UNKNOWN else ""
    otherwise = told.otherwise if isinstance(told, Turn) else ""
    counts_as_let_in = could(told.before) or could(told.after)
    not_asked = NAME_NOT_ASKED if counts_as_let_in and not said.names_asked else ""
    return (device.registration_id, told.effect.value, *sides[0], *sides[1], why, otherwise, not_asked)


def _verdict(outcome: Outcome | None) -> str:
    return FAILED if isinstance(outcome, Withheld) else verdict(outcome)


def _decided_by(outcome: Outcome | None) -> str:
    by = decided_by(outcome)
    return f"{by}, while {outcome.held_by} held the name" if isinstance(outcome, Withheld) else by


def names_not_asked(said: Comparison) -> str:
    """A sentence; empty where they were."""
    if said.names_asked:
        return ""
    return (
        f"Too many registration IDs were assigned since {moment(said.at)} to ask at a glance whose each was (R11): a "
        "device of which another entry held the name would have failed, and counts here as if it could have come in. "
        "Examine all asks that, and so does manage.py as_of."
    )


def otherwise(said: Comparison) -> list[str]:
    """Sentences about devices that are shut out or let in, and could have come in all the time by something else."""
    counted = Counter(turn.effect for turn in said.turns.values())
    sentences = {
        Effect.REFUSED: "by what they had shown last. By another credential that is known of them they could still "
        "have come in at the second time",
        Effect.COMES_IN: "by something that they had shown. By another credential that is known of them they could "
        "have come in at the first time too",
    }
    return [
        f"{counted[effect]:,} of those that were {EFFECTS[effect]} were so {words}."
        for effect, words in sentences.items()
        if counted[effect]
    ]


def table(said: Comparison, effect: Effect | None = None) -> Iterator[tuple[str, ...]]:
    yield COLUMNS
    for device in said.in_order(effect):
        yield tuple(map(cell, values(said, device)))


def comparison_as_json(said: Comparison) -> dict[str, Any]:
    then, later = numbers(said)
    return {
        "at": said.at.isoformat(),
        "until": said.until.isoformat(),
        "known": said.preview.known,
        "not_examined": said.preview.not_examined,
        "attempts_since": said.attempts_since.isoformat() if said.attempts_since else None,
        "names_asked": said.names_asked,
        "could_at": then,
        "could_until": later,
        "through_at": dict(through_at(said, first=True)),
        "through_until": dict(through_at(said, first=False)),
        "effects": {effect.value: said.counts[effect] for effect in EFFECTS},
        "otherwise_admitted": dict(Counter(turn.effect.value for turn in said.turns.values())),
        "devices": [dict(zip(KEYS, values(said, device), strict=True)) for device in said.in_order()],
    }


def comparison_in_lines(said: Comparison) -> list[str]:
    then, later = numbers(said)
    lines = []
    for at, count, first in ((said.at, then, True), (said.until, later, False)):
        through = "".join(f", {number:,} through {entry}" for entry, number in through_at(said, first=first))
        lines.append(
            f"{count:,} of {said.preview.known:,} known devices could have registered at {moment(at)}{through}."
        )
    for effect, words in EFFECTS.items():
        if count := said.counts[effect]:
            names = [one.registration_id for one in said.in_order(effect)[:5]]
            more = f" and {count - len(names):,} more" if count > len(names) else ""
            lines.append(f"{count:,} {words}: {', '.join(names)}{more}.")
    lines += otherwise(said)
    if not said.names_asked:
        lines.append(names_not_asked(said))
    if said.preview.not_examined:
        lines.append(f"{said.preview.not_examined:,} devices were too many to be examined one by one.")
    return lines
