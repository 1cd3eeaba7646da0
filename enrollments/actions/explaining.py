"""Explaining a decision: every candidate in order, what it said, which one decided. Changes nothing.

What would happen is asked of the decision that devices are judged by. What happened is told from the trace that was
kept at that moment, and never worked out again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from django.utils import timezone

from enrollments.actions.attempt_entries import EntriesOfNow, entry_words
from enrollments.actions.attempts import OVERFLOW_NAME, shown_trace
from enrollments.actions.certificates import StoredUnreadable, cannot_be_read
from enrollments.actions.drawn_chains import draw_chain, draw_group
from enrollments.actions.empty_entries import admits_nobody, holding_nothing
from enrollments.actions.explanations import ExplainedGroup, Explanation, explained_steps, explanation_of
from enrollments.actions.judging import Judgement, judge
from enrollments.actions.judging.assumed import Assumed, judge_tpm_as_proven
from enrollments.actions.kept_attempts import are_alike, find_attempt, ordinal_of, tracking_id_of_latest
from enrollments.actions.kept_chains import kept_chain
from enrollments.actions.known_credentials import KnownCredential, derived_from_group, known_credentials
from enrollments.actions.name_holders import held_by_other, may_take
from enrollments.actions.tracking import as_written
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.errors import Invalid, NotFound, SecretUnreadable
from enrollments.models import (
    AttemptOutcome,
    AttestationMechanism,
    EnrollmentGroup,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
    RegistrationStatus,
)
from enrollments.policy.decision import Decision, Verdict
from enrollments.policy.facts import EntryKind
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.policy.reasons import Reason
from enrollments.policy.unknown import Unknown, known
from enrollments.policy.words import counted

# Dates of certificates lie in between, and so does what the validation of paths takes as a time.
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about: one tracking ID, or one chain, or one registration ID.

    certificates: as the device sends them, leaf first, taken as sent by who holds the key of the first.
    registration_id: with a chain, where it is not the common name.
    group_id: with a registration ID, a group with symmetric keys whose device it is taken to be.
    at: another time than now. What is enrolled is that of now all the same; of a time to come, with the switches as
    they stand by then, if what is scheduled happens and nobody touches them.
    """

    tracking_id: str = ""
    certificates: tuple[ParsedCertificate, ...] = field(default=(), repr=False)
    registration_id: str = ""
    group_id: str = ""
    at: datetime | None = None


def explain(service: ProvisioningService, question: Question) -> Explanation:
    """Answer it. Raises Invalid for what is no question, and NotFound where nothing is known to answer from.

    And StoredUnreadable where it rests on a certificate that cannot be read.
    """
    if question.tracking_id:
        _refuse_more_than_a_tracking_id(question)
        found = find_attempt(service, question.tracking_id)
        if found is None:
            nothing = _nothing_kept(service, f"the tracking ID {question.tracking_id[:60]}")
            raise NotFound(f"{nothing} {_OF_WHO_IS_TOLD_TO_WAIT}")
        return explain_attempt(service, found, question.tracking_id)
    if question.registration_id and not is_registration_id(question.registration_id):
        raise Invalid(
            {
                "registration_id": [
                    f"{question.registration_id[:130]!r} is no registration ID: give {FORM_IN_WORDS}."
                ]
            }
        )
    at = _moment_in_question(question.at)
    known = _credentials_in_question(service, question, at)
    if known:
        told = _judged_first(service, known, at, question.at)
        return replace(told, disabled_until=_disabled_until(service, told))
    key = registration_key(question.registration_id)
    latest = service.attempts.filter(registration_key=key).order_by("-last_at", "-id").first()
    if latest is None:
        raise NotFound(_nothing_kept(service, f"registration ID {question.registration_id}"))
    if question.at is not None:
        unknown = (
            f"No credential of {question.registration_id} is known, so nothing can be judged at another time."
        )
        raise Invalid({"at": [f"{unknown} Without a time, its latest attempt is told."]})
    return explain_attempt(service, latest)


def is_judged_now(service: ProvisioningService, registration_id: str) -> bool:
    """Whether a question by this name alone is answered by judging, and not with its latest attempt."""
    if not is_registration_id(registration_id):
        return False
    try:
        return bool(known_credentials(service, registration_id, at=timezone.now()))
    except (SecretUnreadable, StoredUnreadable):
        return True  # there is something to judge by, and the answer is that it cannot be read


def explain_group(
    service: ProvisioningService, group_id: str, *, at: datetime | None = None
) -> ExplainedGroup:
    """What stands above a group, whichever device is asked about. at: see Question. Raises NotFound, Invalid."""
    moment = _moment_in_question(at)
    groups = service.enrollmentgroups.without_secrets()
    group = groups.filter(group_key=registration_key(group_id)).first()
    if group is None:
        raise NotFound(f"There is no enrollment group {group_id[:130]} in service {service}.")
    is_x509 = group.mechanism == AttestationMechanism.X509
    chains, unread = draw_group(service, group, at=moment, entries_at=at) if is_x509 else ([], [])
    return ExplainedGroup(
        group,
        moment,
        tuple(chains),
        is_another_time=at is not None,
        is_to_come=at is not None and at > timezone.now(),
        unreadable=tuple(map(cannot_be_read, unread)),
    )


