"""Registering a device and telling it the outcome (R10 to R13). Knows nothing of the transport that asks."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from django.utils import timezone

from enrollments.actions.assignment import (
    REMOTE_PATIENCE,
    Assigned,
    assign,
    holder_of,
    keep_disabled,
    settle_remote,
    speaks_for,
)
from enrollments.actions.attempts import Peer, count_attempt, has_room
from enrollments.actions.judging import Judgement, judge
from enrollments.actions.operations import is_operation_of, new_operation_id
from enrollments.attestation.credential import PresentedCredential
from enrollments.errors import HubUnavailable, NotFound
from enrollments.hubs import DeviceIdTaken
from enrollments.models import (
    AttemptOutcome,
    EnrollmentGroup,
    ProvisioningService,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.models.locks import admission_lock
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryKind
from enrollments.policy.ownership import may_take_name
from enrollments.policy.reasons import Reason

# How often a registration is judged anew because entries changed meanwhile, before it is judged under the lock.
MAX_ROUNDS = 4


class Outcome(StrEnum):
    UNAUTHORIZED = "unauthorized"
    UNASSIGNED = "unassigned"
    ASSIGNING = "assigning"
    ASSIGNED = "assigned"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A device's question, translated from whatever transport it came by."""

    claimed_registration_id: str
    credential: PresentedCredential
    peer: Peer
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class RegistrationAnswer:
    """What became of it. `record` is there where the outcome is told from one; never for the unauthorized."""

    outcome: Outcome
    reason: Reason
    registration_id: str
    tracking_id: str = ""
    operation_id: str = ""
    retry_after: int = 3
    record: RegistrationRecord | None = None


_ATTEMPT = {
    Outcome.ASSIGNED: AttemptOutcome.ASSIGNED,
    Outcome.ASSIGNING: AttemptOutcome.ASSIGNED,
    Outcome.FAILED: AttemptOutcome.FAILED,
    Outcome.DISABLED: AttemptOutcome.DISABLED,
}


def register_device(service: ProvisioningService, request: DeviceRequest) -> RegistrationAnswer:
    """Judge a device and assign it. What is answered was decided on the state at the moment of the commit (R12).

    Credentials are proven and paths found before the lock is taken; under it, an unchanged epoch shows that
    nothing which the judgement rests on has changed. Where it has, the device is judged again.
    """
    for _ in range(MAX_ROUNDS):
        judgement = _judge(service, request)
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return _refuse(service, request, judgement)
        with admission_lock(service):
            current = ProvisioningService.objects.get(pk=service.pk)
            if current.epoch != judgement.epoch:
                continue
            answer, pending = _apply(current, request, judgement)
        return _at_remote_hub(current, request, pending) if pending else answer
    return _register_under_lock(service, request)


def _register_under_lock(service: ProvisioningService, request: DeviceRequest) -> RegistrationAnswer:
    """Changes come faster than paths are found: hold them off for one judgement, so that the device is answered."""
    with admission_lock(service):
        judgement = _judge(service, request)
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return _refuse(service, request, judgement)
        current = ProvisioningService.objects.get(pk=service.pk)
        answer, pending = _apply(current, request, judgement)
    return _at_remote_hub(current, request, pending) if pending else answer


def poll_operation(
    service: ProvisioningService, operation_id: str, request: DeviceRequest
) -> RegistrationAnswer:
    """Tell how an operation ended. A result that stands on an older epoch is judged again before it is told (R12).

    Raises NotFound for an operation that is not of this device; only the proven hear even that (R3).
    """
    for _ in range(MAX_ROUNDS):
        judgement = _judge(service, request)
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return _refuse(service, request, judgement)
        if not is_operation_of(operation_id, service, request.claimed_registration_id):
            raise NotFound("There is no such operation.")
        answer = _told(service, request, judgement)
        # The last look before telling: nothing that was answered to an administrator by now is ignored.
        if ProvisioningService.epoch_of(service.pk) == judgement.epoch:
            break
    else:
        answer = None
    if answer is None:
        answer = register_device(service, request)
    return replace(answer, operation_id=operation_id)


def look_up_registration(service: ProvisioningService, request: DeviceRequest) -> RegistrationAnswer:
    """The last result of a proven device, without registering it: `unassigned` where there is none that holds."""
    for _ in range(MAX_ROUNDS):
        judgement = _judge(service, request)
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return _refuse(service, request, judgement)
        answer = _told(service, request, judgement)
        if ProvisioningService.epoch_of(service.pk) == judgement.epoch and answer is not None:
            return answer
    return RegistrationAnswer(Outcome.UNASSIGNED, Reason.NOT_ENROLLED, request.claimed_registration_id)


def _judge(service: ProvisioningService, request: DeviceRequest) -> Judgement:
    return judge(service, request.claimed_registration_id, request.credential, at=request.arrived_at)


def _refuse(service: ProvisioningService, request: DeviceRequest, judgement: Judgement) -> RegistrationAnswer:
    """R3: the same for every cause. The cause is kept under the tracking ID, for those who administer."""
    reason = judgement.decision.reason
    tracking_id = count_attempt(
        service, request.claimed_registration_id, judgement, AttemptOutcome.REFUSED, reason, request.peer
    )
    return RegistrationAnswer(Outcome.UNAUTHORIZED, reason, request.claimed_registration_id, tracking_id)


