"""Between certificates as rows and certificates as parsed values; and forgetting those that devices made up."""

import logging
import ssl
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from enrollments.attestation.x509 import (
    ParsedCertificate,
    UnparsedCertificate,
    UnreadableCertificate,
    parse_der,
)
from enrollments.models import (
    CaCertificate,
    Certificate,
    HeldCertificate,
    RegistrationAttempt,
    RegistrationEvidence,
)

logger = logging.getLogger(__name__)


class StoredUnreadable(UnreadableCertificate):
    """A certificate that was stored once, and that no library here can parse any more."""


@lru_cache(maxsize=4096)
def parsed(pem: str) -> ParsedCertificate:
    """A stored certificate, parsed. Kept in memory by its own text, which never changes: R12 is not touched.

    Raises StoredUnreadable.
    """
    return parsed_once(pem)


def parsed_once(pem: str) -> ParsedCertificate:
    """The same, not kept in memory: for whoever goes through those of a hundred thousand devices."""
    try:
        der = ssl.PEM_cert_to_DER_cert(pem)
    except ValueError as error:
        raise StoredUnreadable("A stored certificate cannot be read: it is no PEM.") from error
    try:
        return parse_der(der)
    except UnreadableCertificate as problem:
        why = problem.message.partition(": ")[2] or problem.message
        thumbprint = sha256(der).hexdigest()
        raise StoredUnreadable(
            f"A stored certificate (SHA-256 {thumbprint}) cannot be read: {why}"
        ) from problem


def readable(pem: str) -> ParsedCertificate | None:
    """The same for what only shuts out or shows, which goes on without it (R16). None: it cannot be read."""
    try:
        return parsed(pem)
    except StoredUnreadable as problem:
        logger.warning("%s", problem.message)
        return None


def as_stored(row: Certificate) -> ParsedCertificate | UnparsedCertificate:
    """Parsed; or what its row says of it, where it cannot be read: to show it, and to leave it where it is held."""
    found = readable(row.pem)
    if found is not None:
        return found
    columns = {name: getattr(row, name) for name in _COLUMNS}
    return UnparsedCertificate.kept(row.pem, **columns)


def as_held(held: HeldCertificate) -> ParsedCertificate | UnparsedCertificate:
    """The same of one that an entry holds, in whose place more is known of it."""
    found = as_stored(held.certificate)
    if isinstance(found, UnparsedCertificate) and held.individual is not None:
        # R3: that was seen to when it was enrolled.
        names = (held.individual.registration_id,)
        return replace(found, common_names=names, own_key_id=held.subject_key_id)
    return found


def cannot_be_read(thumbprint: str) -> str:
    """In the place of what would be told of a certificate. A sentence."""
    return f"Certificate {thumbprint} cannot be read."


_COLUMNS = (
    "subject",
    "issuer",
    "subject_sha256",
    "issuer_sha256",
    "serial_number",
    "not_before",
    "not_after",
    "thumbprint_sha1",
    "thumbprint_sha256",
    "spki_sha256",
    "subject_key_id",
    "authority_key_id",
    "is_ca",
    "path_length",
    "key_description",
    "signature_description",
)


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
