"""`manage.py forget_attempts`: delete attempts that are older than their service keeps them, and what is as old."""

from typing import Any

from enrollments.actions.attempts_forgotten import forget_old_attempts
from enrollments.actions.certificates import forget_unused_certificates
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.notices import KEPT_DAYS, forget_old_notices
from enrollments.management.command import DpsCommand, command_line_actor
from enrollments.models import ProvisioningService
from enrollments.policy.words import counted


class Command(DpsCommand):
    help = (
        "Delete registration attempts older than each service's setting, registration records as old of devices that "
        "were turned away and never assigned, counts of ignored certificate headers "
        f"older than {KEPT_DAYS} days, quiet periods that are over, and certificates that devices showed, "
        "that let nobody in, and nothing refers to any more. The history loses nothing: it is told how many attempts "
        "and records were deleted, and failed sign-ins of late are written into it."
    )

    def act(self, *, json: bool, **_: Any) -> None:
        record_ended_windows()
        actor, lines, services = command_line_actor(), [], {}
        for service in ProvisioningService.objects.all():
            gone = forget_old_attempts(service, actor=actor)
            services[service.name] = {
                "attempts": gone.attempts,
                "records": gone.records,
                "quiet_periods": gone.quiet_periods,
            }
            kept = counted(service.attempts_kept_days, "day")
            lines.append(f"{service.name}: {counted(gone.attempts, 'row')} older than {kept} deleted")
            if gone.records:
                records = counted(gone.records, "registration record")
                lines.append(f"{service.name}: {records} as old of devices never assigned deleted")
            if gone.quiet_periods:
                ended = counted(gone.quiet_periods, "quiet period")
                lines.append(f"{service.name}: {ended} over by now deleted")
        if unused := forget_unused_certificates():
            lines.append(f"{counted(unused, 'certificate')} that devices showed deleted")
        notices = forget_old_notices()
        lines.append(
            f"Ignored certificate headers: {counted(notices, 'row')} older than {KEPT_DAYS} days deleted"
        )
        if json:
            self.print_json({"services": services, "certificates": unused, "notices": notices})
        else:
            self.stdout.write("\n".join(lines))
