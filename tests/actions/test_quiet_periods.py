"""Quiet periods: a refused device is told to wait, and nobody who would be admitted ever is (R14)."""

from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions import quiet_periods
from enrollments.actions.attempts import Peer
from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.quiet_periods import (
    NotADevice,
    end_quiet_period,
    forget_ended_quiet_periods,
    start_quiet_period,
)
from enrollments.actions.registrations import Outcome, look_up_registration, poll_operation, register_device
from enrollments.actions.services import change_settings
from enrollments.actions.storms import storms
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import HistoryEvent, ProvisioningService, QuietPeriod, RegistrationAttempt
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    asks,
    derived_key,
    enroll_ca,
    enroll_key_group,
    enroll_keys,
    new_service,
    register,
    shows,
    signs,
)

pytestmark = pytest.mark.django_db
NOW = timezone.now()
HOUR = timedelta(hours=1)
WRONG_KEY = "d3Jvbmcga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhIQ=="


def current(service):
    return ProvisioningService.objects.get(pk=service.pk)


def visit(service, device, registration_id="pump-042", seconds=0.0):
    return register(current(service), device, registration_id, at=timezone.now() + timedelta(seconds=seconds))


def quiet(service, duration=HOUR, **attempt):
    """A quiet period for who made the latest of these attempts."""
    attempt = RegistrationAttempt.objects.filter(**attempt).order_by("-last_at", "-pk").first()
    return start_quiet_period(service, attempt, duration, actor=ALICE, reason="noisy")


def disabled(service):
    disable_enrollment_group(service, "root-a", actor=ALICE)


# --- What a quiet period does -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stranger with a certificate", "wrong token", "disabled"])
def test_refused_device_is_told_to_wait_to_the_end(service, top, kind):
    device = {
        "stranger with a certificate": self_signed("pump-042"),
        "wrong token": signs(service, "pump-042", WRONG_KEY),
        "disabled": top.leaf("pump-042"),
    }[kind]
    disabled(service)
    assert visit(service, device).outcome in (Outcome.UNAUTHORIZED, Outcome.DISABLED)
    period = quiet(service)

    answer = visit(service, device, seconds=10)

    assert answer.outcome is Outcome.THROTTLED
    left = (period.until - timezone.now()).total_seconds() - 10
    assert answer.retry_after == pytest.approx(left, abs=1)
    assert answer.record is None


def test_within_it_the_leaf_key_is_not_judged_and_the_database_not_asked(service, top):
    leaf = top.leaf("pump-042")
    disabled(service)
    visit(service, leaf)
    quiet(service)
    visit(service, leaf, seconds=10)
    known, request = current(service), asks("pump-042", shows(leaf), timezone.now() + timedelta(seconds=20))

    with CaptureQueriesContext(connection) as captured:
        answer = register_device(known, request)

    assert captured.captured_queries == []
    assert (answer.outcome, answer.retry_after > 3500) == (Outcome.THROTTLED, True)


def test_tries_within_it_are_counted_when_the_device_is_judged_again(service, top):
    leaf = top.leaf("pump-042")
    disabled(service)
    visit(service, leaf)
    quiet(service)
    for second in range(10, 20):
        visit(service, leaf, seconds=second)

    visit(service, leaf, seconds=10 + current(service).longest_retry_after_seconds)

    assert sum(RegistrationAttempt.objects.values_list("count", flat=True)) == 12


def test_its_polls_are_told_to_wait_as_well(service, top):
    leaf = top.leaf("pump-042")
    registered = visit(service, leaf)
    disabled(service)
    visit(service, leaf, seconds=10)
    quiet(service, outcome="disabled")
    request = asks("pump-042", shows(leaf), timezone.now() + timedelta(seconds=30))

    polled = poll_operation(current(service), registered.operation_id, request)
    looked_up = look_up_registration(current(service), request)

    assert {polled.outcome, looked_up.outcome} == {Outcome.THROTTLED}
    assert polled.retry_after > 3500


def test_after_it_the_device_is_refused_as_before(service):
    stranger = self_signed("pump-042")
    visit(service, stranger)
    quiet(service)
    assert visit(service, stranger, seconds=10).outcome is Outcome.THROTTLED

    assert visit(service, stranger, seconds=3700).outcome is Outcome.UNAUTHORIZED


def test_ended_early_the_device_is_refused_again_after_the_longest_wait(service):
    stranger = self_signed("pump-042")
    visit(service, stranger)
    end_quiet_period(service, quiet(service).pk, actor=ALICE, reason="wrong one")
    assert visit(service, stranger, seconds=10).outcome is Outcome.UNAUTHORIZED

    quiet(service)
    visit(service, stranger, seconds=60)
    end_quiet_period(service, QuietPeriod.objects.get().pk, actor=ALICE)

    assert visit(service, stranger, seconds=61 + 300).outcome is Outcome.UNAUTHORIZED


