"""What a device shows when the past is asked: what it showed last, also where that was after the time in question."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from enrollments.actions.attempts import proven_leaf
from enrollments.actions.certificates import parsed
from enrollments.actions.known_credentials import KnownCredential
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.putting_back import stored_certificates
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.errors import NotFound
from enrollments.models import AttemptOutcome, AttestationMechanism, ProvisioningService
from enrollments.policy.facts import Mechanism
from enrollments.policy.names import registration_key

LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """`chain`: certificates, the leaf first; of a device that signs, `key_ids` are what identifies its key."""

    registration_id: str
    basis: str
    mechanism: Mechanism
    chain: tuple[ParsedCertificate, ...] = field(default=(), repr=False)
    key_ids: frozenset[str] = frozenset()

    @property
    def known(self) -> KnownCredential:
        credential = PresentedCredential(certificates=tuple(one.der for one in self.chain))
        return KnownCredential(
            self.registration_id, self.basis, credential if self.chain else None, self.chain
        )


def shown_by(service: ProvisioningService, registration_id: str, own: Iterable[PastEntry]) -> Shown:
    """What the device showed last or, if it never came, what was enrolled for it. Raises NotFound.

    own: the states of its individual enrollment, the one in question first.
    """
    key = registration_key(registration_id)
    record = service.registrations.filter(registration_key=key).first()
    if record is not None:
        name = record.registration_id
        pems = record.evidence.order_by("position").values_list("certificate__pem", flat=True)
        chain = tuple(parsed(pem) for pem in pems)
        if chain:
            return Shown(name, "the chain with which it proved itself last", Mechanism.X509, chain)
        if record.mechanism != AttestationMechanism.X509:
            what = "TPM" if record.mechanism == AttestationMechanism.TPM else "key"
            basis = f"the {what} with which it proved itself last"
            return Shown(name, basis, Mechanism(record.mechanism), key_ids=frozenset(record.key_ids.split()))
    for entry in own:
        if found := _enrolled(entry):
            return found
    tried = service.attempts.filter(registration_key=key).order_by("-last_at", "-id")
    # Whoever called the name without proof, however often, does not stand before who proved something.
    refused = tried.filter(outcome=AttemptOutcome.REFUSED)
    for attempt in (*tried.exclude(outcome=AttemptOutcome.REFUSED)[:LOOKED_AT], *refused[:LOOKED_AT]):
        if (leaf := proven_leaf(attempt)) is not None:
            basis = "the certificate with which it proved itself last, at an attempt"
            return Shown(attempt.claimed_registration_id, basis, Mechanism.X509, (parsed(leaf.pem),))
    raise NotFound(
        f"Nothing is known about registration ID {registration_id[:130]} in service {service} that could be judged: it "
        "has no registration record, and since that time no individual enrollment with a credential."
    )


def _enrolled(entry: PastEntry) -> Shown | None:
    blank = Shown(entry.name, "", Mechanism(entry.mechanism or Mechanism.X509))
    if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        basis = "the primary key of its individual enrollment: it never registered"
        return replace(blank, basis=basis, key_ids=frozenset(filter(None, entry.key_ids[:1])))
    if entry.mechanism == AttestationMechanism.TPM:
        basis = "the TPM of its individual enrollment: it never registered"
        return replace(blank, basis=basis, key_ids=frozenset(filter(None, entry.key_ids[:1])))
    for thumbprint in entry.thumbprints:
        row = stored_certificates([thumbprint])[thumbprint]
        basis = "the certificate of its individual enrollment: it never registered"
        return replace(blank, basis=basis, chain=(parsed(row.pem),))
    return None
