"""Judging a SAS token: against the keys of an individual enrollment, a TPM's challenge, and keys that groups derive."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from enrollments.actions.judging.world import (
    GroupWithKeys,
    World,
    credential_facts,
    individual_facts,
)
from enrollments.actions.key_identifiers import endorsement_identifier
from enrollments.actions.tpm_challenges import ChallengeKey, keys_that_hold
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.symmetric_key import (
    SasToken,
    check_claims,
    check_token,
    derive_device_key,
    fitting_keys,
    key_bytes,
    read_token,
)
from enrollments.errors import AttestationError
from enrollments.models import (
    AttestationMechanism,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.enrollments import new_symmetric_key
from enrollments.models.fields import cipher
from enrollments.policy.facts import (
    CredentialFacts,
    GroupFacts,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.reasons import Reason

# Checked where no entry holds keys, so that the time of an answer does not tell whether one exists (R3).
_DECOY = cipher().encrypt(new_symmetric_key().encode())


@dataclass(frozen=True, slots=True)
class TokenQuestion:
    claimed_registration_id: str
    individual: IndividualEnrollment | None
    credential: PresentedCredential
    at: datetime
    begins: bool


@dataclass(frozen=True, slots=True)
class JudgedToken:
    """`secret`: what is enrolled and was proven: a key of the individual or of the group, or a TPM's public key.

    key_id: what identifies it. group_key_id: the same of the group's key that the device's own is derived from.
    """

    facts: RegistrationFacts
    tpm_proof: ChallengeKey | None = None
    secret: str = field(default="", repr=False)
    key_id: str = ""
    group_key_id: str = ""


def judge_token(world: World, asked: TokenQuestion) -> JudgedToken:
    """Against the keys of the individual enrollment, and those that groups derive for this device.

    Both are always tried, so that neither the answer nor its time tells which entries exist (R3).
    """
    claimed, individual = asked.claimed_registration_id, asked.individual
    is_tpm = individual is not None and individual.mechanism == AttestationMechanism.TPM
    credential = CredentialFacts(Mechanism.TPM if is_tpm else Mechanism.SYMMETRIC_KEY, "the SAS token")
    try:
        token = read_token(asked.credential.authorization)
    except AttestationError as problem:
        broken = replace(credential, problem=Reason(problem.code), problem_detail=problem.message)
        return JudgedToken(credential_facts(world, claimed, individual, broken))
    keys, answers = _own_keys(asked)
    position, failure = _fitting(world.service, token, asked, keys or _decoys())
    groups, (group_key, group_key_id), group_failure = _groups_that_signed(world, token, asked)
    if not keys and position is not None:
        raise AssertionError("a SAS token fits a key that was made up in this process")
    if individual is None:
        if not groups and group_failure is not None:
            credential = replace(
                credential, problem=Reason(group_failure.code), problem_detail=group_failure.message
            )
        return JudgedToken(
            RegistrationFacts(claimed, credential, groups=groups), secret=group_key, key_id=group_key_id
        )
    if keys and position is not None:
        shown = individual_facts(world, individual, own_credential_proven=True)
    elif keys and failure is not None:
        shown = individual_facts(world, individual, detail=failure.message, problem=Reason(failure.code))
    else:
        shown = individual_facts(world, individual, detail=_why_no_keys(individual))
    facts = RegistrationFacts(claimed, credential, individual=shown, groups=groups)
    if not keys or position is None:
        return JudgedToken(facts, secret=group_key, key_id=group_key_id)
    proof = answers[position] if answers else None
    which = 0 if answers else position
    return JudgedToken(
        facts,
        proof,
        secrets_of_individual(individual)[which],
        key_ids_of_individual(individual)[which],
        group_key_id,
    )


def secrets_of_individual(individual: IndividualEnrollment) -> tuple[str, ...]:
    """What a device of this enrollment holds, as it is enrolled: keys, or what a TPM is known by."""
    if individual.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        return individual.primary_key, individual.secondary_key
    if individual.mechanism == AttestationMechanism.TPM:
        return (bytes(individual.endorsement_key or b"").hex(),)
    return ()


def key_ids_of_individual(individual: IndividualEnrollment) -> tuple[str, ...]:
    """What identifies each of the secrets of an individual enrollment, in the same order."""
    if individual.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        return individual.primary_key_id, individual.secondary_key_id
    if individual.mechanism == AttestationMechanism.TPM:
        return (endorsement_identifier(bytes(individual.endorsement_key or b"")),)
    return ()


def _own_keys(asked: TokenQuestion) -> tuple[list[bytes], list[ChallengeKey]]:
    """The keys of the individual enrollment; for a TPM with the challenges that they were delivered by."""
    individual = asked.individual
    if individual is None:
        return [], []
    if individual.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        return [key_bytes(individual.primary_key), key_bytes(individual.secondary_key)], []
    if individual.mechanism == AttestationMechanism.TPM:
        claimed_tpm = asked.credential.claimed_tpm
        named = claimed_tpm.storage_root_key if claimed_tpm else None
        answers = keys_that_hold(individual, named, asked.at, begins=asked.begins)
        return [one.key for one in answers], answers
    return [], []


def _why_no_keys(individual: IndividualEnrollment) -> str:
    if individual.mechanism == AttestationMechanism.TPM:
        return "no challenge to its TPM is pending that the token could answer"
    return f"it is enrolled for {AttestationMechanism(individual.mechanism).label}, and a SAS token was shown"


def _fitting(
    service: ProvisioningService, token: SasToken, asked: TokenQuestion, keys: list[bytes]
) -> tuple[int | None, AttestationError | None]:
    """Which key the token proves, or why it proves none."""
    try:
        position = check_token(
            token,
            id_scope=service.id_scope,
            registration_id=asked.claimed_registration_id,
            keys=keys,
            now=asked.at.timestamp(),
        )
    except AttestationError as problem:
        return None, problem
    return position, None


def _decoys() -> list[bytes]:
    return [key_bytes(cipher().decrypt(_DECOY).decode()) for _ in range(2)]


def _groups_that_signed(
    world: World, token: SasToken, asked: TokenQuestion
) -> tuple[tuple[GroupFacts, ...], tuple[str, str], AttestationError | None]:
    """The groups with symmetric keys (R4) from which this device has the key of the token (contract 2.2).

    With the group's key that it is derived from and what identifies that, and with what is wrong with a token that is
    signed with such a key all the same: it has expired, for one.
    """
    found: list[GroupFacts] = []
    secret = ("", "")
    signed_and_wrong: AttestationError | None = None
    name = asked.claimed_registration_id
    for group in world.groups_with_keys():
        fitting = fitting_keys(token, [derive_device_key(key, name) for key in group.keys])
        if not fitting:
            continue
        try:
            check_claims(
                token, id_scope=world.service.id_scope, registration_id=name, now=asked.at.timestamp()
            )
        except AttestationError as problem:
            signed_and_wrong = problem
        else:
            found.append(_signing_group(world, group))
            secret = secret if any(secret) else (group.secrets[fitting[0]], group.key_ids[fitting[0]])
    return tuple(found), secret, signed_and_wrong


def _signing_group(world: World, group: GroupWithKeys) -> GroupFacts:
    return GroupFacts(
        ref=group.ref,
        enabled=world.as_of.enabled(group),
        created=group.created,
        steps_to_key=0,
        signed=True,
        switched_off=not world.groups_with_keys_admit,
    )
