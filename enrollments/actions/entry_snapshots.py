"""An entry as the history keeps it, and which of its secrets were replaced or told: never what they are (R15, R17)."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import F, TextField
from django.db.models.functions import Cast

from enrollments.actions.entry_specs import EntrySpec
from enrollments.actions.key_identifiers import endorsement_identifier
from enrollments.actions.schedule import switch_state
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import Happened, changes, record
from enrollments.errors import SecretUnreadable
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
)
from enrollments.models.enrollments import KEY_IDS, SECRETS

E = TypeVar("E", IndividualEnrollment, EnrollmentGroup)


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
        # Beside the reason of the row, which is that of the whole act.
        **({SCHEDULE_REASON: entry.schedule_reason} if entry.schedule_reason else {}),
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
    if references := {one.slot: one.ca_certificate.name for one in certificates if one.ca_certificate}:
        state["ca_references"] = references
    return {"group_id": entry.group_id, "predecessor": entry.predecessor_name, **state}


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


def happened(
    event: Event,
    entry: IndividualEnrollment | EnrollmentGroup,
    spec: EntrySpec,
    was: dict[str, Any] | None,
    now: dict[str, Any],
) -> Happened:
    """Of an entry that was made what the spec says: where its switch was set by that, for the reason that it gives.

    Once the time to which that belongs has passed the entry does not keep it, and the history does all the same.
    """
    if not spec.schedule_reason or not _OF_SWITCH.intersection(now):
        return Happened(event, entry, was, now)
    if spec.switches_at is None:
        now = {**now, SCHEDULE_REASON: spec.schedule_reason}
    return Happened(event, entry, was, now, own_reason=spec.schedule_reason)


SCHEDULE_REASON = "schedule_reason"
_OF_SWITCH = frozenset({"status", "until", SCHEDULE_REASON})


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
