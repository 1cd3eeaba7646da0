"""Judging a SAS token: against the keys of an individual enrollment, a TPM's challenge, and keys that groups derive."""

from dataclasses import dataclass, replace
from datetime import datetime

from enrollments.actions.judging.world import World, credential_facts, group_ref, individual_facts
from enrollments.actions.tpm_challenges import ChallengeKey, keys_that_hold
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.symmetric_key import (
    SasToken,
    TokenSignatureWrong,
    check_token,
    derive_device_key,
    key_bytes,
    read_token,
)
from enrollments.errors import AttestationError
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
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


def judge_token(world: World, asked: TokenQuestion) -> tuple[RegistrationFacts, ChallengeKey | None]:
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
        return credential_facts(world, claimed, individual, broken), None
    keys, answers = _own_keys(asked)
    position, failure = _fitting(world.service, token, asked, keys or _decoys())
    groups, group_failure = _groups_that_signed(world, token, asked)
    if not keys and position is not None:
        raise AssertionError("a SAS token fits a key that was made up in this process")
    if individual is None:
        if not groups and group_failure is not None:
            credential = replace(
                credential, problem=Reason(group_failure.code), problem_detail=group_failure.message
            )
        return RegistrationFacts(claimed, credential, groups=groups), None
    if keys and position is not None:
        shown = individual_facts(world, individual, own_credential_proven=True)
    elif keys and failure is not None:
        shown = individual_facts(world, individual, detail=failure.message, problem=Reason(failure.code))
    else:
        shown = individual_facts(world, individual, detail=_why_no_keys(individual))
    proof = answers[position] if answers and position is not None else None
    return RegistrationFacts(claimed, credential, individual=shown, groups=groups), proof


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
) -> tuple[tuple[GroupFacts, ...], AttestationError | None]:
    """The groups with symmetric keys (R4) from which this device has the key of the token (contract 2.2).

    With what is wrong with a token that is signed with such a key all the same: it has expired, for one.
    """
    found: list[GroupFacts] = []
    signed_and_wrong: AttestationError | None = None
    for group in world.groups_with_keys():
        keys = [
            derive_device_key(key_bytes(key), asked.claimed_registration_id)
            for key in (group.primary_key, group.secondary_key)
        ]
        position, failure = _fitting(world.service, token, asked, keys)
        if position is not None:
            found.append(_signing_group(world, group))
        elif not isinstance(failure, TokenSignatureWrong):
            signed_and_wrong = failure
    return tuple(found), signed_and_wrong


def _signing_group(world: World, group: EnrollmentGroup) -> GroupFacts:
    return GroupFacts(
        ref=group_ref(group),
        enabled=world.as_of.enabled(group),
        created=(group.created_at.timestamp(), group.pk),
        steps_to_key=0,
        signed=True,
        switched_off=not world.groups_with_keys_admit,
    )
