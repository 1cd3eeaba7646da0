"""One device in the past: could it have registered at a time, and when else until another one, through which entry.

Each chain that it has is judged by `judge`, in a rehearsal in which the entries that can matter to it stand as they did
then. That holds the one write lock of SQLite, so it is done in short pieces; what is put back is a handful of entries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import timezone

from enrollments.actions.past.causes import FELL_DUE, Cause, Due, with_rows_of_schedules
from enrollments.actions.past.credentials import (
    FOR_EVER,
    TICK,
    Shown,
    credentials_of,
)
from enrollments.actions.past.entries import PastEntry, Subject
from enrollments.actions.past.judging_one import Judged, JudgingOne, Piece, Standing, is_own
from enrollments.actions.past.names import BY_NOW, By, Names
from enrollments.actions.past.names import EVENTS as NAME_EVENTS
from enrollments.actions.past.proofs import Proofs, tells_of_proofs
from enrollments.actions.past.reaching import Reach, names_met
from enrollments.actions.past.showing import shown_last
from enrollments.actions.past.spells import LookBack, ShutOut, Spell, shut_outs_in
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
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key

# How often a device is judged at a glance: once for each change or date that can matter to it.
MOST_JUDGED = 400
# Where there are more, those that share a key with the device are not looked for at a glance: no index has them.
MOST_CERTIFICATES = 200_000

# What of a group its rows tell that lets its devices take names of another one (R11).
PREDECESSOR = "predecessor"


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
            self._walk_back(changes_since(service, at, limits.rows, held=self.key))
        except TooFarBack:
            self._walk_back_narrowly()
        self.names = Names.of(service, {self.key})
        self.holders = self.names.holders
        self.reach = Reach.of(service, self.has, self.key, self._states())
        self.untouched: Standing = {}
        if self.has.signs:
            self.untouched = {**self._own_of_now(), **self._key_groups_of_now()}

    def _walk_back(self, changes: Since) -> None:
        self.walk = Walk.from_now(self.service, changes)
        self.following: set[int] = set()
        self.now = self.walk.now
        self.steps = list(self._steps(changes))
        self.has = credentials_of(self.service, self.registration_id, self._own_entries(), self.until)

    def _walk_back_narrowly(self) -> None:
        """Over no changes of individual enrollments but those that can matter: its own, and who may have its keys (R6).

        Raises TooFarBack where it would take long to find these, or there are too many changes all the same.
        """
        service, at, most = self.service, self.at, self.limits.rows
        self._walk_back(changes_since(service, at, most, {self.key}, self.key))
        if not self.has.has_chains:
            return
        certificates = self.limits.certificates
        if certificates is not None and Certificate.objects.order_by("pk")[certificates : certificates + 1]:
            raise TooFarBack(most or 0)
        names = names_met(service, self.has, self._states()) | {self.key}
        self._walk_back(changes_since(service, at, most, names, self.key))

    # --- What stood when -------------------------------------------------------------------------

    def _steps(self, changes: Since) -> Iterator[tuple[Change, PastEntry | None, PastEntry | None]]:
        """Each change with the entry after it and before it, newest first."""
        for change in changes:
            after = self.walk.entries.get(change.subject) if change.subject else None
            self.walk.undo(change)
            if change.subject is not None:
                if any(PREDECESSOR in (state or {}) for state in (change.event.before, change.event.after)):
                    self.following.add(change.event.pk)
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
        return [(one, until) for one, until in found if is_own(one, self.key)]

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

    def _pieces(self) -> list[Piece]:
        """Newest first: at each time that can matter, what stood from then on."""
        entries = {subject: self.now.get(subject) for subject in self._that_matter()}
        admit = ProvisioningService.what_decisions_read(self.service.pk).groups_with_keys_admit
        pieces: list[Piece] = []
        end = self.until + TICK
        walk = Walk(dict(entries), admit, Proofs.of_now(self.service), self.now)
        by = BY_NOW
        for change, after, before in self.steps:
            if not self._can_touch(change, after, before):
                if change.subject in walk.entries:
                    walk.entries[change.subject] = before  # it made no difference, and it was so
                by = By(change.event.pk - 1)
                continue
            if change.at < end:
                pieces += self._between(change.at, end, walk, by, Cause("", change.event))
                end = change.at
            elif change.at == end and pieces:
                pieces[-1].cause = pieces[-1].cause.with_another(change.event)
            by = By(change.event.pk - 1)
            if change.subject is None:
                walk.undo(change)
            elif change.subject in walk.entries:
                walk.entries[change.subject] = before
            if self.limits.judged is not None and len(pieces) > self.limits.judged:
                raise TooMuch(
                    f"More than {self.limits.judged:,} changes and dates in this period can matter to the device, too "
                    "many to judge it at each at a glance. Ask for a shorter period, or run manage.py as_of, which has "
                    "no such limit."
                )
        if self.at < end:
            pieces += self._between(self.at, end, walk, by, Cause("the beginning of the period"))
        return pieces

    def _between(self, begins: datetime, ends: datetime, walk: Walk, by: By, cause: Cause) -> list[Piece]:
        """What is the same set of entries from `begins` until before `ends`: and the dates in between, newest first."""
        dates = {date: Cause(words) for date, words in {**self.has.dates, **self.reach.dates}.items()}
        for subject, one in walk.entries.items():
            if one is not None and one.switches_at is not None:
                known = dates[one.switches_at].due if one.switches_at in dates else ()
                due = Due(subject, one.name, one.switches_at)
                dates[one.switches_at] = Cause(FELL_DUE, due=(*known, due))
        within = sorted((date for date in dates if begins < date < ends), reverse=True)
        pieces = [
            Piece(date, self._standing(walk, date), walk.key_groups_admit, walk.proofs, by, dates[date])
            for date in within
        ]
        first = Piece(begins, self._standing(walk, begins), walk.key_groups_admit, walk.proofs, by, cause)
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
        if self._can_give_the_name(change, after, before):
            return True
        if change.subject is None:
            if self.has.has_chains and tells_of_proofs(change.event):
                return True
            return self.has.signs and KEY_GROUPS in (change.event.before or {})
        if after is None and before is None:
            return False
        if after is not None and before is not None and after.decides_like(before):
            return False
        return any(self.reach.touches(one) for one in (after, before) if one is not None)

    def _can_give_the_name(self, change: Change, after: PastEntry | None, before: PastEntry | None) -> bool:
        """To another group, or to none, or let another one take it (R11)."""
        if change.subject is None or not self.holders:
            return change.event.event in NAME_EVENTS
        if change.subject in self.holders and before is not None and after is None:
            return True
        follows = change.event.pk in self.following
        return follows and any(one is not None and self.reach.touches(one) for one in (after, before))

    # --- Judging ---------------------------------------------------------------------------------

    def told(self) -> LookBack:
        pieces = self._pieces()
        if len(self.has.all) > 1:  # of a single credential the spells tell all
            self._note_what_was_shown_last(pieces)
        judging = JudgingOne(
            self.service, self.epoch, self.at, self.has, self.reach, self.names, self.untouched
        )
        judged: list[Judged] = []
        while len(judged) < len(pieces):
            judged += judging.judged(pieces[len(judged) :])
        check_unmoved(self.service, self.epoch)
        with_last = list(self._shut_out_with_last(pieces, judged))
        spells: list[Spell] = []
        end = self.until
        for piece, one in zip(pieces, judged, strict=True):
            decision = one.decision
            spell = Spell(
                piece.at,
                end,
                decision.verdict if decision else None,
                one.why,
                decision.entry if decision else None,
                piece.cause.led_by(decision.entry if decision else None),
                one.held_by,
            )
            end = piece.at
            if spells and spells[-1].is_like(spell):
                # It was so before already: what stood between the two made no difference.
                spell = replace(spell, ends=spells.pop().ends)
            spells.append(spell)
        first = judged[-1]
        return LookBack(
            self.has.registration_id,
            self.at,
            self.until,
            first.by.basis if first.by is not None else "",
            first.explained,
            told := tuple(
                replace(one, began_by=with_rows_of_schedules(self.service, one.began_by))
                if one.began_by.due
                else one
                for one in reversed(spells)
            ),
            self._gone(),
            has_several=len(self.has.all) > 1,
            has_more=self.has.has_more,
            shut_outs=shut_outs_in(told, with_last),
        )

    def _shut_out_with_last(self, pieces: Sequence[Piece], judged: Sequence[Judged]) -> Iterator[ShutOut]:
        """With what it had shown last, which was admitted or may have been, where it could have come in otherwise."""
        for piece, after, before in zip(pieces, judged, judged[1:], strict=False):
            if not after.admitted or piece.is_by_device:
                continue
            for shown in piece.shown_last:
                was, one = before.each[id(shown)], after.each[id(shown)]
                if one.decision is None or one.admitted or not (was.admitted or was.decision is None):
                    continue
                assert after.decision is not None  # it could have come in
                assert after.by is not None
                yield ShutOut(
                    piece.at,
                    one.decision.verdict,
                    one.why,
                    one.decision.entry,
                    with_rows_of_schedules(self.service, piece.cause.led_by(one.decision.entry)),
                    one.held_by,
                    shown.basis,
                    f"{after.by.basis}, through {after.decision.entry}",
                )
                break

    def _note_what_was_shown_last(self, pieces: Sequence[Piece]) -> None:
        newer: list[Shown] = []
        for piece in pieces:
            piece.shown_last = shown_last(self.has.proven, piece.at - TICK)
            piece.also_judged = [*piece.shown_last, *newer]
            newer = piece.shown_last

    def _gone(self) -> frozenset[EntryRef]:
        """By what they are called: an entry that was added again under the same name has a page."""
        names = {(one.kind, one.name) for one in self.now.values() if one is not None}
        was = {(one.kind, one.name): one.ref for one in self._states()}
        return frozenset(ref for place, ref in was.items() if place not in names)
