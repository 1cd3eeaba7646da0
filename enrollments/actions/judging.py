"""Gathering the facts about one device and having them decided: the one way from evidence to verdict."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from enrollments.actions.certificates import parsed
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.symmetric_key import SasToken, check_token, key_bytes, read_token
from enrollments.attestation.x509 import (
    MAX_HELD,
    ChainGraph,
    InvalidPath,
    ParsedCertificate,
    PathValidator,
    PresentedChain,
    build_chain_graph,
    check_leaf,
    read_presented,
    registration_id_of,
)
from enrollments.errors import AttestationError
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.certificates import HeldCertificateQuerySet
from enrollments.models.enrollments import new_symmetric_key
from enrollments.models.fields import cipher
from enrollments.policy.decision import Decision, decide
from enrollments.policy.facts import (
    BarredKey,
    CredentialFacts,
    EntryKind,
    EntryRef,
    GroupFacts,
    IndividualFacts,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.names import registration_key, same_registration_id
from enrollments.policy.reasons import Reason


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision with what it rests on. It holds as long as the service's epoch is `epoch` (R12)."""

    epoch: int
    at: datetime
    facts: RegistrationFacts
    decision: Decision
    individual: IndividualEnrollment | None
    chain: tuple[ParsedCertificate, ...] = ()

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
    def groups_proven(self) -> frozenset[int]:
        return frozenset(group.ref.pk for group in self.facts.groups if group.path is not None)


def judge(
    service: ProvisioningService,
    claimed_registration_id: str,
    credential: PresentedCredential,
    *,
    at: datetime,
    without: Collection[EntryRef] = (),
) -> Judgement:
    """Judge a device on the state of now. `without`: entries to leave out, to ask what deleting them would do.

    The epoch is read first: a change that commits while facts are gathered has raised it by the time the caller
    compares, under the lock, what it then is.
    """
    epoch = ProvisioningService.epoch_of(service.pk)
    world = _World(service, without)
    individual = world.individual(claimed_registration_id)
    chain: tuple[ParsedCertificate, ...] = ()
    if credential.authorization:
        # A token is what the device chose to be judged by; a certificate beside it is not looked at.
        facts = _judge_token(service, claimed_registration_id, individual, credential.authorization, at)
    elif credential.certificates:
        facts, chain = _judge_chain(world, claimed_registration_id, individual, credential.certificates, at)
    else:
        facts = _facts(
            claimed_registration_id, individual, CredentialFacts(None, problem=Reason.NO_CREDENTIAL)
        )
    return Judgement(epoch, at, facts, decide(facts), individual, chain)


class _World:
    """What a service holds, minus the entries to be left out."""

    def __init__(self, service: ProvisioningService, without: Collection[EntryRef]) -> None:
        self.service = service
        self.left_out = {
            kind: [ref.pk for ref in without if ref.kind is kind]
            for kind in (EntryKind.INDIVIDUAL, EntryKind.GROUP)
        }

    def individual(self, claimed_registration_id: str) -> IndividualEnrollment | None:
        return (
            IndividualEnrollment.objects.filter(
                service=self.service, registration_key=registration_key(claimed_registration_id)
            )
            .exclude(pk__in=self.left_out[EntryKind.INDIVIDUAL])
            .first()
        )

    def held(self) -> HeldCertificateQuerySet:
        held = HeldCertificate.objects.filter(service=self.service)
        if self.left_out[EntryKind.INDIVIDUAL]:
            held = held.exclude(individual__in=self.left_out[EntryKind.INDIVIDUAL])
        if self.left_out[EntryKind.GROUP]:
            held = held.exclude(group__in=self.left_out[EntryKind.GROUP])
        return held

    def issuers(
        self, *, subjects: frozenset[str], key_ids: frozenset[str], spkis: frozenset[str]
    ) -> Iterable[ParsedCertificate]:
        """What the search for paths asks for. One more than MAX_HELD shows it that there would be more."""
        rows = self.held().that_may_have_issued(subjects, key_ids, spkis)
        pems = rows.values_list("certificate__pem", flat=True).distinct()[: MAX_HELD + 1]
        return [parsed(pem) for pem in pems]


def _facts(
    claimed_registration_id: str, individual: IndividualEnrollment | None, credential: CredentialFacts
) -> RegistrationFacts:
    return RegistrationFacts(
        claimed_registration_id,
        credential,
        individual=_individual_facts(individual) if individual else None,
    )