# --- Whom it never affects --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a certificate", "a token"])
def test_nobody_is_kept_out_by_somebody_who_calls_its_name(service, top, kind):
    if kind == "a certificate":
        stranger, own = self_signed("pump-042"), top.leaf("pump-042")
    else:
        stranger = signs(service, "pump-042", WRONG_KEY)
        own = signs(service, "pump-042", enroll_keys(service, "pump-042").primary_key)
    visit(service, stranger)
    quiet(service)
    assert visit(service, stranger, seconds=5).outcome is Outcome.THROTTLED

    assert visit(service, own, seconds=6).outcome is Outcome.ASSIGNED


def test_disabled_device_of_that_name_hears_what_it_would_without(service, top):
    visit(service, self_signed("pump-042"))
    quiet(service)
    disabled(service)

    assert visit(service, top.leaf("pump-042"), seconds=5).outcome is Outcome.DISABLED


def test_device_that_is_enrolled_meanwhile_is_admitted_at_its_next_try(service):
    ca = root("Root B")
    leaf = ca.leaf("pump-042")
    visit(service, leaf)
    quiet(service)
    assert visit(service, leaf, seconds=5).outcome is Outcome.THROTTLED

    enroll_ca(service, ca)

    assert visit(service, leaf, seconds=6).outcome is Outcome.ASSIGNED


def test_any_change_has_the_device_judged_again_and_the_period_goes_on(service):
    stranger = self_signed("pump-042")
    visit(service, stranger)
    quiet(service)
    visit(service, stranger, seconds=5)
    change_settings(service, {"description": "something else"}, actor=ALICE)
    before = sum(RegistrationAttempt.objects.values_list("count", flat=True))

    answer = visit(service, stranger, seconds=6)

    assert (answer.outcome, answer.retry_after > 3500) == (Outcome.THROTTLED, True)
    assert sum(RegistrationAttempt.objects.values_list("count", flat=True)) == before + 1


def test_device_that_only_time_lets_in_waits_no_longer_than_after_any_refusal(service, top):
    """No change announces that a certificate has become valid: so what is remembered lasts for the longest wait."""
    leaf = top.leaf("pump-042", not_before=timezone.now() + timedelta(seconds=60))
    visit(service, leaf)
    quiet(service, timedelta(days=7))
    assert visit(service, leaf, seconds=5).outcome is Outcome.THROTTLED

    assert visit(service, leaf, seconds=5 + 301).outcome is Outcome.ASSIGNED


def test_one_admission_ends_it(service, top):
    leaf = top.leaf("pump-042")
    disabled(service)
    visit(service, leaf)
    quiet(service, timedelta(days=1))
    enable_enrollment_group(service, "root-a", actor=ALICE)
    later = timezone.now() + timedelta(seconds=5)
    assert register(current(service), leaf, at=later).outcome is Outcome.ASSIGNED
    disabled(service)

    assert register(current(service), leaf, at=later + timedelta(seconds=30)).outcome is Outcome.DISABLED
    assert QuietPeriod.objects.get().until > timezone.now() + HOUR


def test_device_of_a_key_group_is_quieted_by_its_key_alone(service):
    group = enroll_key_group(service)
    gauges = [signs(service, f"gauge-{n}", derived_key(group.primary_key, f"gauge-{n}")) for n in range(2)]
    disable_enrollment_group(service, "line-9", actor=ALICE)
    for number, gauge in enumerate(gauges):
        visit(service, gauge, f"gauge-{number}")
    quiet(service, registration_key="gauge-0")

    answers = [visit(service, gauge, f"gauge-{n}", seconds=10).outcome for n, gauge in enumerate(gauges)]

    assert answers == [Outcome.THROTTLED, Outcome.DISABLED]


def test_admitted_devices_ask_nothing_more_of_the_database(service, top):
    leaf = top.leaf("pump-042")
    visit(service, leaf)
    known, request = current(service), asks("pump-042", shows(leaf), timezone.now() + timedelta(seconds=30))

    with CaptureQueriesContext(connection) as captured:
        assert register_device(known, request).outcome is Outcome.ASSIGNED

    assert not [one for one in captured.captured_queries if "quietperiod" in one["sql"]]


def test_another_service_has_quiet_periods_of_its_own(service):
    lab = new_service("lab")
    stranger = self_signed("pump-042")
    for one in (service, lab):
        visit(one, stranger)
    quiet(service, service_id=service.pk)

    assert visit(lab, stranger, seconds=5).outcome is Outcome.UNAUTHORIZED


# --- Starting and ending ----------------------------------------------------------------------------


