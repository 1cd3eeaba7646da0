"""What is told of one device in the past: spells in which the same was decided, and what began each."""

from dataclasses import dataclass
from datetime import datetime

from enrollments.actions.explanations import Explanation
from enrollments.actions.past.causes import Cause
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryRef


@dataclass(frozen=True, slots=True)
class Spell:
    """From `begins` until before `ends` it was the same. verdict: None where it is not known, and `why` says why."""

    begins: datetime
    ends: datetime
    verdict: Verdict | None
    why: str
    entry: EntryRef | None
    began_by: Cause

    @property
    def admitted(self) -> bool:
        return self.verdict is Verdict.ADMIT

    def is_like(self, other: "Spell") -> bool:
        return (self.verdict, self.why, self.entry) == (other.verdict, other.why, other.entry)


@dataclass(frozen=True, slots=True)
class LookBack:
    """A device at a time, and from then on until another.

    explanation: None where it is not known what would have been decided at `at`; the first spell then says why.
    basis: the credential by which that was decided: one that was admitted, if any, else what it showed last by then.
    gone: entries that are named and are not there any more. is_now: `until` is the present. has_several: the device is
    known to have had more than one credential. has_more: it has proven more of them than are looked at.
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

    @property
    def first(self) -> Spell:
        return self.spells[0]

    @property
    def admitted_spells(self) -> list[Spell]:
        return [spell for spell in self.spells if spell.admitted]