def _moment_in_question(at: datetime | None) -> datetime:
    if at is not None and not EARLIEST <= at < LATEST:
        raise Invalid({"at": [f"Give a time from {EARLIEST:%Y} to {LATEST:%Y}."]})
    return at or timezone.now()


def explain_attempt(
    service: ProvisioningService, attempt: RegistrationAttempt, asked_by: str = ""
) -> Explanation:
    """As it was decided then: the trace that was kept. Of an attempt that was counted often, that of the latest.

    asked_by: the tracking ID of the one in question. Where the trace kept is that of another device, none is shown.
    """
    ordinal, outcome = ordinal_of(attempt, asked_by), known(AttemptOutcome, attempt.outcome)
    is_another = _counts_many(attempt) and ordinal < attempt.count
    words = "" if is_another else entry_words(attempt)
    trace = [] if is_another else shown_trace(attempt)
    there = EntriesOfNow.named(service, [*(step["candidate"] for step in trace), words])
    deciding = there.at(words, attempt.last_at)
    chain, chain_note = (None, "") if is_another else kept_chain(service, attempt)
    return Explanation(
        attempt.claimed_registration_id,
        _which_of(attempt, ordinal),
        attempt.last_at,
        outcome if isinstance(outcome, Unknown) else _VERDICTS[outcome],
        known(Reason, attempt.reason),
        explained_steps(trace, there.all_at(attempt.last_at)),
        entry_words=words,
        entry=deciding.entry,
        namesake_since=deciding.namesake_since,
        chain=chain,
        chain_note=chain_note,
        attempt=attempt,
        tracking_id=as_written(asked_by) if ordinal < attempt.count else tracking_id_of_latest(attempt),
        is_latest=ordinal == attempt.count,
        is_of_another=is_another,
    )


def _counts_many(attempt: RegistrationAttempt) -> bool:
    return attempt.claimed_registration_id == OVERFLOW_NAME


def _which_of(attempt: RegistrationAttempt, ordinal: int) -> str:
    """Which attempt is told about, in words, where the row counts several."""
    if attempt.count == 1 and ordinal == 1:
        return "one attempt"
    number, since, last = attempt.count, _moment(attempt.first_at), _moment(attempt.last_at)
    if ordinal == attempt.count:
        return f"the latest of {number:,} such attempts since {since}"
    if are_alike(attempt) and not _counts_many(attempt):
        of_the_last = (
            "" if attempt.outcome == AttemptOutcome.ASSIGNED else "; address and client are those of the last"
        )
        return (
            f"one of {number:,} such attempts from {since} to {last}: each that was judged took just these steps, and "
            f"at which of these times this one came is not kept{of_the_last}"
        )
    if _counts_many(attempt):
        return (
            f"one of {counted(number, 'attempt')} with this cause from {since} to {last}, of devices counted together: "
            "which it was and the steps of its decision are not kept"
        )
    return (
        f"one of {number:,} attempts of this name with this cause since {since}: what is shown is the last of them, of "
        f"{last}"
    )


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


# An attempt that an entry admitted, and that found no hub, was admitted all the same.
_VERDICTS = {
    AttemptOutcome.ASSIGNED: Verdict.ADMIT,
    AttemptOutcome.FAILED: Verdict.ADMIT,
    AttemptOutcome.DISABLED: Verdict.DISABLED,
    AttemptOutcome.REFUSED: Verdict.UNAUTHORIZED,
    AttemptOutcome.THROTTLED: Verdict.ADMIT,
}


def _refuse_more_than_a_tracking_id(question: Question) -> None:
    if question.certificates or question.registration_id or question.group_id:
        raise Invalid(
            {
                "tracking_id": [
                    "A tracking ID stands alone: it says which device and which certificate it was."
                ]
            }
        )
    if question.at is not None:
        raise Invalid({"at": ["What was decided then is kept as it was: there is no other time to it."]})


def _credentials_in_question(
    service: ProvisioningService, question: Question, at: datetime
) -> list[KnownCredential]:
    """What stands for the device, the one that is judged first. None where the name is all that there is."""
    if question.certificates:
        return [_taken_as_sent(question)]
    if not question.registration_id:
        raise Invalid({"": ["Give a certificate, a registration ID or a tracking ID."]})
    if question.group_id:
        return [derived_from_group(service, _key_group(service, question), question.registration_id, at=at)]
    return known_credentials(service, question.registration_id, at=at)


