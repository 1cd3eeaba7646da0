"""`manage.py forget_attempts`: delete attempts that are older than their service keeps them, and old notices."""

from typing import Any

from django.core.management.base import BaseCommand

from enrollments.actions.attempts import forget_old_attempts
from enrollments.actions.certificates import forget_unused_certificates
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.notices import KEPT_DAYS, forget_old_notices
from enrollments.actions.quiet_periods import forget_ended_quiet_periods
from enrollments.models import ProvisioningService
from enrollments.policy.words import counted


class Command(BaseCommand):
    help = (
        "Delete registration attempts older than each service's setting, counts of ignored certificate headers "
        f"older than {KEPT_DAYS} days, quiet periods that are over, and certificates that devices sent "
        "along and nothing refers to any more. The history loses nothing: failed sign-ins of late are written into it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        record_ended_windows()
        for service in ProvisioningService.objects.all():
            # First, as an admission that is among the attempts ends one: it would stand again without that.
            ended = forget_ended_quiet_periods(service)
            rows, kept = forget_old_attempts(service), counted(service.attempts_kept_days, "day")
            self.stdout.write(f"{service.name}: {counted(rows, 'row')} older than {kept} deleted")
            if ended:
                self.stdout.write(f"{service.name}: {counted(ended, 'quiet period')} over by now deleted")
        if unused := forget_unused_certificates():
            self.stdout.write(f"{counted(unused, 'certificate')} that devices sent along deleted")
        self.stdout.write(
            f"Ignored certificate headers: {counted(forget_old_notices(), 'row')} older than {KEPT_DAYS} days deleted"
        )
