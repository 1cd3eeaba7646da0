"""Judging a chain of certificates: which keys on it are barred, and to which enrolled CAs it leads."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from enrollments.actions.certificates import parsed
from enrollments.actions.judging.lookup import KeyLookup, Met
from enrollments.actions.judging.world import (
    World,
    credential_facts,
    individual_facts,
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
from enrollments.policy.words import as_part


class JudgedChain(NamedTuple):
    """`chain`: the leaf, then what of the certificates sent is kept as evidence. `signer`: digest of a public key.

    met: whatever was met above the leaf, sent or held.
    """

    facts: RegistrationFacts
    chain: tuple[ParsedCertificate, ...]
    signer: str = ""
    met: tuple[ParsedCertificate, ...] = ()


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
        lookup = KeyLookup(world, chain.leaf)
        graph = build_chain_graph(chain, lookup, same_key_included=True)
        met = lookup.met(graph.key_steps().keys())
        facts = _gather(world, claimed_registration_id, individual, credential, graph, met, at)
    except AttestationError as problem:
        broken = replace(credential, problem=_REASONS[problem.code], problem_detail=problem.message)
        facts = credential_facts(world, claimed_registration_id, individual, broken)
        return JudgedChain(facts, (chain.leaf,) if chain else ())
    above = tuple(one for one in graph.certificates.values() if one is not graph.leaf)
    return JudgedChain(facts, (chain.leaf, *_connected(chain, graph)), _signer_of_leaf(graph), above)


def _signer_of_leaf(graph: ChainGraph) -> str:
    """The public key that verifiably signed the leaf, if we hold it or it was sent: one signature has one key."""
    signers = {
        graph.certificates[issuer].spki_sha256 for issuer in graph.issuers[graph.leaf.thumbprint_sha256]
    }
    return min(signers, default="")


def _connected(chain: PresentedChain, graph: ChainGraph) -> list[ParsedCertificate]:
    """What of the chain is kept as evidence (R10): all that verified signatures connect to the leaf (R7).

    On a valid path or not: what is enrolled later may bar or admit through it. Anybody can make certificates that carry
    the key of the leaf or of a CA, so of those on no path each record has only the latest (see `Certificate`).
    """
    return [one for one in chain.untrusted_intermediates if one.thumbprint_sha256 in graph.certificates]


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
    met: list[Met],
    at: datetime,
) -> RegistrationFacts:
    key_steps = graph.key_steps()
    by_group: dict[int, list[Met]] = {}
    for one in met:
        if one.role == HeldRole.ANCHOR:
            by_group.setdefault(one.group.pk, []).append(one)
    of_devices = [one for one in met if one.role == HeldRole.DEVICE]
    pinning = {
        one.individual.pk for one in of_devices if one.thumbprint_sha256 == graph.leaf.thumbprint_sha256
    }
    # Sought for a pinned leaf too: its entry decides alone (R8), and who else would admit it is worth knowing.
    validator = PathValidator(graph, at)
    return RegistrationFacts(
        claimed_registration_id,
        credential,
        individual=_pinned_facts(world, individual, pinning) if individual else None,
        barred_keys=tuple(
            BarredKey(one.individual, key_steps[one.spki_sha256], one.subject)
            for one in of_devices
            if not world.as_of.enabled(one)
        ),
        groups=tuple(_group_facts(world, held, key_steps, validator) for held in by_group.values()),
    )


def _pinned_facts(
    world: World, individual: IndividualEnrollment, pinning: Collection[int]
) -> IndividualFacts:
    if individual.mechanism != AttestationMechanism.X509:
        label = AttestationMechanism(individual.mechanism).label
        return individual_facts(
            world, individual, detail=f"it is enrolled for {label}, and a certificate was shown"
        )
    if individual.pk in pinning:
        return individual_facts(world, individual, own_credential_proven=True)
    return individual_facts(world, individual, detail="it does not hold the certificate that was shown")


def _group_facts(
    world: World, held: list[Met], key_steps: Mapping[str, int], validator: PathValidator
) -> GroupFacts:
    group = held[0]
    facts = GroupFacts(
        ref=group.group,
        enabled=world.as_of.enabled(group),
        created=(group.group_created.timestamp(), group.group.pk),
        steps_to_key=min(key_steps[one.spki_sha256] for one in held),
    )
    problems: list[str] = []
    paths: list[tuple[bool, tuple[ParsedCertificate, ...]]] = []
    for one in held:
        try:
            paths.append((one.lacks_proof, validator.shortest_valid_path(parsed(one.pem))))
        except InvalidPath as problem:
            problems.append(as_part(problem.message))
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
