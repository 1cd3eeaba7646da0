"""Assigning a device: whose the name is, which hub, which twin, and the record of it (R10, R11)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from enrollments.actions.allocation import Choice, Question, hub_of, needs_webhook, problem_with, question_for
from enrollments.actions.attempts import Peer
from enrollments.actions.attempts_bounds import hour_of
from enrollments.actions.certificates import forget_if_unused
from enrollments.actions.evidence import evidence_class
from enrollments.actions.hub_moves import HubMove
from enrollments.actions.hub_plans import at_its_hub, move_of, plan_of
from enrollments.actions.judging import Judgement, group_ref, individual_ref
from enrollments.actions.key_identifiers import OF_GROUP, identifiers_of_derived
from enrollments.actions.name_holders import held_by_other, holder_of, speaks_for
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import changes
from enrollments.audit.record import record as record_history
from enrollments.hubs import DeviceIdTaken
from enrollments.hubs.allocation_webhook import has_room
from enrollments.models import (
    Certificate,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationEvidence,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.models.enrollments import NOT_ASKED, new_etag
from enrollments.models.fields import fingerprint
from enrollments.models.prepared import Prepared, update_row
from enrollments.policy.decision import Said, TraceStep, Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.ownership import may_take_name
from enrollments.policy.reasons import Reason
from enrollments.policy.reprovisioning import Substatus, Twin

# A registration that arrived this long before another one was done was running beside it, and joins it (R10).
# The margin covers the time between the stamp in the row and the commit that shows it.
JOIN_MARGIN = timedelta(seconds=1)
# How long an operation at a remote hub may run before somebody else takes it over.
REMOTE_PATIENCE = timedelta(seconds=60)

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
    _decided_by(record, judgement, entry, operation_id)
    if choice is None and needs_webhook(service, entry, record):
        _begin(record, judgement)
        question = question_for(service, entry, record, judgement, payload)
        return Assigned(record, Reason.ADMITTED, operation_id, asks=question)
    hub = hub_of(service, entry, record.registration_key, payload, choice)
    steps: tuple[TraceStep, ...] = ()
    if choice is not None:
        problem = problem_with(choice, entry, hub)
        steps = (choice.step(problem),)
        if problem:
            _fail(record, judgement, Reason.WEBHOOK_FAILED)
            return Assigned(record, Reason.WEBHOOK_FAILED, operation_id, steps=steps)
    is_known, held = at_its_hub(record)
    plan = plan_of(record, entry, hub, identity_exists=is_known)
    if plan is None:
        _fail(record, judgement, Reason.NO_HUB)
        return Assigned(record, Reason.NO_HUB, operation_id, steps=steps)
    move = move_of(record, entry, plan, judgement, choice, held)
    if not move.is_transactional:
        _begin(record, judgement)
        return Assigned(record, Reason.ADMITTED, operation_id, move, steps=steps)
    try:
        move.provision()
    except DeviceIdTaken:
        _fail(record, judgement, Reason.DEVICE_ID_TAKEN)
        steps += (_device_id_taken(move),)
        return Assigned(record, Reason.DEVICE_ID_TAKEN, operation_id, steps=steps)
    move.leave_former()
    _complete(service, record, entry, move, judgement, peer)
    return Assigned(record, Reason.ADMITTED, operation_id, steps=steps)


def abandon(service: ProvisioningService, pending: Assigned) -> None:
    """A device that is refused after it had begun: its record does not go on saying that it is being assigned.

    Inside the admission lock.
    """
    assert pending.record is not None  # whatever is pending has begun in a record
    record = RegistrationRecord.of(service.pk, pending.record.registration_key)
    if record is None or record.operation_id != pending.operation_id:
        return
    if record.status == RegistrationStatus.ASSIGNING:
        record.status, record.reason = RegistrationStatus.FAILED, Reason.NO_VALID_PATH.value
        _save(record)


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
        _save(record)
        return reason
    if problem is not None:
        _fail(record, judgement, problem)
        return problem
    entry = _entry_of(judgement)
    if not judgement.is_by(record.individual_id, record.group_id):
        # Another entry admits by now, with hubs and a twin of its own: the device has to ask again.
        _fail(record, judgement, Reason.HUB_FAILED)
        return Reason.HUB_FAILED
    _complete(service, record, entry, pending.move, judgement, peer)
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
        return record  # it came back unchanged: nothing new to keep (R14)
    is_new = record.pk is None
    _decided_by(record, judgement, entry, operation_id)
    record.status, record.substatus = RegistrationStatus.DISABLED, ""
    record.reason = judgement.decision.reason.value
    if is_new:
        _save_with_evidence(record, judgement)
    else:
        _save(record)
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


def is_same_proof(record: RegistrationRecord, judgement: Judgement) -> bool:
    """Whether the record knows of the very certificate or key that was proven now."""
    if record.leaf_thumbprint != judgement.leaf_thumbprint:
        return False
    return frozenset(record.key_ids.split()) == _key_ids(record, judgement)


def _decided_by(record: RegistrationRecord, judgement: Judgement, entry: Entry, operation_id: str) -> None:
    """Which entry decided, on which state of things."""
    record.individual = entry if isinstance(entry, IndividualEnrollment) else None
    record.group = entry if isinstance(entry, EnrollmentGroup) else None
    record.entry_name, record.entry_etag = str(entry), entry.etag
    record.epoch = judgement.epoch
    record.operation_id = operation_id
    record.operation_done_at = None


def _begin(record: RegistrationRecord, judgement: Judgement) -> None:
    """The registration is under way, and somebody else has to answer before it is done."""
    record.status, record.substatus, record.reason = RegistrationStatus.ASSIGNING, "", ""
    _save_with_evidence(record, judgement)


def _classify(record: RegistrationRecord, judgement: Judgement) -> None:
    """The evidence in short, for questions about many devices."""
    leaf = judgement.chain[0] if judgement.chain else None
    record.mechanism = judgement.mechanism
    record.evidence_class = evidence_class(judgement)
    record.leaf_thumbprint = judgement.leaf_thumbprint
    record.leaf_spki = leaf.spki_sha256 if leaf else ""
    record.leaf_not_before = leaf.not_before if leaf else None
    record.leaf_not_after = leaf.not_after if leaf else None
    record.key_fingerprint = fingerprint(judgement.secret) if judgement.secret else ""
    record.key_ids = " ".join(sorted(_key_ids(record, judgement)))


def _key_ids(record: RegistrationRecord, judgement: Judgement) -> frozenset[str]:
    """What identifies the key. One that was proven before, be it through a group, keeps what was known of it.

    Of one that an individual enrollment holds, and a group derives all the same, both is known from now on.
    """
    entry = judgement.decision.entry
    if not judgement.secret or entry is None:
        return frozenset()
    if entry.kind is EntryKind.GROUP:
        name = judgement.facts.claimed_registration_id
        return identifiers_of_derived(judgement.secret, judgement.key_id, name)
    former = frozenset(record.key_ids.split())
    proven = frozenset(filter(None, (judgement.key_id,)))
    if judgement.key_id and judgement.group_key_id:
        proven |= {f"{OF_GROUP}{judgement.group_key_id}"}
    return proven | former if judgement.key_id in former else proven


def _complete(
    service: ProvisioningService,
    record: RegistrationRecord,
    entry: Entry,
    move: HubMove,
    judgement: Judgement,
    peer: Peer,
) -> None:
    """Only now is it assigned: the hub has the identity, the evidence is kept, the history knows (R10, R15)."""
    is_made_anew = move.plan.substatus is Substatus.REPROVISIONED
    # What the record says of a hub that does not know the device any more was no assignment.
    before = _assignment_in_words(record) | (_AT_NO_HUB if is_made_anew else {})
    record.status, record.reason = RegistrationStatus.ASSIGNED, ""
    record.substatus = move.plan.substatus.value
    record.hub, record.device_id = move.hub, move.plan.assignment.device_id
    record.owner_individual = entry if isinstance(entry, IndividualEnrollment) else None
    record.owner_group = entry if isinstance(entry, EnrollmentGroup) else None
    record.operation_done_at = timezone.now()
    if move.plan.twin is not Twin.KEEP or record.assigned_at is None:
        record.assigned_at = record.operation_done_at
    _save_with_evidence(record, judgement)
    after = _assignment_in_words(record)
    if before == after:
        return
    was, now = changes(before, after)
    record_history(
        Event.DEVICE_ASSIGNED_ANEW if is_made_anew else Event.DEVICE_ASSIGNED,
        subject=record,
        actor=Actor("device", record.registration_id, Way.DEVICE, peer.address, client=peer.client),
        service=service,
        before=was,
        after=now,
    )


_AT_NO_HUB: dict[str, str | None] = {"hub": None, "device_id": None}


def _assignment_in_words(record: RegistrationRecord) -> dict[str, str | None]:
    holder = holder_of(record)
    return {
        "hub": record.hub.host_name if record.hub else None,
        "device_id": record.device_id or None,
        "entry": str(holder) if holder else None,
    }


def _fail(record: RegistrationRecord, judgement: Judgement, reason: Reason) -> None:
    record.status, record.substatus, record.reason = RegistrationStatus.FAILED, "", reason.value
    _save_with_evidence(record, judgement)


def _save(record: RegistrationRecord) -> None:
    record.updated_at = timezone.now()
    record.etag = new_etag()
    # Nobody else has changed it since it was read: its turn was taken before that. Of what is as it was, the indexes
    # are left alone.
    if record.pk is None or not update_row(record, _changed(record)):
        record.save()
    record.as_read = {name: getattr(record, name) for name in _COLUMNS}


def _changed(record: RegistrationRecord) -> tuple[str, ...]:
    was = record.as_read
    changed = [name for name in _COLUMNS if name not in was or was[name] != getattr(record, name)]
    if record.returned_payload is not None and "returned_payload" not in changed:
        changed.append("returned_payload")  # it may hold 1 where it held true: equal for Python, not in JSON
    return tuple(changed)


_COLUMNS = tuple(field.attname for field in RegistrationRecord._meta.local_concrete_fields)


def _save_with_evidence(record: RegistrationRecord, judgement: Judgement) -> None:
    """The two stand or fall together: the record says in short what its rows of evidence are."""
    before = None if record.pk is None else (record.evidence_class, record.leaf_thumbprint)
    _classify(record, judgement)
    _save(record)
    if before == (record.evidence_class, record.leaf_thumbprint):
        return
    above = record.evidence.filter(position__gt=0).values_list("certificate", flat=True)
    former = set() if before is None else set(above)
    record.evidence.all().delete()
    certificates = Certificate.objects.store_all(judgement.chain, only_shown=judgement.on_no_path)
    RegistrationEvidence.objects.bulk_create(
        RegistrationEvidence(registration=record, position=position, certificate=certificate)
        for position, certificate in enumerate(certificates)
    )
    # Of this very leaf the attempt that is being counted will name what it was shown with now: within the hour.
    others = RegistrationAttempt.objects.filter(
        service=record.service_id, registration_key=record.registration_key
    )
    others = others.exclude(chain="").order_by()
    others = others.exclude(leaf_thumbprint=judgement.leaf_thumbprint, hour=hour_of(judgement))
    forget_if_unused(former.difference(one.pk for one in certificates), named_by=others)
