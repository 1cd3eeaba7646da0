"""Assigning a device: whose the name is, which hub, which twin, and the record of it (R10, R11)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from enrollments.actions.allocation import Choice, Question, hub_of, needs_webhook, problem_with, question_for
from enrollments.actions.assigned_records import (
    begin,
    complete,
    decided_by,
    fail,
    is_same_proof,
    save,
    save_with_evidence,
)
from enrollments.actions.attempts import Peer
from enrollments.actions.hub_moves import HubMove
from enrollments.actions.hub_plans import at_its_hub, move_of, plan_of
from enrollments.actions.judging import Judgement, group_ref, individual_ref
from enrollments.actions.name_holders import held_by_other, holder_of, speaks_for
from enrollments.hubs import DeviceIdTaken
from enrollments.hubs.allocation_webhook import has_room
from enrollments.models import (
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.models.enrollments import NOT_ASKED
from enrollments.models.prepared import Prepared
from enrollments.policy.decision import Said, TraceStep, Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.ownership import may_take_name
from enrollments.policy.reasons import Reason

# A registration that arrived this long before another one was done was running beside it, and joins it (R10).
# The margin covers the time between the stamp in the row and the commit that shows it.
JOIN_MARGIN = timedelta(seconds=1)
# How long an operation at a remote hub may run before somebody else takes it over.
REMOTE_PATIENCE = timedelta(seconds=60)
# How often the record of a device that was never assigned says that it still comes and is turned away.
NOTED_EVERY = timedelta(days=1)

Entry = IndividualEnrollment | EnrollmentGroup


@dataclass(frozen=True, slots=True)
class Assigned:
    """`record` is None where the device may not touch the record of that name (R11), or has to come again.

    `move` is there where a hub that is not ours has to be asked before the record can say `assigned`, `asks` where
    the webhook of the entry has to choose the hub first. `steps`: what was found out after the decision, for the trace.
    """

    record: RegistrationRecord | None
    reason: Reason
    operation_id: str
    move: HubMove | None = None
    asks: Question | None = None
    steps: tuple[TraceStep, ...] = ()


def assign(
    service: ProvisioningService,
    claimed_registration_id: str,
    judgement: Judgement,
    record: RegistrationRecord | None,
    *,
    operation_id: str,
    arrived_at: datetime,
    peer: Peer,
    payload: Any = None,
    choice: Choice | None = None,
    follows_up: bool = False,
) -> Assigned:
    """Assign an admitted device to a hub. Inside the admission lock, in its transaction, in which `record` was read.

    payload: what the device sent along. choice: what the entry's webhook answered, where it was asked for this very
    operation. follows_up: a poll asks, which says nothing of a payload: what was assigned stays, if it may.
    """
    entry = _entry_of(judgement)
    predecessor = entry.predecessor_id if isinstance(entry, EnrollmentGroup) else None
    if record is not None and not may_take_name(
        holder_of(record), _ref(entry), predecessor=predecessor, groups_proven=judgement.groups_proven
    ):
        return Assigned(None, Reason.NAME_HELD_BY_OTHER_ENTRY, operation_id, steps=(held_by_other(record),))
    is_resumed = choice is not None and record is not None and record.operation_id == operation_id
    if record is not None and not is_resumed and _is_running(record, judgement, arrived_at):
        return Assigned(record, Reason.ADMITTED, record.operation_id)
    if record is None:
        record = _new_record(service, claimed_registration_id, entry)
    if follows_up and _still_stands(record, judgement, entry):
        record.epoch = judgement.epoch
        record.save(update_fields=["epoch"])
        return Assigned(record, Reason.ADMITTED, record.operation_id)
    if choice is None and needs_webhook(service, entry, record) and not has_room(entry.webhook_url):
        return Assigned(None, Reason.THROTTLED, operation_id)
    decided_by(record, judgement, entry, operation_id)
    if choice is None and needs_webhook(service, entry, record):
        begin(record, judgement)
        question = question_for(service, entry, record, judgement, payload)
        return Assigned(record, Reason.ADMITTED, operation_id, asks=question)
    hub = hub_of(service, entry, record.registration_key, payload, choice)
    steps: tuple[TraceStep, ...] = ()
    if choice is not None:
        problem = problem_with(choice, entry, hub)
        steps = (choice.step(problem),)
        if problem:
            fail(record, judgement, Reason.WEBHOOK_FAILED)
            return Assigned(record, Reason.WEBHOOK_FAILED, operation_id, steps=steps)
    is_known, held = at_its_hub(record)
    plan = plan_of(record, entry, hub, identity_exists=is_known)
    if plan is None:
        fail(record, judgement, Reason.NO_HUB)
        return Assigned(record, Reason.NO_HUB, operation_id, steps=steps)
    move = move_of(record, entry, plan, judgement, choice, held)
    if not move.is_transactional:
        begin(record, judgement)
        return Assigned(record, Reason.ADMITTED, operation_id, move, steps=steps)
    try:
        move.provision()
    except DeviceIdTaken:
        fail(record, judgement, Reason.DEVICE_ID_TAKEN)
        steps += (_device_id_taken(move),)
        return Assigned(record, Reason.DEVICE_ID_TAKEN, operation_id, steps=steps)
    move.leave_former()
    complete(service, record, entry, move, judgement, peer)
    return Assigned(record, Reason.ADMITTED, operation_id, steps=steps)


def abandon(service: ProvisioningService, pending: Assigned, reason: Reason) -> None:
    """A device that is refused after it had begun: its record does not go on saying that it is being assigned.

    Inside the admission lock.
    """
    assert pending.record is not None  # whatever is pending has begun in a record
    record = RegistrationRecord.of(service.pk, pending.record.registration_key)
    if record is None or record.operation_id != pending.operation_id:
        return
    if record.status == RegistrationStatus.ASSIGNING:
        record.status, record.reason = RegistrationStatus.FAILED, reason.value
        save(record)


def settle_remote(
    service: ProvisioningService,
    pending: Assigned,
    judgement: Judgement,
    problem: Reason | None,
    peer: Peer,
) -> Reason | None:
    """Record what a remote hub answered, after the device was judged again (R12). Inside the admission lock.

    Returns ADMITTED, or why the device was not assigned after all; the caller then takes the identity back. None
    where the record was deleted or another operation has taken over: the identity is then no longer ours to judge.
    """
    assert pending.move is not None  # that is what makes it pending
    assert pending.record is not None
    record = RegistrationRecord.of(service.pk, pending.record.registration_key)
    if record is None or record.operation_id != pending.operation_id:
        return None
    if judgement.decision.verdict is not Verdict.ADMIT:
        reason = judgement.decision.reason
        disabled = judgement.decision.verdict is Verdict.DISABLED
        record.status = RegistrationStatus.DISABLED if disabled else RegistrationStatus.FAILED
        record.reason = reason.value
        save(record)
        return reason
    if problem is not None:
        fail(record, judgement, problem)
        return problem
    entry = _entry_of(judgement)
    if not judgement.is_by(record.individual_id, record.group_id):
        # Another entry admits by now, with hubs and a twin of its own: the device has to ask again.
        fail(record, judgement, Reason.HUB_FAILED)
        return Reason.HUB_FAILED
    complete(service, record, entry, pending.move, judgement, peer)
    return Reason.ADMITTED


def keep_disabled(
    service: ProvisioningService,
    claimed_registration_id: str,
    judgement: Judgement,
    record: RegistrationRecord | None,
    operation_id: str,
    *,
    may_add: bool,
) -> RegistrationRecord | None:
    """Note on the record that the device was turned away; the evidence of its last admission stays.

    Inside the admission lock, in which `record` was read.
    None where the name is held through somebody else's entry: a supplier whose CA was barred must not be able to
    mark devices of another supplier (R11). None as well where there is no record and `may_add` is false (R14).
    """
    entry = _entry_of(judgement)
    if record is None:
        if not may_add:
            return None
        record = _new_record(service, claimed_registration_id, entry)
    elif not speaks_for(judgement, record):
        return None
    same = record.status == RegistrationStatus.DISABLED and judgement.is_by(
        record.individual_id, record.group_id
    )
    if record.pk is not None and same and record.epoch == judgement.epoch:
        # It came back unchanged: nothing new to keep (R14), but that it came, once a day.
        if record.assigned_at is None and record.updated_at < timezone.now() - NOTED_EVERY:
            save(record)
        return record
    is_new = record.pk is None
    decided_by(record, judgement, entry, operation_id)
    record.status, record.substatus = RegistrationStatus.DISABLED, ""
    record.reason = judgement.decision.reason.value
    if is_new:
        save_with_evidence(record, judgement)
    else:
        save(record)
    return record


def _device_id_taken(move: HubMove) -> TraceStep:
    because = f"hub {move.hub} knows it as that of another registration ID"
    return TraceStep("R11", f"device ID {move.identity.device_id}", Said.FAILS, because)


def _ref(entry: Entry) -> EntryRef:
    return individual_ref(entry) if isinstance(entry, IndividualEnrollment) else group_ref(entry)


def _entry_of(judgement: Judgement) -> Entry:
    ref = judgement.decision.entry
    assert ref is not None  # who is admitted or barred is so by an entry
    if ref.kind is EntryKind.GROUP:
        group = _group.one(ref.pk)
        if group is None:
            raise EnrollmentGroup.DoesNotExist
        return group
    if judgement.individual is not None and judgement.individual.pk == ref.pk:
        return judgement.individual
    return IndividualEnrollment.objects.get(pk=ref.pk)


@Prepared
def _group(pk: int) -> QuerySet[EnrollmentGroup]:
    return EnrollmentGroup.objects.filter(pk=pk).defer(*NOT_ASKED)


def _new_record(
    service: ProvisioningService,
    claimed_registration_id: str,
    entry: Entry,
) -> RegistrationRecord:
    """R2: an individual enrollment's spelling of its own ID was first; otherwise the device's is."""
    name = claimed_registration_id
    if isinstance(entry, IndividualEnrollment) and entry.registration_key == registration_key(name):
        name = entry.registration_id
    return RegistrationRecord(
        service=service,
        registration_id=name,
        registration_key=registration_key(name),
        created_at=timezone.now(),
    )


def _still_stands(record: RegistrationRecord, judgement: Judgement, entry: Entry) -> bool:
    """Whether an earlier assignment may be told again as it is: something was changed, but not for this device."""
    return (
        record.status == RegistrationStatus.ASSIGNED
        and record.entry_etag == entry.etag
        and is_same_proof(record, judgement)
        and judgement.is_by(record.individual_id, record.group_id)
        and record.hub is not None
        and at_its_hub(record)[0]
    )


def _is_running(record: RegistrationRecord, judgement: Judgement, arrived_at: datetime) -> bool:
    if record.epoch != judgement.epoch or not judgement.is_by(record.individual_id, record.group_id):
        return False
    if record.status == RegistrationStatus.ASSIGNING:
        # By whichever key of its entry: the record has the one that began it until the device comes again.
        is_same_leaf = record.leaf_thumbprint == judgement.leaf_thumbprint
        return is_same_leaf and timezone.now() - record.updated_at < REMOTE_PATIENCE
    return (
        record.status == RegistrationStatus.ASSIGNED
        and is_same_proof(record, judgement)
        and record.operation_done_at is not None
        and record.operation_done_at + JOIN_MARGIN >= arrived_at
    )
