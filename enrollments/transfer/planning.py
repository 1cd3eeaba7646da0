"""From what a portion of lines asks for to what an import carries out: looked up, parsed, and foreseen."""

import json
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from django.db.models import prefetch_related_objects

from enrollments.actions.enrollment_groups import foresee_group
from enrollments.actions.enrollment_specs import IndividualSpec, check_enrollment
from enrollments.actions.enrollments_together import foresee_enrollment, read_what_changing_reads
from enrollments.actions.entries import EnrollmentGroupNotFound, EnrollmentNotFound
from enrollments.actions.entry_snapshots import may_replace_secrets, read_secrets
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.import_changes import Change, LineProblem
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.outcomes import Outcome, outcome_of
from enrollments.actions.reach import Reach, drops_pins_only, reach_of
from enrollments.actions.schedule import checked_time
from enrollments.attestation.x509 import (
    FORM,
    DeviceCertificate,
    UnparsedCertificate,
    as_values,
    from_values,
)
from enrollments.errors import DpsError, Invalid, NotFound
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.inserting import numbers_by
from enrollments.policy.names import registration_key, same_registration_id
from enrollments.transfer.lines import Record, certificates_of
from enrollments.wire import messages
from enrollments.wire.errors import ApiError
from enrollments.wire.specs import group_spec, individual_spec
from enrollments.wire.words import in_words

