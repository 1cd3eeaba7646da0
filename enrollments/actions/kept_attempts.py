"""Attempts as they are kept: what a row tells of those that it counts, and which of them a tracking ID names (R3)."""

from enrollments.actions.attempts_bounds import ALIKE, MANY, source_of_others
from enrollments.actions.tracking import (
    RowToCome,
    read_tracking_id,
    read_tracking_id_of_row_to_come,
    tracking_id,
    tracking_id_of_row_to_come,
)
from enrollments.models import AttemptOutcome, Certificate, ProvisioningService, RegistrationAttempt
from enrollments.policy.decision import Said

# In the place of certificates above a leaf.
NOTHING_ABOVE = "-"


def tracking_id_of_latest(attempt: RegistrationAttempt) -> str:
    """What the device was given with the latest of the attempts that this row counts."""
    if attempt.outcome == AttemptOutcome.THROTTLED and attempt.source.startswith(ALIKE):
        others = source_of_others(attempt.source)
        return tracking_id_of_row_to_come(attempt.service_id, attempt.source, others, attempt.hour)
    return tracking_id(attempt.pk, attempt.count)


def proven_leaf(attempt: RegistrationAttempt) -> Certificate | None:
    """The certificate of the device, if it proved itself by one. Of a stranger's the thumbprint is all that is kept.

    Asked by proof and not by what is there: another service may hold the certificate that a stranger showed (R1).
    """
    if not is_proven(attempt) or not attempt.leaf_thumbprint:
        return None
    return Certificate.objects.filter(thumbprint_sha256=attempt.leaf_thumbprint).first()


def above_leaf(chain: str) -> list[str]:
    """The thumbprints of what an attempt has kept above the leaf."""
    return chain.replace(NOTHING_ABOVE, "").split()


def is_proven(attempt: RegistrationAttempt) -> bool:
    """Whether the device had proven itself (R3); a device that an enrollment refuses may have."""
    if attempt.outcome != AttemptOutcome.REFUSED:
        return True
    return any(step["rule"] == "R3" and step["said"] == Said.PROVES for step in attempt.trace)


def find_attempt(service: ProvisioningService, text: str) -> RegistrationAttempt | None:
    """The attempt that a tracking ID names, if it is of this service and still kept; or what counts it with others."""
    if to_come := read_tracking_id_of_row_to_come(text):
        rows = service.attempts.filter(hour=to_come.hour, outcome=AttemptOutcome.THROTTLED)
        if own := rows.filter(source__endswith=to_come.source_ends).first():
            return own
        of_many = rows.filter(source__startswith=MANY).order_by("pk")
        return next((one for one in of_many if _counts_one_to_come(one, to_come)), None)
    found = read_tracking_id(text)
    if found is None:
        return None
    pk, ordinal = found
    return service.attempts.filter(pk=pk, count__gte=ordinal).first()


def ordinal_of(attempt: RegistrationAttempt, text: str) -> int:
    """Which of the attempts that this row counts the tracking ID names; the latest, where it names none of them.

    0: any of them. Those of a row that is written later are not told apart.
    """
    if to_come := read_tracking_id_of_row_to_come(text):
        # Of a row that counts many, be it but one by now, it is not known whether that one is this.
        is_alone = attempt.count == 1 and not attempt.source.startswith(MANY)
        return 0 if not is_alone and _counts_one_to_come(attempt, to_come) else attempt.count
    found = read_tracking_id(text)
    if found is None or found[0] != attempt.pk or not 0 < found[1] <= attempt.count:
        return attempt.count
    return found[1]


def _counts_one_to_come(attempt: RegistrationAttempt, to_come: RowToCome) -> bool:
    if attempt.hour != to_come.hour or attempt.outcome != AttemptOutcome.THROTTLED:
        return False
    if attempt.source.startswith(MANY):
        return to_come.may_be_in(attempt.service_id, attempt.source)
    return attempt.source.endswith(to_come.source_ends)


def are_alike(attempt: RegistrationAttempt) -> bool:
    """Whether what is shown of the row holds for each of the attempts that it counts, and not for the latest alone."""
    return attempt.count == 1 or attempt.source.startswith(ALIKE)
