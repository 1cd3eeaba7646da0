"""Could it have come in in between? Spells of one device, in order, and in one sentence."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import delete_enrollment_groups
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment
from enrollments.actions.past import look_back
from enrollments.actions.past.words import at_the_end, in_between
from enrollments.models import HistoryEvent, Slot
from enrollments.policy.decision import Verdict
from enrollments.portal.past import shown_spells
from tests.certificates import root, self_signed
from tests.clocks import DatabaseClock
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    new_service,
    register,
    signs,
)

pytestmark = pytest.mark.django_db

ADMIT, DISABLED, UNAUTHORIZED = Verdict.ADMIT, Verdict.DISABLED, Verdict.UNAUTHORIZED


@pytest.fixture
def service():
    return new_service()


def now():
    return timezone.now()


def told(look):
    return [(one.verdict, one.entry.name if one.entry else None) for one in look.spells]


def test_a_disabling_whose_end_has_passed_and_nobody_wrote_that_down(service, monkeypatch):
    leaf = self_signed("pump-1")
    enroll_device(service, leaf)
    register(service, leaf)
    at = now()
    clock = DatabaseClock(monkeypatch)
    end = now().replace(microsecond=0) + timedelta(seconds=2)
    disable_enrollment(service, "pump-1", actor=ALICE, until=end)
    later = end + timedelta(seconds=5)
    clock.set_to(later)
    monkeypatch.setattr("enrollments.actions.past.walking.timezone.now", lambda: later)

    look = look_back(service, "pump-1", at)

    assert told(look) == [(ADMIT, "pump-1"), (DISABLED, "pump-1"), (ADMIT, "pump-1")]
    assert look.spells[2].begins == end
    assert look.spells[2].began_by.told_by.event == "enrollment.disabled"
    assert "it would have been let in during 2 spells, through individual enrollment pump-1." in in_between(
        look
    )
    assert not HistoryEvent.objects.filter(way="schedule").exists()


def test_an_entry_that_was_deleted_and_made_again_under_its_name(service):
    first, second = self_signed("pump-1"), self_signed("pump-1")
    former = enroll_device(service, first)
    register(service, first)
    at = now()
    delete_enrollments(service, ["pump-1"], actor=ALICE)
    without = now()
    enroll_device(service, second)
    register(service, second)

    look = look_back(service, "pump-1", at)

    assert told(look) == [(ADMIT, "pump-1"), (UNAUTHORIZED, None), (ADMIT, "pump-1")]
    assert (look.spells[0].entry.pk, look.spells[0].entry in look.gone) == (former.pk, False)
    assert in_between(look).endswith("during 2 spells, through individual enrollment pump-1.")
    assert all(one.entry_url for one in shown_spells(service, look) if one.entry)
    assert told(look_back(service, "pump-1", without))[0] == (UNAUTHORIZED, None)


def test_a_group_that_was_deleted_and_made_again_for_another_ca(service):
    old, new = root("Old"), root("New")
    enroll_ca(service, old, "plant")
    register(service, old.leaf("pump-1"))
    at = now()
    delete_enrollment_groups(service, ["plant"], actor=ALICE)
    enroll_ca(service, new, "plant")

    look = look_back(service, "pump-1", at)

    assert told(look) == [(ADMIT, "plant"), (UNAUTHORIZED, None)]
    assert in_between(look).endswith("during one spell, through enrollment group plant.")
    assert at_the_end(look).startswith("Now it would be refused")


def test_a_certificate_that_expired_in_between_and_the_one_that_followed_it(service):
    """Between the two there is a gap, if what it was given next was enrolled later."""
    soon = now().replace(microsecond=0) + timedelta(seconds=2)
    first, second = self_signed("pump-1", not_after=soon), self_signed("pump-1")
    enroll_device(service, first)
    register(service, first)
    at = now()
    while now() <= soon + timedelta(seconds=1):
        pass
    delete_enrollments(service, ["pump-1"], actor=ALICE)
    enroll_device(service, second)
    register(service, second)

    look = look_back(service, "pump-1", at)

    assert [one.verdict for one in look.spells if one.verdict is ADMIT] == [ADMIT, ADMIT]
    refused = look.spells[1]
    assert (refused.verdict, refused.began_by.words) == (
        UNAUTHORIZED,
        "the certificate CN=pump-1 expired",
    )
    assert refused.begins == soon + timedelta(microseconds=1)


def test_whoever_held_both_certificates_could_come_all_the_time(service):
    soon = now().replace(microsecond=0) + timedelta(seconds=2)
    first, second = self_signed("pump-1", not_after=soon), self_signed("pump-1")
    enroll_device(service, first, certificates={Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed})
    register(service, first)
    at = now()
    while now() <= soon + timedelta(seconds=1):
        pass
    register(service, second)

    look = look_back(service, "pump-1", at)

    assert told(look) == [(ADMIT, "pump-1")]
    assert in_between(look).startswith("At any time between")


def test_that_some_of_the_time_is_not_known_is_said_where_it_was_let_in_at_other_times(service):
    group = enroll_key_group(service)
    key = derived_key(group.primary_key, "line-9-1")
    register(service, signs(service, "line-9-1", key), "line-9-1")
    at = now()
    enroll_keys(service, "line-9-1", primary_key=key)
    delete_enrollments(service, ["line-9-1"], actor=ALICE)
    leaf = self_signed("line-9-1")
    enroll_device(service, leaf)
    register(service, leaf)
    through_all = "At any time between"
    assert in_between(look_back(service, "line-9-1", at)).startswith(through_all)
    delete_enrollment_groups(service, ["line-9"], actor=ALICE)

    look = look_back(service, "line-9-1", at)

    assert told(look)[:2] == [(ADMIT, "line-9"), (None, None)]
    assert "during 3 spells" in in_between(look)
    assert in_between(look).endswith("Of some of the time besides it is not known.")