def _apply(
    service: ProvisioningService, request: DeviceRequest, judgement: Judgement
) -> tuple[RegistrationAnswer, Assigned | None]:
    """Write what a proven device's judgement leads to. Inside the admission lock, on the current service row."""
    operation_id = new_operation_id(service, request.claimed_registration_id)
    pending: Assigned | None = None
    if judgement.decision.verdict is Verdict.DISABLED:
        outcome, reason = Outcome.DISABLED, judgement.decision.reason
        may_add = has_room(
            service, judgement, request.claimed_registration_id, AttemptOutcome.DISABLED, reason
        )
        record = keep_disabled(
            service, request.claimed_registration_id, judgement, operation_id, may_add=may_add
        )
    else:
        assigned = assign(
            service,
            request.claimed_registration_id,
            judgement,
            operation_id=operation_id,
            arrived_at=request.arrived_at,
            address=request.peer.address,
        )
        record, reason, operation_id = assigned.record, assigned.reason, assigned.operation_id
        pending = assigned if assigned.move is not None else None
        outcome = Outcome.FAILED if reason is not Reason.ADMITTED else _outcome_of(record)
    tracking_id = count_attempt(
        service, request.claimed_registration_id, judgement, _ATTEMPT[outcome], reason, request.peer
    )
    return (
        RegistrationAnswer(
            outcome,
            reason,
            request.claimed_registration_id,
            tracking_id,
            operation_id,
            service.retry_after_seconds,
            record,
        ),
        pending,
    )


def _outcome_of(record: RegistrationRecord | None) -> Outcome:
    return Outcome(record.status) if record is not None else Outcome.FAILED


def _at_remote_hub(
    service: ProvisioningService, request: DeviceRequest, pending: Assigned
) -> RegistrationAnswer:
    """The hub is not ours: it is asked outside of any transaction, and the device is judged again after (R12)."""
    assert pending.move is not None  # that is what makes it pending
    problem = _ask_hub(pending)
    for _ in range(MAX_ROUNDS):
        judgement = _judge(service, request)
        with admission_lock(service):
            if ProvisioningService.epoch_of(service.pk) != judgement.epoch:
                continue
            reason = settle_remote(service, pending, judgement, problem, request.peer.address)
        break
    else:
        with admission_lock(service):
            judgement = _judge(service, request)
            reason = settle_remote(service, pending, judgement, problem, request.peer.address)
    if reason is Reason.ADMITTED:
        pending.move.leave_former()
        outcome = Outcome.ASSIGNED
    else:
        if reason is not None:
            pending.move.undo()
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return _refuse(service, request, judgement)
        outcome = Outcome.DISABLED if judgement.decision.verdict is Verdict.DISABLED else Outcome.FAILED
    return RegistrationAnswer(
        outcome,
        reason or Reason.HUB_FAILED,
        request.claimed_registration_id,
        operation_id=pending.operation_id,
        retry_after=service.retry_after_seconds,
        record=service.registrations.select_related("hub")
        .filter(registration_key=judgement.registration_key)
        .first(),
    )


def _ask_hub(pending: Assigned) -> Reason | None:
    assert pending.move is not None  # that is what makes it pending
    try:
        pending.move.provision()
    except DeviceIdTaken:
        return Reason.DEVICE_ID_TAKEN
    except HubUnavailable:
        return Reason.HUB_FAILED
    return None


def _told(
    service: ProvisioningService, request: DeviceRequest, judgement: Judgement
) -> RegistrationAnswer | None:
    """What can be told from the record as it stands; None where the device has to be registered (again) first."""
    record = (
        service.registrations.select_related("hub", "owner_individual", "owner_group")
        .filter(registration_key=judgement.registration_key)
        .first()
    )
    answer = RegistrationAnswer(
        Outcome.DISABLED,
        judgement.decision.reason,
        request.claimed_registration_id,
        retry_after=service.retry_after_seconds,
        record=record,
    )
    if judgement.decision.verdict is Verdict.DISABLED:
        # A stranger with the name of another supplier's device hears nothing of that one's record (R3, R11).
        return answer if record is None or speaks_for(judgement, record) else replace(answer, record=None)
    if record is None:
        return None
    if not _may_take(record, judgement):
        return replace(answer, outcome=Outcome.FAILED, reason=Reason.NAME_HELD_BY_OTHER_ENTRY, record=None)
    same_ground = (
        record.epoch == judgement.epoch
        and record.leaf_thumbprint == judgement.leaf_thumbprint
        and judgement.is_by(record.individual_id, record.group_id)
    )
    if record.status == RegistrationStatus.ASSIGNING and timezone.now() - record.updated_at < REMOTE_PATIENCE:
        return replace(answer, outcome=Outcome.ASSIGNING, reason=Reason.ADMITTED, record=None)
    if not same_ground or record.status not in (RegistrationStatus.ASSIGNED, RegistrationStatus.FAILED):
        return None
    return replace(answer, outcome=Outcome(record.status), reason=Reason(record.reason or Reason.ADMITTED))


def _may_take(record: RegistrationRecord, judgement: Judgement) -> bool:
    taker = judgement.decision.entry
    if taker is None:
        return False
    predecessor = None
    if taker.kind is EntryKind.GROUP:
        # It may have been deleted since; the caller compares the epoch before it tells anything.
        predecessor = (
            EnrollmentGroup.objects.filter(pk=taker.pk).values_list("predecessor_id", flat=True).first()
        )
    return may_take_name(
        holder_of(record), taker, predecessor=predecessor, groups_proven=judgement.groups_proven
    )
