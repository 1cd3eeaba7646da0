"""Quiet periods: until when a device that is refused is not refused once more, but told to wait (R14)."""

from django.db import models

from enrollments.models.certificates import DIGEST
from enrollments.models.services import ProvisioningService


class QuietPeriod(models.Model):
    """An instruction about one caller, which is a device as far as it has proven who it is.

    credential: the public key of its certificate; the entry whose key its token proved; before proof, without a
    certificate, the address of the peer. Whoever calls the same name with anything else is somebody else.
    """

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="quiet_periods")
    registration_id = models.CharField(max_length=128)
    registration_key = models.CharField(max_length=128)
    credential = models.CharField(max_length=64)
    is_proven = models.BooleanField()
    started_at = models.DateTimeField()
    until = models.DateTimeField()
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["service", "registration_key", "credential", "is_proven"],
                name="one_quiet_period_per_caller",
            ),
            models.CheckConstraint(
                name="quiet_period_ends_after_it_starts",
                condition=models.Q(until__gt=models.F("started_at")),
            ),
        ]
        indexes = [models.Index(fields=["service", "until"], name="quiet_period_by_end")]

    def __str__(self) -> str:
        return self.registration_id

    @property
    def in_words(self) -> str:
        return who_in_words(self.credential, self.is_proven)


def who_in_words(credential: str, is_proven: bool) -> str:
    """Who exactly is meant, for people."""
    is_public_key = len(credential) == DIGEST
    if is_proven and not is_public_key:
        return "the device, proven by its key"
    if is_proven:
        return f"the device with public key {credential[:16]}…"
    if is_public_key:
        return f"whoever holds public key {credential[:16]}…, unproven"
    return f"unproven calls from {credential}"
