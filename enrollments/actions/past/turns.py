"""Devices that could have come in at both times, and were shut out or let in all the same: with what they had shown.

That another credential of a device is admitted all the time does not help it while it shows one that is refused.
"""

from dataclasses import dataclass

from enrollments.actions.past.deciding import (
    NOT_EXAMINED,
    Credential,
    Decided,
    Deciding,
    NotExamined,
    Row,
    Several,
)
from enrollments.actions.past.showing import shown_by, shown_last
from enrollments.actions.preview import Effect, Outcome


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of the credential that turned. Where it was let in between the times alone, `before` is of another.

    otherwise: the credential, with its entry, by which the device could come in also where this one could not.
    """

    effect: Effect
    before: Outcome
    after: Outcome
    otherwise: str


@dataclass(frozen=True, slots=True)
class _Sides:
    """A credential, with what is decided about it at both times."""

    credential: Credential
    before: Decided
    after: Decided

    @property
    def is_examined(self) -> bool:
        return not isinstance(self.before, NotExamined) and not isinstance(self.after, NotExamined)


class AtBothTimes:
    """Decides about devices at both times, and notes by registration key what else became of what they had shown."""

    def __init__(self, first: Deciding, second: Deciding, turns: dict[str, Turn]) -> None:
        self._first, self._second, self._turns = first, second, turns

    def about(self, key: str, row: Row | None, several: Several) -> list[Decided]:
        before, after = (one.about(key, row, several) for one in (self._first, self._second))
        if several.others and _is_admitted(before) and _is_admitted(after):
            return self._with_turn(key, row, several, [before, after])
        return [before, after]

    def _with_turn(self, key: str, row: Row | None, several: Several, told: list[Decided]) -> list[Decided]:
        """Let in is it where anything is admitted at the second time that it had shown by the first, and was refused.

        Shut out is it with what it had shown last by the second time: that is refused, and was admitted at the first
        time, or let in since.
        """
        first, second = (one.credentials(key, row, several) for one in (self._first, self._second))
        sides = {
            id(one): _Sides(one, one.decide()[0], then.decide()[0])
            for one, then in zip(first, second, strict=True)
        }
        begins, ends = self._first.at, self._second.at
        shown = [sides[id(one)] for one in shown_by(first, begins)]
        last = [sides[id(one)] for one in shown_last(first, ends)]
        if not all(one.is_examined for one in (*shown, *last)):
            return [NOT_EXAMINED, NOT_EXAMINED]
        for one in shown:
            if _is_refused(one.before) and _is_admitted(one.after):
                self._note(key, Effect.COMES_IN, (one.before, one.after), self._first.by_which(key, first))
                return told
        for one in last:
            was_in = _is_admitted(one.before) or one.credential.showings.was_let_in_between(begins, ends)
            if was_in and _is_refused(one.after):
                before = one.before if _is_admitted(one.before) else told[0]
                self._note(key, Effect.REFUSED, (before, one.after), self._second.by_which(key, second))
                return told
        return told

    def _note(
        self,
        key: str,
        effect: Effect,
        sides: tuple[Decided, Decided],
        by: tuple[Credential, Outcome] | None,
    ) -> None:
        before, after = sides
        assert isinstance(before, Outcome)
        assert isinstance(after, Outcome)
        assert by is not None  # it could have come in at both times
        credential, outcome = by
        self._turns[key] = Turn(effect, before, after, f"{credential.what}, through {outcome.through}")


def _is_admitted(one: Decided) -> bool:
    return isinstance(one, Outcome) and one.admitted


def _is_refused(one: Decided) -> bool:
    return isinstance(one, Outcome) and not one.admitted