def test_starting_and_ending_are_recorded_with_who_and_why(service):
    visit(service, self_signed("pump-042"))
    period = quiet(service)
    end_quiet_period(service, period.pk, actor=ALICE, reason="was fixed")

    started, ended = HistoryEvent.objects.filter(event__startswith="quiet.").order_by("pk")
    assert (started.event, started.actor_name, started.reason) == ("quiet.started", "alice", "noisy")
    assert started.after["until"] == period.until.isoformat()
    assert "unproven" in started.after["of"]
    assert (ended.event, ended.subject_name, ended.reason) == ("quiet.ended", "pump-042", "was fixed")
    assert not QuietPeriod.objects.exists()


def test_starting_raises_no_epoch_so_back_off_goes_on(service):
    visit(service, self_signed("pump-042"))
    before = ProvisioningService.epoch_of(service.pk)

    quiet(service)

    assert ProvisioningService.epoch_of(service.pk) == before


def test_a_second_one_replaces_the_first(service):
    visit(service, self_signed("pump-042"))
    quiet(service)
    quiet(service, timedelta(days=1))

    assert QuietPeriod.objects.get().until > timezone.now() + timedelta(hours=23)


@pytest.mark.parametrize("duration", [timedelta(0), timedelta(minutes=4), timedelta(days=8), -HOUR])
def test_length_is_bounded(service, duration):
    visit(service, self_signed("pump-042"))

    with pytest.raises(Invalid, match="5 minutes at least"):
        quiet(service, duration)


def test_admitted_attempt_is_nothing_to_be_quiet_about(service, top):
    visit(service, top.leaf("pump-042"))

    with pytest.raises(NotADevice, match="was not refused"):
        quiet(service)


def test_row_that_counts_many_together_is_nobody(service):
    visit(service, self_signed("pump-042"))
    RegistrationAttempt.objects.update(claimed_registration_id="(many others)", source="")

    with pytest.raises(NotADevice, match="no one device"):
        quiet(service)


def test_number_is_bounded_and_those_that_are_over_make_room(service, monkeypatch):
    monkeypatch.setattr(quiet_periods, "MAX_QUIET_PERIODS", 1)
    for name in ("pump-1", "pump-2"):
        visit(service, self_signed(name), name)
    quiet(service, registration_key="pump-1")
    quiet(service, registration_key="pump-1")

    with pytest.raises(Conflict, match="as many as are kept"):
        quiet(service, registration_key="pump-2")

    QuietPeriod.objects.update(started_at=NOW - 2 * HOUR, until=NOW - HOUR)
    assert quiet(service, registration_key="pump-2").registration_id == "pump-2"
    assert QuietPeriod.objects.count() == 1


def test_ending_what_has_ended_is_not_found(service):
    with pytest.raises(NotFound):
        end_quiet_period(service, 1, actor=ALICE)


def test_those_that_are_over_are_forgotten(service):
    for name in ("pump-1", "pump-2"):
        visit(service, self_signed(name), name)
        quiet(service, registration_key=name)
    QuietPeriod.objects.filter(registration_key="pump-1").update(started_at=NOW - 2 * HOUR, until=NOW - HOUR)

    assert forget_ended_quiet_periods(service) == 1
    assert QuietPeriod.objects.get().registration_id == "pump-2"


def test_database_takes_none_that_ends_before_it_starts(service):
    visit(service, self_signed("pump-042"))
    quiet(service)

    with pytest.raises(IntegrityError, match="quiet_period_ends_after_it_starts"):
        QuietPeriod.objects.update(until=NOW - HOUR)


# --- Ended by an admission --------------------------------------------------------------------------


@pytest.fixture
def admitted_since(service, top):
    """A device that was told to be quiet, let in, and shut out again: it is judged and refused as any other."""
    leaf = top.leaf("pump-042")
    disabled(service)
    visit(service, leaf)
    period = quiet(service, timedelta(days=2))
    assert visit(service, leaf, seconds=200).outcome is Outcome.THROTTLED
    enable_enrollment_group(service, "root-a", actor=ALICE)
    assert visit(service, leaf, seconds=400).outcome is Outcome.ASSIGNED
    disabled(service)
    assert visit(service, leaf, seconds=600).outcome is Outcome.DISABLED
    return leaf, period


def signing_from(address, service, name, key, seconds=0.0):
    request = asks(name, signs(service, name, key), timezone.now() + timedelta(seconds=seconds))
    return register_device(current(service), replace(request, peer=Peer(address)))


