"""Rates and back-off by the numbers, with times that the tests choose."""

import pytest

from enrollments.policy.back_off import FREE_REFUSALS
from enrollments.throttling import BackOff, Caller, Limiter

NOW = 1_800_000_000.0
PUMP = Caller(1, "pump-042", "token", is_proven=True)
OTHER = Caller(1, "pump-043", "token", is_proven=True)
STRANGER = Caller(1, "pump-042", "198.51.100.9", is_proven=False)


@pytest.fixture
def limiter(tmp_path):
    return Limiter(tmp_path, slots=1024)


def refuse(limiter, caller=PUMP, now=NOW, epoch=1):
    return limiter.note_refusal(caller, now, epoch=epoch, shortest=3, longest=300)


def held_back(limiter, caller=PUMP, now=NOW, epoch=1):
    return limiter.held_back(caller, now, epoch=epoch, longest=300)


# --- Polls: 5 in any 10 seconds -----------------------------------------------------------------


def test_sixth_poll_within_ten_seconds_waits_until_the_first_is_ten_seconds_old(limiter):
    waits = [limiter.take_poll(PUMP, NOW + second) for second in (0, 1, 2, 3, 4, 5)]

    assert waits == [0, 0, 0, 0, 0, 5]
    assert limiter.take_poll(PUMP, NOW + 10) == 0
    assert limiter.take_poll(PUMP, NOW + 10.5) == 1


def test_refused_polls_do_not_count(limiter):
    for _ in range(50):
        limiter.take_poll(PUMP, NOW)

    assert limiter.take_poll(PUMP, NOW + 10) == 0


def test_any_ten_seconds_hold_five_polls_at_most(limiter):
    taken = [NOW + tick / 4 for tick in range(400) if not limiter.take_poll(PUMP, NOW + tick / 4)]

    assert max(sum(start <= one < start + 10 for one in taken) for start in taken) == 5
    assert len(taken) == 50


def test_a_second_device_is_unaffected(limiter):
    for _ in range(10):
        limiter.take_poll(PUMP, NOW)

    assert limiter.take_poll(OTHER, NOW) == 0
    assert limiter.take_poll(Caller(2, "pump-042", "token", is_proven=True), NOW) == 0
    assert limiter.take_poll(Caller(1, "pump-042", "another key", is_proven=True), NOW) == 0


def test_asking_for_the_wait_counts_nothing(limiter):
    assert [limiter.poll_wait(PUMP, NOW) for _ in range(20)] == [0] * 20
    for _ in range(5):
        limiter.take_poll(PUMP, NOW)
    assert limiter.poll_wait(PUMP, NOW + 4) == 6


# --- Registrations ---------------------------------------------------------------------------------


def test_registrations_of_a_device_keep_to_its_rate(limiter):
    waits = [limiter.take_registration(PUMP, NOW, per_minute=12) for _ in range(14)]

    assert waits == [0] * 12 + [5, 5]
    assert limiter.registration_wait(PUMP, NOW, per_minute=12) == 5
    assert limiter.next_registration(PUMP, NOW, per_minute=12) == NOW + 5
    assert limiter.next_registration(PUMP, NOW + 5, per_minute=12) == 0
    assert limiter.next_registration(STRANGER, NOW, per_minute=12) == 0
    assert limiter.take_registration(PUMP, NOW + 5, per_minute=12) == 0
    assert limiter.take_registration(PUMP, NOW + 5, per_minute=12) == 5
    assert limiter.take_registration(OTHER, NOW, per_minute=12) == 0


def test_of_ten_minutes_each_has_its_share(limiter):
    taken = sum(not limiter.take_registration(PUMP, NOW + second, per_minute=6) for second in range(600))

    assert taken == 5 + 60  # what was saved up, and one in ten seconds


def test_rate_of_the_service_is_shared_by_its_devices_and_by_nobody_else(limiter):
    assert [limiter.take_of_service(1, NOW, per_minute=2) for _ in range(3)] == [0, 0, 30]
    assert limiter.take_of_service(2, NOW, per_minute=2) == 0


def test_rate_of_one_a_minute(limiter):
    assert limiter.take_registration(PUMP, NOW, per_minute=1) == 0
    assert limiter.take_registration(PUMP, NOW + 59, per_minute=1) == 1
    assert limiter.take_registration(PUMP, NOW + 60, per_minute=1) == 0


# --- Back-off -----------------------------------------------------------------------------------------


def test_wait_grows_with_each_refusal_in_a_row(limiter):
    assert [refuse(limiter).retry_after for _ in range(9)] == [3, 6, 12, 24, 48, 96, 192, 300, 300]


def test_nobody_is_held_back_after_a_few_refusals(limiter):
    for _ in range(FREE_REFUSALS - 1):
        refuse(limiter)

    assert held_back(limiter) == 0


def test_who_was_refused_often_and_does_not_wait_is_held_back(limiter):
    for _ in range(FREE_REFUSALS):
        refused = refuse(limiter)

    assert held_back(limiter, now=NOW + 1) == refused.retry_after - 1
    assert held_back(limiter, now=NOW + refused.retry_after) == 0
    assert held_back(limiter, OTHER) == 0


def test_visits_that_were_not_judged_are_counted_with_the_next_refusal(limiter):
    for _ in range(FREE_REFUSALS):
        refuse(limiter)
    for _ in range(7):
        held_back(limiter, now=NOW + 1)

    assert [refuse(limiter).unjudged_before for _ in range(2)] == [7, 0]


