"""What a device is known to have when the past is asked: all that it has proven, and what was enrolled for it.

A device has one credential after another. Whether it could have registered at a time is asked of each: which one it
had by then is not kept for ever. What nobody has seen it prove counts where nothing else is known of that time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from django.db.models import Max, Min, Q, QuerySet

from enrollments.actions.attempts import above_leaf, proven_leaf
from enrollments.actions.certificates import parsed
from enrollments.actions.key_identifiers import DIGITS, OF_GROUP
from enrollments.actions.known_credentials import KnownCredential
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.putting_back import stored_certificates
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.errors import NotFound
from enrollments.models import (
    AttemptOutcome,
    AttestationMechanism,
    Certificate,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.policy.facts import EntryKind, Mechanism
from enrollments.policy.names import registration_key

LOOKED_AT = 20
# Of what attempts have proven: so many, the latest of all.
MOST_PROVEN = 10
# Of an entry that holds it still.
FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shown:
    """`chain`: certificates, the leaf first; of a device that signs, `key_ids` are what identifies its key.

    proven: when it first and last proved this, as far as it is known; None: it was enrolled, and that is all.
    """

    registration_id: str
    basis: str
    mechanism: Mechanism
    chain: tuple[ParsedCertificate, ...] = field(default=(), repr=False)
    key_ids: frozenset[str] = frozenset()
    proven: tuple[datetime, datetime] | None = None

    @property
    def known(self) -> KnownCredential:
        credential = PresentedCredential(certificates=tuple(one.der for one in self.chain))
        return KnownCredential(
            self.registration_id, self.basis, credential if self.chain else None, self.chain
        )

    @property
    def is_chain(self) -> bool:
        return self.mechanism is Mechanism.X509

    def is_like(self, other: "Shown") -> bool:
        """Whether the other one tells nothing more of what the device has."""
        if self.mechanism is not other.mechanism:
            return False
        return self.chain == other.chain if self.is_chain else other.key_ids <= self.key_ids

    def is_held_by(self, entry: PastEntry | None) -> bool:
        if entry is None or entry.mechanism != self.mechanism.value:
            return False
        if self.is_chain:
            return self.chain[0].thumbprint_sha256 in entry.thumbprints
        return bool(self.key_ids & set(entry.key_ids))


class Credentials:
    """All that one device is known to have. `proven`: the latest first. `enrolled`: what it may have had besides."""

    def __init__(self, proven: Iterable[Shown], enrolled: Iterable[Shown]) -> None:
        self.proven, self.enrolled = tuple(proven), tuple(enrolled)
        self.all = (*self.proven, *self.enrolled)

    @property
    def registration_id(self) -> str:
        return self.all[0].registration_id

    @property
    def signs(self) -> bool:
        return any(not one.is_chain for one in self.all)

    @property
    def has_chains(self) -> bool:
        return any(one.is_chain for one in self.all)

    def at(self, at: datetime, own: PastEntry | None) -> list[Shown]:
        """What it showed latest by that time first, then what was enrolled for it then, then all others.

        own: its individual enrollment as it stood at that time.
        """
        if len(self.all) == 1:
            return list(self.all)
        shown = [one for one in self.proven if one.proven is not None and one.proven[0] <= at]
        shown.sort(key=lambda one: min(one.proven[1], at) if one.proven else at, reverse=True)
        held = [one for one in self.all if one not in shown and one.is_held_by(own)]
        return [*shown, *held, *(one for one in self.all if one not in shown and one not in held)]


def credentials_of(
    service: ProvisioningService,
    registration_id: str,
    held: Iterable[tuple[PastEntry, datetime]],
) -> Credentials:
    """Raises NotFound where nothing is known.

    held: the states of its individual enrollment, the one in question first, each with the time until which it lasted.
    """
    key = registration_key(registration_id)
    record = service.registrations.filter(registration_key=key).first()
    proven: list[Shown] = []
    for one in _proven(service, key, record):
        if not any(other.is_like(one) for other in proven):
            proven.append(one)
    first = min((one.proven[0] for one in proven if one.proven), default=FOR_EVER)
    enrolled = list(_enrolled(held, first, is_known=bool(proven)))
    others = [one for one in enrolled if not any(other.is_like(one) for other in proven)]
    if proven or others:
        return _told_apart(proven, others)
    for attempt in _tried(service, key):
        if (leaf := proven_leaf(attempt)) is not None:
            basis = "the certificate with which it proved itself last, at an attempt"
            shown = Shown(attempt.claimed_registration_id, basis, Mechanism.X509, (parsed(leaf.pem),))
            return Credentials([replace(shown, proven=(attempt.first_at, attempt.last_at))], ())
    raise NotFound(
        f"Nothing is known about registration ID {registration_id[:130]} in service {service} that could be judged: it "
        "has no registration record, and since that time no individual enrollment with a credential."
    )


def _told_apart(proven: list[Shown], enrolled: list[Shown]) -> Credentials:
    """Where there are several, each certificate is named by its thumbprint."""
    if len(proven) + len(enrolled) > 1:
        proven, enrolled = (
            [
                replace(one, basis=f"{one.basis} (SHA-256 {one.chain[0].thumbprint_sha256})")
                if one.is_chain
                else one
                for one in some
            ]
            for some in (proven, enrolled)
        )
    return Credentials(proven, enrolled)


# --- What it has proven -------------------------------------------------------------------------------


def _proven(service: ProvisioningService, key: str, record: RegistrationRecord | None) -> Iterator[Shown]:
    """What is on record first, then the latest: of what is like both the record tells more."""
    attempts = list(_by_attempts(service, key))
    if record is not None and (shown := _on_record(record)) is not None:
        same = [one for one in attempts if shown.is_like(one) and one.proven is not None]
        done = record.operation_done_at or record.updated_at
        times = [done, *(time for one in same for time in one.proven or ())]
        yield replace(shown, proven=(min(times), max(times)))
    yield from attempts


def _on_record(record: RegistrationRecord) -> Shown | None:
    name = record.registration_id
    pems = record.evidence.order_by("position").values_list("certificate__pem", flat=True)
    if chain := tuple(parsed(pem) for pem in pems):
        return Shown(name, "the chain with which it proved itself last", Mechanism.X509, chain)
    if record.mechanism == AttestationMechanism.X509:
        return None
    what = "TPM" if record.mechanism == AttestationMechanism.TPM else "key"
    basis = f"the {what} with which it proved itself last"
    return Shown(name, basis, Mechanism(record.mechanism), key_ids=frozenset(record.key_ids.split()))


_ADMITTED = (AttemptOutcome.ASSIGNED, AttemptOutcome.FAILED)


def _by_attempts(service: ProvisioningService, key: str) -> Iterator[Shown]:
    """By what was kept of the proofs themselves, as far back as attempts are kept."""
    rows = of_proofs(service.attempts.filter(registration_key=key))
    columns = ("claimed_registration_id", "leaf_thumbprint", "chain", "key_id", "entry_kind")
    alike = rows.order_by().values_list(*columns).annotate(first=Min("first_at"), last=Max("last_at"))
    for name, leaf, above, key_id, entry_kind, first, last in alike.order_by("-last")[:MOST_PROVEN]:
        when = f"{last.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        if not leaf:
            is_tpm = len(key_id) > DIGITS
            mechanism = Mechanism.TPM if is_tpm else Mechanism.SYMMETRIC_KEY
            is_own = is_tpm or entry_kind != EntryKind.GROUP.value
            key_ids = frozenset([key_id if is_own else f"{OF_GROUP}{key_id}"])
            basis = f"the {'TPM' if is_tpm else 'key'} with which it proved itself, at last at {when}"
            yield Shown(name, basis, mechanism, key_ids=key_ids, proven=(first, last))
            continue
        thumbprints = [leaf, *above_leaf(above)]
        kept = Certificate.objects.filter(thumbprint_sha256__in=thumbprints)
        pems = dict(kept.values_list("thumbprint_sha256", "pem"))
        if all(one in pems for one in thumbprints):
            chain = tuple(parsed(pems[one]) for one in thumbprints)
            basis = f"the chain with which it proved itself, at last at {when}"
            yield Shown(name, basis, Mechanism.X509, chain, proven=(first, last))


def of_proofs(rows: "QuerySet[RegistrationAttempt]") -> "QuerySet[RegistrationAttempt]":
    """Those of these attempts of which it is kept what they proved."""
    # A group's key is told from a device's own by the entry that admitted; of who was refused that is not kept.
    by_key = ~Q(key_id="") & (Q(entry_kind=EntryKind.GROUP.value) | Q(outcome__in=_ADMITTED))
    by_chain = ~Q(chain="") | (~Q(outcome=AttemptOutcome.REFUSED) & ~Q(leaf_thumbprint=""))
    return rows.filter(by_key | by_chain)


def _tried(service: ProvisioningService, key: str) -> Iterable[RegistrationAttempt]:
    """Whoever called the name without proof, however often, does not stand before who proved something."""
    tried = service.attempts.filter(registration_key=key).order_by("-last_at", "-id")
    refused = tried.filter(outcome=AttemptOutcome.REFUSED)
    return (*tried.exclude(outcome=AttemptOutcome.REFUSED)[:LOOKED_AT], *refused[:LOOKED_AT])


# --- What was enrolled for it ---------------------------------------------------------------------------


def _enrolled(
    held: Iterable[tuple[PastEntry, datetime]], first_proof: datetime, *, is_known: bool
) -> Iterator[Shown]:
    """What its entry held, and held no more when the device first proved something: of later times it is known better.

    So an entry that asked for another certificate than the device was known to have has shut it out (R5).
    """
    states = list(held)
    until: dict[tuple[str, str], datetime] = {}
    for entry, ended in states:
        for name in credentials_in(entry):
            until[name] = max(until.get(name, ended), ended)
    names = {name: entry for entry, _ in reversed(states) for name in credentials_in(entry)}
    wanted = [
        name
        for name in dict.fromkeys(name for entry, _ in states for name in credentials_in(entry))
        if until[name] <= first_proof
    ]
    rows = stored_certificates(one for mechanism, one in wanted if mechanism == AttestationMechanism.X509)
    for mechanism, one in wanted:
        what = _WHAT[Mechanism(mechanism)]
        basis = f"the {what} of its individual enrollment: it never registered"
        if is_known:
            basis = f"the {what} that its individual enrollment held: what it proved by then is not known"
        shown = Shown(names[mechanism, one].name, basis, Mechanism(mechanism))
        if shown.is_chain:
            yield replace(shown, chain=(parsed(rows[one].pem),))
        else:
            yield replace(shown, key_ids=frozenset([one]))


_WHAT: Mapping[Mechanism, str] = {
    Mechanism.X509: "certificate",
    Mechanism.SYMMETRIC_KEY: "key",
    Mechanism.TPM: "TPM",
}


def credentials_in(entry: PastEntry) -> list[tuple[str, str]]:
    """Its credentials: by mechanism, thumbprints or what identifies keys."""
    if entry.mechanism == AttestationMechanism.X509:
        return [(entry.mechanism, one) for one in entry.thumbprints]
    return [(entry.mechanism, one) for one in entry.key_ids if one]