def test_stranger_who_was_enrolled_and_admitted_is_refused_as_any_other_once_that_is_gone(service):
    """Whoever starts a period is told that an admission ends it; before proof it is the same key that comes again."""
    ca = root("Root B")
    leaf = ca.leaf("pump-042")
    visit(service, leaf)
    quiet(service, timedelta(days=2))
    enroll_ca(service, ca, "root-b")
    assert visit(service, leaf, seconds=5).outcome is Outcome.ASSIGNED
    assert storms(service, window=HOUR, at=timezone.now()).quiet == ()
    delete_enrollment_groups(service, ["root-b"], actor=ALICE)

    assert visit(service, leaf, seconds=30).outcome is Outcome.UNAUTHORIZED
    assert forget_ended_quiet_periods(service) == 1


@pytest.mark.parametrize(
    ("before", "after", "is_over"),
    [
        ("192.0.2.9", "192.0.2.9", True),
        ("192.0.2.9", "192.0.2.90", False),
        ("192.0.2.9", "198.51.100.7", False),
        ("2001:db8:1:2::5", "2001:db8:1:2:a:b:c:d", True),
        ("2001:db8:1::5", "2001:db8:1:0:a:b:c:d", True),
        ("2001:db8:1:2::5", "2001:db8:1:2::9", True),
        ("2001:db8::5", "2001:db8::a:b:c:d", True),
        ("2001:db8::5", "2001:db8:77:1::9", False),
        ("2001:db8:1::5", "2001:db8:1:2::9", False),
        ("2001:db8:1:2::5", "2001:db8:1:22::5", False),
        ("2001:db8:1:2::5", "192.0.2.9", False),
        ("192.0.2.9", "2001:db8:1:2::5", False),
    ],
)
def test_whoever_signs_is_known_again_by_where_they_come_from(service, before, after, is_over):
    entry = enroll_keys(service, "pump-042")
    assert signing_from(before, service, "pump-042", WRONG_KEY).outcome is Outcome.UNAUTHORIZED
    quiet(service, timedelta(days=2))
    assert signing_from(after, service, "pump-042", entry.primary_key, seconds=5).outcome is Outcome.ASSIGNED

    assert bool(storms(service, window=HOUR, at=timezone.now()).quiet) is not is_over


def test_certificate_that_is_admitted_from_an_address_is_not_who_signed_there(service, top):
    assert signing_from("192.0.2.9", service, "pump-042", WRONG_KEY).outcome is Outcome.UNAUTHORIZED
    quiet(service, timedelta(days=2))
    request = asks("pump-042", shows(top.leaf("pump-042")), timezone.now() + timedelta(seconds=5))
    answer = register_device(current(service), replace(request, peer=Peer("192.0.2.9")))

    assert answer.outcome is Outcome.ASSIGNED
    assert storms(service, window=HOUR, at=timezone.now()).quiet != ()


def test_stranger_is_kept_quiet_though_the_device_of_that_name_is_admitted(service, top):
    stranger = self_signed("pump-042")
    visit(service, stranger)
    quiet(service)

    assert visit(service, top.leaf("pump-042"), seconds=5).outcome is Outcome.ASSIGNED
    assert visit(service, stranger, seconds=10).outcome is Outcome.THROTTLED


def test_one_that_an_admission_ended_is_shown_nowhere(service, admitted_since):
    found = storms(service, window=HOUR, at=timezone.now())

    assert found.quiet == ()
    assert [one.quiet for one in found.shown] == [None]


def test_one_that_an_admission_ended_cannot_be_ended_once_more(service, admitted_since):
    with pytest.raises(NotFound, match="it has ended"):
        end_quiet_period(service, admitted_since[1].pk, actor=ALICE)

    assert not HistoryEvent.objects.filter(event="quiet.ended").exists()


def test_one_that_an_admission_ended_makes_room(service, admitted_since, monkeypatch):
    monkeypatch.setattr(quiet_periods, "MAX_QUIET_PERIODS", 1)
    visit(service, self_signed("odd-1"), "odd-1")

    assert quiet(service, registration_key="odd-1") == QuietPeriod.objects.get()


def test_one_that_an_admission_ended_does_not_stand_again_when_the_admission_is_forgotten(
    service, admitted_since
):
    QuietPeriod.objects.update(started_at=NOW - timedelta(days=3))
    RegistrationAttempt.objects.update(last_at=NOW - timedelta(days=2))
    ProvisioningService.objects.update(attempts_kept_days=1)

    call_command("forget_attempts", stdout=StringIO())

    assert not RegistrationAttempt.objects.exists()
    assert visit(service, admitted_since[0], seconds=2000).outcome is Outcome.DISABLED


def test_a_device_that_is_admitted_ends_nothing_of_who_proved_nothing_under_its_name(service, top):
    stranger = self_signed("pump-042")
    visit(service, stranger)
    quiet(service)
    assert visit(service, top.leaf("pump-042"), seconds=5).outcome is Outcome.ASSIGNED

    (shown,) = storms(service, window=HOUR, at=timezone.now()).quiet

    assert shown.is_proven is False
