"""One entry or one registration record with everything but secrets, in words and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from enrollments.actions.entry_snapshots import snapshot
from enrollments.actions.judging import group_ref, individual_ref
from enrollments.actions.kept_out import kept_out
from enrollments.actions.name_claims import claims_on
from enrollments.actions.name_holders import holder_of
from enrollments.actions.preview import Entry, ref_of
from enrollments.management.tables import moment
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.models.enrollments import secrets_of
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason
from enrollments.policy.unknown import known
from enrollments.policy.words import printable

LAST_ATTEMPTS = 5
_RELATED = ("individual", "group", "owner_individual", "owner_group")


@dataclass(frozen=True, slots=True)
class Shown:
    """Members in the order in which people read them. `record`, `attempts`: for context."""

    members: dict[str, Any]
    record: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] | None = None
    registrations: dict[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self.attempts is not None:
            more = {"registration": self.record, "attempts": self.attempts}
        if self.registrations is not None:
            more["registrations"] = self.registrations
        return {**self.members, **more}

    def in_words(self) -> Iterator[tuple[str, str]]:
        for name, value in self.members.items():
            if name == "certificates":
                value = [_of_certificate(one) for one in value]
            if name == "has_keys" and value:
                yield "Keys", "two, which the portal shows to administrators"
            elif text := _text(value):
                yield _label(name), text
        if self.registrations is not None:
            counts = [f"{count:,} {status}" for status, count in self.registrations.items()]
            yield "Registrations", ", ".join(counts) or "none"
        if self.record is not None:
            yield "Registration", _of_record(self.record)
        elif self.attempts is not None and "registration_id" in self.members and "hub" not in self.members:
            yield "Registration", "none: the device has never been admitted"
        if self.attempts is not None:
            yield "Last attempts", "\n".join(map(_of_attempt, self.attempts)) or "none that is kept"


def show_entry(service: ProvisioningService, entry: Entry) -> Shown:
    state, held = snapshot(entry), entry.certificates.select_related("certificate").defer("certificate__pem")
    members = {
        "kind": ref_of(entry).kind.value,
        "service": service.name,
        **state,
        "certificates": [_certificate(one) for one in held.order_by("role", "slot", "pk")],
        "has_keys": entry.mechanism == AttestationMechanism.SYMMETRIC_KEY,
        "etag": entry.etag,
        "created": moment(entry.created_at),
        "updated": moment(entry.updated_at),
    }
    if isinstance(entry, EnrollmentGroup):
        counts = entry.registrations.order_by().values_list("status").annotate(Count("pk"))
        return Shown(members, registrations=dict(sorted(counts)))
    record = records_of(service).filter(registration_key=entry.registration_key).first()
    return Shown(
        members,
        _record(record) if record is not None else None,
        _attempts(service, entry.registration_key),
    )


def show_record(service: ProvisioningService, record: RegistrationRecord) -> Shown:
    reason = known(Reason, record.reason).in_words if record.reason else ""
    holder, out = holder_of(record), kept_out(service, record)
    evidence = record.evidence.select_related("certificate").order_by("position")
    members = {
        "service": service.name,
        **_record(record),
        "substatus": record.substatus or None,
        "why": reason or None,
        "mechanism": record.mechanism,
        "name_held_by": str(holder) if holder is not None else None,
        "name_wanted_by": [str(claim.entry) for claim in claims_on(record)],
        "kept_out_by": str(out.by) if out is not None and out.by is not None else None,
        "kept_out_until": moment(out.until) if out is not None else None,
        "kept_out_because": out.reason.in_words if out is not None else None,
        "evidence": [
            f"{one.certificate.subject} (SHA-256 {one.certificate.thumbprint_sha256})" for one in evidence
        ],
        "operation_id": record.operation_id,
        "etag": record.etag,
    }
    return Shown(members, attempts=_attempts(service, record.registration_key))


def records_of(service: ProvisioningService) -> Any:
    """With what is shown of them, and no secret (R16)."""
    return service.registrations.select_related("hub", *_RELATED).defer(*secrets_of(*_RELATED))


def entry_of(record: RegistrationRecord) -> str | None:
    """The entry that decided last, by name also where it is gone."""
    if record.individual is not None:
        return str(individual_ref(record.individual))
    if record.group is not None:
        return str(group_ref(record.group))
    return f"{record.entry_name}, which is deleted" if record.entry_name else None


def _certificate(held: HeldCertificate) -> dict[str, str | None]:
    one = held.certificate
    return {
        "place": "helper" if held.role == HeldRole.HELPER else held.slot,
        "subject": one.subject,
        "thumbprint_sha256": one.thumbprint_sha256,
        "not_before": moment(one.not_before),
        "not_after": moment(one.not_after),
    }


def _record(record: RegistrationRecord) -> dict[str, Any]:
    return {
        "registration_id": record.registration_id,
        "status": record.status,
        "hub": record.hub.host_name if record.hub else None,
        "device_id": record.device_id or None,
        "entry": entry_of(record),
        "assigned": moment(record.assigned_at),
        "created": moment(record.created_at),
        "updated": moment(record.updated_at),
    }


def _attempts(service: ProvisioningService, name: str) -> list[dict[str, Any]]:
    tried = service.attempts.filter(registration_key=registration_key(name)).order_by("-last_at", "-id")
    return list(map(_attempt, tried[:LAST_ATTEMPTS]))


def _attempt(one: RegistrationAttempt) -> dict[str, Any]:
    why = known(Reason, one.reason).in_words
    return {
        "last": moment(one.last_at),
        "outcome": one.outcome,
        "why": why,
        "times": one.count,
        "entry": f"{one.entry_kind} {one.entry_name}" if one.entry_kind else None,
        "from": printable(one.peer_address) or None,
        "client": printable(one.client) or None,
        "certificate": one.leaf_thumbprint or None,
        "key": one.key_id or None,
    }


def _label(name: str) -> str:
    words = name.replace("_", " ").replace(" id", " ID").replace("sha256", "SHA-256").replace("iot", "IoT")
    return f"{words[0].upper()}{words[1:]}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, dict):
        if all(isinstance(one, str) for one in value.values()):
            return "\n".join(f"{name}: {one}" for name, one in value.items())
        return json.dumps(value)
    return printable(str(value)) if value is not None else ""


def _of_certificate(one: dict[str, str]) -> str:
    """In two lines: a thumbprint has 64 digits."""
    valid = f"valid {one['not_before'][:10]} to {one['not_after'][:10]}"
    return f"{one['place']}: {printable(one['subject'])}, {valid}\n  SHA-256 {one['thumbprint_sha256']}"


def _of_record(record: dict[str, Any]) -> str:
    where = f", device {record['device_id']} at hub {record['hub']}" if record["hub"] else ""
    through = f", through {record['entry']}" if record["entry"] else ""
    return f"{record['status']}{where}{through}, {record['updated']}"


def _of_attempt(attempt: dict[str, Any]) -> str:
    times = f" ({attempt['times']:,} times)" if attempt["times"] > 1 else ""
    told = filter(None, (attempt["entry"], f"from {attempt['from']}" if attempt["from"] else ""))
    return ", ".join([f"{attempt['last']} {attempt['outcome']}: {attempt['why']}{times}", *told])
