"""The overview of a service: what devices need to know, what there is, and what happened within a day."""

import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from enrollments.actions.schedule import switches_now
from enrollments.models import AttemptOutcome, HistoryEvent, ProvisioningService, RegistrationStatus
from enrollments.policy.roles import Right
from enrollments.portal.access import requires, rights_of
from enrollments.portal.addresses import device_endpoint, service_host
from enrollments.portal.history_rows import rows_of
from enrollments.portal.views.attempts import reason_in_words

DAY = timedelta(hours=24)
RECENT = 5
API_VERSION = "2021-06-01"


@dataclass(slots=True)
class Bucket:
    """What was admitted and refused within an hour."""

    label: str
    admitted: int = 0
    refused: int = 0


@require_safe
@requires(Right.SEE)
def service_overview(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    now = timezone.now()
    rights = rights_of(request, service)
    sees_history = Right.SEE_HISTORY in rights
    # Whoever may not see attempts (R17) sees no sums of them either.
    buckets = last_day(service, now) if sees_history else []
    endpoint, host = device_endpoint(request), service_host(service, request)
    context = {
        "service": service,
        "device_endpoint": endpoint,
        "service_endpoint": f"https://{host}" if host else "",
        "stats": _stats(service, sum(one.refused for one in buckets) if sees_history else None),
        "hub_count": service.hubs.count(),
        "buckets": buckets,
        "peak": max((bucket.admitted + bucket.refused for bucket in buckets), default=0),
        "commands": _commands(service, endpoint),
        "sees_history": sees_history,
        "refusals": _refusals(service, now) if sees_history else [],
        "recent_history": rows_of(
            HistoryEvent.objects.of_service(service.pk).order_by("-at", "-id")[:RECENT], service
        )
        if sees_history
        else [],
        "may_change": Right.CHANGE_ENTRIES in rights,
    }
    return render(request, "portal/overview/overview.html", context)


def last_day(service: ProvisioningService, now: datetime) -> list[Bucket]:
    """24 hours up to the present one, oldest first, those without attempts as well. One query."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    hours = [this_hour - timedelta(hours=ago) for ago in reversed(range(24))]
    buckets = {hour: Bucket(f"{hour:%H}:00") for hour in hours}
    sums = (
        # Who was told to wait was not refused.
        service.attempts.exclude(outcome=AttemptOutcome.THROTTLED)
        .filter(last_at__gte=hours[0], hour__gte=hours[0])
        .values_list("hour", "outcome")
        .annotate(total=Sum("count"))
        .order_by()
    )
    for hour, outcome, total in sums:
        bucket = buckets.get(hour)
        if bucket is None:
            continue
        if outcome == AttemptOutcome.ASSIGNED:
            bucket.admitted += total
        else:
            bucket.refused += total
    return list(buckets.values())


def _stats(service: ProvisioningService, refused: int | None) -> list[dict[str, Any]]:
    """The figures on top, with what stands in portal/_stat.html. refused: None for whoever may not see attempts."""
    disabled = Count("pk", filter=switches_now(service).where(enabled=False))
    individuals = service.individualenrollments.aggregate(all=Count("pk"), disabled=disabled)
    groups = service.enrollmentgroups.aggregate(all=Count("pk"), disabled=disabled)
    records = service.registrations.aggregate(
        all=Count("pk"), assigned=Count("pk", filter=Q(status=RegistrationStatus.ASSIGNED))
    )

    def url(view: str) -> str:
        return reverse(f"portal:{view}", args=[service.name])

    stats = [
        {
            "label": "Individual enrollments",
            "value": individuals["all"],
            "hint": f"{individuals['disabled']:,} disabled",
            "icon": "devices",
            "url": url("enrollment-list"),
        },
        {
            "label": "Enrollment groups",
            "value": groups["all"],
            "hint": f"{groups['disabled']:,} disabled",
            "icon": "sitemap",
            "url": url("group-list"),
        },
        {
            "label": "Registration records",
            "value": records["all"],
            "hint": f"{records['assigned']:,} assigned",
            "icon": "plug",
            "url": url("registration-list"),
        },
    ]
    if refused is not None:
        stats.append(
            {
                "label": "Refused within a day",
                "value": refused,
                "hint": "attempts, counted",
                "icon": "shield-x",
                "url": url("attempt-list"),
                "tone": "bad" if refused else "",
            }
        )
    return stats


def _refusals(service: ProvisioningService, now: datetime) -> list[dict[str, Any]]:
    rows = (
        service.attempts.filter(last_at__gte=now - DAY)
        .exclude(outcome=AttemptOutcome.ASSIGNED)
        .defer("trace")
        .order_by("-last_at", "-id")[:RECENT]
    )
    return [{"attempt": row, "words": reason_in_words(row)} for row in rows]


def _commands(service: ProvisioningService, endpoint: str) -> dict[str, str]:
    ca = "ca.pem" if settings.DPS_TLS_CERT else str(settings.DPS_DATA_DIR / "tls" / "ca.pem")
    version = f"?api-version={API_VERSION}"
    register_and_poll = [
        f"""as_device() {{ curl -sS -w '\\n' --cert device.pem --key device.key --cacert {shlex.quote(ca)} "$@"; }}""",
        f"DEVICE='{endpoint}/{service.id_scope}/registrations/pump-001'",
        f'ANSWER=$(as_device -X PUT "$DEVICE/register{version}" \\',
        """  -H 'Content-Type: application/json' -d '{"registrationId": "pump-001"}')""",
        'echo "$ANSWER"',
        r"""OPERATION=$(echo "$ANSWER" | sed -n 's/.*"operationId": *"\([^"]*\)".*/\1/p')""",
        f'[ -z "$OPERATION" ] || as_device "$DEVICE/operations/$OPERATION{version}"',
    ]
    return {
        "curl": "\n".join(register_and_poll),
        "simulate": f".venv/bin/python manage.py simulate --service {service.name} --enroll --devices 10",
    }