def _judged_first(
    service: ProvisioningService,
    known: Sequence[KnownCredential],
    at: datetime,
    entries_at: datetime | None,
) -> Explanation:
    """The first of these. Where it is refused or fails, with the one of the others that would be admitted, if any."""
    first, *others = known
    told = _judged(service, first, at, entries_at=entries_at)
    if told.verdict is Verdict.ADMIT and not told.fails:
        return told
    for one in others:
        # Who is refused is told of what admits it, be its name held; whose name is held, of what has it.
        other = _judged(service, one, at, entries_at=entries_at, with_names=told.fails)
        if other.verdict is Verdict.ADMIT and not other.fails:
            admitted = f"It is admitted by {other.entry_words} if it shows something else that is known of it"
            return replace(told, note=f"{admitted}: {other.basis}.")
    return _with_what_its_entry_lacks(service, told)


def _with_what_its_entry_lacks(service: ProvisioningService, told: Explanation) -> Explanation:
    """Of who is refused by its own entry: where that holds nothing, no credential helps and enabling does not (R5)."""
    if told.note or told.entry is None or told.entry.kind is not EntryKind.INDIVIDUAL:
        return told
    own = service.individualenrollments.without_secrets().filter(
        pk=told.entry.pk, registration_key=registration_key(told.registration_id)
    )
    return replace(told, note=admits_nobody(holding_nothing(service, own)))


def _disabled_until(service: ProvisioningService, told: Explanation) -> datetime | None:
    if told.verdict is not Verdict.DISABLED or told.entry is None:
        return None
    is_group = told.entry.kind is EntryKind.GROUP
    entries = service.enrollmentgroups if is_group else service.individualenrollments
    entry = entries.without_secrets().filter(pk=told.entry.pk).first()
    return entry.disabled_until if entry is not None else None


def _taken_as_sent(question: Question) -> KnownCredential:
    leaf = question.certificates[0]
    registration_id = question.registration_id
    if not registration_id:
        if len(leaf.common_names) != 1:
            raise Invalid(
                {
                    "registration_id": [
                        f"The certificate has {len(leaf.common_names)} common names: say what the device "
                        "registers as."
                    ]
                }
            )
        registration_id = leaf.common_names[0]
    shown = PresentedCredential(certificates=tuple(one.der for one in question.certificates))
    basis = "what was given, taken as sent by a device that has the key of the first certificate"
    return KnownCredential(registration_id, basis, shown, question.certificates)


def _key_group(service: ProvisioningService, question: Question) -> EnrollmentGroup:
    group = service.enrollmentgroups.filter(group_key=registration_key(question.group_id)).first()
    if group is None or group.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        raise Invalid(
            {
                "group": [
                    f"There is no enrollment group {question.group_id[:130]} with symmetric keys any more."
                ]
            }
        )
    return group


def _judged(
    service: ProvisioningService,
    known: KnownCredential,
    at: datetime,
    *,
    entries_at: datetime | None,
    with_names: bool = True,
) -> Explanation:
    judgement: Judgement | Assumed
    if known.shown is None:
        judgement = judge_tpm_as_proven(service, known.registration_id, at=at, entries_at=entries_at)
    else:
        judgement = judge(service, known.registration_id, known.shown, at=at, entries_at=entries_at)
    decision, facts = judgement.decision, judgement.facts
    note = ""
    if with_names and isinstance(judgement, Judgement) and decision.verdict is Verdict.ADMIT:
        decision, note = _with_name(service, judgement)
    chain = None
    if known.chain:
        chain = draw_chain(service, known.chain, facts, decision, at=at, entries_at=entries_at)
    told = explanation_of(known, at, facts, decision, chain=chain, is_another_time=entries_at is not None)
    is_to_come = entries_at is not None and entries_at > timezone.now()
    return replace(told, note=note, is_to_come=is_to_come)


def _with_name(service: ProvisioningService, judgement: Judgement) -> tuple[Decision, str]:
    """What follows for who is admitted (R11): whether it may have its name. And what it failed for last, if it did."""
    record = RegistrationRecord.of(service.pk, judgement.registration_key)
    decision = judgement.decision
    if record is not None and not may_take(record, judgement):
        steps = (*decision.trace, held_by_other(record))
        return replace(decision, trace=steps, reason=Reason.NAME_HELD_BY_OTHER_ENTRY), ""
    if record is not None and record.status == RegistrationStatus.FAILED and record.reason:
        why = known(Reason, record.reason).in_words
        return decision, (
            f"At its last registration it was admitted too, and failed all the same: {why}. Which hub and which device "
            "ID it gets is found out when it registers."
        )
    return decision, ""


def explain_known(service: ProvisioningService, known: KnownCredential, *, at: datetime) -> Explanation:
    """With the entries as they stand where this is asked, be it in a rehearsal, and dates as of `at`.

    Who holds which name is not asked: that is known of now alone.
    """
    return _judged(service, known, at, entries_at=None, with_names=False)


_OF_WHO_IS_TOLD_TO_WAIT = (
    "An answer that told an admitted device to wait is found a few seconds later; one that told so a refused device, "
    "which came before its time, is in the log alone."
)


def _nothing_kept(service: ProvisioningService, what: str) -> str:
    return (
        f"Nothing is kept about {what} in service {service}. Attempts are kept for "
        f"{counted(service.attempts_kept_days, 'day')}; with a certificate, no attempt is needed."
    )
