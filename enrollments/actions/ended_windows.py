"""Windows of failures and refusals that have ended: they come into the history, and are forgotten (R15)."""

from django.db import transaction
from django.utils import timezone

from enrollments import metrics
from enrollments.actions.access_failures import is_of_service_api, record_windows
from enrollments.actions.adding_up import CANNOT_WRITE, say_not_written
from enrollments.actions.failure_windows import window
from enrollments.actions.held_off_counts import write_down_held_off
from enrollments.actions.refused_again import has_refused_again, record_refused_again
from enrollments.actions.sign_in_failures import record_names
from enrollments.models import SignInFailures
from enrollments.models.locks import in_line

# Windows that have ended are taken out this many at a time, so the table stays as small as the attack.
SWEEP = 500


def record_ended_windows(*, at_once: bool = True) -> int:
    """Bring windows that have ended into the history, and forget them; how many there were.

    Those of the service API as well, which come into the history of their service; and what somebody was refused again
    and again.

    With `at_once` false, only once the oldest of them ended a whole window ago: so a flood leaves a few rows that
    each tell of many failures.
    """
    if at_once:
        write_down_held_off()
    age = window() if at_once else 2 * window()
    now = timezone.now()
    refused = record_refused_again(ended_before=now) if has_refused_again(ended_before=now) else 0
    if not SignInFailures.objects.filter(window_started_at__lte=now - age).exists():
        return refused
    with in_line(), transaction.atomic():
        ended = list(
            SignInFailures.objects.filter(window_started_at__lte=now - window())
            .order_by("pk")
            .select_for_update(skip_locked=True)[:SWEEP]
        )
        record_names([row for row in ended if not is_of_service_api(row)])
        record_windows([row for row in ended if is_of_service_api(row)])
        SignInFailures.objects.filter(pk__in=[row.pk for row in ended]).delete()
    return len(ended) + refused


def record_ended_windows_if_possible(*, at_once: bool = True) -> None:
    """For whoever reads, or does something else: where the history cannot be written, that goes on all the same."""
    try:
        record_ended_windows(at_once=at_once)
    except CANNOT_WRITE as problem:
        say_not_written(metrics.ENDED_WINDOWS, problem)
