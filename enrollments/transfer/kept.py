"""What a preview says as JSON: for programs; to be looked at until the import is started; and what stays of it then.

What stays are numbers, and no devices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from enrollments.actions.preview import Coming, Effect, Preview
from enrollments.actions.preview.table import examples
from enrollments.actions.preview.words import as_json as preview_as_json
from enrollments.actions.preview.words import (
    coming_as_json,
    fails,
    from_when,
    of_so_many,
    otherwise,
    turning_in_line,
    will,
)
from enrollments.transfer.foreseen import Foreseen

# Entries by name, of one effect. There may be as many as a list has groups.
MOST_THROUGH = 20
_THROUGH = (Effect.STILL_ADMITTED, Effect.COMES_IN)


def as_json(seen: Foreseen) -> dict[str, Any]:
    told = _as_json(seen.now, seen.comings)
    if seen.later is None:
        return told
    return {**told, "turning": seen.turning, "later": _as_json(seen.later, seen.later_comings)}


def _as_json(preview: Preview, comings: Sequence[Coming]) -> dict[str, Any]:
    """out_until: see Preview. to_come: who comes in when, each with the words that stand above it."""
    out_until = preview.out_until.isoformat() if preview.out_until is not None else None
    told = {**preview_as_json(preview), "out_until": out_until}
    if comings:
        in_json = zip(comings, coming_as_json(comings), strict=True)
        told["to_come"] = [{"words": from_when(one), **of_one} for one, of_one in in_json]
    return told


def numbers_of(seen: Foreseen) -> dict[str, Any]:
    """The same, with at most MOST_THROUGH entries of an effect."""
    told = as_json(seen)
    for part, _ in _each(told, seen):
        for effect in part["effects"].values():
            del effect["through"][MOST_THROUGH:]
            del effect["name_held_through"][MOST_THROUGH:]
            del effect["admitted_otherwise_through"][MOST_THROUGH:]
    return told


def told_of(seen: Foreseen) -> dict[str, Any]:
    """The same, with some devices of each effect by name."""
    told = numbers_of(seen)
    for part, preview in _each(told, seen):
        for effect in Effect:
            part["effects"][effect.value]["examples"] = examples(preview, effect)
    return told


def _each(told: dict[str, Any], seen: Foreseen) -> Iterator[tuple[dict[str, Any], Preview]]:
    """Each preview of it, with what is told of that."""
    parts = [(told, seen.now, seen.comings)]
    if seen.later is not None:
        parts.append((told["later"], seen.later, seen.later_comings))
    for part, preview, comings in parts:
        yield part, preview
        for of_one, coming in zip(part.get("to_come", ()), comings, strict=True):
            yield of_one, coming.preview


@dataclass(frozen=True, slots=True)
class KeptLine:
    """So many devices of one effect, and through which entries, where that is of interest. `unnamed`: the others.

    held: sentences about those that fail all the same, because another entry holds their names.
    is_looked, out_until, stays: see `will`.
    """

    effect: Effect
    count: int
    through: tuple[tuple[str, int], ...]
    unnamed: int
    examples: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    is_looked: bool = False
    out_until: datetime | None = None
    stays: bool = False

    @property
    def words(self) -> str:
        return will(self.effect, self.count, self.out_until, is_looked=self.is_looked, stays=self.stays)

    @property
    def through_in_words(self) -> list[tuple[str, int]]:
        return [(of_so_many(entry, count), count) for entry, count in self.through]


@dataclass(frozen=True, slots=True)
class KeptPart:
    """What is to hold at first, or after what the sentence says. known: how many devices are told about.

    comings: who comes in or stays in by it when other entries turn by themselves.
    """

    sentence: str
    lines: tuple[KeptLine, ...]
    not_examined: int
    known: int
    comings: tuple["KeptPart", ...] = ()


def parts_of(numbers: dict[str, Any]) -> list[KeptPart]:
    """Of numbers that were kept, by this version or another: an effect that is not known here is left out."""
    parts = [_part(numbers, "")]
    if later := numbers.get("later"):
        parts.append(_part(later, turning_in_line(numbers["turning"])))
    return parts


def _part(numbers: dict[str, Any], sentence: str) -> KeptPart:
    lines = tuple(_lines(numbers))
    comings = tuple(_part(one, one["words"]) for one in numbers.get("to_come", ()))
    return KeptPart(sentence, lines, numbers["not_examined"], numbers["known"], comings)


def _lines(numbers: dict[str, Any]) -> Iterator[KeptLine]:
    effects, out_until = numbers["effects"], numbers.get("out_until")
    how_long = "out_until" in numbers, datetime.fromisoformat(out_until) if out_until else None
    stays = numbers.get("stays_in", False)
    for effect in Effect:
        told = effects.get(effect.value)
        if told is None or not told["devices"]:
            continue
        named = tuple((one["entry"], one["devices"]) for one in told["through"] if one["entry"])
        through = named if effect in _THROUGH else ()
        unnamed = told["devices"] - sum(count for _, count in through) if through else 0
        held = tuple(
            say(one["devices"], one["entry"])
            for say, member in ((fails, "name_held_through"), (otherwise, "admitted_otherwise_through"))
            for one in told.get(member, ())
        )
        shown = tuple(told.get("examples", ()))
        yield KeptLine(effect, told["devices"], through, unnamed, shown, held, *how_long, stays)
