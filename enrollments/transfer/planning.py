"""From what a portion of lines asks for to what an import carries out: looked up, parsed, and foreseen."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace

from django.db.models import prefetch_related_objects

from enrollments.actions.enrollment_groups import (
    EnrollmentGroupNotFound,
    GroupSpec,
    foresee_group,
)
from enrollments.actions.enrollments import EnrollmentNotFound, IndividualSpec, foresee_enrollment
from enrollments.actions.imports import Change, LineProblem
from enrollments.actions.outcomes import Outcome
from enrollments.errors import DpsError, Invalid, NotFound
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.policy.names import registration_key, same_registration_id
from enrollments.transfer.lines import Record
from enrollments.wire import messages
from enrollments.wire.errors import ApiError
from enrollments.wire.specs import group_spec, individual_spec
from enrollments.wire.words import in_words

Entry = IndividualEnrollment | EnrollmentGroup


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about a portion, and about which of its lines nothing can be. Holds for one epoch."""

    epoch: int
    changes: list[Change]
    problems: list[LineProblem]


def as_text(records: Iterable[Record]) -> str:
    """Lines as a chunk keeps them."""
    return json.dumps([astuple(one) for one in records], ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> list[Record]:
    return [Record(*one) for one in json.loads(text)]


def plan(
    service_id: int,
    records: Sequence[Record],
    *,
    thoroughly: bool,
    groups_to_come: frozenset[str] = frozenset(),
) -> Plan:
    """thoroughly: look whether what is to be added could be; else whoever adds it looks.

    groups_to_come: keys of the groups that lines before these add, for whoever only looks.
    """
    service = ProvisioningService.objects.get(pk=service_id)
    # Before anything else is read: what is changed from here on shows.
    epoch = service.epoch
    prefetch_related_objects([service], "hubs")
    entries = _entries(service, records)
    made = Plan(epoch, [], [])
    for record in records:
        current = entries.get((record.is_group, registration_key(record.name)))
        try:
            change = _change(service, record, current, thoroughly=thoroughly, to_come=groups_to_come)
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
    for one in individuals.filter(registration_key__in=keys[False]) if keys[False] else ():
        found[False, one.registration_key] = one
    groups = service.enrollmentgroups.without_secrets().select_related("predecessor")
    for group in groups.filter(group_key__in=keys[True]) if keys[True] else ():
        found[True, group.group_key] = group
    return found


def _change(
    service: ProvisioningService,
    record: Record,
    current: Entry | None,
    *,
    thoroughly: bool,
    to_come: frozenset[str],
) -> Change:
    if record.operation in ("update", "disable") and current is None:
        raise _missing(record)
    if record.operation == "create" and current is not None:
        raise Invalid({"": [f"{current} is there already: to change it, say update or createOrUpdate."]})
    name = record.name if current is None else str(current)
    etag = None if current is None else current.etag
    if record.operation == "disable":
        outcome = Outcome.DISABLED if current is not None and current.enabled else Outcome.UNCHANGED
        return Change(line=record.line, name=name, is_group=record.is_group, spec=None, outcome=outcome)
    spec, outcome = _foreseen(service, record, current, thoroughly=thoroughly, to_come=to_come)
    return Change(
        line=record.line,
        name=name,
        is_group=record.is_group,
        spec=spec,
        expected_etag=etag,
        outcome=outcome,
    )


def _missing(record: Record) -> NotFound:
    return EnrollmentGroupNotFound(record.name) if record.is_group else EnrollmentNotFound(record.name)


def _foreseen(
    service: ProvisioningService,
    record: Record,
    current: Entry | None,
    *,
    thoroughly: bool,
    to_come: frozenset[str],
) -> tuple[IndividualSpec | GroupSpec, Outcome]:
    if record.is_group:
        assert current is None or isinstance(current, EnrollmentGroup)
        group = group_spec(service, messages.checked(messages.EnrollmentGroup, record.message), current)
        group = _with_predecessor(service, group, record, to_come, thoroughly=thoroughly)
        _refuse_withheld(record, group, current)
        if thoroughly or current is not None:
            return group, foresee_group(service, group, current)
        return group, Outcome.ADDED
    assert current is None or isinstance(current, IndividualEnrollment)
    spec = individual_spec(service, messages.checked(messages.IndividualEnrollment, record.message), current)
    _refuse_withheld(record, spec, current)
    if thoroughly or current is not None:
        return spec, foresee_enrollment(service, spec, current)
    return spec, Outcome.ADDED


def _with_predecessor(
    service: ProvisioningService,
    spec: GroupSpec,
    record: Record,
    to_come: frozenset[str],
    *,
    thoroughly: bool,
) -> GroupSpec:
    if record.predecessor is None:
        return spec
    if same_registration_id(record.predecessor, record.name):
        raise Invalid({"": ["predecessor: a group cannot be its own predecessor."]})
    key = registration_key(record.predecessor)
    found = service.enrollmentgroups.without_secrets().filter(group_key=key).first()
    if found is None and not (thoroughly and key in to_come):
        raise Invalid(
            {
                "": [
                    f"predecessor: there is no enrollment group {record.predecessor[:130]!a}, and no line before this "
                    "one adds it."
                ]
            }
        )
    return replace(spec, predecessor=found)


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
