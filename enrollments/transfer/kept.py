"""What a preview says as JSON: for programs; to be looked at until the import is started; and what stays of it then.

What stays are numbers, and no devices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from enrollments.actions.preview import Effect
from enrollments.actions.preview.table import examples
from enrollments.actions.preview.words import as_json as preview_as_json
from enrollments.actions.preview.words import fails, of_so_many, otherwise, turning_in_line, will
from enrollments.transfer.foreseen import Foreseen

# Entries by name, of one effect. There may be as many as a list has groups.
MOST_THROUGH = 20
_THROUGH = (Effect.STILL_ADMITTED, Effect.COMES_IN)


def as_json(seen: Foreseen) -> dict[str, Any]:
    told = preview_as_json(seen.now)
    return {**told, "turning": seen.turning, "later": preview_as_json(seen.later)} if seen.later else told


def numbers_of(seen: Foreseen) -> dict[str, Any]:
    """The same, with at most MOST_THROUGH entries of an effect."""
    told = as_json(seen)
    for part in (told, told.get("later") or {}):
        for effect in part.get("effects", {}).values():
            del effect["through"][MOST_THROUGH:]
            del effect["name_held_through"][MOST_THROUGH:]
            del effect["admitted_otherwise_through"][MOST_THROUGH:]
    return told


def told_of(seen: Foreseen) -> dict[str, Any]:
    """The same, with some devices of each effect by name."""
    told = numbers_of(seen)
    for part, preview in ((told, seen.now), (told.get("later"), seen.later)):
        if part is None or preview is None:
            continue
        for effect in Effect:
            part["effects"][effect.value]["examples"] = examples(preview, effect)
    return told


@dataclass(frozen=True, slots=True)
class KeptLine:
    """So many devices of one effect, and through which entries, where that is of interest. `unnamed`: the others.

    held: sentences about those that fail all the same, because another entry holds their names.
    """

    effect: Effect
    count: int
    through: tuple[tuple[str, int], ...]
    unnamed: int
    examples: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return will(self.effect, self.count, is_looked=False)

    @property
    def through_in_words(self) -> list[tuple[str, int]]:
        return [(of_so_many(entry, count), count) for entry, count in self.through]


@dataclass(frozen=True, slots=True)
class KeptPart:
    """What is to hold at first, or after what the sentence says. known: how many devices are told about."""

    sentence: str
    lines: tuple[KeptLine, ...]
    not_examined: int
    known: int


def parts_of(numbers: dict[str, Any]) -> list[KeptPart]:
    """Of numbers that were kept, by this version or another: an effect that is not known here is left out."""
    parts = [_part(numbers, "")]
    if later := numbers.get("later"):
        parts.append(_part(later, turning_in_line(numbers["turning"])))
    return parts


def _part(numbers: dict[str, Any], sentence: str) -> KeptPart:
    lines = tuple(_lines(numbers["effects"]))
    return KeptPart(sentence, lines, numbers["not_examined"], numbers["known"])


def _lines(effects: dict[str, Any]) -> Iterator[KeptLine]:
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
        yield KeptLine(effect, told["devices"], through, unnamed, tuple(told.get("examples", ())), held)
