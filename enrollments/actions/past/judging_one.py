"""Judging one device at times that have passed, with what stood then put back: each thing that it has, as it is needed.

That holds the one write lock of SQLite, so it is done in short pieces; what is put back is a handful of entries.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from time import monotonic

from enrollments.actions.explaining import explain_known
from enrollments.actions.explanations import ExplainedStep, Explanation, explanation_of
from enrollments.actions.judging import judge
from enrollments.actions.past.by_key import judge_by_key
from enrollments.actions.past.causes import Cause
from enrollments.actions.past.credentials import (
    MORE_PROVEN,
    NOT_ALL_KEPT,
    Credentials,
    Shown,
    hangs_on_what_is_above,
    may_admit_another,
)
from enrollments.actions.past.entries import PastEntry, Subject
from enrollments.actions.past.names import By, NameNotTold, Names, held_by
from enrollments.actions.past.proofs import Proofs, put_back_proofs
from enrollments.actions.past.putting_back import put_back
from enrollments.actions.past.reaching import Reach
from enrollments.actions.past.walking import (
    check_unmoved,
)
from enrollments.audit.events import Event
from enrollments.models import ProvisioningService
from enrollments.models.locks import rehearsal
from enrollments.policy.decision import Decision, Said, Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key

# How long one rehearsal may last. Whoever writes waits for it on SQLite.
SECONDS_AT_ONCE = 0.4

NAME_HELD = (
    "the name was held through {}, which neither was this entry nor was named by it as predecessor, nor had a CA or "
    "key that was proven"
)
Standing = dict[Subject, PastEntry | None]


@dataclass(slots=True)
class Piece:
    """A time from which on something may be different, with the entries as they stood from then on.

    shown_last: what the device had shown last just before that. also_judged: that, and the same of the next one.
    """

    at: datetime
    standing: Standing
    key_groups_admit: bool
    proofs: Proofs
    by: By
    cause: Cause
    shown_last: list[Shown] = field(default_factory=list)
    also_judged: list[Shown] = field(default_factory=list)

    @property
    def is_by_device(self) -> bool:
        """Whether it came with something else, which may have taken the name from what it had shown (R11)."""
        event = self.cause.event
        return event is not None and event.event in (Event.DEVICE_ASSIGNED, Event.DEVICE_ASSIGNED_ANEW)


@dataclass(slots=True)
class Judged:
    """explained: asked for of the first piece alone."""

    decision: Decision | None
    unknown: str = ""
    by: Shown | None = None
    explained: Explanation | None = None
    each: Mapping[int, "Judged"] = field(default_factory=dict)
    held_by: EntryRef | None = None

    @property
    def why(self) -> str:
        if self.decision is None:
            return self.unknown
        return held_by(self.held_by) if self.held_by is not None else self.decision.reason.in_words

    @property
    def admitted(self) -> bool:
        return self.decision is not None and self.decision.verdict is Verdict.ADMIT and self.held_by is None


@dataclass(frozen=True, slots=True)
class JudgingOne:
    """Of one device. at: the time that is asked about. untouched: what stood all the time, and may matter.

    epoch: of when it was read what stood.
    """

    service: ProvisioningService
    epoch: int
    at: datetime
    has: Credentials
    reach: Reach
    names: Names
    untouched: Standing

    @property
    def key(self) -> str:
        return self.reach.key

    def judged(self, pieces: Sequence[Piece]) -> list[Judged]:
        """As many as there is time for in one rehearsal, at least one."""
        deadline = monotonic() + SECONDS_AT_ONCE
        judged: list[Judged] = []
        with rehearsal() if self.has.has_chains else nullcontext():
            check_unmoved(self.service, self.epoch)
            there = There(self.service)
            for number, piece in enumerate(pieces):
                if judged and monotonic() > deadline:
                    break
                judged.append(self._judge(piece, there, explain=number == len(pieces) - 1))
        return judged

    def _judge(self, piece: Piece, there: "There", *, explain: bool) -> Judged:
        """By the first of its credentials that is admitted; where none is, what is not known comes before a refusal."""
        standing = {**self.untouched, **piece.standing}
        own = next((one for one in standing.values() if one is not None and is_own(one, self.key)), None)
        each: dict[int, Judged] = {}

        def judged(shown: Shown, *, explain: bool) -> Judged:
            if id(shown) not in each:
                if shown.is_chain:
                    each[id(shown)] = self._judge_chain(shown, piece, there, own, explain=explain)
                else:
                    each[id(shown)] = self._judge_key(shown, piece, own, standing, explain=explain)
            return each[id(shown)]

        told = self._by_any(piece, own, partial(judged, explain=explain))
        for shown in piece.also_judged:
            judged(shown, explain=False)
        return replace(told, each=each)

    def _by_any(self, piece: Piece, own: PastEntry | None, judged: Callable[[Shown], Judged]) -> Judged:
        refused: Judged | None = None
        unknown: Judged | None = None
        held: Judged | None = None
        for shown in self.has.at(piece.at, own):
            one = judged(shown)
            if one.admitted:
                return one
            if one.held_by is not None:
                held = held or one
            refused = refused or one
            if one.decision is None:
                unknown = unknown or one
        if unknown is None and self.has.has_more and may_admit_another(own):
            unknown = Judged(None, MORE_PROVEN, refused.by if refused is not None else None)
        told = unknown or held or refused
        assert told is not None  # something is known of the device
        return told

    def _judge_chain(
        self, shown: Shown, piece: Piece, there: "There", own: PastEntry | None, *, explain: bool
    ) -> Judged:
        there_then = (one for one in piece.standing.values() if one is not None)
        doubtful = [one for one in there_then if one.doubt and self.reach.is_met_by(one)]
        if doubtful:
            return Judged(None, f"of {doubtful[0].ref}, {doubtful[0].doubt}", shown)
        there.make(piece)
        credential = shown.known.shown
        assert credential is not None  # it has a chain
        judgement = judge(self.service, shown.registration_id, credential, at=piece.at)
        decision = judgement.decision
        if shown.lacks and shown.is_current(piece.at) and hangs_on_what_is_above(decision.verdict, own):
            return Judged(None, NOT_ALL_KEPT, shown)
        explained = explain_known(self.service, shown.known, at=piece.at) if explain else None
        return self._if_it_may_have_the_name(
            Judged(decision, by=shown, explained=explained), judgement.groups_proven, piece
        )

    def _if_it_may_have_the_name(self, one: Judged, groups_proven: Collection[int], piece: Piece) -> Judged:
        """R11. Where it is not known who held the name, it is not known whether it could have come in."""
        if one.decision is None or one.decision.verdict is not Verdict.ADMIT:
            return one
        try:
            holder = self.names.in_the_way(self.key, one.decision.entry, groups_proven, piece.by)
        except NameNotTold as problem:
            return Judged(None, str(problem), one.by)
        if holder is None or one.explained is None:
            return replace(one, held_by=holder)
        step = ExplainedStep(
            "R11", f"registration ID {self.has.registration_id}", Said.FAILS, NAME_HELD.format(holder)
        )
        return replace(
            one, held_by=holder, explained=replace(one.explained, steps=(*one.explained.steps, step))
        )

    def _judge_key(
        self, shown: Shown, piece: Piece, own: PastEntry | None, standing: Standing, *, explain: bool
    ) -> Judged:
        there = [one for one in standing.values() if one is not None]
        one = judge_by_key(
            shown.registration_id,
            shown.mechanism,
            shown.readings,
            own,
            [group for group in there if group.kind is EntryKind.GROUP and group.has_keys()],
            key_groups_admit=piece.key_groups_admit,
            at=piece.at,
        )
        explained = None
        if explain and one.decision is not None and one.facts is not None:
            explained = explanation_of(shown.known, self.at, one.facts, one.decision)
        judged = Judged(one.decision, one.unknown, shown, explained)
        groups = one.facts.groups if one.facts is not None else ()
        return self._if_it_may_have_the_name(
            judged, {group.ref.pk for group in groups if group.proves}, piece
        )


def is_own(entry: PastEntry, key: str) -> bool:
    return entry.kind is EntryKind.INDIVIDUAL and registration_key(entry.name) == key


class There:
    """What stands in a rehearsal: as now at first, and then what was put back."""

    def __init__(self, service: ProvisioningService) -> None:
        self._service, self._proofs = service, Proofs.of_now(service)
        self._entries: Standing = {}

    def make(self, piece: Piece) -> None:
        changed = {
            subject: entry
            for subject, entry in piece.standing.items()
            if subject not in self._entries or self._entries[subject] != entry
        }
        put_back(self._service, changed)
        self._entries |= changed
        if not piece.proofs.decide_like(self._proofs):
            put_back_proofs(self._service, piece.proofs)
            self._proofs = piece.proofs
