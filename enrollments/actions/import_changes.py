"""What the lines of a list come to, and carrying that out together: what one line cannot have hinders no other."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    change_enrollment_group,
    disable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments_together import (
    Asked,
    add_individual_enrollments,
    change_individual_enrollments,
)
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.outcomes import Outcome
from enrollments.audit.actor import Actor
from enrollments.errors import DpsError, Invalid
from enrollments.models import ProvisioningService
from enrollments.policy.names import registration_key

# Counted beside the outcomes: lines by which an entry is disabled, and somebody may come in all the same.
HELPS_OTHERS = "helps others"


@dataclass(frozen=True, slots=True)
class LineProblem:
    line: int
    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a line comes to. Without a spec: disable. Without an etag: add, else change what has this one.

    outcome: as it was foreseen on the state of the epoch that goes with it. awaited_predecessor: the ID of a group that
    a line before this one adds. helps_others: somebody may come in by it through another entry, or later, whatever its
    switch. drops_pins: it changes an entry by which fewer come in then (see drops_pins_only).
    """

    line: int
    name: str
    is_group: bool
    spec: IndividualSpec | GroupSpec | None
    expected_etag: str | None = None
    outcome: Outcome
    awaited_predecessor: str = ""
    helps_others: bool = False
    drops_pins: bool = False


@dataclass(slots=True)
class Tally:
    """What became of the lines of one chunk."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[LineProblem] = field(default_factory=list)

    def add(self, outcome: Outcome | str) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def refuse(self, line: int, name: str, sentence: str) -> None:
        self.add(Outcome.REFUSED)
        self.problems.append(LineProblem(line, name, sentence))


def carry_out_changes(service: ProvisioningService, changes: Sequence[Change], *, actor: Actor) -> Tally:
    """As a portion is, without a run: for whoever looks what that does, and takes it back."""
    tally = Tally()
    do_changes(service, changes, tally, actor=actor, reason="")
    return tally


def do_changes(
    service: ProvisioningService, changes: Sequence[Change], tally: Tally, *, actor: Actor, reason: str
) -> None:
    new = [one for one in changes if _is_new_device(one)]
    specs = [one.spec for one in new if isinstance(one.spec, IndividualSpec)]
    added = add_individual_enrollments(service, specs, actor=actor, reason=reason)
    _tell(tally, new, added)
    others = [one for one in changes if one.outcome is not Outcome.UNCHANGED]
    there = [one for one in others if not one.is_group and not _is_new_device(one)]
    changed = change_individual_enrollments(service, map(_asked, there), actor=actor, reason=reason)
    _tell(tally, there, changed)
    groups = [one for one in others if one.is_group]
    _tell(tally, groups, [_done(service, one, actor=actor, reason=reason) for one in groups])
    for _ in range(len(changes) - len(new) - len(there) - len(groups)):
        tally.add(Outcome.UNCHANGED)


def _is_new_device(change: Change) -> bool:
    return change.expected_etag is None and isinstance(change.spec, IndividualSpec)


def _asked(change: Change) -> Asked:
    spec = change.spec if isinstance(change.spec, IndividualSpec) else None
    return Asked(change.name, spec, change.expected_etag or "")


def _tell(tally: Tally, changes: Sequence[Change], outcomes: Sequence[object]) -> None:
    """outcomes: for each change what is wrong with it, or something else."""
    for change, outcome in zip(changes, outcomes, strict=True):
        if isinstance(outcome, DpsError):
            tally.refuse(change.line, change.name, outcome.message)
        else:
            tally.add(change.outcome)


def _done(service: ProvisioningService, change: Change, *, actor: Actor, reason: str) -> DpsError | None:
    """A line about a group, by the action that does the same for one; it takes the lock that is owned already."""
    try:
        spec = _with_predecessor(service, change)
        if spec is None:
            disable_enrollment_group(service, change.name, actor=actor, reason=reason)
        elif change.expected_etag is None:
            add_enrollment_group(service, spec, actor=actor, reason=reason)
        else:
            change_enrollment_group(
                service, change.name, spec, expected_etag=change.expected_etag, actor=actor, reason=reason
            )
    except DpsError as problem:
        return problem
    return None


def _with_predecessor(service: ProvisioningService, change: Change) -> GroupSpec | None:
    """None: disable it. Raises Invalid."""
    if not isinstance(change.spec, GroupSpec):
        return None
    if not change.awaited_predecessor:
        return change.spec
    key = registration_key(change.awaited_predecessor)
    found = service.enrollmentgroups.without_secrets().filter(group_key=key).first()
    if found is None:
        sentence = f"predecessor: group {change.awaited_predecessor[:130]} was not added by the line before this one."
        raise Invalid({"": [sentence]})
    return replace(change.spec, predecessor=found)
