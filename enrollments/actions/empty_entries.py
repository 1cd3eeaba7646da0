"""Individual enrollments that hold no credential: made to shut out a registration ID, and of no other use (R5)."""

from collections.abc import Iterable, Sequence

from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    IndividualEnrollment,
    ProvisioningService,
)

MAX_NAMES = 20


def holding_nothing(
    service: ProvisioningService, entries: Iterable[IndividualEnrollment | EnrollmentGroup]
) -> list[IndividualEnrollment]:
    """Those of these that do. Keys and TPMs are demanded by the database, certificates are not."""
    possible = [
        one
        for one in entries
        if isinstance(one, IndividualEnrollment) and one.mechanism == AttestationMechanism.X509
    ]
    if not possible:
        return []
    held = HeldCertificate.objects.filter(service=service, individual__in=[one.pk for one in possible])
    holders = set(held.values_list("individual_id", flat=True))
    return [one for one in possible if one.pk not in holders]


def admits_nobody(empty: Sequence[IndividualEnrollment]) -> str:
    """What that means, and the way out, as sentences. Of none, nothing."""
    if not empty:
        return ""
    if len(empty) == 1:
        return (
            f"Individual enrollment {empty[0]} holds no credential, so that it admits nobody, enabled or not. Delete "
            "it, and the groups decide again."
        )
    names = ", ".join(map(str, empty[:MAX_NAMES]))
    if more := len(empty) - MAX_NAMES:
        names += f" and {more} more" if more > 0 else ""
    return (
        f"Individual enrollments {names} hold no credential, so that they admit nobody, enabled or not. Delete them, "
        "and the groups decide again."
    )
