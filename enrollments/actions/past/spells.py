"""What is told of one device in the past: spells in which the same was decided, and what began each."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from enrollments.actions.explanations import Explanation
from enrollments.actions.past.causes import Cause
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryRef


@dataclass(frozen=True, slots=True)
class Spell:
    """From `begins` until before `ends` it was the same. verdict: None where it is not known, and `why` says why.

    held_by: the entry that held the name where another one, `entry`, admits the device: it fails all the same (R11).
    """

    begins: datetime
    ends: datetime
    verdict: Verdict | None
    why: str
    entry: EntryRef | None
    began_by: Cause
    held_by: EntryRef | None = None

    @property
    def admitted(self) -> bool:
        return self.verdict is Verdict.ADMIT and self.held_by is None

    def is_like(self, other: "Spell") -> bool:
        mine, others = ((one.verdict, one.why, one.entry, one.held_by) for one in (self, other))
        return mine == others


@dataclass(frozen=True, slots=True)
class ShutOut:
    """A moment at which a device was shut out: with all that it had, or with what it had shown last.

    shown: that one, in words, where it could still have come in by another credential that is known of it: `otherwise`.
    """

    begins: datetime
    verdict: Verdict | None
    why: str
    entry: EntryRef | None
    began_by: Cause
    held_by: EntryRef | None = None
    shown: str = ""
    otherwise: str = ""

    @classmethod
    def with_all(cls, spell: Spell) -> "ShutOut":
        return cls(spell.begins, spell.verdict, spell.why, spell.entry, spell.began_by, spell.held_by)


def shut_outs_in(spells: Iterable[Spell], with_last: Iterable[ShutOut]) -> tuple[ShutOut, ...]:
    """Oldest first. with_last: the moments at which it could still have come in otherwise."""
    with_all = [
        ShutOut.with_all(after)
        for before, after in pairwise(spells)
        if _may_have_come(before) and not after.admitted
    ]
    return tuple(sorted([*with_all, *with_last], key=lambda one: one.begins))


def _may_have_come(spell: Spell) -> bool:
    """Where it is not known whether it was admitted, it may have been."""
    return spell.admitted or spell.verdict is None


@dataclass(frozen=True, slots=True)
class LookBack:
    """A device at a time, and from then on until another.

    explanation: None where it is not known what would have been decided at `at`; the first spell then says why.
    basis: the credential by which that was decided: one that was admitted, if any, else what it showed last by then.
    gone: entries that are named and are not there any more. is_now: `until` is the present. has_several: the device is
    known to have had more than one credential. has_more: it has proven more of them than are looked at. shut_outs:
    oldest first.
    """

    registration_id: str
    at: datetime
    until: datetime
    basis: str
    explanation: Explanation | None
    spells: tuple[Spell, ...]
    gone: frozenset[EntryRef] = frozenset()
    is_now: bool = False
    has_several: bool = False
    has_more: bool = False
    shut_outs: tuple[ShutOut, ...] = ()

    @property
    def first(self) -> Spell:
        return self.spells[0]

    @property
    def admitted_spells(self) -> list[Spell]:
        return [spell for spell in self.spells if spell.admitted]
