"""What adding and changing individual enrollments and groups have in common."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.db import transaction
from django.db.models import F, Model, TextField
from django.db.models.functions import Cast

from enrollments.actions.entry_specs import EntrySpec
from enrollments.actions.key_identifiers import endorsement_identifier, key_identifier
from enrollments.actions.schedule import (
    SWITCH_COLUMNS,
    Span,
    as_text,
    checked_time,
    clear_schedule,
    schedule,
    settle_entry,
    switch_state,
)
from enrollments.attestation.x509 import DeviceCertificate, ParsedCertificate, own_key_id
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import Happened, changes, clean_reason, record, record_all
from enrollments.errors import ChangedMeanwhile, Conflict, NotFound, PreviewOutdated, SecretUnreadable
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
)
from enrollments.models.enrollments import KEY_IDS, SECRETS, new_etag, new_symmetric_key
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
        if turned or entry.switches_at != spec.switches_at:
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


def snapshot(
    entry: IndividualEnrollment | EnrollmentGroup,
    *,
    certificates: Iterable[HeldCertificate] | None = None,
    hubs: Iterable[LinkedHub] | None = None,
) -> dict[str, Any]:
    """An entry as the history keeps it: everything that decides, nothing that is secret (R15).

    certificates, hubs: what it holds, in order, where the caller has just written that; else it is read.
    """
    if certificates is None:
        held = entry.certificates.select_related("certificate", "ca_certificate")
        certificates = held.order_by("role", "slot", "pk")
    if hubs is None:
        hubs = entry.hubs.all()
    certificates = list(certificates)
    helpers = [one.certificate.thumbprint_sha256 for one in certificates if one.role == HeldRole.HELPER]
    state: dict[str, Any] = {
        **switch_state(entry),
        "mechanism": entry.mechanism,
        "certificates": {
            _place(one, helpers): f"{one.certificate.subject} (SHA-256 {one.certificate.thumbprint_sha256})"
            for one in certificates
        },
        "allocation_policy": entry.allocation_policy,
        "webhook": entry.webhook_url,
        "webhook_api_version": entry.webhook_api_version,
        "hubs": sorted(hub.host_name for hub in hubs),
        "reprovisioning_policy": entry.reprovisioning_policy,
        "initial_twin": entry.initial_twin,
        "iot_edge": entry.iot_edge,
        # Not the keys, but which ones they are: so it can be said later whether a device had one of them.
        **{name: key_id for name in KEY_IDS if (key_id := getattr(entry, name))},
    }
    if isinstance(entry, IndividualEnrollment):
        tpm = {
            name: endorsement_identifier(bytes(key))
            for name, key in (
                ("endorsement_key_sha256", entry.endorsement_key),
                ("storage_root_key_sha256", entry.storage_root_key),
            )
            if key
        }
        if entry.device_information is not None:
            state["device_information"] = entry.device_information
        return {"registration_id": entry.registration_id, "device_id": entry.device_id, **state, **tpm}
    predecessor = entry.predecessor.group_id if entry.predecessor else ""
    if references := {one.slot: one.ca_certificate.name for one in certificates if one.ca_certificate}:
        state["ca_references"] = references
    return {"group_id": entry.group_id, "predecessor": predecessor, **state}


def written(entry: E, write: Callable[[], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What writing an entry that is there changed: members as they were and as they are, secrets by name alone (R15).

    Where nothing changed, what was written is taken back, a new etag included: what `entry` holds is then not stored.
    """
    with transaction.atomic():
        before, secrets = snapshot(entry), _secrets_held(entry)
        write()
        was, now = changes(before, snapshot(entry))
        _note_replaced_secrets(secrets, _secrets_held(entry), was, now)
        if not (was or now):
            transaction.set_rollback(True)
    return was, now


def note_told_keys(
    service: ProvisioningService,
    entry: IndividualEnrollment | EnrollmentGroup,
    spec: EntrySpec,
    *,
    actor: Actor,
) -> None:
    """In the transaction that adds an entry: of keys that were made here, that whoever asked for it is told them (R17).

    What the caller gave is nothing revealed.
    """
    if spec.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return
    given = {"primary_key": spec.primary_key, "secondary_key": spec.secondary_key}
    if made := [name for name, key in given.items() if not key]:
        record(
            Event.KEYS_REVEALED, subject=entry, actor=actor, service=service, after={"made_and_told": made}
        )


