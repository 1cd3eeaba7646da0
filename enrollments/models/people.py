"""Who may do what: roles of people, per service or for the whole installation (R17)."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from enrollments.models.services import ProvisioningService
from enrollments.policy.roles import Role


class Membership(models.Model):
    """The role of one person in one service, or everywhere (service is null)."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    service = models.ForeignKey(
        ProvisioningService, on_delete=models.CASCADE, null=True, blank=True, related_name="memberships"
    )
    role = models.CharField(max_length=20, choices=[(role.value, role.label) for role in Role])

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "service"], name="one_role_per_person_and_service"),
            models.UniqueConstraint(
                fields=["user"], condition=Q(service__isnull=True), name="one_role_per_person_everywhere"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"


class SignInFailures(models.Model):
    """Failed sign-ins, counted per name and address; a row starts over when its window has passed (R15).

    held_off: tries of which no password was looked at any more. last_at: of any of them; empty where it is not told.
    """

    name_key = models.CharField(max_length=150)
    address = models.CharField(max_length=45)
    window_started_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)
    held_off = models.PositiveIntegerField(default=0, db_default=0)
    last_at = models.DateTimeField(null=True)
    # Whether this window has its row in the history already.
    recorded = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name_key", "address"], name="sign_in_failures_counted_once"),
        ]
        indexes = [models.Index(fields=["window_started_at"], name="sign_in_failures_by_age")]

    def __str__(self) -> str:
        return f"{self.name_key} from {self.address}: {self.count}"

    @property
    def untold(self) -> int:
        """How many of them have no row of the history yet."""
        return self.held_off + (0 if self.recorded else self.count)
