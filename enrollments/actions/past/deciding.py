"""Deciding about each device of a service at one time, by values: what lies above many of them was looked at once."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from enrollments.actions.certificates import parsed
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
from enrollments.models import Certificate
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
    certificate: Certificate | None = None

    @property
    def pem(self) -> str:
        return self.certificate.pem if self.certificate is not None else ""

    def shown(self) -> PresentedCredential:
        return PresentedCredential(certificates=(parsed(self.pem).der,))

    def leaf_names(self, key: str) -> LeafNames:
        one = self.certificate
        assert one is not None  # asked of those with a certificate alone
        return LeafNames(key, one.issuer_sha256, one.authority_key_id, one.spki_sha256)

    def known(self, key: str) -> Known:
        spki = self.certificate.spki_sha256 if self.certificate is not None else ""
        return Known(key, self.name, Mechanism.X509, BARE, self.thumbprint, spki)


def never_registered(times: Iterable[Standing], registered: Container[str]) -> dict[str, Stranger]:
    """With what was enrolled for them at the first of the times at which something was. By registration key."""
    strangers: dict[str, Stranger] = {}
    for time in times:
        for key, entry in time.individuals.items():
            if key in registered or key in strangers or entry.doubt:
                continue
            thumbprint = next(iter(entry.thumbprints), "")
            key_ids = frozenset(filter(None, entry.key_ids[:1]))
            strangers[key] = Stranger(entry.name, Mechanism(entry.mechanism), thumbprint, key_ids)
    rows = stored_certificates(one.thumbprint for one in strangers.values() if one.thumbprint)
    for one in strangers.values():
        one.certificate = rows.get(one.thumbprint)
    return {
        key: one
        for key, one in strangers.items()
        if one.certificate is not None or one.mechanism is not Mechanism.X509
    }


class Deciding:
    """Decides about devices at one time. kinds: where those of no class belong."""

    def __init__(self, time: Standing, kinds: Kinds) -> None:
        self._time, self._kinds = time, kinds
        self._by_chain = Decider(time.world)
        self._by_key = _ByKey(time)

    def about(self, row: Row, is_current: bool) -> Decided:
        if row.mechanism is not Mechanism.X509:
            return self._by_key.outcome(row.key, row.name, row.mechanism, frozenset(row.key_ids.split()))
        return self._by_certificate(row.known(is_current=is_current))

    def about_stranger(self, key: str, stranger: Stranger) -> Decided:
        if stranger.mechanism is not Mechanism.X509:
            return self._by_key.outcome(key, stranger.name, stranger.mechanism, stranger.key_ids)
        return self._by_certificate(stranger.known(key))

    def _by_certificate(self, device: Known) -> Decided:
        time, kinds, key = self._time, self._kinds, device.registration_key
        if time.doubt:
            time.unclear[key] = time.doubt
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