Entry = IndividualEnrollment | EnrollmentGroup
S = TypeVar("S", IndividualSpec, GroupSpec)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about a portion, and about which of its lines nothing can be. Holds for one epoch."""

    epoch: int
    changes: list[Change]
    problems: list[LineProblem]


def as_text(records: Iterable[Record]) -> str:
    """Lines as a chunk keeps them."""
    rows = [
        (
            one.line,
            one.is_group,
            one.name,
            one.operation,
            one.message,
            one.predecessor,
            one.secrets_withheld,
            [as_values(certificate) for certificate in one.certificates.values()],
            *((one.switches_at.isoformat(), one.schedule_reason) if one.switches_at else ()),
        )
        for one in records
    ]
    return json.dumps([FORM, *rows], ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> list[Record]:
    """With what the check read of device certificates, where it was this version of the program that wrote it down.

    A chunk is sealed with the key of the installation: nobody else can have put anything into it.
    """
    kept = json.loads(text)
    if kept[0] != FORM:
        return [_scheduled(Record(*row[:7]), *row[8:]) for row in kept if isinstance(row, list)]
    return [_known(*row) for row in kept[1:]]


def _known(line: int, is_group: bool, name: str, operation: str, message: Any, *rest: Any) -> Record:
    predecessor, secrets_withheld, values, *schedule = rest
    texts = _texts(message) if values else ()
    known = {text: from_values(b64decode(text), one) for text, one in zip(texts, values, strict=True)}
    record = Record(line, is_group, name, operation, message, predecessor, secrets_withheld, known)
    return _scheduled(record, *schedule)


def _scheduled(record: Record, switches_at: str = "", reason: str = "") -> Record:
    if not switches_at:
        return record
    return replace(record, switches_at=datetime.fromisoformat(switches_at), schedule_reason=reason)


def to_be_kept(record: Record, change: Change) -> Record:
    """Without what nobody reads any more, and with what was read of the certificates of a device."""
    if change.spec is None:
        return replace(record, message={})
    if not isinstance(change.spec, IndividualSpec):
        return record
    known = {}
    for slot, holder in certificates_of(record.message):
        certificate = change.spec.certificates[slot]
        if not isinstance(certificate, DeviceCertificate) or isinstance(certificate, UnparsedCertificate):
            return record
        holder["certificate"] = b2a_base64(certificate.der, newline=False).decode()
        known[holder["certificate"]] = certificate
    kept = (record.line, record.is_group, record.name, record.operation, record.message)
    whole = (*kept, record.predecessor, record.secrets_withheld, known)
    return Record(*whole, record.switches_at, record.schedule_reason)


def _texts(message: dict[str, Any]) -> Iterable[str]:
    """Of the certificates, each once."""
    return dict.fromkeys(holder["certificate"] for _, holder in certificates_of(message))


def plan(
    service_id: int,
    records: Sequence[Record],
    *,
    thoroughly: bool,
    compares: bool = True,
    groups_to_come: frozenset[str] = frozenset(),
    known: Mapping[str, DeviceCertificate] = MappingProxyType({}),
) -> Plan:
    """thoroughly: look whether what is to be added could be; else whoever adds it looks.

    compares: look whether what is there is as the line says already. Else it counts as changed.
    groups_to_come: keys of the groups that earlier portions add, for whoever only looks.
    known: certificates of devices that were read already, by their texts.
    """
    # Before anything else is read: what is changed from here on shows.
    service, now = ProvisioningService.at_this_moment(service_id)
    epoch = service.epoch
    prefetch_related_objects([service], "hubs")
    look = _Look(service, now, _entries(service, records), thoroughly, compares, set(groups_to_come), known)
    made = Plan(epoch, [], [])
    with secret_read_once():
        for record in records:
            try:
                change = look.change(record)
            except ApiError as refused:
                made.problems.append(LineProblem(record.line, record.name, refused.answer.message))
            except Invalid as invalid:
                made.problems.append(LineProblem(record.line, record.name, in_words(invalid)))
            except DpsError as problem:
                made.problems.append(LineProblem(record.line, record.name, problem.message))
            else:
                made.changes.append(change)
    return made


def _entries(service: ProvisioningService, records: Sequence[Record]) -> dict[tuple[bool, str], Entry]:
    keys = {
        kind: [registration_key(one.name) for one in records if one.is_group is kind]
        for kind in (False, True)
    }
    found: dict[tuple[bool, str], Entry] = {}
    individuals = service.individualenrollments.without_secrets()
    numbers = numbers_by(IndividualEnrollment, "registration_key", keys[False], service_id=service.pk)
    there = list(individuals.filter(pk__in=numbers.values())) if numbers else []
    to_change = {registration_key(one.name) for one in records if one.operation != "disable"}
    read_what_changing_reads(one for one in there if one.registration_key in to_change)
    for one in there:
        found[False, one.registration_key] = one
    groups = service.enrollmentgroups.without_secrets().with_predecessor()
    for group in groups.filter(group_key__in=keys[True]) if keys[True] else ():
        found[True, group.group_key] = group
    return found


@dataclass(slots=True)
class _Look:
    """What is there, as of one epoch. `to_come`: keys of groups that lines before this one add."""

    service: ProvisioningService
    now: datetime
    entries: dict[tuple[bool, str], Entry]
    thoroughly: bool
    compares: bool
    to_come: set[str]
    known: Mapping[str, DeviceCertificate]
    secrets_are_read: bool = False

    def change(self, record: Record) -> Change:
        key = registration_key(record.name)
        current = self.entries.get((record.is_group, key))
        if record.operation in ("update", "disable") and current is None:
            raise _missing(record)
        if record.operation == "create" and current is not None:
            raise Invalid({"": [f"{current} is there already: to change it, say update or createOrUpdate."]})
        name = record.name if current is None else str(current)
        if record.operation == "disable":
            assert current is not None  # asked above
            # Off until a time is not off for good.
            is_off = not current.enabled and current.switches_at is None
            outcome = Outcome.UNCHANGED if is_off else Outcome.DISABLED
            return Change(line=record.line, name=name, is_group=record.is_group, spec=None, outcome=outcome)
        if record.is_group:
            change = self._group(record, name, current)
            self.to_come.add(key)
            return change
        return self._individual(record, name, current)

    def _individual(self, record: Record, name: str, current: Entry | None) -> Change:
        assert current is None or isinstance(current, IndividualEnrollment)
        message = messages.checked(messages.IndividualEnrollment, record.message)
        spec = individual_spec(self.service, message, current, record.certificates or self.known)
        spec = _with_schedule(spec, record, self.now)
        _refuse_withheld(record, spec, current)
        outcome = outcome_of(current, spec, changed=True)
        if self.compares and current is not None:
            self._read_secrets_where_asked(current, spec)
        if self.thoroughly or (self.compares and current is not None):
            outcome = foresee_enrollment(self.service, spec, current)
        elif not self.compares:
            check_enrollment(self.service, spec, current)
        etag = None if current is None else current.etag
        compared = current if self.compares else None
        return Change(
            line=record.line,
            name=name,
            is_group=False,
            spec=spec,
            expected_etag=etag,
            outcome=outcome,
            helps_others=outcome is Outcome.DISABLED and _may_let_in_later(compared, spec),
            drops_pins=outcome is Outcome.CHANGED and _drops_pins(compared, spec),
        )

    def _read_secrets_where_asked(self, current: IndividualEnrollment, spec: IndividualSpec) -> None:
        """Once for the whole portion."""
        if not self.secrets_are_read and may_replace_secrets(current, spec):
            read_secrets(one for one in self.entries.values() if isinstance(one, IndividualEnrollment))
            self.secrets_are_read = True

    def _group(self, record: Record, name: str, current: Entry | None) -> Change:
        assert current is None or isinstance(current, EnrollmentGroup)
        message = messages.checked(messages.EnrollmentGroup, record.message)
        spec = group_spec(self.service, message, current, names_beside_certificates=True)
        spec = _with_schedule(spec, record, self.now)
        predecessor = self._predecessor(record)
        awaits = record.predecessor is not None and predecessor is None
        if record.predecessor is not None:
            spec = replace(spec, predecessor=predecessor)
        _refuse_withheld(record, spec, current)
        outcome = outcome_of(current, spec, changed=True)
        if self.thoroughly or (self.compares and current is not None):
            outcome = foresee_group(self.service, spec, current)
        if awaits and outcome is Outcome.UNCHANGED:
            outcome = Outcome.CHANGED
        return Change(
            line=record.line,
            name=name,
            is_group=True,
            spec=spec,
            expected_etag=None if current is None else current.etag,
            outcome=outcome,
            awaited_predecessor=record.predecessor or "" if awaits else "",
            helps_others=not spec.enabled and reach_of(current, spec) is Reach.MAY_WIDEN,
        )

    def _predecessor(self, record: Record) -> EnrollmentGroup | None:
        """None where it has none, and where a line before this one adds it. Raises Invalid."""
        if record.predecessor is None:
            return None
        if same_registration_id(record.predecessor, record.name):
            raise Invalid({"": ["predecessor: a group cannot be its own predecessor."]})
        key = registration_key(record.predecessor)
        found = self.service.enrollmentgroups.without_secrets().filter(group_key=key).first()
        if found is None and key not in self.to_come:
            raise Invalid(
                {
                    "": [
                        f"predecessor: there is no enrollment group {record.predecessor[:130]!a}, and no line before "
                        "this one adds it."
                    ]
                }
            )
        return found


def _with_schedule(spec: S, record: Record, now: datetime) -> S:
    """With the time at which its switch turns; once that has passed, as it stands since. Raises Invalid."""
    if record.switches_at is None:
        return spec
    if record.switches_at <= now:
        reason = record.schedule_reason or None
        return replace(spec, enabled=not spec.enabled, for_good=spec.enabled, schedule_reason=reason)
    at = checked_time("switches_at", record.switches_at, now, opens=not spec.enabled)
    return replace(spec, switches_at=at, for_good=False, schedule_reason=record.schedule_reason or None)


def _may_let_in_later(current: IndividualEnrollment | None, spec: IndividualSpec) -> bool:
    """By an entry that is disabled now: it is enabled at a time, or was to be disabled at one, and holds others then.

    Without a time nobody comes in by one that was enabled, and barred no key, whatever it holds once it is disabled.
    """
    if current is None or (current.switches_at is None and spec.switches_at is None):
        return False
    return reach_of(current, spec) is Reach.MAY_WIDEN


def _drops_pins(current: IndividualEnrollment | None, spec: IndividualSpec) -> bool:
    """What it holds was read for the whole portion; few lines leave a certificate out."""
    if current is None or len(current.certificates.all()) <= len(spec.certificates):
        return False
    return drops_pins_only(current, spec)


def _missing(record: Record) -> NotFound:
    return EnrollmentGroupNotFound(record.name) if record.is_group else EnrollmentNotFound(record.name)


def _refuse_withheld(record: Record, spec: IndividualSpec | GroupSpec, current: Entry | None) -> None:
    """An export without secrets says so: new ones in their place would look like an import that worked."""
    if not record.secrets_withheld:
        return
    keys_are_there = current is not None and current.mechanism == AttestationMechanism.SYMMETRIC_KEY
    if spec.mechanism == AttestationMechanism.SYMMETRIC_KEY and not keys_are_there and not spec.primary_key:
        raise Invalid(
            {
                "": [
                    "secretsWithheld: the keys of this entry were left out when it was exported, and it has none here. "
                    "Let an administrator export it with secrets; or leave the member out, and new keys are made."
                ]
            }
        )
    webhook_is_there = current is not None and current.webhook_url
    if spec.webhook_url and not webhook_is_there:
        raise Invalid(
            {
                "": [
                    "secretsWithheld: the query of this entry's webhook was left out when it was exported. Let an "
                    "administrator export it with secrets, or give the whole URL and leave the member out."
                ]
            }
        )
