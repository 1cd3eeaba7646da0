"""Deciding about each device of a service at one time, by values: what lies above many of them was looked at once."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from enrollments.actions.attempts import Came
from enrollments.actions.certificates import parsed, parsed_once
from enrollments.actions.evidence import is_signed
from enrollments.actions.past.by_key import judge_by_key
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.putting_back import stored_certificates
from enrollments.actions.past.standing import Standing
from enrollments.actions.preview import Outcome
from enrollments.actions.preview.kinds import BARE, Kinds
from enrollments.actions.preview.loose import LeafNames
from enrollments.actions.preview.outcomes import Decider, Known
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate
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

    def known(self, *, is_current: bool) -> Known:
        return Known(
            self.key, self.name, Mechanism.X509, self.evidence, self.thumbprint, self.spki, is_current
        )


@dataclass(frozen=True, slots=True)
class Stranger:
    """A device that no record tells of, with what it is known by: what it has shown, or what was enrolled for it.

    pems: its certificates, the leaf first.
    """

    name: str
    mechanism: Mechanism
    key_ids: frozenset[str] = frozenset()
    leaf: Certificate | ParsedCertificate | None = None
    pems: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return registration_key(self.name)

    def shown(self) -> PresentedCredential:
        return PresentedCredential(certificates=tuple(parsed(pem).der for pem in self.pems))

    def leaf_names(self, key: str) -> LeafNames:
        one = self.leaf
        assert one is not None  # asked of those with a certificate alone
        return LeafNames(key, one.issuer_sha256, one.authority_key_id or "", one.spki_sha256)

    def known(self) -> Known:
        thumbprint, spki = (self.leaf.thumbprint_sha256, self.leaf.spki_sha256) if self.leaf else ("", "")
        return Known(self.key, self.name, Mechanism.X509, BARE, thumbprint, spki)


def never_registered(times: Iterable[Standing], known: Container[str]) -> dict[str, Stranger]:
    """With what was enrolled for them at the first of the times at which something was. By registration key."""
    entries: dict[str, PastEntry] = {}
    for time in times:
        for key, entry in time.individuals.items():
            if key not in known and key not in entries and not entry.doubt:
                entries[key] = entry
    rows = stored_certificates(one for entry in entries.values() for one in entry.thumbprints[:1])
    strangers: dict[str, Stranger] = {}
    for key, entry in entries.items():
        mechanism = Mechanism(entry.mechanism)
        if mechanism is not Mechanism.X509:
            strangers[key] = Stranger(entry.name, mechanism, frozenset(filter(None, entry.key_ids[:1])))
        elif entry.thumbprints:
            strangers[key] = with_certificate(entry.name, rows[entry.thumbprints[0]])
    return strangers


def with_certificate(name: str, certificate: Certificate) -> Stranger:
    return Stranger(name, Mechanism.X509, leaf=certificate, pems=(certificate.pem,))


def that_came(came: Mapping[str, Came]) -> dict[str, Stranger]:
    """Of whom no record tells, with what they showed last."""
    return {
        key: Stranger(one.registration_id, Mechanism.X509, leaf=parsed_once(one.pems[0]), pems=one.pems)
        for key, one in came.items()
    }


def either(decided: Decided, others: Iterable[Decided]) -> Decided:
    """Admitted by one of them; else what is not known or not examined; else refused, by the first."""
    unclear: list[Decided] = []
    for one in chain([decided], others):
        if isinstance(one, Outcome):
            if one.admitted:
                return one
        else:
            unclear.append(one)
    return unclear[0] if unclear else decided


class Deciding:
    """Decides about devices at one time. kinds: where those of no class belong."""

    def __init__(self, time: Standing, kinds: Kinds) -> None:
        self._time, self._kinds = time, kinds
        self._by_chain = Decider(time.world)
        self._by_key = _ByKey(time)

    def about(self, row: Row, is_current: bool) -> Decided:
        if row.mechanism is not Mechanism.X509:
            return self._by_key.outcome(row.key, row.name, row.mechanism, frozenset(row.key_ids.split()))
        return self._by_certificate(row.known(is_current=is_current), row.key)

    def about_stranger(self, key: str, stranger: Stranger) -> Decided:
        """key: under which it was sorted."""
        if stranger.mechanism is not Mechanism.X509:
            return self._by_key.outcome(stranger.key, stranger.name, stranger.mechanism, stranger.key_ids)
        return self._by_certificate(stranger.known(), key)

    def _by_certificate(self, device: Known, key: str) -> Decided:
        time, kinds = self._time, self._kinds
        if time.doubt:
            time.unclear[device.registration_key] = time.doubt
            return None
        if key in time.singles:
            return time.singles[key] or NOT_EXAMINED
        if key in kinds.unexamined:
            return NOT_EXAMINED
        if (kind := kinds.evidence.get(key)) is not None:
            device = replace(device, evidence=kind, problem=kinds.problems.get(key))
        elif device.evidence and is_signed(device.evidence) and device.evidence not in time.world.above:
            return NOT_EXAMINED
        return self._by_chain.outcome(device) if device.is_judgeable else None


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
