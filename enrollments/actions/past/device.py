"""One device in the past: could it have registered at a time, and when else until another one, through which entry.

Each chain that it has is judged by `judge`, in a rehearsal in which the entries that can matter to it stand as they did
then. That holds the one write lock of SQLite, so it is done in short pieces; what is put back is a handful of entries.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic

from django.utils import timezone

from enrollments.actions.explaining import explain_known
from enrollments.actions.explanations import Explanation, explanation_of
from enrollments.actions.judging import judge
from enrollments.actions.past.by_key import judge_by_key
from enrollments.actions.past.causes import FELL_DUE, Cause, Due, with_rows_of_schedules
from enrollments.actions.past.credentials import (
    FOR_EVER,
    MORE_PROVEN,
    NOT_ALL_KEPT,
    TICK,
    Shown,
    credentials_of,
    hangs_on_what_is_above,
    may_admit_another,
)
from enrollments.actions.past.entries import PastEntry, Subject
from enrollments.actions.past.proofs import Proofs, put_back_proofs, tells_of_proofs
from enrollments.actions.past.putting_back import put_back
from enrollments.actions.past.reaching import Reach, names_met
from enrollments.actions.past.spells import LookBack, Spell
from enrollments.actions.past.walking import (
    KEY_GROUPS,
    MOST_ROWS,
    Change,
    Since,
    TooFarBack,
    TooMuch,
    Walk,
    changes_since,
    check_time,
    check_unmoved,
    read_entries,
    undisturbed,
)
from enrollments.errors import Invalid
from enrollments.models import AttestationMechanism, Certificate, ProvisioningService
from enrollments.models.locks import rehearsal
from enrollments.policy.decision import Decision, Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key

# How often a device is judged at a glance: once for each change or date that can matter to it.
MOST_JUDGED = 400
# Where there are more, those that share a key with the device are not looked for at a glance: no index has them.
MOST_CERTIFICATES = 200_000
# How long one rehearsal may last. Whoever writes waits for it on SQLite.
SECONDS_AT_ONCE = 0.4

Standing = dict[Subject, PastEntry | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """None: as much as there is."""

    rows: int | None = MOST_ROWS
    judged: int | None = MOST_JUDGED
    certificates: int | None = MOST_CERTIFICATES


# For who waits for it. Of each row that is walked back over something is kept in memory.
ALL_OF_DEVICE = Limits(rows=100_000, judged=None, certificates=None)


def look_back(
    service: ProvisioningService,
    registration_id: str,
    at: datetime,
    until: datetime | None = None,
    *,
    limits: Limits = Limits(),
) -> LookBack:
    """Raises Invalid for what is no question, NotFound where nothing is known of the device, TooFarBack, NotTold."""
    if not is_registration_id(registration_id):
        said = f"{registration_id[:130]!r} is no registration ID: give {FORM_IN_WORDS}."
        raise Invalid({"registration_id": [said]})
    check_time(service, "at", at)
    is_now = until is None
    until = until or max(timezone.now(), at)
    if until < at:
        raise Invalid({"until": ["This is before the time that is asked about."]})
    check_time(service, "until", until)
    look = undisturbed(service, lambda: _Past(service, registration_id, at, until, limits).told())
    return replace(look, is_now=is_now)


@dataclass(slots=True)
class _Piece:
    """A time from which on something may be different, with the entries as they stood from then on."""

    at: datetime
    standing: Standing
    key_groups_admit: bool
    proofs: Proofs
    cause: Cause


@dataclass(slots=True)
class _Judged:
    """explained: asked for of the first piece alone."""

    decision: Decision | None
    unknown: str = ""
    by: Shown | None = None
    explained: Explanation | None = None

    @property
    def admitted(self) -> bool:
        return self.decision is not None and self.decision.verdict is Verdict.ADMIT


class _Past:
    def __init__(
        self,
        service: ProvisioningService,
        registration_id: str,
        at: datetime,
        until: datetime,
        limits: Limits,
    ) -> None:
        self.service, self.at, self.until, self.limits = service, at, until, limits
        self.key = registration_key(registration_id)
        self.epoch = ProvisioningService.epoch_of(service.pk)
        self.registration_id = registration_id
        try:
            self._walk_back(changes_since(service, at, limits.rows))
        except TooFarBack:
            self._walk_back_narrowly()
        self.reach = Reach.of(service, self.has, self.key, self._states())
        self.untouched: Standing = {}
        if self.has.signs:
            self.untouched = {**self._own_of_now(), **self._key_groups_of_now()}

    def _walk_back(self, changes: Since) -> None:
        self.walk = Walk.from_now(self.service, changes)
        self.now = self.walk.now
        self.steps = list(self._steps(changes))
        self.has = credentials_of(self.service, self.registration_id, self._own_entries(), self.until)

    def _walk_back_narrowly(self) -> None:
        """Over no changes of individual enrollments but those that can matter: its own, and who may have its keys (R6).

        Raises TooFarBack where it would take long to find these, or there are too many changes all the same.
        """
        service, at, most = self.service, self.at, self.limits.rows
        self._walk_back(changes_since(service, at, most, {self.key}))
        if not self.has.has_chains:
            return
        certificates = self.limits.certificates
        if certificates is not None and Certificate.objects.order_by("pk")[certificates : certificates + 1]:
            raise TooFarBack(most or 0)
        names = names_met(service, self.has, self._states()) | {self.key}
        self._walk_back(changes_since(service, at, most, names))

    # --- What stood when -------------------------------------------------------------------------

    def _steps(self, changes: Since) -> Iterator[tuple[Change, PastEntry | None, PastEntry | None]]:
        """Each change with the entry after it and before it, newest first."""
        for change in changes:
            after = self.walk.entries.get(change.subject) if change.subject else None
            self.walk.undo(change)
            if change.subject is not None:
                # What it changed stands in the two states. Of a hundred thousand rows the rest would fill the memory.
                change.event.before = change.event.after = None
            yield change, after, self.walk.entries.get(change.subject) if change.subject else None

    def _states(self) -> list[PastEntry]:
        states = [entry for _, *both in self.steps for entry in both if entry is not None]
        return [*states, *(entry for entry in self.now.values() if entry is not None)]

    def _own_entries(self) -> list[tuple[PastEntry, datetime]]:
        """The individual enrollments of this name, oldest first, each state with the time until which it lasted."""
        found = [(before, change.at) for change, _, before in reversed(self.steps) if before is not None]
        found += [(entry, FOR_EVER) for entry in self._own_of_now().values() if entry is not None]
        return [(one, until) for one, until in found if self._is_own(one)]

    def _is_own(self, entry: PastEntry) -> bool:
        return entry.kind is EntryKind.INDIVIDUAL and registration_key(entry.name) == self.key

    def _own_of_now(self) -> Standing:
        rows = self.service.individualenrollments.filter(registration_key=self.key)
        return read_entries(
            self.service, [(EntryKind.INDIVIDUAL, pk) for pk in rows.values_list("pk", flat=True)]
        )

    def _key_groups_of_now(self) -> Standing:
        groups = self.service.enrollmentgroups.filter(mechanism=AttestationMechanism.SYMMETRIC_KEY)
        return read_entries(
            self.service, [(EntryKind.GROUP, pk) for pk in groups.values_list("pk", flat=True)]
        )

    def _pieces(self) -> list[_Piece]:
        """Newest first: at each time that can matter, what stood from then on."""
        entries = {subject: self.now.get(subject) for subject in self._that_matter()}
        admit = ProvisioningService.what_decisions_read(self.service.pk).groups_with_keys_admit
        pieces: list[_Piece] = []
        end = self.until + TICK
        walk = Walk(dict(entries), admit, Proofs.of_now(self.service), self.now)
        for change, after, before in self.steps:
            if not self._can_touch(change, after, before):
                if change.subject in walk.entries:
                    walk.entries[change.subject] = before  # it made no difference, and it was so
                continue
            if change.at < end:
                pieces += self._between(change.at, end, walk, Cause("", change.event))
                end = change.at
            elif change.at == end and pieces:
                pieces[-1].cause = pieces[-1].cause.with_another(change.event)
            if change.subject is None:
                walk.undo(change)
            else:
                walk.entries[change.subject] = before
            if self.limits.judged is not None and len(pieces) > self.limits.judged:
                raise TooMuch(
                    f"More than {self.limits.judged:,} changes and dates in this period can matter to the device, too "
                    "many to judge it at each at a glance. Ask for a shorter period, or run manage.py as_of, which has "
                    "no such limit."
                )
        if self.at < end:
            pieces += self._between(self.at, end, walk, Cause("the beginning of the period"))
        return pieces

    def _between(self, begins: datetime, ends: datetime, walk: Walk, cause: Cause) -> list[_Piece]:
        """What is the same set of entries from `begins` until before `ends`: and the dates in between, newest first."""
        dates = {date: Cause(words) for date, words in {**self.has.dates, **self.reach.dates}.items()}
        for subject, one in walk.entries.items():
            if one is not None and one.switches_at is not None:
                known = dates[one.switches_at].due if one.switches_at in dates else ()
                due = Due(subject, one.name, one.switches_at)
                dates[one.switches_at] = Cause(FELL_DUE, due=(*known, due))
        within = sorted((date for date in dates if begins < date < ends), reverse=True)
        pieces = [
            _Piece(date, self._standing(walk, date), walk.key_groups_admit, walk.proofs, dates[date])
            for date in within
        ]
        first = _Piece(begins, self._standing(walk, begins), walk.key_groups_admit, walk.proofs, cause)
        return [*pieces, first]

    def _standing(self, walk: Walk, at: datetime) -> Standing:
        """What can matter, with nothing else: who holds another certificate of a group now is not asked about."""
        return {subject: entry and self.reach.within(entry) for subject, entry in walk.standing(at).items()}

    def _that_matter(self) -> set[Subject]:
        """The entries that can matter to the device in one of the states that they were in."""
        found = {
            subject for subject, entry in self.now.items() if entry is not None and self.reach.touches(entry)
        }
        for change, *both in self.steps:
            if change.subject is None or change.subject in found:
                continue
            if any(entry is not None and self.reach.touches(entry) for entry in both):
                found.add(change.subject)
        return found

    def _can_touch(self, change: Change, after: PastEntry | None, before: PastEntry | None) -> bool:
        if change.subject is None:
            if self.has.has_chains and tells_of_proofs(change.event):
                return True
            return self.has.signs and KEY_GROUPS in (change.event.before or {})
        if after is None and before is None:
            return False
        if after is not None and before is not None and after.decides_like(before):
            return False
        return any(self.reach.touches(one) for one in (after, before) if one is not None)

    # --- Judging ---------------------------------------------------------------------------------

    def told(self) -> LookBack:
        pieces = self._pieces()
        judged: list[_Judged] = []
        while len(judged) < len(pieces):
            judged += self._judged(pieces[len(judged) :])
        check_unmoved(self.service, self.epoch)
        spells: list[Spell] = []
        end = self.until
        for piece, one in zip(pieces, judged, strict=True):
            decision = one.decision
            spell = Spell(
                piece.at,
                end,
                decision.verdict if decision else None,
                decision.reason.in_words if decision else one.unknown,
                decision.entry if decision else None,
                piece.cause.led_by(decision.entry if decision else None),
            )
            end = piece.at
            if spells and spells[-1].is_like(spell):
                # It was so before already: what stood between the two made no difference.
                spell = Spell(
                    spell.begins, spells.pop().ends, spell.verdict, spell.why, spell.entry, spell.began_by
                )
            spells.append(spell)
        first = judged[-1]
        return LookBack(
            self.has.registration_id,
            self.at,
            self.until,
            first.by.basis if first.by is not None else "",
            first.explained,
            tuple(
                replace(one, began_by=with_rows_of_schedules(self.service, one.began_by))
                if one.began_by.due
                else one
                for one in reversed(spells)
            ),
            self._gone(),
            has_several=len(self.has.all) > 1,
            has_more=self.has.has_more,
        )

    def _gone(self) -> frozenset[EntryRef]:
        """By what they are called: an entry that was added again under the same name has a page."""
        names = {(one.kind, one.name) for one in self.now.values() if one is not None}
        was = {(one.kind, one.name): one.ref for one in self._states()}
        return frozenset(ref for place, ref in was.items() if place not in names)

    def _judged(self, pieces: Sequence[_Piece]) -> list[_Judged]:
        """As many as there is time for in one rehearsal, at least one."""
        deadline = monotonic() + SECONDS_AT_ONCE
        judged: list[_Judged] = []
        with rehearsal() if self.has.has_chains else nullcontext():
            check_unmoved(self.service, self.epoch)
            there = _There(self.service)
            for number, piece in enumerate(pieces):
                if judged and monotonic() > deadline:
                    break
                judged.append(self._judge(piece, there, explain=number == len(pieces) - 1))
        return judged

    def _judge(self, piece: _Piece, there: "_There", *, explain: bool) -> _Judged:
        """By the first of its credentials that is admitted; where none is, what is not known comes before a refusal."""
        standing = {**self.untouched, **piece.standing}
        own = next((one for one in standing.values() if one is not None and self._is_own(one)), None)
        refused: _Judged | None = None
        unknown: _Judged | None = None
        for shown in self.has.at(piece.at, own):
            if shown.is_chain:
                one = self._judge_chain(shown, piece, there, own, explain=explain)
            else:
                one = self._judge_key(shown, piece, own, standing, explain=explain)
            if one.admitted:
                return one
            refused = refused or one
            if one.decision is None:
                unknown = unknown or one
        if unknown is None and self.has.has_more and may_admit_another(own):
            unknown = _Judged(None, MORE_PROVEN, refused.by if refused is not None else None)
        told = unknown or refused
        assert told is not None  # something is known of the device
        return told

    def _judge_chain(
        self, shown: Shown, piece: _Piece, there: "_There", own: PastEntry | None, *, explain: bool
    ) -> _Judged:
        there_then = (one for one in piece.standing.values() if one is not None)
        doubtful = [one for one in there_then if one.doubt and self.reach.is_met_by(one)]
        if doubtful:
            return _Judged(None, f"of {doubtful[0].ref}, {doubtful[0].doubt}", shown)
        there.make(piece)
        credential = shown.known.shown
        assert credential is not None  # it has a chain
        decision = judge(self.service, shown.registration_id, credential, at=piece.at).decision
        if shown.lacks and shown.is_current(piece.at) and hangs_on_what_is_above(decision.verdict, own):
            return _Judged(None, NOT_ALL_KEPT, shown)
        explained = explain_known(self.service, shown.known, at=piece.at) if explain else None
        return _Judged(decision, by=shown, explained=explained)

    def _judge_key(
        self, shown: Shown, piece: _Piece, own: PastEntry | None, standing: Standing, *, explain: bool
    ) -> _Judged:
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
        return _Judged(one.decision, one.unknown, shown, explained)


class _There:
    """What stands in a rehearsal: as now at first, and then what was put back."""

    def __init__(self, service: ProvisioningService) -> None:
        self._service, self._proofs = service, Proofs.of_now(service)
        self._entries: Standing = {}

    def make(self, piece: _Piece) -> None:
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