def may_replace_secrets(entry: IndividualEnrollment | EnrollmentGroup, spec: EntrySpec) -> bool:
    """Whether saving this has to know what the entry holds, if only to say that it was replaced."""
    keeps_keys = entry.mechanism == spec.mechanism and not (spec.primary_key or spec.secondary_key)
    return _may_hold_secrets(entry) and (not keeps_keys or bool(entry.webhook_url))


def _may_hold_secrets(entry: IndividualEnrollment | EnrollmentGroup) -> bool:
    return entry.mechanism == AttestationMechanism.SYMMETRIC_KEY or bool(entry.webhook_url)


def read_secrets(entries: "Iterable[IndividualEnrollment]") -> None:
    """Of many in one query. What cannot be decrypted stays unread, and raises where it is asked for (R16)."""
    by_pk = {one.pk: one for one in entries if _may_hold_secrets(one)}
    if not by_pk:
        return
    columns: dict[str, Any] = {name: IndividualEnrollment._meta.get_field(name) for name in SECRETS}
    raw = {f"raw_{name}": Cast(F(name), TextField()) for name in columns}
    rows = IndividualEnrollment.objects.filter(pk__in=by_pk).annotate(**raw).values_list("pk", *raw)
    for pk, *tokens in rows:
        for (name, column), token in zip(columns.items(), tokens, strict=True):
            with suppress(SecretUnreadable):
                setattr(by_pk[pk], name, column.from_db_value(token))


def note_replaced_secrets(
    before: IndividualEnrollment, after: IndividualEnrollment, was: dict[str, Any], now: dict[str, Any]
) -> tuple[str, ...]:
    """The secrets that are others than before, added to what the history has. What was not set is not read (R16)."""
    unread = after.get_deferred_fields()
    written = {name: getattr(after, name) for name in SECRETS if name not in unread}
    held = {name: _secret_held(before, name) for name in written}
    _note_replaced_secrets(held, written, was, now)
    return tuple(name for name in written if written[name] != held[name])


def _secret_held(entry: IndividualEnrollment | EnrollmentGroup, name: str) -> str | None:
    """None for one that cannot be decrypted: whatever is given in its place counts as another one."""
    is_key = name != "webhook_query"
    if not (entry.mechanism == AttestationMechanism.SYMMETRIC_KEY if is_key else entry.webhook_url):
        return ""
    try:
        held: str = getattr(entry, name)
    except SecretUnreadable:
        return None
    return held


def _secrets_held(entry: IndividualEnrollment | EnrollmentGroup) -> dict[str, str | None]:
    return {name: _secret_held(entry, name) for name in SECRETS}


def _note_replaced_secrets(
    before: Mapping[str, str | None],
    after: Mapping[str, str | None],
    was: dict[str, Any],
    now: dict[str, Any],
) -> None:
    """That a secret is another one than before is history; what it was or is, is not (R15)."""
    for name in after:
        if before[name] != after[name]:
            was[name] = None if before[name] == "" else "(a key)"
            now[name] = None if after[name] == "" else "(another key)"


def _place(one: HeldCertificate, helpers: list[str]) -> str:
    """A helper has no slot: as many digits of it as tell it from the others of its entry, so that none is left out."""
    if one.role != HeldRole.HELPER:
        return one.slot
    thumbprint, digits = one.certificate.thumbprint_sha256, 8
    while sum(other.startswith(thumbprint[:digits]) for other in helpers) > 1:
        digits += 8
    return f"helper {thumbprint[:digits]}"


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


def set_enabled(
    service: ProvisioningService,
    find: Callable[[], E],
    enabled: bool,
    event: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
    until: datetime | None = None,
) -> E:
    """Turn an entry's switch, until somebody turns it again or, with `until`, until then.

    What was scheduled before is off. Where all of that is so already, nothing changes and nothing is recorded.
    expected_epoch: see check_epoch. Looked at where somebody may come in by it, now or later.
    """
    with _switching(
        service, find, event, actor=actor, reason=reason, expected_epoch=expected_epoch
    ) as switch:
        switch.turn(enabled, until)
    return switch.entry


