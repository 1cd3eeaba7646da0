"""Deciding about devices that sign, as of a time that has passed: by identifiers of keys, since keys are not kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from enrollments.actions.key_identifiers import OF_GROUP
from enrollments.actions.past.entries import PastEntry
from enrollments.models import AttestationMechanism
from enrollments.policy.decision import Decision, decide
from enrollments.policy.facts import (
    CredentialFacts,
    GroupFacts,
    IndividualFacts,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.reasons import Reason

# What identifies the key of a device that signs: its own, and that of the group from which it is derived. Several where
# an attempt does not say which of these it was.
Readings = tuple[frozenset[str], ...]

NO_KEY_KNOWN = "which key it proved was not noted: it has not registered since keys have identifiers"
ONLY_OF_GROUP = (
    "it proved a key that a group derived for it, and whether its own entry held that key is not known"
)
WHOSE_KEY = (
    "whether the key that it proved was its own or that of a group was not noted by the version of that time"
)
SUMMARY = {
    Mechanism.SYMMETRIC_KEY: "a SAS token by the key that it proved",
    Mechanism.TPM: "the TPM, taken as having answered its challenge",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision with what it rests on, or why there is none."""

    decision: Decision | None = None
    facts: RegistrationFacts | None = None
    unknown: str = ""


def tells_of(known: Readings, other: Readings) -> bool:
    """Whether the other one tells nothing more of what the device has."""
    if len(known) != 1 or known == other:
        return known == other
    if len(other) == 1:
        return other[0] <= known[0]
    return any(not one.isdisjoint(known[0]) for one in other)


def judge_by_key(
    name: str,
    mechanism: Mechanism,
    readings: Readings,
    individual: PastEntry | None,
    groups: Iterable[PastEntry],
    *,
    key_groups_admit: bool,
    at: datetime,
) -> Judged:
    """As if the device had just proven the key that these identify; without any, nobody knows which one it has.

    individual: that of its registration ID. groups: those with symmetric keys.
    """
    ordered = sorted(groups, key=lambda group: group.pk)
    judged = [
        _judge(name, mechanism, key_ids, individual, ordered, key_groups_admit=key_groups_admit, at=at)
        for key_ids in readings
    ]
    is_the_same = len({(one.decision.verdict, one.decision.entry) for one in judged if one.decision}) <= 1
    unknown = next((one for one in judged if one.decision is None), None)
    return unknown or (judged[0] if is_the_same else Judged(unknown=WHOSE_KEY))


def _judge(
    name: str,
    mechanism: Mechanism,
    key_ids: frozenset[str],
    individual: PastEntry | None,
    groups: Sequence[PastEntry],
    *,
    key_groups_admit: bool,
    at: datetime,
) -> Judged:
    signed = [group for group in groups if key_ids & {f"{OF_GROUP}{one}" for one in group.key_ids if one}]
    facts = tuple(_signing(group, key_groups_admit, at) for group in signed)
    if individual is not None:
        return _by_individual(name, mechanism, key_ids, individual, facts, at)
    if mechanism is Mechanism.TPM:
        return _decided(name, CredentialFacts(mechanism, "the TPM", problem=Reason.TPM_NOT_ENROLLED))
    if groups and not key_ids:
        return Judged(unknown=NO_KEY_KNOWN)
    doubtful = [group for group in groups if group not in signed and ("" in group.key_ids or group.doubt)]
    if doubtful:
        return Judged(unknown=f"of {doubtful[0].ref}, {doubtful[0].doubt or doubtful[0].key_doubt}")
    return _decided(name, CredentialFacts(mechanism, SUMMARY[mechanism]), groups=facts)


def _signing(group: PastEntry, key_groups_admit: bool, at: datetime) -> GroupFacts:
    return GroupFacts(
        group.ref,
        group.is_enabled(at),
        (group.created.timestamp() if group.created else 0.0, group.pk),
        0,
        signed=True,
        switched_off=not key_groups_admit,
    )


def _by_individual(
    name: str,
    mechanism: Mechanism,
    key_ids: frozenset[str],
    individual: PastEntry,
    groups: tuple[GroupFacts, ...],
    at: datetime,
) -> Judged:
    """R5: it alone decides. One that was disabled refuses, whichever key its device had."""
    if individual.doubt:
        return Judged(unknown=f"of {individual.ref}, {individual.doubt}")
    enabled = individual.is_enabled(at)
    is_of_its_kind = individual.mechanism == mechanism.value
    proven = is_of_its_kind and bool(key_ids & set(individual.key_ids))
    if is_of_its_kind and not proven and (not key_ids or "" in individual.key_ids):
        if enabled:
            return Judged(unknown=individual.key_doubt if key_ids else NO_KEY_KNOWN)
        proven = True
    if is_of_its_kind and enabled and not proven and all(one.startswith(OF_GROUP) for one in key_ids):
        return Judged(unknown=ONLY_OF_GROUP)
    problem = Reason.TPM_NOT_ENROLLED if mechanism is Mechanism.TPM and not proven else None
    own = IndividualFacts(
        individual.ref,
        enabled,
        Mechanism(individual.mechanism),
        own_credential_proven=proven,
        detail="" if proven else _why_unproven(individual, is_of_its_kind),
    )
    return _decided(name, CredentialFacts(mechanism, SUMMARY[mechanism], problem=problem), own, groups)


def _why_unproven(individual: PastEntry, is_of_its_kind: bool) -> str:
    if is_of_its_kind:
        return "it held another key than the one that the device proved"
    return f"it was enrolled for {AttestationMechanism(individual.mechanism).label}"


def _decided(
    name: str,
    credential: CredentialFacts,
    individual: IndividualFacts | None = None,
    groups: tuple[GroupFacts, ...] = (),
) -> Judged:
    facts = RegistrationFacts(name, credential, individual=individual, groups=groups)
    return Judged(decide(facts), facts)
