"""Registering a device and telling it the outcome (R10 to R13). Knows nothing of the transport that asks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypeVar

from django.utils import timezone

from enrollments import metrics
from enrollments.actions.allocation import Choice, ask
from enrollments.actions.assigned_records import is_same_proof
from enrollments.actions.assignment import (
    REMOTE_PATIENCE,
    Assigned,
    abandon,
    assign,
    keep_disabled,
    settle_remote,
)
from enrollments.actions.attempts import count_attempt, has_room
from enrollments.actions.judging import Judgement, judge
from enrollments.actions.name_holders import may_take, speaks_for
from enrollments.actions.operations import is_operation_of, new_operation_id
from enrollments.actions.rates import (
    note_admission,
    note_refusal,
    take_poll,
    take_registration,
    told_to_wait,
    wait_before_judging,
    wait_of_refused,
    wait_told_to_refused,
)
from enrollments.actions.registration_answers import (
    DeviceRequest,
    Outcome,
    RegistrationAnswer,
    challenge_of,
    kept_quiet,
    refuse,
    still_holds,
    throttled,
    visit_of,
    with_hub_key,
)
from enrollments.actions.schedule import settle_if_possible
from enrollments.actions.tpm_challenges import note_proven
from enrollments.errors import HubUnavailable, NotFound
from enrollments.hubs import DeviceIdTaken
from enrollments.models import AttemptOutcome, ProvisioningService, RegistrationRecord, RegistrationStatus
from enrollments.models.locks import admission_lock
from enrollments.models.services import Standing
from enrollments.policy.decision import Verdict
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason
from enrollments.policy.unknown import known

# How often a registration is judged anew because entries changed meanwhile, before it is judged under the lock.
MAX_ROUNDS = 4
T = TypeVar("T")


_ATTEMPT = {
    Outcome.ASSIGNED: AttemptOutcome.ASSIGNED,
    Outcome.ASSIGNING: AttemptOutcome.ASSIGNED,
    Outcome.FAILED: AttemptOutcome.FAILED,
    Outcome.DISABLED: AttemptOutcome.DISABLED,
}


def register_device(service: ProvisioningService, request: DeviceRequest) -> RegistrationAnswer:
    """Judge a device and assign it. What is answered was decided on the state at the moment of the commit (R12).

    Credentials are proven and paths found before the lock is taken; under it, an unchanged epoch and the database's
    clock show that nothing which the judgement rests on has changed. Where it has, the device is judged again.
    """
    visit = visit_of(service, request)
    if early := wait_before_judging(visit):
        return throttled(request, early.seconds, early.tracking_id)
    judgement = _judge_as_recorded(service, request, request.standing)
    decision = judgement.decision
    if decision.reason is Reason.CHALLENGE_UNANSWERED:
        return challenge_of(service, request, judgement)
    if decision.admitted:
        if often := take_registration(visit, judgement):
            return throttled(request, often.seconds, often.tracking_id)
    elif wait := wait_of_refused(visit, judgement):
        return throttled(request, wait)
    if not decision.admitted and (answer := kept_quiet(service, request, judgement)) is not None:
        return answer
    return _register(service, request, judgement)


def _register(
    service: ProvisioningService, request: DeviceRequest, judgement: Judgement | None = None
) -> RegistrationAnswer:
    """Register without asking for rates. `judgement`: one that was made a moment ago, if there is one."""

    def apply(current: ProvisioningService, record: RegistrationRecord | None, final: Judgement) -> _Applied:
        return _apply(current, request, record, final)

    final, applied = _judged_and_applied(service, request, apply, judgement)
    if applied is None:
        return refuse(service, request, final)
    return _finished(applied, request)


def _judged_and_applied(
    service: ProvisioningService,
    request: DeviceRequest,
    apply: "Callable[[ProvisioningService, RegistrationRecord | None, Judgement], T]",
    judgement: Judgement | None = None,
) -> tuple[Judgement, T | None]:
    """Judge, and apply the judgement under the lock if it still holds there. None where the device is unauthorized.

    When changes come faster than paths are found, they are held off for one judgement, so that the device is
    answered.
    """
    for _ in range(MAX_ROUNDS):
        judgement = judgement or _judge_as_recorded(service, request)
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return judgement, None
        with admission_lock(service, judgement.registration_key):
            record, epoch, now = RegistrationRecord.at_this_moment(service.pk, judgement.registration_key)
            if judgement.holds(epoch, now):
                return judgement, apply(_as_it_is(service, epoch), record, judgement)
        judgement = None
    with admission_lock(service, registration_key(request.claimed_registration_id)):
        judgement = _judge(service, request)
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return judgement, None
        record, epoch, _ = RegistrationRecord.at_this_moment(service.pk, judgement.registration_key)
        return judgement, apply(_as_it_is(service, epoch), record, judgement)


def _as_it_is(service: ProvisioningService, epoch: int) -> ProvisioningService:
    """The service on this epoch, which is that of now. Whatever changes a setting raises the epoch."""
    return service if service.epoch == epoch else ProvisioningService.objects.get(pk=service.pk)


def poll_operation(
    service: ProvisioningService, operation_id: str, request: DeviceRequest
) -> RegistrationAnswer:
    """Tell how an operation ended. A result that stands on an older epoch is judged again before it is told (R12).

    Raises NotFound for an operation that is not of this device; only the proven hear even that (R3).
    """

    def is_its_own() -> None:
        if not is_operation_of(operation_id, service, request.claimed_registration_id):
            raise NotFound("There is no such operation.")

    answer = _followed_up(service, request, is_its_own, registers=True)
    assert answer is not None  # it would have been registered
    return replace(answer, operation_id=operation_id)


def look_up_registration(service: ProvisioningService, request: DeviceRequest) -> RegistrationAnswer:
    """The last result of a proven device, without registering it: `unassigned` where there is none that holds."""
    answer = _followed_up(service, request, lambda: None)
    if answer is not None:
        return answer
    return RegistrationAnswer(Outcome.UNASSIGNED, Reason.NOT_ENROLLED, request.claimed_registration_id)


def _followed_up(
    service: ProvisioningService,
    request: DeviceRequest,
    check: Callable[[], None],
    *,
    registers: bool = False,
) -> RegistrationAnswer | None:
    """What a device is told that asks for an earlier result; None where none holds.

    check: called once it is proven, may raise what only the proven are to hear. registers: where none holds, the
    device is registered, as it asked for before.
    """
    request = replace(request, begins=False)
    visit = visit_of(service, request)
    counted = False
    answer: RegistrationAnswer | None = None
    if early := wait_before_judging(visit):
        return throttled(request, early.seconds)
    for standing in (request.standing, *[None] * (MAX_ROUNDS - 1)):
        judgement = _judge_as_recorded(service, request, standing)
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            if wait := wait_of_refused(visit, judgement):
                return throttled(request, wait)
            return kept_quiet(service, request, judgement) or refuse(service, request, judgement)
        if not counted and (wait := take_poll(visit, judgement)):
            return throttled(request, wait)
        counted = True
        check()
        is_disabled = judgement.decision.verdict is Verdict.DISABLED
        if is_disabled and (quiet := kept_quiet(service, request, judgement)) is not None:
            return quiet
        answer = _told(service, request, judgement)
        if answer is None and registers:
            answer = _register(service, request)
            if answer.outcome is Outcome.ASSIGNED and judgement.tpm_proof is not None:
                continue  # its hub's key is told as the result of before, on ground that is looked at last
            return answer
        if answer is not None:
            answer = with_hub_key(answer, judgement)
            if answer.outcome is Outcome.DISABLED:
                answer = replace(answer, retry_after=wait_told_to_refused(visit, judgement))
        # The last look before telling: nothing that was answered to an administrator by now is ignored, and no switch
        # that has turned by itself.
        if still_holds(service, judgement):
            return answer
    # Changes come faster than the device is judged: it is registered under the lock, or asks again.
    return _register(service, request) if registers else None


def _judge_as_recorded(
    service: ProvisioningService, request: DeviceRequest, standing: Standing | None = None
) -> Judgement:
    """Judge outside of the lock. Whoever sees that a switch is due has the history say so first (R15).

    Where that fails, what is due to be disabled keeps out all the same, and what is due to be enabled does not admit.
    """
    judgement = _judge(service, request, standing)
    if judgement.rests_on_due and settle_if_possible(service):
        return _judge(service, request)
    return judgement


def _judge(
    service: ProvisioningService, request: DeviceRequest, standing: Standing | None = None
) -> Judgement:
    started = perf_counter()
    judgement = judge(
        service,
        request.claimed_registration_id,
        request.credential,
        at=request.arrived_at,
        recorded_only=True,
        begins=request.begins,
        standing=standing,
    )
    metrics.judged(perf_counter() - started)
    return judgement


@dataclass(frozen=True, slots=True)
class _Applied:
    """What was written. `pending` is there where somebody else has to answer before the registration is done."""

    service: ProvisioningService
    answer: RegistrationAnswer
    pending: Assigned | None = None


def _apply(
    service: ProvisioningService,
    request: DeviceRequest,
    record: RegistrationRecord | None,
    judgement: Judgement,
    *,
    operation_id: str = "",
    choice: Choice | None = None,
) -> _Applied:
    """Write what a proven device's judgement leads to. Inside the admission lock, on what was read there."""
    operation_id = operation_id or new_operation_id(service, request.claimed_registration_id)
    pending: Assigned | None = None
    retry_after, times, fits = service.retry_after_seconds, 1, None
    if judgement.tpm_proof is not None and judgement.individual is not None:
        note_proven(judgement.individual, judgement.tpm_proof, request.arrived_at)
    if judgement.decision.verdict is Verdict.DISABLED:
        outcome, reason = Outcome.DISABLED, judgement.decision.reason
        fits = has_room(
            service, judgement, request.claimed_registration_id, AttemptOutcome.DISABLED, reason, request.peer
        )
        record = keep_disabled(
            service, request.claimed_registration_id, judgement, record, operation_id, may_add=fits
        )
        refused = note_refusal(visit_of(service, request), judgement)
        retry_after, times = refused.retry_after, 1 + refused.unjudged_before
    else:
        assigned = assign(
            service,
            request.claimed_registration_id,
            judgement,
            record,
            operation_id=operation_id,
            arrived_at=request.arrived_at,
            peer=request.peer,
            payload=request.payload,
            choice=choice,
            follows_up=not request.begins and choice is None,
        )
        if assigned.reason is Reason.THROTTLED:
            wait = told_to_wait(visit_of(service, request), judgement, retry_after)
            return _Applied(service, throttled(request, wait.seconds, wait.tracking_id))
        record, reason, operation_id = assigned.record, assigned.reason, assigned.operation_id
        pending = assigned if assigned.move is not None or assigned.asks is not None else None
        outcome = Outcome.FAILED if reason is not Reason.ADMITTED else _outcome_of(record)
        judgement = judgement.with_steps(assigned.steps)
    answer = RegistrationAnswer(
        outcome,
        reason,
        request.claimed_registration_id,
        operation_id=operation_id,
        retry_after=retry_after,
        record=record,
    )
    if pending is not None and pending.asks is not None:
        return _Applied(service, answer, pending)  # it is an attempt when its hub is known
    tracking_id = count_attempt(
        service,
        request.claimed_registration_id,
        judgement,
        _ATTEMPT[outcome],
        reason,
        request.peer,
        times=times,
        fits=fits,
    )
    if outcome is Outcome.ASSIGNED:
        note_admission(visit_of(service, request), judgement)
    return _Applied(service, replace(answer, tracking_id=tracking_id), pending)


