"""R14 with real rows: who is held back, who never is, and what it costs."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions import rates
from enrollments.actions.enrollment_groups import disable_enrollment_group, enable_enrollment_group
from enrollments.actions.enrollments import enable_enrollment
from enrollments.actions.registrations import Outcome, look_up_registration, poll_operation, register_device
from enrollments.actions.services import change_settings
from enrollments.models import ProvisioningService, RegistrationAttempt
from enrollments.policy.back_off import FREE_REFUSALS
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
# Ahead of the clock, so that what was done by it is over by then, however long the suite has been running.
NOW = timezone.now() + timedelta(minutes=30)
WRONG_KEY = "d3Jvbmcga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhIQ=="


def current(service):
    return ProvisioningService.objects.get(pk=service.pk)


def visit(service, device, registration_id="pump-042", seconds=0.0):
    return register(current(service), device, registration_id, at=NOW + timedelta(seconds=seconds))


def poll(service, answer, credential, seconds=0.0):
    request = asks("pump-042", credential, NOW + timedelta(seconds=seconds))
    return poll_operation(current(service), answer.operation_id, request)


# --- Refused devices ------------------------------------------------------------------------------


def test_r14_retry_after_of_an_unproven_device_grows_and_then_it_is_held_back(service):
    stranger = self_signed("pump-042")

    answers = [visit(service, stranger) for _ in range(FREE_REFUSALS + 2)]

    assert [answer.retry_after for answer in answers[:FREE_REFUSALS]] == [3, 6, 12, 24, 48]
    assert {answer.outcome for answer in answers[:FREE_REFUSALS]} == {Outcome.UNAUTHORIZED}
    assert [(answer.outcome, answer.retry_after) for answer in answers[FREE_REFUSALS:]] == [
        (Outcome.THROTTLED, 48)
    ] * 2


def test_r14_retry_after_of_a_disabled_device_grows_and_then_it_is_held_back(service, top):
    disable_enrollment_group(service, "root-a", actor=ALICE)
    leaf = top.leaf("pump-042")

    answers = [visit(service, leaf) for _ in range(FREE_REFUSALS + 1)]

    assert [answer.outcome for answer in answers] == [Outcome.DISABLED] * FREE_REFUSALS + [Outcome.THROTTLED]
    assert [answer.retry_after for answer in answers] == [3, 6, 12, 24, 48, 48]


def test_r14_who_waits_as_told_is_judged(service):
    stranger = self_signed("pump-042")
    told = [visit(service, stranger) for _ in range(FREE_REFUSALS)][-1]

    assert visit(service, stranger, seconds=told.retry_after).outcome is Outcome.UNAUTHORIZED


def test_r14_longest_wait_is_a_setting(service):
    change_settings(service, {"longest_retry_after_seconds": 20}, actor=ALICE)
    stranger = self_signed("pump-042")

    assert [visit(service, stranger).retry_after for _ in range(5)] == [3, 6, 12, 20, 20]


def test_r14_one_admission_resets_the_wait(service, top):
    leaf = top.leaf("pump-042")
    disable_enrollment_group(service, "root-a", actor=ALICE)
    for _ in range(4):
        visit(service, leaf)
    enable_enrollment_group(service, "root-a", actor=ALICE)
    assert visit(service, leaf).outcome is Outcome.ASSIGNED
    disable_enrollment_group(service, "root-a", actor=ALICE)

    assert visit(service, leaf).retry_after == 3


def test_r14_device_that_is_let_in_again_does_not_wait_for_it(service, top):
    leaf = top.leaf("pump-042")
    disable_enrollment_group(service, "root-a", actor=ALICE)
    while visit(service, leaf).outcome is not Outcome.THROTTLED:
        pass

    enable_enrollment_group(service, "root-a", actor=ALICE)

    assert visit(service, leaf, seconds=1).outcome is Outcome.ASSIGNED


def test_r14_device_that_is_enrolled_at_last_does_not_wait_for_it(service):
    leaf = root("Root B").leaf("pump-042")
    while visit(service, leaf).outcome is not Outcome.THROTTLED:
        pass

    enroll_ca(service, leaf.issuer)

    assert visit(service, leaf, seconds=1).outcome is Outcome.ASSIGNED


# --- Nobody shuts a device out by shouting its name -----------------------------------------------


def test_r14_wrong_tokens_from_the_same_address_do_not_delay_the_right_one(service):
    key = enroll_keys(service, "pump-042").primary_key
    wrong = signs(service, "pump-042", WRONG_KEY)
    while visit(service, wrong).outcome is not Outcome.THROTTLED:
        pass

    assert visit(service, signs(service, "pump-042", key)).outcome is Outcome.ASSIGNED
    assert visit(service, wrong).outcome is not Outcome.ASSIGNED


def test_r14_strangers_certificates_do_not_delay_the_device_of_that_name(service, top):
    for _ in range(40):
        visit(service, self_signed("pump-042"))

    assert visit(service, top.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_r14_strangers_do_not_use_up_the_rates_of_device_and_service(service):
    change_settings(
        service, {"registrations_per_minute": 2, "device_registrations_per_minute": 2}, actor=ALICE
    )
    key = enroll_keys(service, "pump-042").primary_key
    for _ in range(10):
        visit(service, signs(service, "pump-042", WRONG_KEY))

    answers = [visit(service, signs(service, "pump-042", key)) for _ in range(3)]

    assert [one.outcome for one in answers] == [Outcome.ASSIGNED, Outcome.ASSIGNED, Outcome.THROTTLED]


def test_r14_disabled_devices_do_not_use_up_the_rate_of_the_service(service, top):
    change_settings(service, {"registrations_per_minute": 1}, actor=ALICE)
    barred = root("Root B")
    enroll_ca(service, barred, enabled=False)
    for number in range(5):
        assert visit(service, barred.leaf(f"valve-{number}"), f"valve-{number}").outcome is Outcome.DISABLED

    assert visit(service, top.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_r14_who_holds_the_key_of_another_entry_does_not_use_up_the_rate_of_the_device(service):
    """Two groups with keys derive different keys for one name: who proves one is not who proves the other."""
    own, other = enroll_key_group(service, "own"), enroll_key_group(service, "other")
    change_settings(service, {"device_registrations_per_minute": 2}, actor=ALICE)
    genuine = signs(service, "pump-042", derived_key(own.primary_key, "pump-042"))
    rival = signs(service, "pump-042", derived_key(other.primary_key, "pump-042"))
    registered = visit(service, genuine)
    for _ in range(6):
        visit(service, rival)
        poll(service, registered, rival)
    disable_enrollment_group(service, "other", actor=ALICE)
    for _ in range(6):
        poll(service, registered, rival)

    assert poll(service, registered, genuine).outcome is Outcome.ASSIGNED
    assert visit(service, genuine).outcome is Outcome.ASSIGNED


# --- Rates of admitted devices ----------------------------------------------------------------------


def test_r14_device_keeps_to_its_rate_and_its_sibling_is_unaffected(service, top):
    change_settings(service, {"device_registrations_per_minute": 3}, actor=ALICE)
    leaf = top.leaf("pump-042")

    answers = [visit(service, leaf) for _ in range(4)]

    assert [one.outcome for one in answers] == [Outcome.ASSIGNED] * 3 + [Outcome.THROTTLED]
    assert answers[3].retry_after == 20
    assert visit(service, top.leaf("pump-043"), "pump-043").outcome is Outcome.ASSIGNED
    assert visit(service, leaf, seconds=20).outcome is Outcome.ASSIGNED


def test_r14_service_keeps_to_its_rate(service, top):
    change_settings(service, {"registrations_per_minute": 2}, actor=ALICE)

    answers = [visit(service, top.leaf(f"pump-{n}"), f"pump-{n}") for n in range(3)]

    assert [one.outcome for one in answers] == [Outcome.ASSIGNED] * 2 + [Outcome.THROTTLED]
    assert answers[2].retry_after == 30


@pytest.mark.parametrize("mechanism", ["certificate", "token"])
def test_r14_sixth_poll_within_ten_seconds_is_held_back(service, top, mechanism):
    credential = shows(top.leaf("pump-042"))
    if mechanism == "token":
        credential = signs(service, "pump-042", enroll_keys(service, "pump-042").primary_key)
    registered = visit(service, credential)

    answers = [poll(service, registered, credential, seconds=n) for n in range(6)]

    assert [one.outcome for one in answers] == [Outcome.ASSIGNED] * 5 + [Outcome.THROTTLED]
    assert answers[5].retry_after == 5
    assert poll(service, registered, credential, seconds=10).outcome is Outcome.ASSIGNED


def test_r14_looking_up_counts_as_polling(service, top):
    credential = shows(top.leaf("pump-042"))
    visit(service, credential)

    outcomes = [
        look_up_registration(current(service), asks("pump-042", credential, NOW)).outcome for _ in range(6)
    ]

    assert outcomes == [Outcome.ASSIGNED] * 5 + [Outcome.THROTTLED]


def test_r14_polls_of_strangers_do_not_use_up_those_of_the_device(service):
    own = signs(service, "pump-042", enroll_keys(service, "pump-042").primary_key)
    registered = visit(service, own)
    for _ in range(20):
        poll(service, registered, signs(service, "pump-042", WRONG_KEY))

    assert poll(service, registered, own).outcome is Outcome.ASSIGNED


def test_r14_disabled_device_is_told_the_same_wait_by_its_polls(service, top):
    leaf = top.leaf("pump-042")
    disable_enrollment_group(service, "root-a", actor=ALICE)
    registered = [visit(service, leaf) for _ in range(3)][-1]

    polled = [poll(service, registered, shows(leaf), seconds=n) for n in range(3)]

    assert {(one.outcome, one.retry_after) for one in polled} == {(Outcome.DISABLED, 12)}


# --- What it costs -----------------------------------------------------------------------------------


def held_back_until_throttled(service, device):
    while visit(service, device).outcome is not Outcome.THROTTLED:
        pass


def queries_of(service, device):
    request = asks("pump-042", device, NOW)
    known = current(service)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert register_device(known, request).outcome is Outcome.THROTTLED
    return captured.captured_queries


def test_r14_held_back_certificate_asks_the_database_nothing(service, top):
    leaf = top.leaf("pump-042")
    disable_enrollment_group(service, "root-a", actor=ALICE)
    held_back_until_throttled(service, leaf)

    assert queries_of(service, shows(leaf)) == []


def test_r14_held_back_token_is_proven_and_nothing_is_written(service):
    wrong = signs(service, "pump-042", WRONG_KEY)
    enroll_keys(service, "pump-042")
    held_back_until_throttled(service, wrong)

    queries = queries_of(service, wrong)

    assert len(queries) == 3  # epoch, individual enrollment, groups with keys
    assert all(query["sql"].startswith("SELECT") for query in queries)


def test_r14_token_that_was_proven_is_held_back_without_a_query(service):
    token = signs(service, "pump-042", enroll_keys(service, "pump-042", enabled=False).primary_key)
    held_back_until_throttled(service, token)

    assert queries_of(service, token) == []


def test_r14_device_that_comes_too_often_with_one_token_is_held_back_without_a_query(service):
    token = signs(service, "pump-042", enroll_keys(service, "pump-042").primary_key)
    held_back_until_throttled(service, token)

    assert queries_of(service, token) == []


def test_r12_proven_token_counts_on_the_epoch_of_its_proof_alone(service):
    token = signs(service, "pump-042", enroll_keys(service, "pump-042", enabled=False).primary_key)
    held_back_until_throttled(service, token)
    enable_enrollment(service, "pump-042", actor=ALICE)

    assert visit(service, token).outcome is Outcome.ASSIGNED


@pytest.mark.parametrize("other", ["wrong key", "other name", "other service"])
def test_r14_nobody_is_held_back_by_the_token_of_another(service, other):
    """What was proven is this token, for this name, in this service."""
    key = enroll_keys(service, "pump-042").primary_key
    token = signs(service, "pump-042", key)
    held_back_until_throttled(service, token)

    if other == "wrong key":
        assert visit(service, signs(service, "pump-042", WRONG_KEY)).outcome is Outcome.UNAUTHORIZED
    elif other == "other name":
        assert visit(service, token, "pump-043").outcome is Outcome.UNAUTHORIZED
    else:
        elsewhere = new_service("elsewhere")
        assert visit(elsewhere, token).outcome is Outcome.UNAUTHORIZED


def test_what_is_kept_of_tokens_is_bounded_and_tells_none(service, monkeypatch):
    kept = rates._ProvenTokens(most=3)
    monkeypatch.setattr(rates, "_PROVEN_TOKENS", kept)
    key = enroll_keys(service, "pump-042").primary_key
    for number in range(8):
        token = signs(service, "pump-042", key, expiry=int(NOW.timestamp()) + 3600 + number)
        visit(service, token, seconds=10 * number)
        assert len(kept._proven) <= 3

    assert all(len(digest) == 16 for digest in kept._proven)
    assert key not in repr(kept._proven)


def test_r14_visits_that_were_not_judged_are_counted_with_the_next(service):
    stranger = self_signed("pump-042")
    for _ in range(FREE_REFUSALS + 7):
        visit(service, stranger)
    assert RegistrationAttempt.objects.get().count == FREE_REFUSALS

    visit(service, stranger, seconds=60)

    assert sum(RegistrationAttempt.objects.values_list("count", flat=True)) == FREE_REFUSALS + 7 + 1
