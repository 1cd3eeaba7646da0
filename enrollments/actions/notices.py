"""Notices: counting requests with a certificate in a header that is not believed, and saying what was counted."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

from enrollments.models import IgnoredCertificateHeader

KEPT_DAYS = 90
SHOWN_DAYS = 7


@dataclass(frozen=True, slots=True)
class IgnoredCertificateHeaders:
    """Requests within SHOWN_DAYS, and the latest of them."""

    count: int
    last_at: datetime
    last_address: str
    last_listener: str


def count_ignored_certificate_header(listener: str, header: str, address: str) -> None:
    """Insert the row of the day or count it up, in one statement that both databases know."""
    now = timezone.now()
    table = IgnoredCertificateHeader._meta.db_table
    sql = (
        f"INSERT INTO {table} (listener, header, day, count, first_at, last_at, last_address) "  # noqa: S608  # our own
        "VALUES (%s, %s, %s, 1, %s, %s, %s) "
        f"ON CONFLICT (listener, header, day) DO UPDATE SET count = {table}.count + 1, "
        "last_at = excluded.last_at, last_address = excluded.last_address"
    )
    at = connection.ops.adapt_datetimefield_value(now)
    day = connection.ops.adapt_datefield_value(now.date())
    with connection.cursor() as cursor:
        cursor.execute(sql, [listener, header, day, at, at, address[:45]])


def ignored_certificate_headers() -> IgnoredCertificateHeaders | None:
    """What was counted lately, in one query; None where nothing was."""
    since = timezone.now().date() - timedelta(days=SHOWN_DAYS - 1)
    rows = list(IgnoredCertificateHeader.objects.filter(day__gte=since))
    if not rows:
        return None
    last = max(rows, key=lambda row: row.last_at)
    return IgnoredCertificateHeaders(
        count=sum(row.count for row in rows),
        last_at=last.last_at,
        last_address=last.last_address,
        last_listener=last.listener,
    )


def forget_old_notices() -> int:
    """Delete what is older than KEPT_DAYS; how many rows that were."""
    horizon = timezone.now().date() - timedelta(days=KEPT_DAYS)
    deleted, _ = IgnoredCertificateHeader.objects.filter(day__lt=horizon).delete()
    return deleted
