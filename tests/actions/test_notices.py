"""Requests with certificates in headers that are not believed: counted in few rows, summed up, forgotten."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from enrollments.actions import notices
from enrollments.actions.notices import (
    KEPT_DAYS,
    SHOWN_DAYS,
    count_ignored_certificate_header,
    forget_old_notices,
    ignored_certificate_headers,
)
from enrollments.models import IgnoredCertificateHeader

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    """Sets what time it is for notices."""

    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(notices.timezone, "now", lambda: moment)

    set_to(NOON)
    return set_to


def test_a_day_is_one_row_with_first_last_and_count(clock):
    for minute in range(5):
        clock(NOON + timedelta(minutes=minute))
        count_ignored_certificate_header("portal", "Client-Cert", f"192.0.2.{minute}")

    row = IgnoredCertificateHeader.objects.get()
    assert (row.listener, row.header, row.day, row.count) == ("portal", "Client-Cert", NOON.date(), 5)
    assert (row.first_at, row.last_at) == (NOON, NOON + timedelta(minutes=4))
    assert row.last_address == "192.0.2.4"


def test_listener_header_and_day_are_told_apart(clock):
    for listener, header in [
        ("portal", "Client-Cert"),
        ("device", "Client-Cert"),
        ("device", "X-Client-Cert"),
    ]:
        count_ignored_certificate_header(listener, header, "192.0.2.1")
    clock(NOON + timedelta(days=1))
    count_ignored_certificate_header("portal", "Client-Cert", "192.0.2.1")

    assert [row.count for row in IgnoredCertificateHeader.objects.all()] == [1, 1, 1, 1]


def test_no_address_is_too_long(clock):
    count_ignored_certificate_header("portal", "Client-Cert", "fe80::1%" + "x" * 100)

    assert len(IgnoredCertificateHeader.objects.get().last_address) == 45


def test_nothing_counted_is_nothing_to_say(clock):
    assert ignored_certificate_headers() is None


def test_what_is_said_adds_up_the_last_days_and_names_the_latest(clock, django_assert_num_queries):
    clock(NOON - timedelta(days=SHOWN_DAYS))
    count_ignored_certificate_header("proxied", "Client-Cert", "192.0.2.9")
    clock(NOON - timedelta(days=SHOWN_DAYS - 1))
    count_ignored_certificate_header("device", "Client-Cert", "192.0.2.1")
    clock(NOON)
    for address in ("192.0.2.2", "192.0.2.3"):
        count_ignored_certificate_header("portal", "X-Client-Cert", address)

    with django_assert_num_queries(1):
        said = ignored_certificate_headers()

    assert (said.count, said.last_at, said.last_address, said.last_listener) == (
        3,
        NOON,
        "192.0.2.3",
        "portal",
    )


def test_old_rows_are_forgotten_and_young_ones_stay(clock):
    for days in (KEPT_DAYS + 1, KEPT_DAYS, 0):
        clock(NOON - timedelta(days=days))
        count_ignored_certificate_header("portal", "Client-Cert", "192.0.2.1")

    assert forget_old_notices() == 1
    assert [row.day for row in IgnoredCertificateHeader.objects.order_by("day")] == [
        NOON.date() - timedelta(days=KEPT_DAYS),
        NOON.date(),
    ]


def test_the_daily_command_forgets_them():
    long_ago = timezone.now() - timedelta(days=KEPT_DAYS + 2)
    IgnoredCertificateHeader.objects.create(
        listener="device", header="Client-Cert", day=long_ago.date(), first_at=long_ago, last_at=long_ago
    )
    told = StringIO()

    call_command("forget_attempts", stdout=told)

    assert "Ignored certificate headers: 1 row older than 90 days deleted" in told.getvalue()
    assert not IgnoredCertificateHeader.objects.exists()