def individual_ref(individual: IndividualEnrollment) -> EntryRef:
    return EntryRef(EntryKind.INDIVIDUAL, individual.pk, individual.registration_id)


def group_ref(group: EnrollmentGroup) -> EntryRef:
    return EntryRef(EntryKind.GROUP, group.pk, group.group_id)


def _individual_facts(
    individual: IndividualEnrollment,
    *,
    own_credential_proven: bool = False,
    detail: str = "",
    problem: Reason | None = None,
) -> IndividualFacts:
    return IndividualFacts(
        ref=individual_ref(individual),
        enabled=individual.enabled,
        mechanism=Mechanism(individual.mechanism),
        own_credential_proven=own_credential_proven,
        detail=detail,
        problem=problem,
    )


# --- SAS tokens ------------------------------------------------------------------------------

# Checked where no entry holds keys, so that the time of an answer does not tell whether one exists (R3).
_DECOY = cipher().encrypt(new_symmetric_key().encode())


def _judge_token(
    service: ProvisioningService,
    claimed_registration_id: str,
    individual: IndividualEnrollment | None,
    authorization: str,
    at: datetime,
) -> RegistrationFacts:
    credential = CredentialFacts(Mechanism.SYMMETRIC_KEY, "the SAS token")
    try:
        token = read_token(authorization)
    except AttestationError as problem:
        broken = replace(credential, problem=Reason(problem.code), problem_detail=problem.message)
        return _facts(claimed_registration_id, individual, broken)
    if individual is None or individual.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        _check_against_decoy(service, token, claimed_registration_id, at)
        facts = _facts(claimed_registration_id, individual, credential)
        if individual is None:
            return facts
        detail = f"it is enrolled for {AttestationMechanism(individual.mechanism).label}, and a SAS token was shown"
        return replace(facts, individual=_individual_facts(individual, detail=detail))
    try:
        check_token(
            token,
            id_scope=service.id_scope,
            registration_id=claimed_registration_id,
            keys=[key_bytes(individual.primary_key), key_bytes(individual.secondary_key)],
            now=at.timestamp(),
        )
    except AttestationError as problem:
        shown = _individual_facts(individual, detail=problem.message, problem=Reason(problem.code))
    else:
        shown = _individual_facts(individual, own_credential_proven=True)
    return RegistrationFacts(claimed_registration_id, credential, individual=shown)


def _check_against_decoy(
    service: ProvisioningService, token: SasToken, registration_id: str, at: datetime
) -> None:
    keys = [key_bytes(cipher().decrypt(_DECOY).decode()) for _ in range(2)]
    try:
        check_token(
            token, id_scope=service.id_scope, registration_id=registration_id, keys=keys, now=at.timestamp()
        )
    except AttestationError:
        return
    raise AssertionError("a SAS token fits a key that was made up in this process")


# --- X.509 -----------------------------------------------------------------------------------


def _judge_chain(
    world: _World,
    claimed_registration_id: str,
    individual: IndividualEnrollment | None,
    sent: tuple[bytes, ...],
    at: datetime,
) -> tuple[RegistrationFacts, tuple[ParsedCertificate, ...]]:
    credential = CredentialFacts(Mechanism.X509, "the certificate")
    chain: PresentedChain | None = None
    try:
        chain = read_presented(sent)
        credential = replace(credential, summary=f"the certificate {chain.leaf.subject}")
        common_name = registration_id_of(chain.leaf)
        if not same_registration_id(common_name, claimed_registration_id):
            # The name is the certificate's own; what is enrolled under it has not been looked at.
            problem = replace(
                credential,
                problem=Reason.COMMON_NAME_DIFFERS,
                problem_detail=f"its common name is {common_name}, the registration ID {claimed_registration_id}",
            )
            return _facts(claimed_registration_id, individual, problem), (chain.leaf,)
        check_leaf(chain.leaf, at)
        graph = build_chain_graph(chain, world.issuers, same_key_included=True)
        facts = _gather(world, claimed_registration_id, individual, credential, graph, at)
    except AttestationError as problem:
        broken = replace(credential, problem=_REASONS[problem.code], problem_detail=problem.message)
        return _facts(claimed_registration_id, individual, broken), (chain.leaf,) if chain else ()
    return facts, (chain.leaf, *_on_valid_paths(chain, facts))


