"""Deciding about each device of a service at one time, by values: what lies above many of them was looked at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import is_signed
from enrollments.actions.past.by_key import Readings, judge_by_key
from enrollments.actions.past.credentials import (
    MORE_PROVEN,
    NOT_ALL_KEPT,
    hangs_on_what_is_above,
    holds,
    in_order,
    in_words,
    may_admit_another,
)
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.showing import NEVER_SHOWN, Showings
from enrollments.actions.past.standing import Standing, Withheld
from enrollments.actions.preview import Outcome
from enrollments.actions.preview.kinds import BARE, Kinds
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.actions.preview.signing import LeafNames
from enrollments.actions.preview.world import NOTHING_ABOVE
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import Certificate
from enrollments.policy.facts import Mechanism
from enrollments.policy.names import registration_key


class NotExamined:
    """For lack of time, and not of knowledge."""


NOT_EXAMINED = NotExamined()
# None: it is not known what would have been decided.
Decided = Outcome | NotExamined | None


COLUMNS = (
    "registration_key",
    "registration_id",
    "mechanism",
    "evidence_class",
    "leaf_thumbprint",
    "leaf_spki",
    "key_ids",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A record. current: whether its leaf is valid by its dates, at each of the times."""

    key: str
    name: str
    mechanism: Mechanism
    evidence: str
    thumbprint: str
    spki: str
    key_ids: str
    current: tuple[bool, bool]

    def is_held_by(self, entry: PastEntry | None) -> bool:
        is_chain = self.mechanism is Mechanism.X509
        return holds(entry, self.mechanism, {self.thumbprint} if is_chain else set(self.key_ids.split()))

    def known(self, *, is_current: bool) -> Known:
        return Known(
            self.key, self.name, Mechanism.X509, self.evidence, self.thumbprint, self.spki, is_current
        )


@dataclass(frozen=True, slots=True)
class Stranger:
    """What a device has shown, or had enrolled for it, and no record tells of.

    pems: its certificates, the leaf first. readings, proven, showings, lacks: as in `Shown`.
    """

    name: str
    mechanism: Mechanism
    readings: Readings = ()
    leaf: Certificate | None = None
    pems: tuple[str, ...] = ()
    proven: tuple[datetime, datetime] | None = None
    showings: Showings = NEVER_SHOWN
    lacks: bool = False

    @property
    def key(self) -> str:
        return registration_key(self.name)

    def is_held_by(self, entry: PastEntry | None) -> bool:
        names = [frozenset({self.leaf.thumbprint_sha256})] if self.leaf is not None else self.readings
        return any(holds(entry, self.mechanism, one) for one in names)

    def is_current(self, at: datetime) -> bool:
        return self.leaf is None or self.leaf.not_before <= at <= self.leaf.not_after

    def shown(self) -> PresentedCredential:
        return PresentedCredential(certificates=tuple(parsed(pem).der for pem in self.pems))

    def leaf_names(self, place: str) -> LeafNames:
        one = self.leaf
        assert one is not None  # asked of those with a certificate alone
        return LeafNames.of(place, one)

    def known(self) -> Known:
        thumbprint, spki = (self.leaf.thumbprint_sha256, self.leaf.spki_sha256) if self.leaf else ("", "")
        return Known(self.key, self.name, Mechanism.X509, BARE, thumbprint, spki)


@dataclass(slots=True)
class Several:
    """What a device has. `recorded`: when what is on record was first and last proven; None: nothing is.

    showings: each of these times. others: what it has besides, in the order of `Credentials`, with the place under
    which each is looked at.
    has_more: it has proven more than is here.
    """

    recorded: tuple[datetime, datetime] | None = None
    showings: Showings = NEVER_SHOWN
    others: tuple[tuple[str, Stranger], ...] = ()
    has_more: bool = False


NOTHING_BESIDES = Several()


@dataclass(frozen=True, slots=True)
class Credential:
    """One of several that a device has, on record or besides, with the decision about it. what: the same in words."""

    what: str
    proven: tuple[datetime, datetime] | None
    showings: Showings
    is_held_by: Callable[[PastEntry | None], bool]
    is_current: Callable[[datetime], bool]
    decide: Callable[[], "Told"]


# What is decided, and why that is not known.
Told = tuple[Decided, str]


