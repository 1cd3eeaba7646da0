"""All devices of a service at two times: who could have registered then, through which entry, and what differs.

As previews do, this decides about devices that are known: by their records, by attempts at which they proved
themselves, and by individual enrollments. What is the same above the leaves of many devices is looked at once for each
time, in a rehearsal in which the entries stand as they did then; that holds the one write lock of SQLite. Everything
else is decided on values, with no lock.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import monotonic

from django.utils import timezone

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.judging import judge
from enrollments.actions.past.besides import Besides, States, known_besides, unjudgeable, unlooked
from enrollments.actions.past.comparison import Comparison
from enrollments.actions.past.credentials import may_admit_another, mechanism_of
from enrollments.actions.past.deciding import (
    COLUMNS,
    NOTHING_BESIDES,
    Decided,
    Deciding,
    NotExamined,
    Row,
    Stranger,
)
from enrollments.actions.past.doubts import doubts_about
from enrollments.actions.past.entries import PastEntry, Subject
from enrollments.actions.past.looked_at import Single, classes_at, is_current, singles_at
from enrollments.actions.past.names import By, Names
from enrollments.actions.past.proofs import put_back_proofs
from enrollments.actions.past.putting_back import put_back
from enrollments.actions.past.standing import (
    OfOne,
    Standing,
    as_values,
    bars,
    individuals_of_now,
    is_the_same,
    leaf_bars,
    overlay,
)
from enrollments.actions.past.turns import AtBothTimes, Turn
from enrollments.actions.past.walking import (
    CLOCKS_APART,
    MOST_ROWS,
    ROUNDS,
    Walk,
    changes_since,
    check_time,
    check_unmoved,
    undisturbed,
)
from enrollments.actions.preview import Device, Outcome, Preview
from enrollments.actions.preview.kinds import BARE, Kinds, by_a_known_name, unsigned_evidence
from enrollments.actions.preview.limits import MAX_ATTEMPTS, MAX_CLASSES
from enrollments.actions.preview.looking import Look, Time, look_at_class
from enrollments.actions.preview.loose import Loose
from enrollments.actions.preview.signing import LeafNames
from enrollments.actions.preview.world import NOTHING_ABOVE, Above, World
from enrollments.errors import Invalid
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.models.locks import rehearsal
from enrollments.policy.facts import EntryKind, Mechanism
from enrollments.policy.names import registration_key

# Of devices that are judged one by one: as many as there is time for, at each of the two times. As long may it take to
# sort those of no class by who signed their leaves, and to look above each kind of them.
MOST_SINGLY = 2000
SECONDS_SINGLY = 1.0
# How long one rehearsal may last.
SECONDS_AT_ONCE = 0.4
# Where more names were assigned anew since then, it is not asked at a glance who held any.
MOST_NAMES = 20_000
SHOWN_NOTHING = "nothing is kept of what it has shown"
# How often all of them are begun anew because something was changed meanwhile: what was looked at by then is kept.
ROUNDS_OF_ALL = 50


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """None: as much as there is. Whoever writes on SQLite waits for as long as devices are judged one by one."""

    rows: int | None = MOST_ROWS
    classes: int | None = MAX_CLASSES
    singly: int | None = MOST_SINGLY
    seconds: float | None = SECONDS_SINGLY
    attempts: int | None = MAX_ATTEMPTS
    names: int | None = MOST_NAMES


ALL_OF_FLEET = FleetLimits(rows=None, classes=None, singly=None, seconds=None, attempts=None, names=None)


def compare(
    service: ProvisioningService,
    at: datetime,
    until: datetime | None = None,
    *,
    limits: FleetLimits = FleetLimits(),
) -> Comparison:
    """Raises Invalid for times that cannot be asked about, TooFarBack, NotTold."""
    check_time(service, "at", at)
    is_now = until is None
    until = until or timezone.now()
    check_time(service, "until", until)
    if until < at:
        raise Invalid({"until": ["This is before the time that is asked about."]})
    seen = _Seen()
    rounds = ROUNDS if limits.seconds is not None else ROUNDS_OF_ALL
    return undisturbed(service, lambda: _Fleet(service, at, until, limits, seen).compared(is_now), rounds)


@dataclass(slots=True)
class _Seen:
    """What was looked at before something was changed: the past stays as it was, and is not looked at again.

    newest: the last row of the history that this rests on. above: by time and class or kind. singles: by time,
    registration key, and what tells whether the device has shown something else since.
    """

    newest: int = 0
    above: dict[tuple[datetime, str], Above] = field(default_factory=dict)
    singles: dict[tuple[datetime, str, str], OfOne] = field(default_factory=dict)

    def forget(self) -> None:
        self.above.clear()
        self.singles.clear()


class _Fleet:
    def __init__(
        self,
        service: ProvisioningService,
        at: datetime,
        until: datetime,
        limits: FleetLimits,
        seen: _Seen,
    ) -> None:
        self.service, self.limits, self.seen = service, limits, seen
        self.epoch = ProvisioningService.epoch_of(service.pk)
        changes = changes_since(service, at, limits.rows)
        names = Names.of_all(service, changes.last, at - CLOCKS_APART, limits.names)
        walk = Walk.from_now(service, changes)
        self.now, self.proofs = walk.now, walk.proofs
        self.states = States(
            named={name for one in self.now.values() if one is not None for name in one.named}
        )
        second, rested_on = None, seen.newest
        for change in changes:
            seen.newest = max(seen.newest, change.event.pk)
            if change.event.pk > rested_on and change.at <= until:
                seen.forget()  # by a clock that is behind: it counts as made then
            if second is None and change.at <= until:
                second = _standing(walk, until, By(change.event.pk, until), names)
            walk.undo(change)
            if change.subject is not None:
                self.states.note(walk.entries[change.subject], change.at)
        by_then = (By(changes.last, time) for time in (at, until))
        self.first, self.second = (
            _standing(walk, time, by, names) for time, by in zip((at, until), by_then, strict=True)
        )
        self.second = second or self.second
        self.times = (self.first, self.second)
        self.turns: dict[str, Turn] = {}

    def compared(self, is_now: bool) -> Comparison:
        live = individuals_of_now(self.service)
        for time in self.times:
            overlay(self.service, time, live)
            time.world = World(
                individuals=as_values(time.individuals), leaf_bars=leaf_bars(time.individuals.values())
            )
        own = {registration_key(one.name): one for one in live.values()}
        besides = known_besides(self.service, self.states, own, self.second.at, self.limits.attempts)
        for time in self.times:
            time.doubts = doubts_about(self.service, time.entries.values(), self.states.named, besides.of)
        kinds = self._look({place: one for several in besides.of.values() for place, one in several.others})
        check_unmoved(self.service, self.epoch)
        known = list(self._decided(besides, kinds))
        unexamined = self._unexamined(known, besides)
        devices = [
            Device(name, before, after)
            for key, name, (before, after) in known
            if not (key in unexamined or isinstance(before, NotExamined) or isinstance(after, NotExamined))
        ]
        return Comparison(
            self.first.at,
            self.second.at,
            is_now,
            Preview(self.epoch, tuple(devices), len(unexamined)),
            {key: turn for key, turn in self.turns.items() if key not in unexamined},
            {**self.second.unclear, **self.first.unclear},
            besides.since,
            names_asked=self.first.names.asked,
        )

    # --- What stands above the leaves -----------------------------------------------------------------

    def _look(self, strangers: Mapping[str, Stranger]) -> list[Kinds]:
        """Above each class and each kind, as of both times; and who shares with nobody is judged alone."""
        with_certificates = {key: one for key, one in strangers.items() if one.mechanism is Mechanism.X509}
        loose = Loose({key: Came(one.name, one.pems) for key, one in with_certificates.items()})
        names = [one.leaf_names(key) for key, one in with_certificates.items()]
        for time in self.times:
            self._look_at_classes(time, loose, names)
        kinds = loose.sorted_at([time.at for time in self.times], self._deadline())
        for time, sorted_then in zip(self.times, kinds, strict=True):
            self._look_at_kinds(time, sorted_then)
        for kind in {kind for one in kinds for kind in one.looks}:
            if not all(time.world.above.get(kind, NOTHING_ABOVE).is_shared for time in self.times):
                for one in kinds:
                    one.split(kind)
        for time, sorted_then in zip(self.times, kinds, strict=True):
            self._judge_singly(time, singles_at(self.service, time, sorted_then.alone, with_certificates))
        return kinds

    def _look_at_classes(self, time: Standing, loose: Loose, strangers: Sequence[LeafNames]) -> None:
        """Also notes which leaves that are of no class may have been signed by what stood then."""

        def look_at(record: RegistrationRecord) -> None:
            self._keep(time, look_at_class(record))

        def note_loose_ones() -> None:
            rows = unsigned_evidence(self.service).filter(by_a_known_name(self.service))
            loose.note(self.service, rows, strangers)

        classes = classes_at(self.service, time, self.limits.classes)
        unseen = [one for one in classes if not self._is_seen(time, one.evidence_class)]
        acts: list[Callable[[], None]] = [note_loose_ones, *(partial(look_at, one) for one in unseen)]
        self._do_as_it_was(time, self._that_matter(time), acts)

    def _look_at_kinds(self, time: Standing, kinds: Kinds) -> None:
        time.world.above[BARE] = NOTHING_ABOVE
        looks = [one for one in kinds.looks.values() if not self._is_seen(time, one.evidence)]
        acts = [partial(self._keep, time, one) for one in looks]
        done = self._do_as_it_was(time, self._that_matter(time), acts, self._deadline())
        for one in looks[done:]:
            kinds.unexamined.update(kinds.members[one.evidence])

    def _keep(self, time: Standing, look: Look) -> None:
        above = look.above(self.service, Time(time.at, None))
        time.world.above[look.evidence] = above
        if above.problem is None:
            self.seen.above[time.at, look.evidence] = above

    def _is_seen(self, time: Standing, evidence: str) -> bool:
        if (above := self.seen.above.get((time.at, evidence))) is not None:
            time.world.above[evidence] = above
        return above is not None

    def _judge_singly(self, time: Standing, singles: Sequence[Single]) -> None:
        """As many as the limits allow."""
        own = {registration_key(single.name) for single in singles}
        entries = self._that_matter(time) | {
            subject: entry
            for subject, entry in self._that_differ(time).items()
            if self._name_of(subject, entry) in own
        }

        def judge_one(one: Single) -> None:
            judgement = judge(self.service, one.name, one.shown(), at=time.at)
            outcome = Outcome(judgement.decision.verdict, judgement.decision.entry)
            single = outcome, judgement.groups_proven
            time.singles[one.key] = self.seen.singles[time.at, one.key, one.shown_last] = single

        time.singles.update(
            (one.key, self.seen.singles.get((time.at, one.key, one.shown_last))) for one in singles
        )
        waiting = [one for one in singles if time.singles[one.key] is None]
        acts = [partial(judge_one, one) for one in waiting[: self.limits.singly]]
        self._do_as_it_was(time, entries, acts, self._deadline())

    def _deadline(self) -> float:
        return float("inf") if self.limits.seconds is None else monotonic() + self.limits.seconds

    def _do_as_it_was(
        self,
        time: Standing,
        entries: Mapping[Subject, PastEntry | None],
        acts: Sequence[Callable[[], None]],
        deadline: float = float("inf"),
    ) -> int:
        """In rehearsals with these entries as they stood, some at a time: whoever waits to write has a turn in between.

        Returns how many of these there was time for.
        """
        done = 0
        while done < len(acts) and monotonic() < deadline:
            with self._as_it_was(time, entries):
                end_of_turn = monotonic() + SECONDS_AT_ONCE
                for act in acts[done:]:
                    act()
                    done += 1
                    if monotonic() > end_of_turn:
                        break
        return done

    @contextmanager
    def _as_it_was(self, time: Standing, entries: Mapping[Subject, PastEntry | None]) -> Iterator[None]:
        """With these entries and the proofs as they stood. Where none has to be put back, nobody has to wait either."""
        others = not time.proofs.decide_like(self.proofs)
        with rehearsal() if entries or others else nullcontext():
            check_unmoved(self.service, self.epoch)
            put_back(self.service, entries)
            if others:
                put_back_proofs(self.service, time.proofs)
            yield

    def _that_differ(self, time: Standing) -> dict[Subject, PastEntry | None]:
        """One of which it is not known what it was is away: of whom it may decide about nothing is told."""
        return {
            subject: None if entry is not None and entry.doubt else entry
            for subject, entry in time.entries.items()
            if not is_the_same(entry, self.now[subject])
        }

    def _that_matter(self, time: Standing) -> dict[Subject, PastEntry | None]:
        """Of those that differ: groups; of individual enrollments only what bars, then or now, matters to others."""
        return {
            subject: entry
            for subject, entry in self._that_differ(time).items()
            if subject[0] is EntryKind.GROUP or bars(entry) or bars(self.now[subject])
        }

    def _name_of(self, subject: Subject, entry: PastEntry | None) -> str:
        known = entry or self.now[subject]
        return registration_key(known.name) if known is not None else ""

    # --- Deciding ---------------------------------------------------------------------------------

    def _decided(self, besides: Besides, kinds: Sequence[Kinds]) -> Iterator[tuple[str, str, list[Decided]]]:
        """Each device by registration key and name, with what is decided about it at both times."""
        first, second = (
            Deciding(time, number, then)
            for number, (time, then) in enumerate(zip(self.times, kinds, strict=True))
        )
        both = AtBothTimes(first, second, self.turns)
        for row in self._rows():
            several = besides.of.get(row.key, NOTHING_BESIDES)
            yield row.key, row.name, both.about(row.key, row, several)
        for key in besides.without_record:
            several = besides.of[key]
            yield key, several.others[0][1].name, both.about(key, None, several)
        for key, name in besides.bare.items():
            self.first.unclear[key] = SHOWN_NOTHING
            yield key, name, [None, None]

    def _unexamined(self, known: Iterable[tuple[str, str, list[Decided]]], besides: Besides) -> set[str]:
        """Of whom nothing is told, by registration key: for lack of time it is not known whether one was shut out."""
        unexamined: set[str] = set()
        refused: set[str] = set()
        for key, _, told in known:
            if any(isinstance(one, NotExamined) for one in told):
                unexamined.add(key)
            elif besides.since is not None and key not in besides.looked_at:
                sides = zip(told, self.times, strict=True)
                if any(
                    isinstance(one, Outcome)
                    and not one.admitted
                    and may_admit_another(time.individuals.get(key))
                    for one, time in sides
                ):
                    refused.add(key)
        if besides.since is not None:
            unexamined.update(unlooked(self.service, refused, besides.since, self._deadline()))
        return unexamined

    def _rows(self) -> Iterator[Row]:
        judgeable = self.service.registrations.exclude(unjudgeable())
        records = judgeable.annotate(
            **{f"current_{number}": is_current(time.at) for number, time in enumerate(self.times)}
        )
        for row in records.values_list(*COLUMNS, "current_0", "current_1").iterator(chunk_size=5000):
            key, name, latest, evidence, thumbprint, spki, key_ids, *current = row
            mechanism = Mechanism.X509 if thumbprint else mechanism_of(latest, key_ids.split())
            yield Row(
                key,
                name,
                mechanism,
                evidence,
                thumbprint,
                spki,
                key_ids,
                (bool(current[0]), bool(current[1])),
            )


def _standing(walk: Walk, at: datetime, by: By, names: Names) -> Standing:
    return Standing(at, walk.standing(at), walk.key_groups_admit, walk.proofs, by, names)