def test_visits_that_were_not_judged_are_taken_once_and_may_be_given_back(limiter):
    for _ in range(FREE_REFUSALS):
        refuse(limiter)
    for _ in range(7):
        held_back(limiter, now=NOW + 1)

    assert [limiter.take_unjudged(PUMP, NOW) for _ in range(2)] == [7, 0]
    assert held_back(limiter, now=NOW + 2) > 0, "it is held back as before"
    limiter.give_back_unjudged(PUMP, NOW, 7)
    assert refuse(limiter).unjudged_before == 8
    assert limiter.take_unjudged(OTHER, NOW) == 0


def test_admission_says_of_whom_visits_are_yet_to_be_counted(limiter):
    for _ in range(FREE_REFUSALS):
        refuse(limiter)
    held_back(limiter, now=NOW + 1)

    assert limiter.note_admission(PUMP, OTHER, now=NOW) == [PUMP]
    assert (held_back(limiter), limiter.back_off_of(PUMP)) == (0, None)
    assert limiter.take_unjudged(PUMP, NOW) == 1
    assert limiter.note_admission(PUMP, now=NOW) == []


def test_a_change_of_the_service_lets_everybody_be_judged_again(limiter):
    for _ in range(20):
        refuse(limiter, epoch=1)

    assert held_back(limiter, epoch=1) > 0
    assert held_back(limiter, epoch=2) == 0
    assert refuse(limiter, epoch=2).in_a_row == 21  # still the same device


def test_one_admission_ends_it(limiter):
    for caller in (PUMP, STRANGER):
        for _ in range(20):
            refuse(limiter, caller)

    limiter.note_admission(PUMP, STRANGER, now=NOW)

    assert held_back(limiter) == held_back(limiter, STRANGER) == 0
    assert refuse(limiter).retry_after == 3


def test_poll_is_told_the_same_wait_again(limiter):
    for _ in range(4):
        refuse(limiter)

    assert [limiter.current_wait(PUMP, NOW, shortest=3, longest=300) for _ in range(2)] == [24, 24]


def test_claims_cannot_delay_who_has_proven_itself(limiter):
    for _ in range(50):
        refuse(limiter, STRANGER)

    assert held_back(limiter, STRANGER) > 0
    assert held_back(limiter, PUMP) == 0


def test_flood_of_claims_makes_nothing_forgotten_of_the_proven(tmp_path):
    limiter = Limiter(tmp_path, slots=64)
    for _ in range(FREE_REFUSALS):
        refuse(limiter)

    for number in range(5000):
        refuse(limiter, Caller(1, f"invented-{number}", "198.51.100.9", is_proven=False))

    assert held_back(limiter) > 0


# --- Clocks -----------------------------------------------------------------------------------------


def test_clock_that_is_set_back_locks_nobody_out(limiter):
    for _ in range(20):
        limiter.take_poll(PUMP, NOW)
        limiter.take_registration(PUMP, NOW, per_minute=12)
        refuse(limiter)
    earlier = NOW - 86_400

    assert limiter.take_poll(PUMP, earlier) == 0
    assert limiter.take_registration(PUMP, earlier, per_minute=12) == 0
    assert held_back(limiter, now=earlier) == 0


# --- Quiet periods, and looking --------------------------------------------------------------------


def test_quiet_caller_is_held_back_from_its_first_refusal_on_and_told_the_end(limiter):
    refused = limiter.note_refusal(PUMP, NOW, epoch=1, shortest=3, longest=300, quiet_until=NOW + 3600)

    assert (refused.in_a_row, refused.retry_after) == (1, 3600)
    assert held_back(limiter, now=NOW + 10) == 3590
    assert held_back(limiter, now=NOW + 299) == 3301
    assert held_back(limiter, now=NOW + 301) == 0, "it is judged again once the longest wait is over"
    assert held_back(limiter, now=NOW + 10, epoch=2) == 0
    assert held_back(limiter, OTHER, now=NOW + 10) == 0


def test_a_quiet_period_that_is_over_leaves_ordinary_back_off(limiter):
    refused = limiter.note_refusal(PUMP, NOW, epoch=1, shortest=3, longest=300, quiet_until=NOW - 1)

    assert refused.retry_after == 3
    assert held_back(limiter, now=NOW + 1) == 0


def test_looking_tells_what_is_remembered_and_counts_nothing(limiter):
    for _ in range(FREE_REFUSALS):
        refuse(limiter)
    held_back(limiter, now=NOW + 1)

    looked = [limiter.back_off_of(PUMP) for _ in range(3)]

    assert set(looked) == {BackOff(FREE_REFUSALS, NOW + 48, unjudged=1, epoch=1, is_quiet=False)}
    assert limiter.back_off_of(OTHER) is None
    assert limiter.back_off_of(STRANGER) is None


def test_looking_makes_no_table(tmp_path):
    folder = tmp_path / "rates"

    assert Limiter(folder, slots=1024).back_off_of(PUMP) is None
    assert not folder.exists()


def test_after_an_admission_there_is_nothing_to_see(limiter):
    refuse(limiter)
    limiter.note_admission(PUMP, now=NOW)

    assert limiter.back_off_of(PUMP) is None
