"""A device's question, and what it is told; here is what leads to no assignment: to wait, a challenge, a refusal."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from enrollments.actions.attempts import Peer, count_attempt
from enrollments.actions.callers import source_of
from enrollments.actions.judging import Judgement
from enrollments.actions.rates import Visit, note_refusal, quiet_period_for, take_challenge
from enrollments.actions.tpm_challenges import challenge, enrolled_storage_root_key, wrapped_hub_key
from enrollments.attestation.credential import PresentedCredential
from enrollments.errors import Invalid
from enrollments.models import AttemptOutcome, ProvisioningService, RegistrationRecord
from enrollments.models.locks import admission_lock
from enrollments.models.services import Standing
from enrollments.policy.decision import Verdict
from enrollments.policy.reasons import Reason
from enrollments.policy.unknown import Unknown


class Outcome(StrEnum):
    UNAUTHORIZED = "unauthorized"
    CHALLENGE = "challenge"
    THROTTLED = "throttled"
    UNASSIGNED = "unassigned"
    ASSIGNING = "assigning"
    ASSIGNED = "assigned"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A device's question, translated from whatever transport it came by. `payload`: what it sent along.

    standing: what was read with the service when the request came. The first judgement rests on it, no other.
    """

    claimed_registration_id: str
    credential: PresentedCredential
    peer: Peer
    arrived_at: datetime
    payload: Any = None
    begins: bool = True
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class RegistrationAnswer:
    """What became of it. `record` is there where the outcome is told from one; never for the unauthorized.

    tpm_blob: for the outcome `challenge` what the TPM has to open, for an assigned TPM its hub's key (contract 3.3).
    """

    outcome: Outcome
    reason: Reason | Unknown
    registration_id: str
    tracking_id: str = ""
    operation_id: str = ""
    retry_after: int = 3
    record: RegistrationRecord | None = None
    tpm_blob: bytes = field(default=b"", repr=False)


def still_holds(service: ProvisioningService, judgement: Judgement) -> bool:
    """Whether nothing was changed since, and no switch has turned by itself by the database's clock (R12)."""
    return judgement.holds(*ProvisioningService.epoch_and_time(service.pk))


def visit_of(service: ProvisioningService, request: DeviceRequest) -> Visit:
    return Visit(
        service,
        request.claimed_registration_id,
        request.credential,
        request.peer.address,
        request.arrived_at,
        is_poll=not request.begins,
        client=request.peer.client,
    )


def throttled(request: DeviceRequest, wait: int, tracking_id: str = "") -> RegistrationAnswer:
    return RegistrationAnswer(
        Outcome.THROTTLED, Reason.THROTTLED, request.claimed_registration_id, tracking_id, retry_after=wait
    )


def kept_quiet(
    service: ProvisioningService, request: DeviceRequest, judgement: Judgement
) -> RegistrationAnswer | None:
    """Told to wait instead of refused, where an administrator has said so. None where nobody has (R14).

    Not on a judgement that something has overtaken: the device might be admitted by now.
    """
    visit = visit_of(service, request)
    quiet = quiet_period_for(visit, judgement)
    if quiet is None or not still_holds(service, judgement):
        return None
    refused = note_refusal(visit, judgement, quiet)
    is_unproven = judgement.decision.verdict is Verdict.UNAUTHORIZED
    tracking_id = count_attempt(
        service,
        request.claimed_registration_id,
        judgement,
        AttemptOutcome.REFUSED if is_unproven else AttemptOutcome.DISABLED,
        judgement.decision.reason,
        request.peer,
        times=1 + refused.unjudged_before,
    )
    return throttled(request, refused.retry_after, tracking_id)


def challenge_of(
    service: ProvisioningService, request: DeviceRequest, judgement: Judgement
) -> RegistrationAnswer:
    """What a TPM has to open before it has proven anything. Whether its entry is enabled, it does not hear (R3)."""
    visit = visit_of(service, request)
    if wait := take_challenge(visit, judgement):
        return throttled(request, wait)
    individual, claimed = judgement.individual, request.credential.claimed_tpm
    assert individual is not None  # it is enrolled, or the reason would be another one
    assert claimed is not None  # the same
    storage_root_key = claimed.storage_root_key or enrolled_storage_root_key(individual)
    if storage_root_key is None:
        raise Invalid({"storageRootKey": ["The storage root key of the TPM is missing."]})
    with admission_lock(service):
        if not still_holds(service, judgement):
            # The entry may be another's by now, or gone: the device asks again.
            return throttled(request, service.retry_after_seconds)
        blob = challenge(
            individual, storage_root_key, request.arrived_at, source=source_of(request.peer.address)
        )
    return RegistrationAnswer(
        Outcome.CHALLENGE,
        Reason.CHALLENGE_UNANSWERED,
        request.claimed_registration_id,
        retry_after=service.retry_after_seconds,
        tpm_blob=blob,
    )


def with_hub_key(answer: RegistrationAnswer, judgement: Judgement) -> RegistrationAnswer:
    """An assigned TPM gets its hub's key, wrapped anew each time that it asks."""
    record, individual = answer.record, judgement.individual
    if answer.outcome is not Outcome.ASSIGNED or record is None:
        return answer
    if judgement.tpm_proof is None or individual is None:
        return answer
    return replace(answer, tpm_blob=wrapped_hub_key(individual, judgement.tpm_proof))


def refuse(service: ProvisioningService, request: DeviceRequest, judgement: Judgement) -> RegistrationAnswer:
    """R3: the same for every cause. The cause is kept under the tracking ID, for those who administer."""
    reason = judgement.decision.reason
    refused = note_refusal(visit_of(service, request), judgement)
    tracking_id = count_attempt(
        service,
        request.claimed_registration_id,
        judgement,
        AttemptOutcome.REFUSED,
        reason,
        request.peer,
        times=1 + refused.unjudged_before,
    )
    return RegistrationAnswer(
        Outcome.UNAUTHORIZED,
        reason,
        request.claimed_registration_id,
        tracking_id,
        retry_after=refused.retry_after,
    )
