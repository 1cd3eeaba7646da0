"""What a device is known to have when the past is asked: all that it has proven, and what was enrolled for it.

A device has one credential after another. Whether it could have registered at a time is asked of each: which one it
had by then is not kept for ever. What nobody has seen it prove counts where nothing else is known of that time.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from enrollments.actions.certificates import parsed
from enrollments.actions.key_identifiers import DIGITS, OF_GROUP
from enrollments.actions.known_credentials import KnownCredential
from enrollments.actions.past.attempted import (
    MOST_PROVEN,
    Proof,
    pems_of,
    proofs_of,
    that_matter,
    tried_of_old,
    with_derived_keys,
)
from enrollments.actions.past.by_key import Readings, tells_of
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.putting_back import stored_certificates
from enrollments.actions.past.showing import NEVER_SHOWN, Showings
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.errors import NotFound
from enrollments.models import (
    AttestationMechanism,
    ProvisioningService,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import Mechanism
from enrollments.policy.names import registration_key

MORE_PROVEN = f"it has proven more than {MOST_PROVEN} credentials, and no more than these are looked at"
NOT_ALL_KEPT = "not all is kept of what it sent along with its certificate"
TICK = timedelta(microseconds=1)
# Of an entry that holds it still.
FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shown:
    """`chain`: certificates, the leaf first; of a device that signs, `readings` are what identifies its key.

    proven: when it first and last proved this, as far as it is known; None: it was enrolled, and that is all. showings:
    each of these times.
    lacks: whether something that it sent along with its leaf is not kept any more.
    """

    registration_id: str
    basis: str
    mechanism: Mechanism
    chain: tuple[ParsedCertificate, ...] = field(default=(), repr=False)
    readings: Readings = ()
    proven: tuple[datetime, datetime] | None = None
    showings: Showings = NEVER_SHOWN
    lacks: bool = False

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
        if not self.is_chain:
            return tells_of(self.readings, other.readings)
        # In which order it sent what is above its leaf makes no difference.
        return self.chain[0] == other.chain[0] and set(self.chain) == set(other.chain)

    def is_held_by(self, entry: PastEntry | None) -> bool:
        names = [frozenset({self.chain[0].thumbprint_sha256})] if self.is_chain else self.readings
        return any(holds(entry, self.mechanism, one) for one in names)

    def is_current(self, at: datetime) -> bool:
        """By the dates of its leaf."""
        return not self.is_chain or self.chain[0].not_before <= at <= self.chain[0].not_after


class Timed(Protocol):
    """A credential, with when it was proven."""

    @property
    def proven(self) -> tuple[datetime, datetime] | None: ...

    def is_held_by(self, entry: PastEntry | None) -> bool: ...

    def is_current(self, at: datetime) -> bool: ...


T = TypeVar("T", bound=Timed)


def in_order(credentials: Sequence[T], at: datetime, own: PastEntry | None) -> list[T]:
    """As they are asked about: what a device showed latest by that time, what was enrolled for it then, all others.

    own: its individual enrollment as it stood at that time. The first one tells why a device would have been refused.
    Of the others only those matter that were valid then by their dates.
    """
    if len(credentials) == 1:
        return list(credentials)
    shown = [one for one in credentials if one.proven is not None and one.proven[0] <= at]
    shown.sort(key=lambda one: min(one.proven[1], at) if one.proven else at, reverse=True)
    held = [one for one in credentials if one not in shown and one.is_held_by(own)]
    every = [*shown, *held, *(one for one in credentials if one not in shown and one not in held)]
    return [one for number, one in enumerate(every) if number == 0 or one.is_current(at)]


def holds(entry: PastEntry | None, mechanism: Mechanism, names: frozenset[str] | set[str]) -> bool:
    """names: a thumbprint, or what identifies a key."""
    if entry is None or entry.mechanism != mechanism.value:
        return False
    own = entry.thumbprints if mechanism is Mechanism.X509 else entry.key_ids
    return not names.isdisjoint(own)


def may_admit_another(own: PastEntry | None) -> bool:
    """Whether a credential that nobody has looked at might have been admitted. own: the individual enrollment (R5)."""
    return own is None or own.enabled or bool(own.doubt)


def hangs_on_what_is_above(verdict: Verdict, own: PastEntry | None) -> bool:
    """Whether certificates above a leaf that are not kept might have made another thing of this decision."""
    return own is None and verdict is not Verdict.DISABLED


class Credentials:
    """All that one device is known to have. `proven`: the latest first. `enrolled`: what it may have had besides.

    has_more: it has proven more than is here.
    """

    def __init__(self, proven: Iterable[Shown], enrolled: Iterable[Shown], *, has_more: bool = False) -> None:
        self.proven, self.enrolled, self.has_more = tuple(proven), tuple(enrolled), has_more
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

    @property
    def dates(self) -> dict[datetime, str]:
        """When another one of several is asked about first, in words."""
        if len(self.all) == 1:
            return {}
        times = {time for one in self.proven if one.proven for time in (one.proven[0], one.proven[1] + TICK)}
        return dict.fromkeys(times, "it came with another one of its credentials")

    def at(self, at: datetime, own: PastEntry | None) -> list[Shown]:
        return in_order(self.all, at, own)


def credentials_of(
    service: ProvisioningService,
    registration_id: str,
    held: Iterable[tuple[PastEntry, datetime]],
    until: datetime,
) -> Credentials:
    """Raises NotFound where nothing is known.

    held: the states of its individual enrollment, the one in question first, each with the time until which it lasted.
    until: the end of the period that is asked about.
    """
    key = registration_key(registration_id)
    record = service.registrations.filter(registration_key=key).first()
    attempts = service.attempts.filter(registration_key=key)
    found = proofs_of(attempts)
    proofs = with_derived_keys(service, found).get(key, [])
    chosen = that_matter(proofs, until)
    proven: list[Shown] = []
    for one in _proven(chosen, record):
        if not any(other.is_like(one) for other in proven):
            proven.append(one)
    has_more = len(chosen) < len(proofs)
    times = [one.first for one in proofs] + [one.proven[0] for one in proven if one.proven]
    first = min(times, default=FOR_EVER)
    enrolled = list(_enrolled(held, first, is_known=bool(proven)))
    others = [one for one in enrolled if not any(other.is_like(one) for other in proven)]
    if proven or others:
        return _told_apart(proven, others, has_more=has_more)
    if (tried := tried_of_old(attempts, ()).get(key)) is not None:
        (shown,) = _by_attempts([tried])
        return Credentials([replace(shown, basis=_TRIED)], ())
    raise NotFound(
        f"Nothing is known about registration ID {registration_id[:130]} in service {service} that could be judged: it "
        "has no registration record, and since that time no individual enrollment with a credential."
    )


_TRIED = "the certificate with which it proved itself last, at an attempt"


def _told_apart(proven: list[Shown], enrolled: list[Shown], *, has_more: bool) -> Credentials:
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
    return Credentials(proven, enrolled, has_more=has_more)


# --- What it has proven -------------------------------------------------------------------------------


def _proven(proofs: Sequence["Proof"], record: RegistrationRecord | None) -> Iterator[Shown]:
    """What is on record first, then the latest: of what is like both the record tells more."""
    attempts = list(_by_attempts(proofs))
    if record is not None and (shown := _on_record(record)) is not None:
        same = [one for one in attempts if shown.is_like(one) and one.proven is not None]
        done = proven_at(record.status, *(getattr(record, name) for name in TIMES))
        times = [time for one in same for time in one.proven or ()]
        showings = sum((one.showings for one in same), NEVER_SHOWN)
        if not (times and is_told_by_attempts(record.status, done, proofs)):
            times, showings = [done, *times], shown_on_record(record.status, done) + showings
        yield replace(shown, proven=(min(times), max(times)), showings=showings)
    yield from attempts


def _on_record(record: RegistrationRecord) -> Shown | None:
    name = record.registration_id
    pems = record.evidence.order_by("position").values_list("certificate__pem", flat=True)
    if chain := tuple(parsed(pem) for pem in pems):
        return Shown(name, "the chain with which it proved itself last", Mechanism.X509, chain)
    key_ids = frozenset(record.key_ids.split())
    mechanism = mechanism_of(record.mechanism, key_ids)
    if mechanism is Mechanism.X509:
        return None
    basis = f"the {_WHAT[mechanism]} with which it proved itself last"
    return Shown(name, basis, mechanism, readings=(key_ids,))


def mechanism_of(latest: str, key_ids: Collection[str]) -> Mechanism:
    """Of a record without certificates. latest: by which the device came last; if it was refused, not what is kept."""
    if not key_ids:
        return Mechanism(latest)
    is_tpm = any(len(one) > DIGITS and not one.startswith(OF_GROUP) for one in key_ids)
    return Mechanism.TPM if is_tpm else Mechanism.SYMMETRIC_KEY


# What of a record tells when that was proven which is kept there, besides its status.
TIMES = ("operation_done_at", "updated_at", "assigned_at", "created_at")


def proven_at(
    status: str,
    done: datetime | None,
    updated: datetime,
    assigned: datetime | None,
    created: datetime,
) -> datetime:
    """Whoever was turned away since, perhaps with something else, is on record with what it had shown before.

    When, is a guess then: a device that is assigned once more, where it is, keeps the time of the first.
    """
    if status == RegistrationStatus.DISABLED:
        return assigned or created
    return done or updated


def is_told_by_attempts(status: str, done: datetime, proofs: Iterable[Proof]) -> bool:
    """Whether the time that `proven_at` tells is not needed, of what is on record and among these proofs.

    Attempts are forgotten by when they ended. Where one is kept that ended by then, all that came later are; and where
    something was let in about then, it was that.
    """
    if status != RegistrationStatus.DISABLED:
        return False
    showings = [one.showings for one in proofs]
    return any(last <= done for one in showings for _, last in one.spans) or any(
        first <= done <= last for one in showings for first, last in one.let_in
    )


def shown_on_record(status: str, done: datetime) -> Showings:
    """done: as `proven_at` tells. Of a registration that failed it is kept too what was shown."""
    return Showings.at(done, done, let_in=status != RegistrationStatus.FAILED)


def _by_attempts(proofs: Sequence[Proof]) -> Iterator[Shown]:
    pems = pems_of(one for proof in proofs for one in (proof.leaf, *proof.above) if one)
    for one in proofs:
        when = f"{one.last.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        if one.mechanism is not Mechanism.X509:
            what = _WHAT[one.mechanism]
            basis = f"the {what} with which it proved itself, at last at {when}"
            shown = Shown(one.registration_id, basis, one.mechanism, readings=one.readings)
        elif one.leaf in pems:
            kept = [name for name in (one.leaf, *one.above) if name in pems]
            basis = f"the chain with which it proved itself, at last at {when}"
            chain = tuple(parsed(pems[name]) for name in kept)
            shown = Shown(
                one.registration_id, basis, Mechanism.X509, chain, lacks=len(kept) <= len(one.above)
            )
        else:
            continue
        yield replace(shown, proven=(one.first, one.last), showings=one.showings)


# --- What was enrolled for it ---------------------------------------------------------------------------


def held_before(
    states: Sequence[tuple[PastEntry, datetime]], first_proof: datetime
) -> dict[tuple[str, str], PastEntry]:
    """What an entry held, and held no more when its device first proved something: of later times it is known better.

    So an entry that asked for another certificate than the device was known to have has shut it out (R5). With the
    first of the states that held it.
    """
    until: dict[tuple[str, str], datetime] = {}
    first: dict[tuple[str, str], PastEntry] = {}
    for entry, ended in states:
        for name in credentials_in(entry):
            until[name] = max(until.get(name, ended), ended)
            first.setdefault(name, entry)
    return {name: entry for name, entry in first.items() if until[name] <= first_proof}


def _enrolled(
    held: Iterable[tuple[PastEntry, datetime]], first_proof: datetime, *, is_known: bool
) -> Iterator[Shown]:
    wanted = held_before(list(held), first_proof)
    rows = stored_certificates(one for mechanism, one in wanted if mechanism == AttestationMechanism.X509)
    for (mechanism, one), entry in wanted.items():
        what = _WHAT[Mechanism(mechanism)]
        basis = f"the {what} of its individual enrollment: it never registered"
        if is_known:
            basis = f"the {what} that its individual enrollment held: what it proved by then is not known"
        shown = Shown(entry.name, basis, Mechanism(mechanism))
        if shown.is_chain:
            yield replace(shown, chain=(parsed(rows[one].pem),))
        else:
            yield replace(shown, readings=(frozenset([one]),))


_WHAT: Mapping[Mechanism, str] = {
    Mechanism.X509: "certificate",
    Mechanism.SYMMETRIC_KEY: "key",
    Mechanism.TPM: "TPM",
}


def in_words(mechanism: Mechanism, thumbprint: str) -> str:
    what = _WHAT[mechanism]
    return f"the {what} (SHA-256 {thumbprint})" if thumbprint else f"the {what} that it has besides"


def credentials_in(entry: PastEntry) -> list[tuple[str, str]]:
    """Its credentials: by mechanism, thumbprints or what identifies keys."""
    if entry.mechanism == AttestationMechanism.X509:
        return [(entry.mechanism, one) for one in entry.thumbprints]
    return [(entry.mechanism, one) for one in entry.key_ids if one]
