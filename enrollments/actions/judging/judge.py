"""Gathering the facts about one device and having them decided: the one way from evidence to verdict."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from enrollments.actions.judging.chains import judge_chain
from enrollments.actions.judging.tokens import TokenQuestion, judge_token
from enrollments.actions.judging.world import World, credential_facts
from enrollments.actions.tpm_challenges import ChallengeKey
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.attestation.x509 import (
    ParsedCertificate,
)
from enrollments.models import (
    AttestationMechanism,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.services import Standing
from enrollments.policy.decision import Decision, TraceStep, decide
from enrollments.policy.facts import (
    CredentialFacts,
    EntryKind,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision with what it rests on. It holds as long as `holds` says so (R12).

    holds_until: when the switch of an entry turns by itself next, by the database's clock.
    rests_on_due: whether a switch was due when it was made, and the history did not say so yet.
    """

    epoch: int
    at: datetime
    facts: RegistrationFacts
    decision: Decision
    individual: IndividualEnrollment | None
    chain: tuple[ParsedCertificate, ...] = ()
    tpm_proof: ChallengeKey | None = None
    signer: str = ""
    met: tuple[ParsedCertificate, ...] = field(default=(), repr=False)
    secret: str = field(default="", repr=False)
    key_id: str = ""
    group_key_id: str = ""
    holds_until: datetime | None = field(kw_only=True)
    rests_on_due: bool = field(kw_only=True)

    def holds(self, epoch: int, now: datetime) -> bool:
        """Whether it would be the same, made now: nothing was changed since, and no switch has turned."""
        return epoch == self.epoch and (self.holds_until is None or now < self.holds_until)

    @property
    def leaf_thumbprint(self) -> str:
        return self.chain[0].thumbprint_sha256 if self.chain else ""

    @property
    def registration_key(self) -> str:
        return registration_key(self.facts.claimed_registration_id)

    @property
    def mechanism(self) -> str:
        return self.facts.credential.mechanism or ""

    def is_by(self, individual_pk: int | None, group_pk: int | None) -> bool:
        """Whether the deciding entry is the one that these columns of a record name."""
        entry = self.decision.entry
        if entry is None:
            return False
        return entry.pk == (individual_pk if entry.kind is EntryKind.INDIVIDUAL else group_pk)

    @property
    def leaf_key(self) -> str:
        return self.chain[0].spki_sha256 if self.chain else ""

    @property
    def token_of(self) -> str:
        """The entry whose key was proven by a token: who holds that of another is somebody else."""
        individual = self.facts.individual
        if individual is not None and individual.own_credential_proven:
            return f"individual {individual.ref.pk}"
        return next((f"group {group.ref.pk}" for group in self.facts.groups if group.signed), "")

    @property
    def is_key_of_group(self) -> bool | None:
        """Whether what `key_id` identifies is the key of a group, from which the device has its own."""
        individual = self.facts.individual
        is_own = individual is not None and individual.own_credential_proven
        return not is_own if self.key_id else None

    @property
    def on_valid_paths(self) -> frozenset[str]:
        """Thumbprints of the certificates on the way to enrolled CAs: issued by CAs, and not made up by the device."""
        return frozenset(one for group in self.facts.groups for one in group.path_thumbprints)

    @property
    def on_no_path(self) -> frozenset[str]:
        """Thumbprints of what the device sent above its leaf, and nobody may ever have issued."""
        return frozenset(one.thumbprint_sha256 for one in self.chain[1:]) - self.on_valid_paths

    @property
    def only_shown(self) -> frozenset[str]:
        """Thumbprints of what is kept as evidence alone: all that somebody showed who was not let in (R14)."""
        if self.decision.admitted:
            return self.on_no_path
        return frozenset(one.thumbprint_sha256 for one in self.chain)

    @property
    def groups_proven(self) -> frozenset[int]:
        return frozenset(group.ref.pk for group in self.facts.groups if group.proves)

    def with_steps(self, steps: tuple[TraceStep, ...]) -> "Judgement":
        """The same decision, with what happened after it in its trace."""
        return replace(self, decision=replace(self.decision, trace=self.decision.trace + steps))


def judge(
    service: ProvisioningService,
    claimed_registration_id: str,
    credential: PresentedCredential,
    *,
    at: datetime,
    entries_at: datetime | None = None,
    recorded_only: bool = False,
    begins: bool = True,
    standing: Standing | None = None,
) -> Judgement:
    """Judge a device on the state of now.

    at: the time for which certificates, tokens and challenges are judged.
    entries_at: the time for which entries are, if not now by the database's clock; with what is scheduled until then.
    recorded_only: a switch that is due to let somebody in counts once the history says so (R15). For whoever acts on
    the answer.
    begins: the device wants to register, and does not follow up an earlier registration.
    standing: what was read of the service a moment ago, if it was; nothing else may have been read before it.
    The epoch is read first: a change that commits while facts are gathered has raised it by the time the caller
    compares, under the lock, what it then is.
    """
    standing = standing or ProvisioningService.what_decisions_read(service.pk)
    as_of = (
        standing.as_of_now(recorded_only=recorded_only) if entries_at is None else standing.as_of(entries_at)
    )
    world = World(service, standing, as_of)
    individual = world.individual(claimed_registration_id)
    chain: tuple[ParsedCertificate, ...] = ()
    tpm_proof: ChallengeKey | None = None
    met: tuple[ParsedCertificate, ...] = ()
    signer = secret = key_id = group_key_id = ""
    if credential.claimed_tpm is not None and not _is_enrolled(individual, credential.claimed_tpm):
        unknown = CredentialFacts(Mechanism.TPM, "the TPM", problem=Reason.TPM_NOT_ENROLLED)
        facts = credential_facts(world, claimed_registration_id, individual, unknown)
    elif credential.authorization:
        # A token is what the device chose to be judged by; a certificate beside it is not looked at.
        asked = TokenQuestion(claimed_registration_id, individual, credential, at, begins)
        token = judge_token(world, asked)
        facts, tpm_proof, secret = token.facts, token.tpm_proof, token.secret
        key_id, group_key_id = token.key_id, token.group_key_id
    elif credential.claimed_tpm is not None:
        waiting = CredentialFacts(Mechanism.TPM, "the TPM", problem=Reason.CHALLENGE_UNANSWERED)
        facts = credential_facts(world, claimed_registration_id, individual, waiting)
    elif credential.certificates:
        facts, chain, signer, met = judge_chain(
            world, claimed_registration_id, individual, credential.certificates, at
        )
    else:
        facts = credential_facts(
            world, claimed_registration_id, individual, CredentialFacts(None, problem=Reason.NO_CREDENTIAL)
        )
    holds_until = standing.next_switch
    if as_of.any_due:
        holds_until = ProvisioningService.next_switch_after(service.pk, as_of.at)
    return Judgement(
        standing.epoch,
        at,
        facts,
        decide(facts),
        individual,
        chain,
        tpm_proof,
        signer,
        met,
        secret,
        key_id,
        group_key_id,
        holds_until=holds_until,
        rests_on_due=standing.is_switch_due,
    )


def _is_enrolled(individual: IndividualEnrollment | None, claimed: ClaimedTpm) -> bool:
    """R3: by registration ID and endorsement key together. Both keys of the comparison are public."""
    return (
        individual is not None
        and individual.mechanism == AttestationMechanism.TPM
        and bytes(individual.endorsement_key or b"") == claimed.endorsement_key
    )
