"""Devices that are told to wait: each of their attempts is counted, once, and costs no write of its own (R14)."""

import random
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions import attempts_bounds, throttled_attempts
from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.enrollment_groups import disable_enrollment_group, enable_enrollment_group
from enrollments.actions.explaining import Question, explain, explain_attempt
from enrollments.actions.kept_attempts import find_attempt, is_proven, tracking_id_of_latest
from enrollments.actions.quiet_periods import start_quiet_period
from enrollments.actions.registrations import Outcome, register_device
from enrollments.actions.services import change_settings
from enrollments.actions.storms import storms
from enrollments.actions.throttled_attempts import write_down_throttled
from enrollments.errors import NotFound
from enrollments.models import Certificate, ProvisioningService, RegistrationAttempt
from enrollments.policy.back_off import FREE_REFUSALS
from enrollments.policy.reasons import Reason
from enrollments.throttling import limits
from tests.certificates import root, self_signed
from tests.chance import seeds
from tests.devices import (
    ALICE,
    PEER,
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
from tests.live import installation

pytestmark = pytest.mark.django_db
# Within one hour, and ahead of the clock; by less than tokens are good for.
NOW = (timezone.now() + timedelta(minutes=2)).replace(second=0, microsecond=0)
if NOW.minute > 40:
    NOW = (NOW + timedelta(hours=1)).replace(minute=5)
WRONG_KEY = "d3Jvbmcga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhIQ=="
WRITES = ("INSERT", "UPDATE", "DELETE")


def visit(service, device, registration_id="", seconds=0.0):
    current = ProvisioningService.objects.get(pk=service.pk)
    return register(current, device, registration_id, at=NOW + timedelta(seconds=seconds))


def kept(service, **those):
    return sum(service.attempts.filter(**those).values_list("count", flat=True))


def the_throttled(service):
    return service.attempts.get(outcome="throttled")


def let_in_at_most(service, **per_minute):
    change_settings(service, per_minute, actor=ALICE)


def refuse_writes(execute, sql, params, many, context):
    """As on a full disk: what is read is read."""
    if sql.lstrip().startswith(WRITES):
        raise OperationalError("disk is full")
    return execute(sql, params, many, context)


# --- Who comes too often ------------------------------------------------------------------------------


def test_devices_that_the_service_has_no_room_for_leave_what_was_judged(service, top):
    let_in_at_most(service, registrations_per_minute=2)
    leaves = [top.leaf(f"pump-{number}") for number in range(6)]
    answers = [visit(service, leaf) for leaf in leaves]
    write_down_throttled()

    assert [one.outcome for one in answers] == [Outcome.ASSIGNED] * 2 + [Outcome.THROTTLED] * 4
    assert kept(service) == 6
    for leaf, answer in zip(leaves[2:], answers[2:], strict=True):
        found = find_attempt(service, answer.tracking_id)
        assert found.claimed_registration_id == answer.registration_id
        assert (found.outcome, found.reason, found.entry_name) == ("throttled", "throttled", "root-a")
        assert (found.leaf_thumbprint, found.peer_address) == (leaf.parsed.thumbprint_sha256, PEER.address)
        assert found.trace[-1]["because"] == "one of them was used up, so it was told to wait"
        assert is_proven(found)
        assert tracking_id_of_latest(found) == answer.tracking_id
    known = Certificate.objects.filter(thumbprint_sha256=leaves[3].parsed.thumbprint_sha256)
    assert known.exists(), "what it proved itself with is evidence, and kept"


@pytest.mark.parametrize("mechanism", ["certificate", "own key", "key of a group"])
def test_device_that_comes_too_often_has_one_row_with_first_last_and_count(service, top, mechanism):
    if mechanism == "certificate":
        device = shows(top.leaf("pump-1"))
    elif mechanism == "own key":
        device = signs(service, "pump-1", enroll_keys(service, "pump-1").primary_key)
    else:
        device = signs(
            service, "pump-1", derived_key(enroll_key_group(service, "fleet").primary_key, "pump-1")
        )

    answers = [visit(service, device, "pump-1", seconds=0.1 * number) for number in range(40)]
    write_down_throttled()

    assert [one.outcome for one in answers].count(Outcome.ASSIGNED) == 12
    assert kept(service) == 40
    row = the_throttled(service)
    assert (row.count, row.first_at, row.last_at) == (
        28,
        NOW + timedelta(seconds=1.2),
        NOW + timedelta(seconds=3.9),
    )
    assert {find_attempt(service, one.tracking_id) for one in answers[12:]} == {row}
    told = explain_attempt(service, row).as_json()
    assert (told["verdict"], told["fails"], told["trace"][-1]["decides"]) == ("throttled", False, True)
    assert (row.peer_address, row.client) != ("", "")


def test_next_hour_has_a_row_of_its_own(service, top):
    let_in_at_most(service, device_registrations_per_minute=1)
    leaf = top.leaf("pump-1")
    for hour in (0, 3600):
        for second in range(4):
            visit(service, leaf, seconds=hour + second)
        write_down_throttled()

    assert list(service.attempts.filter(outcome="throttled").values_list("count", flat=True)) == [3, 3]


def test_what_is_written_twice_within_an_hour_is_one_row(service, top):
    let_in_at_most(service, registrations_per_minute=1)
    visit(service, top.leaf("pump-1"))
    leaf = top.leaf("pump-2")
    for second in range(3):
        visit(service, leaf, seconds=second)
        write_down_throttled()

    row = the_throttled(service)
    assert (row.count, row.last_at - row.first_at) == (3, timedelta(seconds=2))


def test_throttled_answer_writes_nothing(service, top):
    let_in_at_most(service, registrations_per_minute=1)
    visit(service, top.leaf("pump-1"))
    requests = [asks(f"pump-{number}", shows(top.leaf(f"pump-{number}")), NOW) for number in range(2, 12)]
    current = ProvisioningService.objects.get(pk=service.pk)

    with CaptureQueriesContext(connection) as taken:
        assert {register_device(current, one).outcome for one in requests} == {Outcome.THROTTLED}

    assert [one["sql"] for one in taken if not one["sql"].startswith("SELECT")] == []
    write_down_throttled()
    assert kept(service) == 11


def flood(service, top, monkeypatch, *, cause: str):
    """30 devices that the service has no room for, five of which have rows of their own. Returns their answers."""
    if cause == "hour":
        monkeypatch.setitem(attempts_bounds.MAX_PER_HOUR, "throttled", 5)
    else:
        monkeypatch.setattr(throttled_attempts._TOO_OFTEN, "_most", 5)
    let_in_at_most(service, registrations_per_minute=1)
    first, *answers = [visit(service, top.leaf(f"pump-{number}")) for number in range(31)]
    assert first.outcome is Outcome.ASSIGNED
    assert {one.outcome for one in answers} == {Outcome.THROTTLED}
    return answers


def test_flood_of_names_below_a_stolen_key_is_bounded_and_counted(service, top, monkeypatch):
    flood(service, top, monkeypatch, cause="hour")
    other = root("Root B")
    enroll_ca(service, other)
    visit(service, other.leaf("valve-1"))
    write_down_throttled()

    rows = service.attempts.filter(outcome="throttled")
    assert rows.count() == 5 + 1 + 1, "those that fit, all others, and the device of another group"
    assert (rows.get(claimed_registration_id=OVERFLOW_NAME).count, kept(service)) == (25, 32)
    assert rows.filter(claimed_registration_id="valve-1").exists()


def test_memory_is_bounded_and_what_is_crowded_out_is_counted(service, top, monkeypatch):
    flood(service, top, monkeypatch, cause="memory")

    assert len(throttled_attempts._TOO_OFTEN._counts) == 6
    write_down_throttled()

    assert kept(service) == 31
    assert kept(service, claimed_registration_id=OVERFLOW_NAME) == 25


def test_what_cannot_be_written_is_kept_and_what_was_is_not_written_again(service, top, monkeypatch):
    """They are written in portions, so that others who write wait for no more than one."""
    monkeypatch.setattr(throttled_attempts._TOO_OFTEN, "_portion", 4)
    let_in_at_most(service, registrations_per_minute=1)
    for number in range(11):
        visit(service, top.leaf(f"pump-{number}"))
    able, written = throttled_attempts._TOO_OFTEN._write, []

    def write(counts):
        written.append(len(counts))
        if len(written) == 2:
            raise OperationalError("disk is full")
        able(counts)

    monkeypatch.setattr(throttled_attempts._TOO_OFTEN, "_write", write)
    assert not throttled_attempts._TOO_OFTEN.write_down_or_say()
    assert (kept(service), throttled_attempts._TOO_OFTEN.waiting) == (5, 6)

    write_down_throttled()

    assert (written, kept(service)) == ([4, 4, 4, 2], 11)
    assert set(service.attempts.values_list("count", flat=True)) == {1}


@pytest.mark.parametrize("cause", ["hour", "memory"])
def test_each_tracking_id_of_a_flood_leads_to_the_row_that_counts_it(service, top, monkeypatch, cause):
    answers = flood(service, top, monkeypatch, cause=cause)
    write_down_throttled()

    others = service.attempts.get(claimed_registration_id=OVERFLOW_NAME)
    found = [find_attempt(service, one.tracking_id) for one in answers]
    assert [row.claimed_registration_id for row in found[:5]] == [one.registration_id for one in answers[:5]]
    assert found[5:] == [others] * 25
    for answer in answers[5:]:
        told = explain(service, Question(tracking_id=answer.tracking_id.upper()))
        assert (told.tracking_id, told.reason, told.is_latest) == (
            answer.tracking_id,
            Reason.THROTTLED,
            False,
        )
        assert told.basis.startswith("one of 25 attempts with this cause from ")
        assert "which it was and the steps of its decision are not kept" in told.basis
        assert told.steps == (), "those that are kept may be of another device"
        assert "pump" not in str(told.as_json())


@pytest.mark.parametrize("cause", ["hour", "memory"])
def test_r1_tracking_id_of_a_flood_leads_nowhere_in_another_service_with_a_flood_of_its_own(
    service, top, monkeypatch, cause
):
    answers = flood(service, top, monkeypatch, cause=cause)
    elsewhere = new_service("elsewhere")
    enroll_ca(elsewhere, top)
    flood(elsewhere, top, monkeypatch, cause=cause)
    write_down_throttled()

    assert elsewhere.attempts.filter(claimed_registration_id=OVERFLOW_NAME).exists()
    assert {find_attempt(elsewhere, one.tracking_id) for one in answers} == {None}


def test_tracking_id_of_a_flood_below_one_key_leads_not_to_the_others_of_another(service, top, monkeypatch):
    answers = flood(service, top, monkeypatch, cause="hour")
    other = root("Root B")
    enroll_ca(service, other)
    of_other = [visit(service, other.leaf(f"valve-{number}")) for number in range(9)]
    write_down_throttled()

    rows = service.attempts.filter(claimed_registration_id=OVERFLOW_NAME).order_by("pk")
    assert [(row.entry_name, row.count) for row in rows] == [("root-a", 25), ("root-b", 4)]
    assert [find_attempt(service, one[-1].tracking_id) for one in (answers, of_other)] == [*rows]


def test_of_devices_crowded_out_of_memory_it_is_not_told_that_they_were_not_judged(service, top, monkeypatch):
    flood(service, top, monkeypatch, cause="memory")
    write_down_throttled()

    (step,) = service.attempts.get(claimed_registration_id=OVERFLOW_NAME).trace
    assert step["because"].endswith("it is not kept whether it was judged")


def test_tracking_id_that_several_answers_share_is_not_said_to_be_of_the_latest(service, top):
    let_in_at_most(service, device_registrations_per_minute=1)
    leaf = top.leaf("pump-1")
    answers = [visit(service, leaf, seconds=second) for second in range(4)][1:]
    write_down_throttled()

    told = explain(service, Question(tracking_id=answers[0].tracking_id))
    assert (told.is_latest, told.attempt.count) == (False, 3)
    assert told.basis.startswith("one of 3 such attempts from ")
    assert told.steps != ()


def test_row_of_many_that_counts_one_by_now_is_not_taken_for_the_one_that_is_asked_for(
    service, top, monkeypatch
):
    """Of that one it may be written later: what is kept may be of another device."""
    answers = flood(service, top, monkeypatch, cause="hour")
    write_down_throttled()
    service.attempts.filter(claimed_registration_id=OVERFLOW_NAME).update(count=1)

    told = explain(service, Question(tracking_id=answers[-1].tracking_id))

    assert (told.is_of_another, told.is_latest, told.steps, told.entry_words) == (True, False, (), "")
    assert told.basis.startswith("one of 1 attempt with this cause from ")


def test_answer_that_is_not_written_yet_is_said_to_be_found_later(service, top):
    let_in_at_most(service, device_registrations_per_minute=1)
    leaf = top.leaf("pump-1")
    answer = [visit(service, leaf) for _ in range(2)][-1]

    with pytest.raises(NotFound, match="told an admitted device to wait is found a few seconds later"):
        explain(service, Question(tracking_id=answer.tracking_id))
    write_down_throttled()
    assert explain(service, Question(tracking_id=answer.tracking_id)).registration_id == "pump-1"


def test_tracking_id_leads_nowhere_in_another_service(service, top):
    let_in_at_most(service, device_registrations_per_minute=1)
    leaf = top.leaf("pump-1")
    given = [visit(service, leaf) for _ in range(2)][-1].tracking_id
    write_down_throttled()

    assert find_attempt(service, given) == the_throttled(service)
    assert find_attempt(new_service("elsewhere"), given) is None


# --- Who was refused and does not wait ---------------------------------------------------------------------


REFUSED = ["stranger", "disabled", "wrong token", "no longer a right token"]


def refused_device(service, top, kind):
    if kind == "stranger":
        return shows(self_signed("pump-1"))
    if kind == "disabled":
        disable_enrollment_group(service, "root-a", actor=ALICE)
        return shows(top.leaf("pump-1"))
    enrolled = enroll_keys(service, "pump-1", enabled=kind == "wrong token")
    return signs(service, "pump-1", WRONG_KEY if kind == "wrong token" else enrolled.primary_key)


@pytest.mark.parametrize("kind", REFUSED)
def test_storms_and_attempts_agree_though_the_device_never_comes_again(service, top, kind):
    device = refused_device(service, top, kind)
    for second in range(200):
        visit(service, device, "pump-1", seconds=second)

    def in_storms():
        at = NOW + timedelta(seconds=200)
        return [one.times for one in storms(service, window=timedelta(hours=1), at=at).shown]

    assert in_storms() == [200]
    assert kept(service) < 200
    write_down_throttled()
    assert (in_storms(), kept(service)) == ([200], 200)
    limits._limiter.cache_clear()
    (row,) = service.attempts.all()
    assert (row.first_at, row.last_at) == (NOW, NOW + timedelta(seconds=199))


def test_storms_find_who_has_been_held_back_since_an_earlier_hour(service):
    change_settings(service, {"longest_retry_after_seconds": 86_400}, actor=ALICE)
    stranger, seconds = self_signed("pump-1"), 0
    for _ in range(13):
        refused_at = seconds
        seconds += visit(service, stranger, seconds=seconds).retry_after
    last = refused_at + 2 * 3600
    assert visit(service, stranger, seconds=last).outcome is Outcome.THROTTLED
    write_down_throttled()

    at = NOW + timedelta(seconds=last + 60)
    service.refresh_from_db()
    (storm,) = storms(service, window=timedelta(minutes=5), at=at).shown
    assert storm.last_at == NOW + timedelta(seconds=last)


def test_tries_before_an_admission_are_counted_as_refused(service, top):
    disable_enrollment_group(service, "root-a", actor=ALICE)
    leaf = top.leaf("pump-1")
    for _ in range(FREE_REFUSALS + 20):
        visit(service, leaf)
    enable_enrollment_group(service, "root-a", actor=ALICE)
    assert visit(service, leaf, seconds=1).outcome is Outcome.ASSIGNED
    write_down_throttled()

    assert kept(service, outcome="disabled") == FREE_REFUSALS + 20
    assert kept(service) == FREE_REFUSALS + 21


def test_nothing_is_lost_where_others_have_no_row_of_their_own(service, monkeypatch):
    monkeypatch.setitem(attempts_bounds.MAX_PER_HOUR, "refused", 0)
    stranger = self_signed("pump-1")
    for _ in range(FREE_REFUSALS + 9):
        visit(service, stranger)
    write_down_throttled()

    assert kept(service) == FREE_REFUSALS + 9
    assert set(service.attempts.values_list("claimed_registration_id", flat=True)) == {OVERFLOW_NAME}


def test_who_is_crowded_out_of_memory_stays_counted_by_the_limiter(service, monkeypatch):
    monkeypatch.setattr(throttled_attempts._HELD_BACK, "_most", 1)
    strangers = [self_signed(f"pump-{number}") for number in range(3)]
    for stranger in strangers:
        for _ in range(FREE_REFUSALS + 2):
            visit(service, stranger)
    write_down_throttled()
    assert kept(service) == 3 * FREE_REFUSALS + 2

    for stranger in strangers:
        visit(service, stranger)
        write_down_throttled()

    assert kept(service) == 3 * (FREE_REFUSALS + 3)


def test_answer_within_a_quiet_period_leads_to_its_attempt(service):
    stranger = self_signed("pump-1")
    visit(service, stranger)
    start_quiet_period(service, service.attempts.get(), timedelta(days=1), actor=ALICE)

    answer = visit(service, stranger, seconds=10)

    assert answer.outcome is Outcome.THROTTLED
    assert find_attempt(service, answer.tracking_id) == service.attempts.get()


@pytest.mark.parametrize("kind", ["stranger", "wrong token"])
def test_r3_who_has_proven_nothing_hears_the_same_whether_the_name_is_enrolled_and_throttled(
    service, top, kind
):
    let_in_at_most(service, device_registrations_per_minute=1)
    real = top.leaf("pump-1")
    for _ in range(3):
        visit(service, real)

    def hears(name):
        device = shows(self_signed(name)) if kind == "stranger" else signs(service, name, WRONG_KEY)
        answers = [visit(service, device, name) for _ in range(FREE_REFUSALS + 2)]
        return [(one.outcome, one.retry_after, bool(one.tracking_id)) for one in answers]

    assert hears("pump-1") == hears("pump-2")
    assert hears("pump-3")[-1] == (Outcome.THROTTLED, 48, False)


# --- Each is counted once ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(0, 6))
def test_each_attempt_is_counted_once_whatever_happens(service, top, monkeypatch, seed):
    """Devices of all kinds, time, changes of the service, writes, writes that fail, small memory: in any order."""
    chance = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(throttled_attempts._TOO_OFTEN, "_most", 2)
        monkeypatch.setattr(throttled_attempts._HELD_BACK, "_most", 2)
    let_in_at_most(service, registrations_per_minute=20, device_registrations_per_minute=3)
    devices = {
        "pump-1": shows(top.leaf("pump-1")),
        "pump-2": shows(self_signed("pump-2")),
        "pump-3": signs(service, "pump-3", enroll_keys(service, "pump-3").primary_key),
        "pump-4": signs(service, "pump-4", WRONG_KEY),
        "pump-5": shows(top.leaf("pump-5")),
    }
    happened, seconds, tracking_ids = 0, 0.0, set()
    for _ in range(160):
        step = chance.choices(
            ["visit", "wait", "write", "cannot write", "disable", "enable"], [14, 3, 2, 2, 1, 1]
        )[0]
        if step == "visit":
            name = chance.choice(list(devices))
            for _ in range(chance.choice([1, 4, 8])):
                tracking_ids.add(visit(service, devices[name], name, seconds).tracking_id)
                happened, seconds = happened + 1, seconds + 0.01
        elif step == "wait":
            seconds += chance.choice([1, 10, 100])
        elif step == "write":
            write_down_throttled()
        elif step == "cannot write":
            with connection.execute_wrapper(refuse_writes):
                throttled_attempts._HELD_BACK.write_down_or_say()
                throttled_attempts._TOO_OFTEN.write_down_or_say()
        elif step == "disable":
            disable_enrollment_group(service, "root-a", actor=ALICE)
        else:
            enable_enrollment_group(service, "root-a", actor=ALICE)

    write_down_throttled()
    # Who was crowded out of the memory is remembered when it comes again.
    for name, device in devices.items():
        visit(service, device, name, seconds)
        write_down_throttled()
    assert kept(service) == happened + len(devices)
    given = tracking_ids - {""}
    assert [one for one in given if find_attempt(service, one) is None] == []
    assert RegistrationAttempt.objects.filter(outcome="throttled").exists()


def test_a_process_that_is_stopped_writes_what_it_has_counted(tmp_path):
    """A real listener, and a stranger that is held back a moment before the stop."""
    with installation(tmp_path) as live:
        live.start("device")
        code = ASK.format(url=live.device_url, scope=live.id_scope, ca=str(live.ca_file))
        live.python(code)
        counted = "SELECT SUM(count) AS counted FROM enrollments_registrationattempt"
        live.stop_in_order("device")

        assert live.rows(counted) == [{"counted": 12}]


ASK = """
import ssl, urllib.error, urllib.request
context = ssl.create_default_context(cafile={ca!r})
told = []
for _ in range(12):
    request = urllib.request.Request(
        "{url}/{scope}/registrations/pump-1/register?api-version=2021-06-01",
        data=b'{{"registrationId": "pump-1"}}', method="PUT", headers={{"Content-Type": "application/json"}}
    )
    try:
        urllib.request.urlopen(request, context=context)
    except urllib.error.HTTPError as refused:
        told.append(refused.code)
assert told == [401] * 5 + [429] * 7, told
"""