class Deciding:
    """Decides about devices at one time. number: which of the times. kinds: where those of no class belong."""

    def __init__(self, time: Standing, number: int, kinds: Kinds) -> None:
        self._time, self._number, self._kinds = time, number, kinds
        self._by_chain = Decider(time.world)
        self._by_key = _ByKey(time)
        self.at = time.at

    def about(self, key: str, row: Row | None, several: Several = NOTHING_BESIDES) -> Decided:
        """By the first of what it has that is admitted, as one device is judged (`_judge` in device.py)."""
        if row is not None and not several.others and not several.has_more:
            decided, why = self._about_row(row)
        else:
            decided, why = self._by_any(key, row, several)
        if decided is None:
            self._time.unclear[key] = why
        return decided

    def _by_any(self, key: str, row: Row | None, several: Several) -> Told:
        own = self._time.individuals.get(key)
        credentials = self.credentials(key, row, several)
        refused: Told | None = None
        held: Told | None = None
        unknown: Told | None = None
        is_examined = True
        for one in in_order(credentials, self._time.at, own):
            decided, why = one.decide()
            if isinstance(decided, NotExamined):
                is_examined = False
            elif decided is None:
                unknown = unknown or (None, why)
            elif decided.admitted:
                return decided, ""
            elif isinstance(decided, Withheld):
                held = held or (decided, "")
            else:
                refused = refused or (decided, "")
        if not is_examined and ((held or refused) is None or may_admit_another(own)):
            return NOT_EXAMINED, ""
        if unknown is None and several.has_more and may_admit_another(own):
            return None, MORE_PROVEN
        told = unknown or held or refused
        assert told is not None  # something is known of the device
        return told

    def credentials(self, key: str, row: Row | None, several: Several) -> list[Credential]:
        """All that it has, at each time in the same order."""
        own = self._time.individuals.get(key)
        on_record = [] if row is None else [self._on_record(row, several)]
        return [*on_record, *(self._besides(place, one, own) for place, one in several.others)]

    def by_which(self, key: str, credentials: Sequence[Credential]) -> tuple[Credential, Outcome] | None:
        """The first of these that is admitted, as `about` asks about them."""
        for one in in_order(credentials, self._time.at, self._time.individuals.get(key)):
            decided, _ = one.decide()
            if isinstance(decided, Outcome) and decided.admitted:
                return one, decided
        return None

    def _on_record(self, row: Row, several: Several) -> Credential:
        return Credential(
            in_words(row.mechanism, row.thumbprint),
            several.recorded,
            several.showings,
            row.is_held_by,
            lambda _: row.current[self._number],
            lambda: self._about_row(row),
        )

    def _besides(self, place: str, one: Stranger, own: PastEntry | None) -> Credential:
        return Credential(
            in_words(one.mechanism, one.leaf.thumbprint_sha256 if one.leaf is not None else ""),
            one.proven,
            one.showings,
            one.is_held_by,
            one.is_current,
            lambda: self._about_stranger(place, one, own),
        )

    def _about_row(self, row: Row) -> Told:
        if row.mechanism is not Mechanism.X509:
            return self._by_key.outcome(row.key, row.name, row.mechanism, (frozenset(row.key_ids.split()),))
        return self._by_certificate(row.known(is_current=row.current[self._number]), row.key)

    def _about_stranger(self, place: str, one: Stranger, own: PastEntry | None) -> Told:
        if one.mechanism is not Mechanism.X509:
            return self._by_key.outcome(one.key, one.name, one.mechanism, one.readings)
        decided, why = self._by_certificate(one.known(), place)
        if (
            one.lacks
            and isinstance(decided, Outcome)
            and one.is_current(self._time.at)
            and hangs_on_what_is_above(decided.verdict, own)
        ):
            return None, NOT_ALL_KEPT
        return decided, why

    def _by_certificate(self, device: Known, place: str) -> Told:
        time, kinds = self._time, self._kinds
        if why := time.doubts.about(device.registration_key):
            return None, why
        if place in time.singles:
            if (single := time.singles[place]) is None:
                return NOT_EXAMINED, ""
            return time.if_it_may_have_the_name(device.registration_key, *single)
        if place in kinds.unexamined:
            return NOT_EXAMINED, ""
        if (kind := kinds.evidence.get(place)) is not None:
            device = replace(device, evidence=kind, problem=kinds.problems.get(place))
        elif device.evidence and is_signed(device.evidence) and device.evidence not in time.world.above:
            return NOT_EXAMINED, ""
        above = time.world.above.get(device.evidence, NOTHING_ABOVE)
        proven = {group.ref.pk for group in above.groups if group.proves}
        outcome = self._by_chain.outcome(device)
        return time.if_it_may_have_the_name(device.registration_key, outcome, proven)


# With the groups whose keys were proven.
_JudgedByKey = tuple[Told, frozenset[int]]


class _ByKey:
    """Decides about devices that sign. Those that differ in nothing that counts are decided about once."""

    def __init__(self, time: Standing) -> None:
        self._time = time
        self._decided: dict[object, _JudgedByKey] = {}

    def outcome(self, key: str, name: str, mechanism: Mechanism, readings: Readings) -> Told:
        (decided, why), proven = self._by_its_key(key, name, mechanism, readings)
        if not isinstance(decided, Outcome):
            return decided, why
        return self._time.if_it_may_have_the_name(key, decided, proven)

    def _by_its_key(self, key: str, name: str, mechanism: Mechanism, readings: Readings) -> _JudgedByKey:
        own = self._time.individuals.get(key)
        if own is not None:
            # One that alone decides: nothing is shared with another device.
            return self._judged(name, mechanism, readings, own)
        alike = (mechanism, readings)
        if alike not in self._decided:
            self._decided[alike] = self._judged(name, mechanism, readings, None)
        return self._decided[alike]

    def _judged(
        self, name: str, mechanism: Mechanism, readings: Readings, own: PastEntry | None
    ) -> _JudgedByKey:
        time = self._time
        judged = judge_by_key(
            name,
            mechanism,
            readings,
            own,
            time.key_groups,
            key_groups_admit=time.key_groups_admit,
            at=time.at,
        )
        if judged.decision is None:
            return (None, judged.unknown), frozenset()
        groups = judged.facts.groups if judged.facts is not None else ()
        told = Outcome(judged.decision.verdict, judged.decision.entry), ""
        return told, frozenset(group.ref.pk for group in groups if group.proves)
