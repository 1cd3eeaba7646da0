"""What people keep for themselves about the history: filters by a name, and how far they have looked."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from enrollments.models.services import ProvisioningService

MAX_VIEW_NAME = 60
MAX_VIEW_QUERY = 2000


class SavedHistoryView(models.Model):
    """A filter that a person gave a name: of one service's history, or of the installation's (service is null)."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_history_views"
    )
    service = models.ForeignKey(ProvisioningService, on_delete=models.CASCADE, null=True, related_name="+")
    name = models.CharField(max_length=MAX_VIEW_NAME)
    query = models.CharField(max_length=MAX_VIEW_QUERY)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "service", "name"], name="one_history_view_per_name_and_service"
            ),
            models.UniqueConstraint(
                fields=["user", "name"],
                condition=Q(service__isnull=True),
                name="one_history_view_per_name_everywhere",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class LastLook(models.Model):
    """How far a person has seen a history: `index` is the place in the sequence up to which all is known to them.

    A place and not a moment or a row's ID: rows get their place in the order in which they became visible.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    service = models.ForeignKey(ProvisioningService, on_delete=models.CASCADE, null=True, related_name="+")
    index = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "service"], name="one_last_look_per_person_and_service"),
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(service__isnull=True),
                name="one_last_look_per_person_everywhere",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} up to #{self.index}"
