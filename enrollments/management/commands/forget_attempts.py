"""`manage.py forget_attempts`: delete registration attempts that are older than their service keeps them."""

from typing import Any

from django.core.management.base import BaseCommand

from enrollments.actions.attempts import forget_old_attempts
from enrollments.models import ProvisioningService


class Command(BaseCommand):
    help = "Delete registration attempts older than each service's setting. The history is never touched."

    def handle(self, *args: Any, **options: Any) -> None:
        for service in ProvisioningService.objects.all():
            rows = forget_old_attempts(service)
            self.stdout.write(
                f"{service.name}: {rows} rows older than {service.attempts_kept_days} days deleted"
            )
