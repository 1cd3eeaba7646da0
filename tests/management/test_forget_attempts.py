"""`manage.py forget_attempts`."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.quiet_periods import start_quiet_period
from enrollments.models import QuietPeriod, RegistrationAttempt
from tests.certificates import self_signed
from tests.devices import ALICE, new_service, register
from tests.management.calls import printed_by

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