def _outcome_of(record: RegistrationRecord | None) -> Outcome:
    return Outcome(record.status) if record is not None else Outcome.FAILED


def _finished(applied: _Applied, request: DeviceRequest) -> RegistrationAnswer:
    if applied.pending is None:
        return applied.answer
    if applied.pending.asks is not None:
        return _with_choice(applied.service, request, applied.pending, ask(applied.pending.asks))
    return _at_remote_hub(applied.service, request, applied.pending)


def _with_choice(
    service: ProvisioningService, request: DeviceRequest, pending: Assigned, choice: Choice
) -> RegistrationAnswer:
    """The webhook has answered, outside of any transaction: the device is judged again before it counts (R12)."""

    def apply(current: ProvisioningService, record: RegistrationRecord | None, final: Judgement) -> _Applied:
        return _apply(current, request, record, final, operation_id=pending.operation_id, choice=choice)

    following = replace(request, begins=False)
    judgement, applied = _judged_and_applied(service, following, apply)
    if applied is None:
        with admission_lock(service, judgement.registration_key):
            abandon(service, pending, judgement.decision.reason)
        return refuse(service, request, judgement)
    return _finished(applied, request)


def _at_remote_hub(
    service: ProvisioningService, request: DeviceRequest, pending: Assigned
) -> RegistrationAnswer:
    """The hub is not ours: it is asked outside of any transaction, and the device is judged again after (R12)."""
    assert pending.move is not None  # that is what makes it pending
    request = replace(request, begins=False)
    problem = _ask_hub(pending)
    for _ in range(MAX_ROUNDS):
        judgement = _judge_as_recorded(service, request)
        with admission_lock(service, judgement.registration_key):
            if not still_holds(service, judgement):
                continue
            reason = settle_remote(service, pending, judgement, problem, request.peer)
        break
    else:
        with admission_lock(service, registration_key(request.claimed_registration_id)):
            judgement = _judge(service, request)
            reason = settle_remote(service, pending, judgement, problem, request.peer)
    if reason is Reason.ADMITTED:
        pending.move.leave_former()
        outcome = Outcome.ASSIGNED
    else:
        if reason is not None:
            pending.move.undo()
        if judgement.decision.verdict is Verdict.UNAUTHORIZED:
            return refuse(service, request, judgement)
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
    record = RegistrationRecord.of(service.pk, judgement.registration_key)
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
    if not may_take(record, judgement):
        return replace(answer, outcome=Outcome.FAILED, reason=Reason.NAME_HELD_BY_OTHER_ENTRY, record=None)
    same_ground = (
        record.epoch == judgement.epoch
        and judgement.is_by(record.individual_id, record.group_id)
        and is_same_proof(record, judgement)
    )
    if record.status == RegistrationStatus.ASSIGNING and timezone.now() - record.updated_at < REMOTE_PATIENCE:
        return replace(answer, outcome=Outcome.ASSIGNING, reason=Reason.ADMITTED, record=None)
    if not same_ground or record.status not in (RegistrationStatus.ASSIGNED, RegistrationStatus.FAILED):
        return None
    reason = known(Reason, record.reason or Reason.ADMITTED)
    return replace(answer, outcome=Outcome(record.status), reason=reason)
