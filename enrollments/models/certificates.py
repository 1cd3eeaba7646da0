"""Certificates, each stored once, and what enrolls them: trust anchors, helpers, device certificates."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q

from enrollments.models.inserting import insert_all, made, rows_by
from enrollments.models.switches import AsOf

if TYPE_CHECKING:
    from enrollments.attestation.x509 import CertificateFacts

# Hexadecimal digits of a SHA-256 digest.
DIGEST = 64


class CertificateQuerySet(models.QuerySet["Certificate"]):
    def stored(self, parsed: "CertificateFacts") -> "Certificate":
        """The row of this certificate, created if this is the first time that it is seen."""
        return self.store_all([parsed])[0]

    def store_all(
        self, parsed: Iterable["CertificateFacts"], *, only_shown: Collection[str] | None = None
    ) -> list["Certificate"]:
        """One row for each, in the order given. Stored in one order for all, so that no two wait for each other.

        only_shown: thumbprints of those that are kept as evidence alone; None where all are to stay for good.
        """
        ordered = list(parsed)
        rows = {one.thumbprint_sha256: Certificate.unstored(one) for one in ordered}
        columns = ("thumbprint_sha256", "id", "only_shown")
        there = rows_by(self.model, columns, rows, stay=True)
        numbers = {thumbprint: pk for thumbprint, pk, _ in there}
        for thumbprint in only_shown or ():
            rows[thumbprint].only_shown = True
        self._keep(there, only_shown or ())
        if missing := sorted(rows.keys() - numbers.keys()):
            # Somebody else may be storing the same one: whoever comes second takes the row of the first.
            insert_all([rows[thumbprint] for thumbprint in missing], ignore_conflicts=True)
            inserted = rows_by(self.model, columns, missing, stay=True)
            numbers |= {thumbprint: pk for thumbprint, pk, _ in inserted}
            self._keep(inserted, only_shown or ())
        for thumbprint, row in rows.items():
            row.pk, row._state.adding, row._state.db = numbers[thumbprint], False, self.db
        return [rows[one.thumbprint_sha256] for one in ordered]

    def _keep(self, rows: Iterable[tuple[str, int, bool]], only_shown: Collection[str]) -> None:
        """What is enrolled, or let somebody in, stays from now on. One by one, in one order for all."""
        for pk in sorted(pk for thumbprint, pk, is_only in rows if is_only and thumbprint not in only_shown):
            self.filter(pk=pk).update(only_shown=False)


class Certificate(models.Model):
    """A certificate as it was parsed when it first came in. Nothing of that is ever changed.

    Names are kept as text for people and as the SHA-256 of their DER encoding for look-ups. A device makes up as many
    certificates with the key of its CA as it likes, and whoever has that key as many devices. What was shown above a
    leaf on no valid path, or by somebody who was not let in, and was neither enrolled since nor let anybody in, is
    forgotten when nothing refers to it any more (`only_shown`, actions/certificates.py). The others stay: the history
    names them.
    """

    subject = models.TextField()
    subject_sha256 = models.CharField(max_length=DIGEST)
    issuer = models.TextField()
    issuer_sha256 = models.CharField(max_length=DIGEST)
    serial_number = models.CharField(max_length=80)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    thumbprint_sha1 = models.CharField(max_length=40)
    thumbprint_sha256 = models.CharField(max_length=DIGEST, unique=True)
    spki_sha256 = models.CharField(max_length=DIGEST)
    subject_key_id = models.CharField(max_length=128, blank=True)
    authority_key_id = models.CharField(max_length=128, blank=True)
    is_ca = models.BooleanField()
    path_length = models.PositiveIntegerField(null=True)
    key_description = models.CharField(max_length=40)
    signature_description = models.CharField(max_length=60)
    pem = models.TextField()
    only_shown = models.BooleanField(
        default=False,
        db_default=False,
        help_text="A device sent it above its own, on no valid path, and it was never enrolled.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = CertificateQuerySet.as_manager()

    def __str__(self) -> str:
        return self.subject or self.thumbprint_sha256[:16]

    @classmethod
    def unstored(cls, parsed: "CertificateFacts") -> "Certificate":
        return made(
            cls,
            thumbprint_sha256=parsed.thumbprint_sha256,
            subject=parsed.subject,
            subject_sha256=parsed.subject_sha256,
            issuer=parsed.issuer,
            issuer_sha256=parsed.issuer_sha256,
            serial_number=parsed.serial_number,
            not_before=parsed.not_before,
            not_after=parsed.not_after,
            thumbprint_sha1=parsed.thumbprint_sha1,
            spki_sha256=parsed.spki_sha256,
            subject_key_id=parsed.subject_key_id or "",
            authority_key_id=parsed.authority_key_id or "",
            is_ca=parsed.is_ca,
            path_length=parsed.path_length,
            key_description=parsed.key_description,
            signature_description=parsed.signature_description,
            pem=parsed.pem,
        )


class Slot(models.TextChoices):
    """An entry holds up to two certificates, so that one can be renewed while the other works."""

    PRIMARY = "primary", "Primary"
    SECONDARY = "secondary", "Secondary"


class TrustAnchor(models.Model):
    """An enrolled CA: one subject name and public key, which belongs to one group per service (R7).

    The certificates under which a group holds it are GroupCertificate rows.
    """

    service = models.ForeignKey("ProvisioningService", on_delete=models.PROTECT, related_name="trust_anchors")
    group = models.ForeignKey("EnrollmentGroup", on_delete=models.CASCADE, related_name="trust_anchors")
    subject_sha256 = models.CharField(max_length=DIGEST)
    spki_sha256 = models.CharField(max_length=DIGEST)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["service", "subject_sha256", "spki_sha256"], name="one_group_per_ca_and_service"
            ),
        ]
        indexes = [models.Index(fields=["service", "spki_sha256"], name="anchor_by_key")]

    def __str__(self) -> str:
        return f"{self.subject_sha256[:12]} with key {self.spki_sha256[:12]}"


class HeldRole(models.TextChoices):
    """Why the service holds a certificate, which says what a search may use it for."""

    ANCHOR = "anchor", "Enrolled CA"
    HELPER = "helper", "Helper"
    DEVICE = "device", "Device certificate"


class HeldCertificateQuerySet(models.QuerySet["HeldCertificate"]):
    def anchors(self) -> "HeldCertificateQuerySet":
        return self.filter(role=HeldRole.ANCHOR)

    def helpers(self) -> "HeldCertificateQuerySet":
        return self.filter(role=HeldRole.HELPER)

    def that_may_have_issued(
        self, subjects: Iterable[str], key_ids: Iterable[str], spkis: Iterable[str], as_of: AsOf
    ) -> "HeldCertificateQuerySet":
        """What a search for paths asks for: enrolled CAs, helpers, certificates of disabled individuals (R6, R7).

        And with each certificate all others of its key, so that the search needs no second question.
        """
        disabled = as_of.where(enabled=False, prefix="individual__")
        usable = Q(role__in=[HeldRole.ANCHOR, HeldRole.HELPER]) | Q(disabled, role=HeldRole.DEVICE)
        keys = self.keys_that_may_have_issued(subjects, key_ids, spkis)
        return self.filter(usable, spki_sha256__in=keys)

    def keys_that_may_have_issued(
        self, subjects: Iterable[str], key_ids: Iterable[str], spkis: Iterable[str]
    ) -> "models.QuerySet[Any, Any]":
        """The public keys under one of these names or identifiers, and these themselves.

        Each part of the union is one index look-up; an OR over three indexes would be a walk through the whole service.
        """
        return (
            self.filter(subject_sha256__in=subjects)
            .values("spki_sha256")
            .union(
                self.filter(subject_key_id__in=key_ids).exclude(subject_key_id="").values("spki_sha256"),
                self.filter(spki_sha256__in=spkis).values("spki_sha256"),
            )
        )

    def barring_keys(self, spkis: Iterable[str], as_of: AsOf) -> "HeldCertificateQuerySet":
        """Certificates of disabled individual enrollments with one of these public keys (R6)."""
        disabled = as_of.where(enabled=False, prefix="individual__")
        return self.filter(disabled, role=HeldRole.DEVICE, spki_sha256__in=spkis)


class HeldCertificate(models.Model):
    """A certificate in its place in a service: in a slot of a group or of an individual, or as a group's helper.

    Name, key and key identifier are repeated here so that each question of a registration is one index look-up.
    """

    service = models.ForeignKey(
        "ProvisioningService", on_delete=models.PROTECT, related_name="held_certificates"
    )
    certificate = models.ForeignKey(Certificate, on_delete=models.PROTECT, related_name="held")
    role = models.CharField(max_length=10, choices=HeldRole.choices)
    slot = models.CharField(max_length=10, choices=Slot.choices, blank=True)
    individual = models.ForeignKey(
        "IndividualEnrollment", on_delete=models.CASCADE, null=True, related_name="certificates"
    )
    group = models.ForeignKey(
        "EnrollmentGroup", on_delete=models.CASCADE, null=True, related_name="certificates"
    )
    anchor = models.ForeignKey(TrustAnchor, on_delete=models.CASCADE, null=True, related_name="certificates")
    ca_certificate = models.ForeignKey(
        "CaCertificate",
        on_delete=models.PROTECT,
        null=True,
        related_name="held",
        help_text="The uploaded CA certificate that the group refers to by its name, where it does.",
    )
    subject_sha256 = models.CharField(max_length=DIGEST)
    spki_sha256 = models.CharField(max_length=DIGEST)
    subject_key_id = models.CharField(max_length=128, blank=True)

    objects = HeldCertificateQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="held_certificate_has_its_place",
                condition=(
                    Q(
                        role=HeldRole.ANCHOR,
                        group__isnull=False,
                        individual__isnull=True,
                        anchor__isnull=False,
                    )
                    & ~Q(slot="")
                )
                | Q(
                    role=HeldRole.HELPER,
                    group__isnull=False,
                    individual__isnull=True,
                    anchor__isnull=True,
                    slot="",
                )
                | (
                    Q(role=HeldRole.DEVICE, group__isnull=True, individual__isnull=False, anchor__isnull=True)
                    & ~Q(slot="")
                ),
            ),
            models.CheckConstraint(
                name="only_groups_refer_to_ca_certificates",
                condition=Q(ca_certificate__isnull=True) | Q(role=HeldRole.ANCHOR),
            ),
            models.UniqueConstraint(
                fields=["individual", "slot"],
                condition=Q(role=HeldRole.DEVICE),
                name="one_certificate_per_individual_slot",
            ),
            models.UniqueConstraint(
                fields=["group", "slot"],
                condition=Q(role=HeldRole.ANCHOR),
                name="one_certificate_per_group_slot",
            ),
            models.UniqueConstraint(
                fields=["group", "certificate"],
                condition=Q(role=HeldRole.HELPER),
                name="each_helper_once_per_group",
            ),
        ]
        indexes = [
            models.Index(fields=["service", "subject_sha256"], name="held_by_subject"),
            models.Index(fields=["service", "spki_sha256"], name="held_by_key"),
            models.Index(
                fields=["service", "subject_key_id"], name="held_by_key_id", condition=~Q(subject_key_id="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_role_display()} {self.certificate_id}"