def disabled_for_good(entry: E, now: datetime, event: Event, *, actor: Actor, reason: str) -> Happened | None:
    """Turn it off as set_enabled does, of an entry that is not due, for whoever saves it and many others.

    What that is in the history; None where it is so already.
    """
    switch = _Switch.of(entry, now, actor=actor, reason=reason)
    switch.turn(False, None)
    return switch.happened(event)


def schedule_disabling(
    service: ProvisioningService,
    find: Callable[[], E],
    event: Event,
    at: datetime,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
) -> E:
    """Let an entry's switch be turned off at a time. One that is off for good stays so, and nothing is recorded.

    Raises Invalid, and Conflict for one that is off until some other time: an entry holds one scheduled change.
    expected_epoch: see set_enabled; an end that is put off lets in for longer.
    """
    with _switching(
        service, find, event, actor=actor, reason=reason, expected_epoch=expected_epoch
    ) as switch:
        at = checked_time("at", at, switch.now)
        if switch.entry.enabled:
            switch.turn_at(at)
        elif switch.entry.switches_at is not None:
            raise Conflict(
                f"{switch.entry} is disabled until {as_text(switch.entry.switches_at)}: disable it until further "
                "notice, or until another time."
            )
    return switch.entry


def cancel_schedule(
    service: ProvisioningService,
    find: Callable[[], E],
    event: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None = None,
) -> E:
    """Leave an entry's switch as it stands until somebody turns it. Where nothing is scheduled nothing is recorded.

    expected_epoch: see set_enabled; what was to be disabled at a time then stays enabled.
    """
    with _switching(
        service, find, event, actor=actor, reason=reason, expected_epoch=expected_epoch
    ) as switch:
        switch.turn_at(None)
    return switch.entry


@dataclass(slots=True)
class _Switch(Generic[E]):
    """An entry whose switch is being set, and the time by the database's clock."""

    entry: E
    now: datetime
    before: dict[str, str]
    actor: Actor
    reason: str

    @classmethod
    def of(cls, entry: E, now: datetime, *, actor: Actor, reason: str) -> "_Switch[E]":
        return cls(entry, now, switch_state(entry), actor, reason)

    def turn(self, enabled: bool, until: datetime | None) -> None:
        """Raises Invalid for a time that cannot be scheduled."""
        until = checked_time("until", until, self.now) if until is not None else None
        self.entry.enabled = enabled
        self.turn_at(until)

    def happened(self, event: Event) -> Happened | None:
        """What was set, as the history has it, with a new etag for the entry; None where all is as it was."""
        after = switch_state(self.entry)
        if after == self.before:
            return None
        self.entry.etag = new_etag()
        return Happened(event, self.entry, self.before, after)

    def turn_at(self, moment: datetime | None) -> None:
        if moment is None:
            clear_schedule(self.entry)
        elif moment != self.entry.switches_at:
            schedule(self.entry, moment, actor=self.actor, reason=self.reason)


@contextmanager
def _switching(
    service: ProvisioningService,
    find: Callable[[], E],
    event: Event,
    *,
    actor: Actor,
    reason: str,
    expected_epoch: int | None,
) -> Iterator[_Switch[E]]:
    """Inside the change lock: the entry as it stands by now, to be set; what was changed is saved and recorded."""
    reason = clean_reason(reason)
    with change_lock(service):
        entry = find()
        standing = ProvisioningService.what_decisions_read(service.pk)
        # What was due before this change stands before it in the history.
        settle_entry(service, entry, standing.now)
        was = Span.of(entry)
        switch = _Switch.of(entry, standing.now, actor=actor, reason=reason)
        yield switch
        happened = switch.happened(event)
        if happened is None:
            return
        if not Span.of(entry).is_within(was):
            refuse_outdated(service, standing, expected_epoch)
        entry.save(update_fields=SWITCH_COLUMNS)
        record_all([happened], actor=actor, service=service, reason=reason)


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
            entry.delete()
            deleted += 1
    return deleted
