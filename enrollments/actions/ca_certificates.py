"""CA certificates with proof of possession (contract 6.9): upload, make a code, verify, delete.

A proof is of a name and a key (R7). None is taken on anybody's word: a certificate is verified by an answer to a code
and by nothing else.
"""

import secrets
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from enrollments.actions.certificates import parsed
from enrollments.actions.entries import check_epoch
from enrollments.actions.entry_specs import findings
from enrollments.actions.preview import Limits, Preview, preview_of
from enrollments.actions.preview.acts import NOBODY, told_afterwards
from enrollments.attestation.x509 import ParsedCertificate, check_possession
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record
from enrollments.errors import AttestationError, ChangedMeanwhile, Conflict, Invalid, NotFound
from enrollments.models import CaCertificate, Certificate, EnrollmentGroup, ProvisioningService
from enrollments.models.ca_certificates import NAME_IN_WORDS, is_ca_name
from enrollments.models.enrollments import new_etag
from enrollments.models.locks import change_lock
from enrollments.policy.names import registration_key

# How long a code may be answered: time enough to walk to the machine with the key, with a weekend in between.
CODE_VALID = timedelta(days=7)
# As many characters as Azure's have, of the same alphabet: tools that were written for those take these.
CODE_BYTES = 24
MAX_NAMED = 5


class CaCertificateNotFound(NotFound):
    code = "ca_certificate_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no CA certificate {name[:64]} in this service.")


class CaCertificateInUse(Conflict):
    code = "ca_certificate_in_use"


def add_ca_certificate(
    service: ProvisioningService, name: str, certificate: ParsedCertificate, *, actor: Actor, reason: str = ""
) -> CaCertificate:
    """Upload a CA certificate, not verified. No decision changes by it. Raises Invalid."""
    name = name.strip()
    if not is_ca_name(name):
        raise Invalid({"name": [f"{name[:70]!a} cannot be a name. {NAME_IN_WORDS}"]})
    if sentences := [one.message for one in findings(certificate, "ca") if one.severity == "error"]:
        raise Invalid({"certificate": sentences})
    reason = clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        row = CaCertificate(
            service=service,
            name=name,
            certificate=Certificate.objects.stored(certificate),
            subject_sha256=certificate.subject_sha256,
            spki_sha256=certificate.spki_sha256,
        )
        _refuse_taken_name(row)
        row.save()
        record(
            Event.CA_ADDED,
            subject=row,
            actor=actor,
            service=service,
            reason=reason,
            after={"certificate": _described(row.certificate), "verified": False},
        )
    return row


def make_verification_code(
    service: ProvisioningService, name: str, *, actor: Actor, reason: str = "", expected_etag: str = ""
) -> CaCertificate:
    """A new code, which takes the place of the one before. Raises CaCertificateNotFound, ChangedMeanwhile, Conflict.

    The code is no secret: it says what has to be signed, and only the holder of the key can sign it.
    """
    reason = clean_reason(reason)
    with change_lock(service, raises_epoch=False):
        row = _get(service, name, expected_etag)
        if row.is_verified:
            raise Conflict(f"CA certificate {row} is verified already: there is nothing left to prove.")
        row.code = secrets.token_hex(CODE_BYTES).upper()
        row.code_expires_at = timezone.now() + CODE_VALID
        row.etag = new_etag()
        row.save(update_fields=["code", "code_expires_at", "etag", "updated_at"])
        record(
            Event.CA_CODE_MADE,
            subject=row,
            actor=actor,
            service=service,
            reason=reason,
            after={"code": row.code, "expires_at": row.code_expires_at.isoformat()},
        )
    return row


def verify_ca_certificate(
    service: ProvisioningService,
    name: str,
    proof: ParsedCertificate,
    *,
    actor: Actor,
    reason: str = "",
    expected_etag: str = "",
    expected_epoch: int | None = None,
) -> CaCertificate:
    """Take the answer to the code, which is used up by it. Where the service demands proof, groups admit by it (R7).

    Raises Invalid with what the verification certificate lacks; CaCertificateNotFound, ChangedMeanwhile, Conflict;
    PreviewOutdated (see check_epoch).
    """
    reason = clean_reason(reason)
    with change_lock(service):
        check_epoch(service, expected_epoch)
        row, now = _get(service, name, expected_etag), timezone.now()
        if row.is_verified:
            raise Conflict(f"CA certificate {row} is verified already: there is nothing left to prove.")
        if not row.is_waiting(now):
            over = (
                f"The verification code of {row} has expired"
                if row.code
                else f"{row} has no verification code"
            )
            raise Invalid({"verification_certificate": [f"{over}: make a new one, and sign that."]})
        try:
            check_possession(proof, parsed(row.certificate.pem), row.code, now)
        except AttestationError as problem:
            raise Invalid({"verification_certificate": [problem.message]}) from None
        stored = Certificate.objects.stored(proof)
        _prove(row, stored, now)
        record(
            Event.CA_VERIFIED,
            subject=row,
            actor=actor,
            service=service,
            reason=reason,
            before={"verified": False},
            after={"verified": True, "proof": _described(stored)},
        )
    return row


