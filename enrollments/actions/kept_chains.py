"""The chain that a device sent with an attempt, drawn as of then: with dates of that time, and who barred it."""

from collections.abc import Sequence

from enrollments.actions.attempt_entries import entry_words
from enrollments.actions.attempts import OVERFLOW_NAME, shown_trace
from enrollments.actions.certificates import cannot_be_read, readable
from enrollments.actions.drawn_chains import DrawnChain, Kept, draw_chain
from enrollments.actions.kept_attempts import above_leaf, is_proven
from enrollments.models import AttemptOutcome, Certificate, ProvisioningService, RegistrationAttempt
from enrollments.policy.decision import Said
from enrollments.policy.facts import EntryKind
from enrollments.policy.words import counted

_OF_A_STRANGER = (
    "It had proven nothing, so the thumbprint of its certificate is kept alone: no path can be drawn."
)
_OF_MANY = "It counts attempts of many devices, so no path is that of all of them."
_FORGOTTEN = "Its certificate has been forgotten here: there is no path to draw any more."


def kept_chain(service: ProvisioningService, attempt: RegistrationAttempt) -> tuple[DrawnChain | None, str]:
    """The chain, and as of when it is told; or none, and why. Both empty for a device without a certificate.

    Asked by proof and not by what is there: another service may hold the certificate that a stranger showed (R1).
    """
    if not attempt.leaf_thumbprint:
        return None, ""
    if attempt.claimed_registration_id == OVERFLOW_NAME:
        return None, _OF_MANY
    if not is_proven(attempt):
        return None, _OF_A_STRANGER
    names = [attempt.leaf_thumbprint, *above_leaf(attempt.chain)]
    found = Certificate.objects.filter(thumbprint_sha256__in=names)
    pems = dict(found.values_list("thumbprint_sha256", "pem"))
    if attempt.leaf_thumbprint not in pems:
        return None, _FORGOTTEN
    found_there = {name: readable(pems[name]) for name in names if name in pems}
    unread = [name for name, one in found_there.items() if one is None]
    if attempt.leaf_thumbprint in unread:
        return None, cannot_be_read(attempt.leaf_thumbprint)
    certificates = [one for one in found_there.values() if one is not None]
    kept = _kept(attempt)
    chain = draw_chain(service, certificates, None, None, at=attempt.last_at, kept=kept)
    drawn = {str(ref) for one in (*chain.path, *chain.aside) for ref in one.barred_by}
    note = _as_of(attempt, len(names) - len(found_there), sorted(kept.barring - drawn))
    return chain, " ".join([note, *map(cannot_be_read, unread)])


def _kept(attempt: RegistrationAttempt) -> Kept:
    admitted = attempt.outcome in (AttemptOutcome.ASSIGNED, AttemptOutcome.FAILED)
    return Kept(
        frozenset(step["candidate"] for step in shown_trace(attempt) if step["said"] == Said.BARS),
        entry_words(attempt),
        is_pinned=admitted and attempt.entry_kind == EntryKind.INDIVIDUAL.value,
    )


def _as_of(attempt: RegistrationAttempt, forgotten: int, gone: Sequence[str]) -> str:
    """gone: what barred then, and holds none of these keys, or none any more."""
    told = (
        f"As of {attempt.last_at:%Y-%m-%d %H:%M:%S} UTC: dates, and which entries barred. Which certificates entries "
        "hold is told of those that were there then, as it is now; Back in time tells what it was."
    )
    if gone:
        told += f" Barred then by {', '.join(gone)} too, of which nothing is drawn."
    if forgotten:
        lost = counted(forgotten, "certificate")
        told += f" {lost} above the leaf {'has' if forgotten == 1 else 'have'} been forgotten."
    if not attempt.chain:
        told += " What it sent above its own certificate was not kept."
    return told
