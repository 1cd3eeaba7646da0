"""What one person is refused again and again: counted for an hour from the first, which has its row (R14, R15)."""

from django.db import models

from enrollments.models.services import ProvisioningService


class RefusedAgain(models.Model):
    """A window of one person and what they try. The first, at `started_at`, is in the history and is not counted.

    key: a digest of whom and what it is about. service: in whose history it is; none for that of the installation.
    """

    key = models.CharField(max_length=64, unique=True)
    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, null=True, related_name="+")
    actor_kind = models.CharField(max_length=20)
    actor_name = models.CharField(max_length=150)
    way = models.CharField(max_length=20)
    address = models.CharField(max_length=45, blank=True)
    what = models.CharField(max_length=200)
    started_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(fields=["started_at"], name="refused_again_by_age"),
            models.Index(fields=["actor_name", "started_at"], name="refused_again_by_person"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_name}, {self.what}: {self.count}"
