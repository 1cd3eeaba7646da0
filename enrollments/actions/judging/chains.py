"""Judging a chain of certificates: which keys on it are barred, and to which enrolled CAs it leads."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from enrollments.actions.certificates import parsed
from enrollments.actions.judging.world import (
    World,
    credential_facts,
    group_ref,
    individual_facts,
    individual_ref,
)
from enrollments.attestation.x509 import (
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
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
)
from enrollments.policy.facts import (
    BarredKey,
    CredentialFacts,
    GroupFacts,
    IndividualFacts,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.names import same_registration_id
from enrollments.policy.reasons import Reason


class JudgedChain(NamedTuple):
    """`chain`: the leaf, then what of the certificates sent is kept as evidence. `signer`: digest of a public key."""

    facts: RegistrationFacts
    chain: tuple[ParsedCertificate, ...]
    signer: str = ""


def judge_chain(
    world: World,
    claimed_registration_id: str,
    individual: IndividualEnrollment | None,
    sent: tuple[bytes, ...],
    at: datetime,
) -> JudgedChain:
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
            facts = credential_facts(world, claimed_registration_id, individual, problem)
            return JudgedChain(facts, (chain.leaf,))
        check_leaf(chain.leaf, at)
        graph = build_chain_graph(chain, world.issuers, same_key_included=True)
        facts = _gather(world, claimed_registration_id, individual, credential, graph, at)
    except AttestationError as problem:
        broken = replace(credential, problem=_REASONS[problem.code], problem_detail=problem.message)
        facts = credential_facts(world, claimed_registration_id, individual, broken)
        return JudgedChain(facts, (chain.leaf,) if chain else ())
    return JudgedChain(facts, (chain.leaf, *_on_valid_paths(chain, facts)), _signer_of_leaf(graph))


def _signer_of_leaf(graph: ChainGraph) -> str:
    """The public key that verifiably signed the leaf, if we hold it or it was sent: one signature has one key."""
    signers = {
        graph.certificates[issuer].spki_sha256 for issuer in graph.issuers[graph.leaf.thumbprint_sha256]
    }
    return min(signers, default="")


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
    world: World,
    claimed_registration_id: str,
    individual: IndividualEnrollment | None,
    credential: CredentialFacts,
    graph: ChainGraph,
    at: datetime,
) -> RegistrationFacts:
    key_steps = graph.key_steps()
    pinning = _individual_that_pins(world, graph.leaf)
    individual_facts = _pinned_facts(world, individual, pinning) if individual else None
    anchors = world.anchors(key_steps).select_related("group", "certificate")
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
            for held in world.held()
            .barring_keys(key_steps, world.as_of)
            .select_related("individual", "certificate")
            if held.individual is not None
        ),
        groups=tuple(_group_facts(world, held, key_steps, validator) for held in by_group.values()),
    )


def _individual_that_pins(world: World, leaf: ParsedCertificate) -> int | None:
    """Asked whether or not there is an entry to ask it of: the time of a refusal must not tell (R3)."""
    held = world.held().filter(role=HeldRole.DEVICE, spki_sha256=leaf.spki_sha256)
    pinning = held.filter(certificate__thumbprint_sha256=leaf.thumbprint_sha256)
    return pinning.values_list("individual", flat=True).first()


def _pinned_facts(world: World, individual: IndividualEnrollment, pinning: int | None) -> IndividualFacts:
    if individual.mechanism != AttestationMechanism.X509:
        label = AttestationMechanism(individual.mechanism).label
        return individual_facts(
            world, individual, detail=f"it is enrolled for {label}, and a certificate was shown"
        )
    if pinning == individual.pk:
        return individual_facts(world, individual, own_credential_proven=True)
    return individual_facts(world, individual, detail="it holds another certificate than the one shown")


def _group_facts(
    world: World, held: list[HeldCertificate], key_steps: Mapping[str, int], validator: PathValidator
) -> GroupFacts:
    group = held[0].group
    assert group is not None  # a database constraint: held_certificate_has_its_place
    facts = GroupFacts(
        ref=group_ref(group),
        enabled=world.as_of.enabled(group),
        created=(group.created_at.timestamp(), group.pk),
        steps_to_key=min(key_steps[one.spki_sha256] for one in held),
    )
    problems: list[str] = []
    paths: list[tuple[bool, tuple[ParsedCertificate, ...]]] = []
    for one in held:
        lacks_proof: bool = one.lacks_proof  # type: ignore[attr-defined]  # the annotation of world.anchors
        try:
            paths.append((lacks_proof, validator.shortest_valid_path(parsed(one.certificate.pem))))
        except InvalidPath as problem:
            problems.append(problem.message)
    if paths:
        # R7: a path to a CA without proof shows who the device is, and admits only where no proof is demanded.
        lacks_proof, shortest = min(paths, key=lambda found: (found[0], len(found[1])))
        return replace(
            facts,
            path=tuple(certificate.subject for certificate in shortest),
            path_thumbprints=tuple(certificate.thumbprint_sha256 for certificate in shortest),
            lacks_proof=lacks_proof,
        )
    return replace(facts, path_problem="; ".join(dict.fromkeys(problems)))
