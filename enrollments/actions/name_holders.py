"""Whose a registration ID is, and whether somebody else may have it (R11)."""

from enrollments.actions.judging import Judgement, group_ref, individual_ref
from enrollments.models import EnrollmentGroup, RegistrationRecord
from enrollments.policy.decision import Said, TraceStep
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.ownership import may_take_name


def holder_of(record: RegistrationRecord) -> EntryRef | None:
    """The entry through which the registration ID is held (R11)."""
    if record.owner_individual is not None:
        return individual_ref(record.owner_individual)
    if record.owner_group is not None:
        return group_ref(record.owner_group)
    return None


def may_take(record: RegistrationRecord, judgement: Judgement) -> bool:
    """Whether a device that is admitted so may have the name that this record holds (R11)."""
    taker = judgement.decision.entry
    if taker is None:
        return False
    holder, predecessor = holder_of(record), None
    if taker.kind is EntryKind.GROUP and holder != taker:
        # It may have been deleted since; the caller compares the epoch before it tells anything.
        predecessor = (
            EnrollmentGroup.objects.filter(pk=taker.pk).values_list("predecessor_id", flat=True).first()
        )
    return may_take_name(holder, taker, predecessor=predecessor, groups_proven=judgement.groups_proven)


def speaks_for(judgement: Judgement, record: RegistrationRecord) -> bool:
    """Whether this proof concerns the device that holds the name, or a stranger with the same name."""
    holder = holder_of(record)
    if holder is None or holder == judgement.decision.entry:
        return True
    if holder.kind is EntryKind.GROUP:
        return holder.pk in judgement.groups_proven
    individual = judgement.facts.individual
    return individual is not None and individual.own_credential_proven


def held_by_other(record: RegistrationRecord) -> TraceStep:
    because = (
        f"the name is held through {holder_of(record)}, which neither is this entry nor is named by it as predecessor, "
        "nor has a CA on the proven path; an operator can release it"
    )
    return TraceStep("R11", f"registration ID {record.registration_id}", Said.FAILS, because)
