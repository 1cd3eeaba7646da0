"""`manage.py forget_attempts`: delete attempts that are older than their service keeps them, and old notices."""

from typing import Any

from django.core.management.base import BaseCommand

from enrollments.actions.attempts import forget_old_attempts
from enrollments.actions.notices import KEPT_DAYS, forget_old_notices
from enrollments.actions.sign_in import record_ended_windows
from enrollments.models import ProvisioningService


class Command(BaseCommand):
    help = (
        "Delete registration attempts older than each service's setting, and counts of ignored certificate headers "
        f"older than {KEPT_DAYS} days. The history loses nothing: failed sign-ins of late are written into it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        record_ended_windows()
        for service in ProvisioningService.objects.all():
            rows = forget_old_attempts(service)
            self.stdout.write(
                f"{service.name}: {rows} rows older than {service.attempts_kept_days} days deleted"
            )
        self.stdout.write(
            f"Ignored certificate headers: {forget_old_notices()} rows older than {KEPT_DAYS} days deleted"
        )
