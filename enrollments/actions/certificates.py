"""Between certificates as rows and certificates as parsed values; and forgetting those that devices made up."""

import ssl
from collections.abc import Collection
from datetime import timedelta
from functools import lru_cache

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from enrollments.attestation.x509 import ParsedCertificate, parse_der
from enrollments.models import (
    CaCertificate,
    Certificate,
    HeldCertificate,
    RegistrationAttempt,
    RegistrationEvidence,
)


@lru_cache(maxsize=4096)
def parsed(pem: str) -> ParsedCertificate:
    """A stored certificate, parsed. Kept in memory by its own text, which never changes: R12 is not touched."""
    return parsed_once(pem)


def parsed_once(pem: str) -> ParsedCertificate:
    """The same, not kept in memory: for whoever goes through those of a hundred thousand devices."""
    return parse_der(ssl.PEM_cert_to_DER_cert(pem))


# --- Forgetting what devices made up ----------------------------------------------------------------


def forget_if_unused(pks: Collection[int], *, named_by: "QuerySet[RegistrationAttempt] | None" = None) -> int:
    """Forget those of these certificates that devices sent, that were never enrolled, and that nothing refers to.

    Inside the transaction that has let go of them. One that somebody else is about to refer to is left alone, and one
    that any of these attempts names (`named_by`): by that the device may come again.
    """
    if not pks:
        return 0
    # First the rows, then what refers to them: in one statement, what was added while it waited would not be seen.
    locked = Certificate.objects.filter(pk__in=pks, only_shown=True).select_for_update(skip_locked=True)
    found = dict(locked.values_list("thumbprint_sha256", "pk"))
    if found and named_by is not None:
        for chain in named_by.values_list("chain", flat=True).distinct().iterator():
            for thumbprint in chain.split():
                found.pop(thumbprint, None)
    mine = list(found.values())
    return unused_certificates().filter(pk__in=mine)._raw_delete(DEFAULT_DB_ALIAS) if mine else 0


def unused_certificates() -> "QuerySet[Certificate]":
    """No record has them, and nothing is enrolled by them. Attempts, which name them by their thumbprints, may."""
    own = OuterRef("pk")
    return Certificate.objects.filter(
        ~Exists(RegistrationEvidence.objects.filter(certificate=own).order_by()),
        ~Exists(HeldCertificate.objects.filter(certificate=own)),
        ~Exists(CaCertificate.objects.filter(Q(certificate=own) | Q(proof=own))),
        only_shown=True,
    )


def forget_unused_certificates() -> int:
    """The same of all that neither records nor attempts have had for a day; how many that were."""
    old = unused_certificates().filter(created_at__lt=timezone.now() - timedelta(days=1))
    found = dict(old.values_list("thumbprint_sha256", "pk"))
    if not found:
        return 0
    attempts = RegistrationAttempt.objects.exclude(chain="").order_by()
    for leaf, chain in attempts.values_list("leaf_thumbprint", "chain").distinct().iterator():
        for thumbprint in (leaf, *chain.split()):
            found.pop(thumbprint, None)
    gone, forgotten = list(found.values()), 0
    for start in range(0, len(gone), 1000):
        with transaction.atomic():
            forgotten += forget_if_unused(gone[start : start + 1000])
    return forgotten
