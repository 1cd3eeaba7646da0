"""What adding and changing individual enrollments and groups have in common."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.db.models import Model

from enrollments.actions.entry_snapshots import snapshot
from enrollments.actions.entry_specs import EntrySpec
from enrollments.actions.key_identifiers import key_identifier
from enrollments.actions.schedule import clear_schedule, schedule, settle_entry
from enrollments.attestation.x509 import DeviceCertificate, ParsedCertificate, own_key_id
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record
from enrollments.errors import ChangedMeanwhile, Conflict, NotFound, PreviewOutdated
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.deleting import delete_entry
from enrollments.models.enrollments import new_etag, new_symmetric_key
from enrollments.models.inserting import made
from enrollments.models.locks import change_lock
from enrollments.models.services import Standing
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key

# Who does what is only tried, and taken back.
REHEARSAL = Actor("service", "rehearsal", Way.SCHEDULE)
# The shape in which a webhook is told of an entry (contract 6.4, 7.3).
DEFAULT_API_VERSION = "2021-10-01"

E = TypeVar("E", IndividualEnrollment, EnrollmentGroup)


class AlreadyEnrolled(Conflict):
    """What is to be enrolled is enrolled already; `entry` says where."""

    code = "already_enrolled"

    def __init__(self, message: str, entry: EntryRef, field: str) -> None:
        super().__init__(message)
        self.entry = entry
        self.field = field


class EnrollmentNotFound(NotFound):
    code = "enrollment_not_found"

    def __init__(self, registration_id: str) -> None:
        super().__init__(f"There is no individual enrollment {registration_id[:130]}.")


class EnrollmentGroupNotFound(NotFound):
    code = "enrollment_group_not_found"

    def __init__(self, group_id: str) -> None:
        super().__init__(f"There is no enrollment group {group_id[:130]}.")


def write_common(
    entry: IndividualEnrollment | EnrollmentGroup, spec: EntrySpec, *, actor: Actor, reason: str
) -> None:
    """Set what both kinds of entry hold. Keys are made where none exist, and kept where none are given.

    What is kept is not read: an entry can be disabled by this although its keys cannot be decrypted (R16).
    What is scheduled stays, unless the switch is turned by this, is to stay off for good, or another time is given.
    """
    holds_keys = entry.mechanism == AttestationMechanism.SYMMETRIC_KEY
    entry.mechanism = spec.mechanism
    turned = entry.enabled != spec.enabled
    if spec.switches_at is not None:
        is_other_reason = spec.schedule_reason not in (None, entry.schedule_reason)
        if turned or entry.switches_at != spec.switches_at or is_other_reason:
            schedule(entry, spec.switches_at, actor=actor, reason=spec.schedule_reason or reason)
    elif turned or spec.for_good:
        clear_schedule(entry)
    entry.enabled = spec.enabled
    entry.allocation_policy = spec.allocation_policy
    entry.reprovisioning_policy = spec.reprovisioning_policy
    entry.initial_twin = spec.initial_twin
    entry.iot_edge = spec.iot_edge
    _write_webhook(entry, spec)
    entry.etag = new_etag()
    if spec.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        for name, given in (("primary_key", spec.primary_key), ("secondary_key", spec.secondary_key)):
            if given or not holds_keys:
                key = given or new_symmetric_key()
                setattr(entry, name, key)
                setattr(entry, f"{name}_id", key_identifier(key))
    else:
        entry.primary_key = entry.secondary_key = ""
        entry.primary_key_id = entry.secondary_key_id = ""


def _write_webhook(entry: IndividualEnrollment | EnrollmentGroup, spec: EntrySpec) -> None:
    if spec.allocation_policy != AllocationPolicy.CUSTOM:
        entry.webhook_url = entry.webhook_query = entry.webhook_api_version = ""
        return
    address, has_query, query = spec.webhook_url.partition("?")
    if has_query or address != entry.webhook_url:
        entry.webhook_query = query
    entry.webhook_url = address
    entry.webhook_api_version = spec.webhook_api_version or DEFAULT_API_VERSION


def held(
    certificate_row: Certificate,
    parsed: ParsedCertificate | DeviceCertificate,
    *,
    role: HeldRole,
    slot: str = "",
    **place: Any,
) -> HeldCertificate:
    """A certificate in its place, with the columns that look-ups use. `place`: columns, or the rows they refer to."""
    rows = {name: one for name, one in place.items() if isinstance(one, Model)}
    row = made(
        HeldCertificate,
        role=role.value,
        slot=str(slot),
        certificate_id=certificate_row.pk,
        subject_sha256=parsed.subject_sha256,
        spki_sha256=parsed.spki_sha256,
        # By what those that a key has signed may name it. Of a device only what is made from its key: each match costs
        # a signature check.
        subject_key_id=own_key_id(parsed) if role == HeldRole.DEVICE else parsed.subject_key_id or "",
        **{f"{name}_id": one.pk for name, one in rows.items()},
        **{name: value for name, value in place.items() if name not in rows and value is not None},
    )
    # It is at hand and read next; of others only what has no number yet.
    row.certificate = certificate_row
    for name, one in rows.items():
        if one.pk is None:
            setattr(row, name, one)
    return row


def check_epoch(service: ProvisioningService, expected: int | None) -> None:
    """Inside the change lock. Raises PreviewOutdated if anything changed since the caller was told the consequences.

    None: the caller has decided to act on whatever the state is, as a program does that nobody answers for.
    """
    if expected is not None:
        refuse_outdated(service, ProvisioningService.what_decisions_read(service.pk), expected)


def refuse_outdated(service: ProvisioningService, standing: Standing, expected: int | None) -> None:
    """The same, where it is known what stands."""
    if is_outdated(standing, expected):
        raise PreviewOutdated(str(service))


def is_outdated(standing: Standing, expected: int | None) -> bool:
    """A switch that is due has changed something, recorded or not."""
    return expected is not None and (standing.epoch != expected or standing.is_switch_due)


def delete_all(
    service: ProvisioningService,
    names: Iterable[str],
    find: Callable[[str], E],
    event: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
    expected_etags: tuple[str, ...] = (),
) -> int:
    """Delete entries, all of them or none; how many that were.

    expected_epoch: see check_epoch. With `expected_etags`, only those that still have one of these; else raises
    ChangedMeanwhile.
    """
    reason = clean_reason(reason)
    deleted = 0
    with change_lock(service):
        check_epoch(service, expected_epoch)
        _, now = ProvisioningService.epoch_and_time(service.pk)
        for name in dict.fromkeys(map(registration_key, names)):
            entry = find(name)
            settle_entry(service, entry, now)
            if expected_etags and entry.etag not in expected_etags:
                raise ChangedMeanwhile(str(entry))
            # Of groups that admit alike the one created first decides: that goes with the entry.
            before = {**snapshot(entry), "created_at": entry.created_at.isoformat()}
            record(event, subject=entry, actor=actor, service=service, reason=reason, before=before)
            delete_entry(entry)
            deleted += 1
    return deleted
