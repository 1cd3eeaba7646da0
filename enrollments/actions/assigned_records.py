"""The record of a registration: who decided, how far it has come, and the evidence that is kept with it (R10)."""

from django.utils import timezone

from enrollments.actions.attempts import Peer
from enrollments.actions.attempts_bounds import hour_of
from enrollments.actions.certificates import forget_if_unused
from enrollments.actions.evidence import evidence_class
from enrollments.actions.hub_moves import HubMove
from enrollments.actions.judging import Judgement
from enrollments.actions.key_identifiers import OF_GROUP, identifiers_of_derived
from enrollments.actions.name_holders import holder_of
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import changes
from enrollments.audit.record import record as record_history
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
from enrollments.models.enrollments import new_etag
from enrollments.models.fields import fingerprint
from enrollments.models.prepared import update_row
from enrollments.policy.facts import EntryKind
from enrollments.policy.reasons import Reason
from enrollments.policy.reprovisioning import Substatus, Twin

Entry = IndividualEnrollment | EnrollmentGroup


def is_same_proof(record: RegistrationRecord, judgement: Judgement) -> bool:
    """Whether the record knows of the very certificate or key that was proven now."""
    if record.leaf_thumbprint != judgement.leaf_thumbprint:
        return False
    return frozenset(record.key_ids.split()) == _key_ids(record, judgement)


def decided_by(record: RegistrationRecord, judgement: Judgement, entry: Entry, operation_id: str) -> None:
    """Which entry decided, on which state of things."""
    record.individual = entry if isinstance(entry, IndividualEnrollment) else None
    record.group = entry if isinstance(entry, EnrollmentGroup) else None
    record.entry_name, record.entry_etag = str(entry), entry.etag
    record.epoch = judgement.epoch
    record.operation_id = operation_id
    record.operation_done_at = None


def begin(record: RegistrationRecord, judgement: Judgement) -> None:
    """The registration is under way, and somebody else has to answer before it is done."""
    record.status, record.substatus, record.reason = RegistrationStatus.ASSIGNING, "", ""
    save_with_evidence(record, judgement)


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


def complete(
    service: ProvisioningService,
    record: RegistrationRecord,
    entry: Entry,
    move: HubMove,
    judgement: Judgement,
    peer: Peer,
) -> None:
    """Only now is it assigned: the hub has the identity, the evidence is kept, the history knows (R10, R15)."""
    is_made_anew = move.plan.substatus is Substatus.REPROVISIONED
    # What the record says of a hub that does not know the device any more was no assignment. Of another hub it is told.
    stays = (record.hub, record.device_id) == (move.hub, move.plan.assignment.device_id)
    before = _assignment_in_words(record) | (_AT_NO_HUB if is_made_anew and stays else {})
    record.status, record.reason = RegistrationStatus.ASSIGNED, ""
    record.substatus = move.plan.substatus.value
    record.hub, record.device_id = move.hub, move.plan.assignment.device_id
    record.owner_individual = entry if isinstance(entry, IndividualEnrollment) else None
    record.owner_group = entry if isinstance(entry, EnrollmentGroup) else None
    record.operation_done_at = timezone.now()
    if move.plan.twin is not Twin.KEEP or record.assigned_at is None:
        record.assigned_at = record.operation_done_at
    save_with_evidence(record, judgement)
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


def fail(record: RegistrationRecord, judgement: Judgement, reason: Reason) -> None:
    record.status, record.substatus, record.reason = RegistrationStatus.FAILED, "", reason.value
    save_with_evidence(record, judgement)


def save(record: RegistrationRecord) -> None:
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


def save_with_evidence(record: RegistrationRecord, judgement: Judgement) -> None:
    """The two stand or fall together: the record says in short what its rows of evidence are."""
    before = None if record.pk is None else (record.evidence_class, record.leaf_thumbprint)
    was = record.as_read.get
    was_turned_away = was("status") == RegistrationStatus.DISABLED and was("assigned_at") is None
    _classify(record, judgement)
    save(record)
    if before == (record.evidence_class, record.leaf_thumbprint):
        if was_turned_away and judgement.decision.admitted and judgement.chain:
            # What is kept as evidence of that alone may let the device in by now, and then stays.
            Certificate.objects.store_all(judgement.chain, only_shown=judgement.only_shown)
        return
    above = record.evidence.filter(position__gt=0).values_list("certificate", flat=True)
    former = set() if before is None else set(above)
    record.evidence.all().delete()
    certificates = Certificate.objects.store_all(judgement.chain, only_shown=judgement.only_shown)
    RegistrationEvidence.objects.bulk_create(
        RegistrationEvidence(registration=record, position=position, certificate=certificate)
        for position, certificate in enumerate(certificates)
    )
    if was_turned_away:
        return  # attempts of others may name what is on a path: whoever goes through all of them forgets it
    # Of this very leaf the attempt that is being counted will name what it was shown with now: within the hour.
    others = RegistrationAttempt.objects.filter(
        service=record.service_id, registration_key=record.registration_key
    )
    others = others.exclude(chain="").order_by()
    others = others.exclude(leaf_thumbprint=judgement.leaf_thumbprint, hour=hour_of(judgement))
    forget_if_unused(former.difference(one.pk for one in certificates), named_by=others)