def delete_ca_certificate(
    service: ProvisioningService, name: str, *, actor: Actor, reason: str = "", expected_etag: str = ""
) -> CaCertificate:
    """Delete it, and its proof with it. What was deleted is returned, as it was.

    Raises CaCertificateNotFound, ChangedMeanwhile; CaCertificateInUse where groups refer to it.
    """
    reason = clean_reason(reason)
    with change_lock(service):
        row = _get(service, name, expected_etag)
        if groups := list(groups_that_refer_to(row)[: MAX_NAMED + 1]):
            raise CaCertificateInUse(
                f"CA certificate {row} cannot be deleted as long as enrollment groups refer to it: {_named(groups)}. "
                "Give them another CA first."
            )
        record(
            Event.CA_DELETED,
            subject=row,
            actor=actor,
            service=service,
            reason=reason,
            before={"certificate": _described(row.certificate), "verified": row.is_verified},
        )
        pk = row.pk
        row.delete()
        row.pk = pk
    return row


def groups_that_refer_to(row: CaCertificate) -> "QuerySet[EnrollmentGroup]":
    groups = EnrollmentGroup.objects.filter(service=row.service_id, certificates__ca_certificate=row)
    return groups.without_secrets().distinct().order_by("group_key")


def groups_of(row: CaCertificate) -> "QuerySet[EnrollmentGroup]":
    """The groups that hold this name and key, under which certificate ever; one at most (R7)."""
    return EnrollmentGroup.objects.without_secrets().filter(
        service=row.service_id,
        trust_anchors__subject_sha256=row.subject_sha256,
        trust_anchors__spki_sha256=row.spki_sha256,
    )


def may_let_in_by_proof(row: CaCertificate) -> bool:
    """Whether a group waits for a proof of this name and key, so that devices may come in by it (R7)."""
    demanded = ProvisioningService.what_decisions_read(row.service_id).proof_of_possession
    return demanded and groups_of(row).exists()


def preview_of_verifying(
    service: ProvisioningService,
    row: CaCertificate,
    proof: ParsedCertificate,
    *,
    at: datetime | None = None,
    limits: Limits | None = None,
) -> Preview:
    """What it would do to the devices that are known. Raises what verifying raises. at, limits: see preview_of."""

    def change() -> list[EnrollmentGroup]:
        verify_ca_certificate(service, row.name, proof, actor=NOBODY, expected_etag=row.etag)
        return []

    return preview_of(service, change, list(groups_of(row)), at=at, limits=limits)


def preview_of_proof(
    service: ProvisioningService,
    row: CaCertificate,
    *,
    at: datetime | None = None,
    limits: Limits | None = None,
) -> Preview:
    """What it would do if its code were answered, for whoever has no answer at hand. Raises Conflict."""
    if row.is_verified:
        raise Conflict(f"CA certificate {row} is verified already: there is nothing left to prove.")

    def change() -> list[EnrollmentGroup]:
        with change_lock(service):
            current = _get(service, row.name)
            # Whatever stands for the answer: this is taken back.
            _prove(current, current.certificate, timezone.now())
        return []

    return preview_of(service, change, list(groups_of(row)), at=at, limits=limits)


def preview_of_deleting(
    service: ProvisioningService, row: CaCertificate, *, limits: Limits | None = None
) -> Preview:
    def change() -> list[EnrollmentGroup]:
        delete_ca_certificate(service, row.name, actor=NOBODY)
        return []

    return preview_of(service, change, list(groups_of(row)), limits=limits)


def what_deleting_did(service: ProvisioningService, row: CaCertificate) -> Preview | None:
    """Told by rehearsing its opposite, now that it is done (see what_disabling_did)."""

    def back() -> Preview:
        def change() -> list[EnrollmentGroup]:
            row.save(force_insert=True)
            return []

        return preview_of(service, change, list(groups_of(row)), undoes=True)

    return told_afterwards(service, back)


def signing_commands(code: str) -> str:
    """What to type where the CA's key is, with plain OpenSSL: a key for one use, a request, and the signature."""
    return (
        "openssl req -new -newkey rsa:2048 -nodes -keyout verification.key -out verification.csr "
        f'-subj "/CN={code}"\n'
        "openssl x509 -req -in verification.csr -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 7 "
        "-out verification.pem"
    )


def _prove(row: CaCertificate, proof: Certificate, now: datetime) -> None:
    row.code, row.code_expires_at, row.etag = "", None, new_etag()
    row.verified_at, row.proof = now, proof
    row.save(update_fields=["code", "code_expires_at", "verified_at", "proof", "etag", "updated_at"])


def ca_certificate_named(service: ProvisioningService, name: str) -> CaCertificate:
    """Raises CaCertificateNotFound. Case does not count."""
    rows = service.ca_certificates.select_related("service", "certificate", "proof")
    row = rows.filter(name_key=registration_key(name)).first()
    if row is None:
        raise CaCertificateNotFound(name)
    return row


def _get(service: ProvisioningService, name: str, expected_etag: str = "") -> CaCertificate:
    row = ca_certificate_named(service, name)
    if expected_etag and row.etag != expected_etag:
        raise ChangedMeanwhile(f"CA certificate {row}")
    return row


def _refuse_taken_name(row: CaCertificate) -> None:
    other = CaCertificate.objects.filter(service=row.service_id, name_key=registration_key(row.name)).first()
    if other is not None:
        raise Invalid(
            {
                "name": [
                    f"A CA certificate {other} exists already in this service (case does not count). What stands under "
                    "a name never changes, since groups refer to it: give this one another name."
                ]
            }
        )


def _described(certificate: Certificate) -> str:
    return f"{certificate.subject} (SHA-256 {certificate.thumbprint_sha256})"


def _named(groups: list[EnrollmentGroup]) -> str:
    names = [group.group_id for group in groups[:MAX_NAMED]]
    return ", ".join(names) + (" and more" if len(groups) > MAX_NAMED else "")