def _on_valid_paths(chain: PresentedChain, facts: RegistrationFacts) -> list[ParsedCertificate]:
    """What of the chain is kept as evidence: certificates that CAs have signed, on the way to an enrolled one.

    Anybody can make certificates that carry the key of the leaf or of a CA; they would fill the tables.
    """
    on_paths = {thumbprint for group in facts.groups for thumbprint in group.path_thumbprints}
    return [one for one in chain.untrusted_intermediates if one.thumbprint_sha256 in on_paths]


_REASONS = {
    "too_many_certificates": Reason.TOO_MANY_CERTIFICATES,
    "unreadable_certificate": Reason.CERTIFICATE_UNREADABLE,
    "no_certificate": Reason.NO_CREDENTIAL,
    "no_single_common_name": Reason.NO_SINGLE_COMMON_NAME,
    "leaf_refused": Reason.LEAF_REFUSED,
    "search_exhausted": Reason.SEARCH_EXHAUSTED,
}


def _gather(
    world: _World,
    claimed_registration_id: str,
    individual: IndividualEnrollment | None,
    credential: CredentialFacts,
    graph: ChainGraph,
    at: datetime,
) -> RegistrationFacts:
    key_steps = graph.key_steps()
    pinning = _individual_that_pins(world, graph.leaf)
    individual_facts = _pinned_facts(individual, pinning) if individual else None
    anchors = world.held().anchors().filter(spki_sha256__in=key_steps).select_related("group", "certificate")
    by_group: dict[int, list[HeldCertificate]] = {}
    # Sorted here: asked to sort, SQLite walks all of the service by that order.
    for held in sorted(anchors, key=lambda one: one.pk):
        assert held.group_id is not None  # a database constraint: held_certificate_has_its_place
        by_group.setdefault(held.group_id, []).append(held)
    # Sought for a pinned leaf too: its entry decides alone (R8), and who else would admit it is worth knowing.
    validator = PathValidator(graph, at)
    return RegistrationFacts(
        claimed_registration_id,
        credential,
        individual=individual_facts,
        barred_keys=tuple(
            BarredKey(individual_ref(held.individual), key_steps[held.spki_sha256], held.certificate.subject)
            for held in world.held().barring_keys(key_steps).select_related("individual", "certificate")
            if held.individual is not None
        ),
        groups=tuple(_group_facts(held, key_steps, validator) for held in by_group.values()),
    )


def _individual_that_pins(world: _World, leaf: ParsedCertificate) -> int | None:
    """Asked whether or not there is an entry to ask it of: the time of a refusal must not tell (R3)."""
    held = world.held().filter(role=HeldRole.DEVICE, spki_sha256=leaf.spki_sha256)
    pinning = held.filter(certificate__thumbprint_sha256=leaf.thumbprint_sha256)
    return pinning.values_list("individual", flat=True).first()


def _pinned_facts(individual: IndividualEnrollment, pinning: int | None) -> IndividualFacts:
    if individual.mechanism != AttestationMechanism.X509:
        label = AttestationMechanism(individual.mechanism).label
        return _individual_facts(
            individual, detail=f"it is enrolled for {label}, and a certificate was shown"
        )
    if pinning == individual.pk:
        return _individual_facts(individual, own_credential_proven=True)
    return _individual_facts(individual, detail="it holds another certificate than the one shown")


def _group_facts(
    held: list[HeldCertificate], key_steps: Mapping[str, int], validator: PathValidator
) -> GroupFacts:
    group = held[0].group
    assert group is not None  # a database constraint: held_certificate_has_its_place
    facts = GroupFacts(
        ref=group_ref(group),
        enabled=group.enabled,
        created=(group.created_at.timestamp(), group.pk),
        steps_to_key=min(key_steps[one.spki_sha256] for one in held),
    )
    problems: list[str] = []
    paths: list[tuple[ParsedCertificate, ...]] = []
    for one in held:
        try:
            paths.append(validator.shortest_valid_path(parsed(one.certificate.pem)))
        except InvalidPath as problem:
            problems.append(problem.message)
    if paths:
        shortest = min(paths, key=len)
        return replace(
            facts,
            path=tuple(certificate.subject for certificate in shortest),
            path_thumbprints=tuple(certificate.thumbprint_sha256 for certificate in shortest),
        )
    return replace(facts, path_problem="; ".join(dict.fromkeys(problems)))
