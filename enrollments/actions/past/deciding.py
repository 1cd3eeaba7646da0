"""Deciding about each device of a service at one time, by values: what lies above many of them was looked at once."""

from dataclasses import dataclass

from enrollments.actions.certificates import parsed
from enrollments.actions.evidence import is_signed
from enrollments.actions.past.by_key import judge_by_key
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.standing import Standing
from enrollments.actions.preview import Outcome
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.attestation.credential import PresentedCredential
from enrollments.policy.facts import Mechanism


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

    def known(self, *, is_current: bool) -> Known:
        return Known(
            self.key, self.name, Mechanism.X509, self.evidence, self.thumbprint, self.spki, is_current
        )


@dataclass(slots=True)
class Stranger:
    """A device that never registered, with the credential that was enrolled for it."""

    name: str
    mechanism: Mechanism
    thumbprint: str
    key_ids: frozenset[str]
    pem: str = ""

    def shown(self) -> PresentedCredential:
        return PresentedCredential(certificates=(parsed(self.pem).der,))


class Deciding:
    """Decides about devices at one time."""

    def __init__(self, time: Standing) -> None:
        self._time = time
        self._by_chain = Decider(time.world)
        self._by_key = _ByKey(time)

    def about(self, row: Row, is_current: bool) -> Decided:
        time = self._time
        if row.mechanism is not Mechanism.X509:
            return self._by_key.outcome(row.key, row.name, row.mechanism, frozenset(row.key_ids.split()))
        if time.doubt:
            time.unclear[row.key] = time.doubt
            return None
        if row.key in time.singles:
            return time.singles[row.key] or NOT_EXAMINED
        if row.evidence not in time.world.above and is_signed(row.evidence) and row.evidence:
            return NOT_EXAMINED
        known = row.known(is_current=is_current)
        return self._by_chain.outcome(known) if known.is_judgeable else None

    def about_stranger(self, key: str, stranger: Stranger) -> Decided:
        if stranger.mechanism is not Mechanism.X509:
            return self._by_key.outcome(key, stranger.name, stranger.mechanism, stranger.key_ids)
        if self._time.doubt:
            self._time.unclear[key] = self._time.doubt
            return None
        return self._time.singles.get(key) or NOT_EXAMINED


class _ByKey:
    """Decides about devices that sign. Those that differ in nothing that counts are decided about once."""

    def __init__(self, time: Standing) -> None:
        self._time = time
        self._decided: dict[object, tuple[Outcome | None, str]] = {}

    def outcome(self, key: str, name: str, mechanism: Mechanism, key_ids: frozenset[str]) -> Outcome | None:
        time = self._time
        own = time.individuals.get(key)
        if own is not None:
            # One that alone decides: nothing is shared with another device.
            outcome, unknown = self._judged(name, mechanism, key_ids, own)
        else:
            alike = (mechanism, key_ids)
            if alike not in self._decided:
                self._decided[alike] = self._judged(name, mechanism, key_ids, None)
            outcome, unknown = self._decided[alike]
        if unknown:
            time.unclear[key] = unknown
        return outcome

    def _judged(
        self, name: str, mechanism: Mechanism, key_ids: frozenset[str], own: PastEntry | None
    ) -> tuple[Outcome | None, str]:
        time = self._time
        judged = judge_by_key(
            name,
            mechanism,
            key_ids,
            own,
            time.key_groups,
            key_groups_admit=time.key_groups_admit,
            at=time.at,
        )
        if judged.decision is None:
            return None, judged.unknown
        return Outcome(judged.decision.verdict, judged.decision.entry), ""
