"""CA certificates that were uploaded by name, and whether somebody has shown to have their key (contract 6.9)."""

import re
from datetime import datetime

from django.db import models
from django.db.models import Exists, OuterRef, Q

from enrollments.models.certificates import DIGEST, Certificate
from enrollments.models.enrollments import new_etag
from enrollments.models.fields import AsciiLower
from enrollments.models.services import ProvisioningService
from enrollments.policy.names import registration_key

MAX_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")

NAME_IN_WORDS = f"Letters, digits and . _ - with a letter or digit first, at most {MAX_NAME} characters."


def is_ca_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


class CaCertificateQuerySet(models.QuerySet["CaCertificate"]):
    def verified(self) -> "CaCertificateQuerySet":
        return self.filter(verified_at__isnull=False)

    def by_name(self, name: str) -> "CaCertificate":
        """Raises CaCertificate.DoesNotExist. Case does not count."""
        return self.get(name_key=registration_key(name))


class CaCertificate(models.Model):
    """A CA certificate under a name of its own. What it holds never changes: another one has another name.

    code: what the common name of a verification certificate has to be, until code_expires_at. It is no secret: it is
    worth nothing to whoever cannot sign with the key.
    proof: the verification certificate, kept as evidence.
    """

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="ca_certificates")
    name = models.CharField(
        max_length=MAX_NAME,
        help_text=f"Enrollment groups refer to it, and it cannot be changed. {NAME_IN_WORDS}",
    )
    name_key = models.CharField(max_length=MAX_NAME, editable=False)
    certificate = models.ForeignKey(Certificate, on_delete=models.PROTECT, related_name="ca_certificates")
    subject_sha256 = models.CharField(max_length=DIGEST)
    spki_sha256 = models.CharField(max_length=DIGEST)
    code = models.CharField(max_length=64, blank=True)
    code_expires_at = models.DateTimeField(null=True)
    verified_at = models.DateTimeField(null=True)
    proof = models.ForeignKey(Certificate, on_delete=models.PROTECT, null=True, related_name="+")
    etag = models.CharField(max_length=80, default=new_etag)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = CaCertificateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "name_key"], name="ca_name_once_per_service"),
            models.CheckConstraint(
                name="ca_name_key_is_lower_case", condition=Q(name_key=AsciiLower("name"))
            ),
            models.CheckConstraint(
                name="code_has_an_end",
                condition=Q(code="", code_expires_at__isnull=True)
                | (~Q(code="") & Q(code_expires_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="verified_by_a_certificate",
                condition=Q(verified_at__isnull=True, proof__isnull=True)
                | Q(verified_at__isnull=False, proof__isnull=False, code=""),
            ),
        ]
        indexes = [
            models.Index(
                fields=["service", "spki_sha256", "subject_sha256"],
                name="ca_with_proof",
                condition=Q(verified_at__isnull=False),
            ),
            models.Index(fields=["service", "created_at", "id"], name="ca_by_age"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: object, **kwargs: object) -> None:
        self.name_key = registration_key(self.name)
        super().save(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    @property
    def is_verified(self) -> bool:
        return self.verified_at is not None

    def is_waiting(self, at: datetime) -> bool:
        """Whether a verification certificate with the code would be taken."""
        return self.code_expires_at is not None and at < self.code_expires_at


def with_proof(service_pk: int) -> Exists:
    """Of an anchor, or whatever else has its two digests: whether possession of that CA's key is proven (R7).

    A proof is of a name and a key, like an enrolled CA, and not of one certificate: a renewed one needs no new proof.
    """
    return Exists(
        CaCertificate.objects.verified().filter(
            service=service_pk,
            subject_sha256=OuterRef("subject_sha256"),
            spki_sha256=OuterRef("spki_sha256"),
        )
    )
