"""`manage.py forget_attempts`."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from enrollments.actions.quiet_periods import start_quiet_period
from enrollments.models import Certificate, HistoryEvent, QuietPeriod, RegistrationAttempt, RegistrationRecord
from tests.certificates import mint, root, self_signed
from tests.devices import ALICE, enroll_ca, new_service, register, shows
from tests.management.calls import json_of, printed_by

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def test_what_is_older_than_the_setting_goes_and_so_do_quiet_periods_that_are_over():
    service = new_service()
    for name, at in (("old", timezone.now() - 31 * DAY), ("new", timezone.now())):
        register(service, self_signed(name), at=at)
        start_quiet_period(service, RegistrationAttempt.objects.get(registration_key=name), DAY, actor=ALICE)
    QuietPeriod.objects.filter(registration_key="old").update(
        started_at=timezone.now() - 2 * DAY, until=timezone.now() - DAY
    )

    told = printed_by("forget_attempts")

    assert "plant: 1 row older than 30 days deleted" in told
    assert "plant: 1 quiet period over by now deleted" in told
    assert RegistrationAttempt.objects.get().registration_key == "new"
    assert QuietPeriod.objects.get().registration_key == "new"


def test_the_history_says_how_many_were_deleted_up_to_when_and_by_whom():
    """Attempts are evidence: who wants to know why there are none finds a row, and none for nights without any."""
    service = new_service()
    new_service("idle")
    register(service, self_signed("old"), at=timezone.now() - 31 * DAY)

    told = json_of("forget_attempts")
    printed_by("forget_attempts")

    assert told["services"] == {
        "plant": {"attempts": 1, "records": 0, "quiet_periods": 0},
        "idle": {"attempts": 0, "records": 0, "quiet_periods": 0},
    }
    row = HistoryEvent.objects.get(event="attempts.forgotten")
    assert (row.service_name, row.subject_name, row.actor_kind, row.way) == (
        "plant",
        "plant",
        "cli",
        "command line",
    )
    assert row.client == "manage.py forget_attempts"
    assert (row.before["rows"], row.before["attempts_kept_days"], row.after) == (1, 30, None)
    age = timezone.now() - datetime.fromisoformat(row.before["older_than"])
    assert timedelta(days=30) <= age < timedelta(days=30, minutes=5)


def test_certificates_that_a_device_sent_along_go_when_neither_record_nor_attempt_has_them():
    service, top = new_service(), root("Root A")
    enroll_ca(service, top)
    made_up = mint("Made up", key=top.key, ca=True)
    register(service, shows(top.leaf("pump-042"), made_up), "pump-042")
    Certificate.objects.update(created_at=timezone.now() - 2 * DAY)
    shown = Certificate.objects.filter(subject="CN=Made up")

    printed_by("forget_attempts")
    assert shown.exists(), "the record has it"

    RegistrationRecord.objects.all().delete()
    printed_by("forget_attempts")
    assert shown.exists(), "the attempt has it"

    RegistrationAttempt.objects.all().delete()
    assert "1 certificate that devices showed deleted" in printed_by("forget_attempts")
    assert not shown.exists()
    assert Certificate.objects.filter(subject="CN=Root A").exists()
