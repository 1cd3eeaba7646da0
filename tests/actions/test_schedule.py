"""Time-boxed changes: which way a switch stands on each side of its deadline, whoever is there to notice (R12, R15)."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import timezone as zone

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from enrollments.actions import registrations
from enrollments.actions import schedule as schedules
from enrollments.actions.enrollment_groups import (
    cancel_group_schedule,
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    cancel_enrollment_schedule,
    change_individual_enrollment,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.judging import judge
from enrollments.actions.preview import Act, Effect, below_others, carry_out, preview_of, preview_of_act
from enrollments.actions.registrations import Outcome, look_up_registration, poll_operation, register_device
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import Span, settle_due, settle_if_possible
from enrollments.attestation.credential import PresentedCredential
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid, PreviewOutdated
from enrollments.hubs import CONNECTORS
from enrollments.models import (
    EnrollmentGroup,
    HistoryEvent,
    HubDevice,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    Slot,
)
from enrollments.policy.decision import Verdict
from tests.actions.test_r12_at_once import PATIENCE, Pause, finish, in_thread
from tests.actions.test_rules_of_assignment import RemoteHub
from tests.actions.test_tpm import TpmDevice, enroll_tpm
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    asks,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    new_service,
    register,
    shows,
    signs,
)
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, AT, AFTER = timedelta(seconds=-1), timedelta(0), timedelta(days=2)


@pytest.fixture
def deadline(database_clock):
    return database_clock.ahead(hours=1)


def rows_by_schedule() -> list[HistoryEvent]:
    return list(HistoryEvent.objects.filter(way="schedule").order_by("id"))


# --- Each side of the deadline ---------------------------------------------------------------------


@dataclass
class Case:
    """An entry that decides about a device: how its switch is set, and how the device asks."""

    disable: Callable[..., object]
    enable: Callable[..., object]
    ask: Callable[[], Outcome]


def individual_with_certificate(service) -> Case:
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    return _individual_case(service, lambda: register(service, leaf).outcome)


def individual_with_keys(service) -> Case:
    entry = enroll_keys(service, "pump-042")
    device = signs(service, "pump-042", entry.primary_key)
    return _individual_case(service, lambda: register(service, device, "pump-042").outcome)


def individual_with_tpm(service) -> Case:
    tpm = SoftTpm()
    enroll_tpm(service, tpm)

    def ask() -> Outcome:
        device = TpmDevice(service, tpm)
        device.challenge()
        return device.prove().outcome

    return Case(
        lambda **when: disable_enrollment(service, "press-01", actor=ALICE, **when),
        lambda **when: enable_enrollment(service, "press-01", actor=ALICE, **when),
        ask,
    )


def individual_below_a_group(service) -> Case:
    """R5: the entry shuts out, or lets in, one device of an enrolled batch."""
    top = root("Root A")
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    enroll_device(service, leaf)
    return _individual_case(service, lambda: register(service, leaf).outcome)


def key_of_a_disabled_individual(service) -> Case:
    """R6: its key is barred under another name, below an enabled group."""
    top = root("Root A")
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    enroll_device(service, leaf)
    other = top.leaf("pump-043", key=leaf.key)
    return _individual_case(service, lambda: register(service, other).outcome)


def group(service) -> Case:
    top = root("Root A")
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    return _group_case(service, "root-a", lambda: register(service, leaf).outcome)


def group_below_another(service) -> Case:
    """R7: disabled, it bars although an enabled group stands above it."""
    top = root("Root A")
    line = top.intermediate("Line")
    enroll_ca(service, top)
    enroll_ca(service, line)
    leaf = line.leaf("pump-042")
    return _group_case(service, "line", lambda: register(service, leaf).outcome)


def group_with_keys(service) -> Case:
    group = enroll_key_group(service)
    device = signs(service, "pump-042", derived_key(group.primary_key, "pump-042"))
    return _group_case(service, "line-9", lambda: register(service, device, "pump-042").outcome)


def _individual_case(service, ask) -> Case:
    return Case(
        lambda **when: disable_enrollment(service, "pump-042", actor=ALICE, **when),
        lambda **when: enable_enrollment(service, "pump-042", actor=ALICE, **when),
        ask,
    )


def _group_case(service, group_id, ask) -> Case:
    return Case(
        lambda **when: disable_enrollment_group(service, group_id, actor=ALICE, **when),
        lambda **when: enable_enrollment_group(service, group_id, actor=ALICE, **when),
        ask,
    )


CASES = pytest.mark.parametrize(
    "make",
    [
        individual_with_certificate,
        individual_with_keys,
        individual_with_tpm,
        individual_below_a_group,
        key_of_a_disabled_individual,
        group,
        group_below_another,
        group_with_keys,
    ],
)
# The three ways to set a time, with which way the switch then stands before it.
WAYS = pytest.mark.parametrize(
    ("way", "open_before"), [("disable until", False), ("enable until", True), ("disable at", True)]
)


def set_time(case: Case, way: str, deadline: datetime) -> None:
    if way == "disable until":
        case.disable(until=deadline, reason="audit")
    elif way == "enable until":
        case.disable()
        case.enable(until=deadline)
    else:
        case.disable(at=deadline, reason="audit")


@CASES
@WAYS
@pytest.mark.parametrize("moment", [BEFORE, AT, AFTER], ids=["before", "at", "long after"])
def test_switch_turns_at_its_time_with_nobody_there_to_turn_it(
    service, database_clock, deadline, make, way, open_before, moment
):
    case = make(service)
    set_time(case, way, deadline)

    database_clock.set_to(deadline + moment)

    is_open = open_before if moment == BEFORE else not open_before
    assert case.ask() is (Outcome.ASSIGNED if is_open else Outcome.DISABLED)
    assert len(rows_by_schedule()) == (0 if moment == BEFORE else 1)


@WAYS
def test_switch_turns_once(service, database_clock, deadline, way, open_before):
    case = group(service)
    set_time(case, way, deadline)

    database_clock.set_to(deadline)
    first = case.ask()
    database_clock.set_to(deadline + timedelta(days=365))

    assert first is (Outcome.DISABLED if open_before else Outcome.ASSIGNED)
    assert case.ask() is first
    assert len(rows_by_schedule()) == 1
    entry = EnrollmentGroup.objects.get()
    assert (entry.enabled, entry.switches_at, entry.scheduled_by) == (not open_before, None, "")


def test_other_services_and_entries_are_left_alone(service, database_clock, deadline):
    other = new_service("lab")
    top = root("Root A")
    for one in (service, other):
        enroll_ca(one, top)
    enroll_ca(service, root("Root B"))
    disable_enrollment_group(service, "root-a", at=deadline, actor=ALICE)

    database_clock.set_to(deadline)

    assert register(service, top.leaf("pump-1")).outcome is Outcome.DISABLED
    assert register(other, top.leaf("pump-1")).outcome is Outcome.ASSIGNED
    assert EnrollmentGroup.objects.filter(enabled=False).count() == 1


# --- Which clock -----------------------------------------------------------------------------------


def test_time_that_counts_is_that_of_the_database_and_not_that_of_the_request(
    service, database_clock, deadline
):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    disable_enrollment(service, "pump-042", at=deadline, actor=ALICE)

    late = register(service, leaf, at=deadline + timedelta(hours=1))
    database_clock.set_to(deadline)
    early = register(service, leaf, at=deadline - timedelta(hours=1))

    assert (late.outcome, early.outcome) == (Outcome.ASSIGNED, Outcome.DISABLED)


def test_dates_of_certificates_go_by_the_time_of_the_request(service, database_clock):
    top = root("Root A")
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")

    database_clock.set_to(database_clock.ahead(days=36500))

    assert register(service, leaf).outcome is Outcome.ASSIGNED


def test_real_clock_is_the_one_of_the_database(service):
    with connection.cursor() as cursor:
        sql = "SELECT CURRENT_TIMESTAMP"
        cursor.execute(sql)
        before = cursor.fetchone()[0]
        now = ProvisioningService.what_decisions_read(service.pk).now
        cursor.execute(sql)
        after = cursor.fetchone()[0]

    if connection.vendor == "sqlite":  # to the second
        before, after = (datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (before, after))
    assert before <= now < after + timedelta(seconds=1)
    assert now.utcoffset() == timedelta(0)
    assert abs(now - timezone.now()) < timedelta(minutes=1)


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="elsewhere no function names the transaction's time"
)
def test_real_clock_goes_on_within_a_transaction(service):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    register(service, leaf)

    with transaction.atomic():
        times = [ProvisioningService.epoch_and_time(service.pk)[1] for _ in range(3)]
        at_the_record = RegistrationRecord.at_this_moment(service.pk, "pump-042")[2]

    assert times[0] < times[1] < times[2] < at_the_record


@pytest.mark.parametrize("seconds", [-1, 3600], ids=["passed", "to come"])
def test_real_clock_decides(service, seconds):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    IndividualEnrollment.objects.update(
        switches_at=timezone.now() + timedelta(seconds=seconds), scheduled_by="alice"
    )

    assert register(service, leaf).outcome is (Outcome.DISABLED if seconds < 0 else Outcome.ASSIGNED)


def test_times_are_moments_and_no_wall_clock_of_a_place(service, database_clock):
    """02:30 exists twice where summer time ends; with its offset it is one moment."""
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    database_clock.set_to(datetime(2027, 10, 30, 12, tzinfo=UTC))
    second = datetime(2027, 10, 31, 2, 30, tzinfo=zone(timedelta(hours=1)))
    disable_enrollment(service, "pump-042", at=second, actor=ALICE)

    database_clock.set_to(datetime(2027, 10, 31, 0, 30, tzinfo=UTC))  # 02:30 for the first time
    first_time = register(service, leaf).outcome
    database_clock.set_to(datetime(2027, 10, 31, 1, 30, tzinfo=UTC))  # and for the second

    assert first_time is Outcome.ASSIGNED
    assert register(service, leaf).outcome is Outcome.DISABLED
    assert rows_by_schedule()[0].before["until"] == "2027-10-31 01:30:00 UTC"


# --- The history, once -----------------------------------------------------------------------------


def test_row_says_who_scheduled_it_why_and_when_it_was_due(service, database_clock, deadline):
    enroll_ca(service, root("Root A"))
    disable_enrollment_group(service, "root-a", until=deadline, actor=ALICE, reason="ticket 4711")
    by_hand = HistoryEvent.objects.get(event="group.disabled")

    database_clock.set_to(deadline)
    assert settle_due(service) == 1

    (row,) = rows_by_schedule()
    until = f"{deadline:%Y-%m-%d %H:%M:%S} UTC"
    assert (by_hand.before, by_hand.after) == (
        {"status": "enabled"},
        {"status": "disabled", "until": until},
    )
    assert (row.event, row.actor_kind, row.actor_name) == ("group.enabled", "schedule", "alice")
    assert (row.reason, row.subject_name, row.address) == ("ticket 4711", "root-a", "")
    assert (row.before, row.after) == ({"status": "disabled", "until": until}, {"status": "enabled"})


def test_what_is_due_at_once_is_written_in_the_order_in_which_it_was_due(service, database_clock, deadline):
    for name, minutes in (("b", 2), ("a", 1), ("c", 3)):
        enroll_keys(service, name)
        disable_enrollment(service, name, at=deadline + timedelta(minutes=minutes), actor=ALICE)
    enroll_ca(service, root("G"))
    disable_enrollment_group(service, "g", at=deadline, actor=ALICE)

    database_clock.set_to(deadline + timedelta(minutes=2))

    assert settle_due(service) == 3
    assert [row.subject_name for row in rows_by_schedule()] == ["g", "a", "b"]
    assert IndividualEnrollment.objects.by_registration_id("c").enabled


def test_more_than_one_transaction_holds_are_all_turned(service, database_clock, deadline, monkeypatch):
    monkeypatch.setattr(schedules, "BATCH", 2)
    for number in range(5):
        enroll_keys(service, f"pump-{number}")
        disable_enrollment(service, f"pump-{number}", at=deadline, actor=ALICE)

    database_clock.set_to(deadline)

    assert settle_due(service) == 5
    assert len(rows_by_schedule()) == 5


def test_two_workers_that_both_see_the_deadline_write_one_row(service, database_clock, deadline, monkeypatch):
    """Both have read that the switch is due before either of them has the lock."""
    top = root("Root A")
    enroll_ca(service, top)
    leaves = [top.leaf(f"pump-{number}") for number in range(2)]
    disable_enrollment_group(service, "root-a", at=deadline, actor=ALICE)
    epoch = ProvisioningService.epoch_of(service.pk)
    both = threading.Barrier(2)
    settle_some = schedules._settle_some

    def together(service):
        both.wait(PATIENCE)
        return settle_some(service)

    monkeypatch.setattr(schedules, "_settle_some", together)
    database_clock.set_to(deadline)
    threads = [in_thread(lambda leaf=leaf: register(service, leaf).outcome) for leaf in leaves]
    finish(*(thread for thread, _ in threads))

    assert [results for _, results in threads] == [[Outcome.DISABLED]] * 2
    assert len(rows_by_schedule()) == 1
    assert ProvisioningService.epoch_of(service.pk) == epoch + 1


def test_many_workers_of_every_kind_at_one_deadline_write_one_row_for_each_entry(
    service, database_clock, deadline
):
    top, other = root("Root A"), root("Root B")
    enroll_ca(service, top)
    enroll_ca(service, other)
    leaves = [top.leaf(f"pump-{number}") for number in range(3)]
    operation = register(service, leaves[0]).operation_id
    disable_enrollment_group(service, "root-a", at=deadline, actor=ALICE)
    disable_enrollment_group(service, "root-b", until=deadline, actor=ALICE)

    database_clock.set_to(deadline)
    work = [
        *(lambda leaf=leaf: register(service, leaf).outcome for leaf in leaves),
        lambda: poll_operation(service, operation, asks("pump-0", shows(leaves[0]))).outcome,
        lambda: settle_due(service),
        lambda: settle_due(service),
    ]
    threads = [in_thread(one) for one in work]
    finish(*(thread for thread, _ in threads))

    assert [results[0] for _, results in threads[:4]] == [Outcome.DISABLED] * 4
    assert sorted(row.event for row in rows_by_schedule()) == ["group.disabled", "group.enabled"]


@pytest.mark.parametrize("way", ["at", "until"])
def test_everything_is_down_when_the_time_comes(service, database_clock, deadline, way):
    top = root("Root A")
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    operation = register(service, leaf).operation_id
    disable_enrollment_group(service, "root-a", actor=ALICE, **{way: deadline})

    connection.close()
    database_clock.set_to(deadline + timedelta(days=3))

    expected = Outcome.DISABLED if way == "at" else Outcome.ASSIGNED
    assert poll_operation(service, operation, asks("pump-042", shows(leaf))).outcome is expected
    assert register(service, leaf).outcome is expected
    (row,) = rows_by_schedule()
    assert row.before["until"] == f"{deadline:%Y-%m-%d %H:%M:%S} UTC"


# --- No record, no action; and in doubt, shut ------------------------------------------------------


@pytest.fixture
def full_history_later():
    """Called, the history takes no row any more, until what was given back is called."""
    patch = pytest.MonkeyPatch()

    def full(*_args, **_kwargs):
        raise DatabaseError("disk full")

    def fill() -> Callable[[], None]:
        patch.setattr(HistoryEvent.objects, "create", full)
        return patch.undo

    yield fill
    patch.undo()


@CASES
def test_disabling_that_cannot_be_recorded_keeps_out_all_the_same(
    service, database_clock, deadline, full_history_later, caplog, make
):
    case = make(service)
    case.ask()
    case.disable(at=deadline)
    again = full_history_later()
    database_clock.set_to(deadline)

    assert case.ask() is Outcome.DISABLED
    assert not rows_by_schedule()
    assert "could not be written into the history" in caplog.text

    again()
    assert case.ask() is Outcome.DISABLED
    assert len(rows_by_schedule()) == 1


@CASES
def test_enabling_that_cannot_be_recorded_does_not_happen(
    service, database_clock, deadline, full_history_later, make
):
    case = make(service)
    case.disable(until=deadline)
    again = full_history_later()
    database_clock.set_to(deadline)

    assert case.ask() is Outcome.DISABLED
    assert not rows_by_schedule()

    again()
    assert case.ask() is Outcome.ASSIGNED
    assert len(rows_by_schedule()) == 1


def test_settling_that_fails_changes_nothing_and_says_so(
    service, database_clock, deadline, full_history_later
):
    enroll_ca(service, root("Root A"))
    disable_enrollment_group(service, "root-a", at=deadline, actor=ALICE)
    before = EnrollmentGroup.objects.values().get(), ProvisioningService.epoch_of(service.pk)
    full_history_later()
    database_clock.set_to(deadline)

    with pytest.raises(DatabaseError):
        settle_due(service)

    assert settle_if_possible(service) is False
    assert (EnrollmentGroup.objects.values().get(), ProvisioningService.epoch_of(service.pk)) == before


# --- At once (R12) ---------------------------------------------------------------------------------


class Running:
    """A device that is admitted by a group until the deadline."""

    def __init__(self, service, deadline) -> None:
        self.service, self.deadline = service, deadline
        self.top = root("Root A")
        self.leaf = self.top.leaf("pump-042")
        enroll_ca(service, self.top)

    def schedule(self) -> None:
        disable_enrollment_group(self.service, "root-a", at=self.deadline, actor=ALICE)

    def ask(self):
        return asks("pump-042", shows(self.leaf))


@pytest.fixture
def running(service, deadline):
    return Running(service, deadline)


def test_registration_that_was_judged_before_the_deadline_is_judged_again_after_it(
    running, database_clock, monkeypatch
):
    running.schedule()
    pause = Pause()
    monkeypatch.setattr(registrations, "_judge", pause.after(registrations._judge))

    thread, results = in_thread(lambda: register_device(running.service, running.ask()))
    assert pause.reached.wait(PATIENCE)
    epoch = ProvisioningService.epoch_of(running.service.pk)
    database_clock.set_to(running.deadline)
    still_unsettled = ProvisioningService.epoch_of(running.service.pk) == epoch and not rows_by_schedule()
    pause.go_on.set()
    finish(thread)

    assert still_unsettled
    assert results[0].outcome is Outcome.DISABLED
    assert not HubDevice.objects.exists()


def test_so_is_one_whose_deadline_cannot_be_recorded(
    running, database_clock, monkeypatch, full_history_later
):
    running.schedule()
    pause = Pause()
    monkeypatch.setattr(registrations, "_judge", pause.after(registrations._judge))

    thread, results = in_thread(lambda: register_device(running.service, running.ask()))
    assert pause.reached.wait(PATIENCE)
    full_history_later()
    database_clock.set_to(running.deadline)
    pause.go_on.set()
    finish(thread)

    assert results[0].outcome is Outcome.DISABLED
    assert not HubDevice.objects.exists()


def test_deadline_between_two_others_is_seen_while_the_first_cannot_be_recorded(
    running, database_clock, monkeypatch, full_history_later
):
    """What is due and what is to come are told apart: the judgement holds until the next of them."""
    enroll_keys(running.service, "other")
    disable_enrollment(running.service, "other", at=running.deadline - timedelta(minutes=30), actor=ALICE)
    running.schedule()
    full_history_later()
    database_clock.set_to(running.deadline - timedelta(minutes=10))
    pause = Pause()
    monkeypatch.setattr(registrations, "_judge", pause.after(registrations._judge))

    thread, results = in_thread(lambda: register_device(running.service, running.ask()))
    assert pause.reached.wait(PATIENCE)
    database_clock.set_to(running.deadline)
    pause.go_on.set()
    finish(thread)

    assert results[0].outcome is Outcome.DISABLED


@pytest.mark.parametrize("step", ["assign", "count_attempt"])
def test_deadline_within_the_lock_ends_what_was_given(running, database_clock, step, monkeypatch):
    running.schedule()
    pause = Pause()
    monkeypatch.setattr(registrations, step, pause.after(getattr(registrations, step)))

    thread, results = in_thread(lambda: register_device(running.service, running.ask()))
    assert pause.reached.wait(PATIENCE)
    database_clock.set_to(running.deadline)
    pause.go_on.set()
    finish(thread)

    assert results[0].outcome is Outcome.ASSIGNED
    assert poll_operation(running.service, results[0].operation_id, running.ask()).outcome is Outcome.DISABLED
    assert look_up_registration(running.service, running.ask()).outcome is Outcome.DISABLED
    assert register(running.service, running.leaf).outcome is Outcome.DISABLED


@pytest.mark.parametrize("question", ["poll", "look-up"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not recorded"])
def test_deadline_while_a_poll_is_being_judged(
    running, database_clock, question, moment, recorded, monkeypatch, full_history_later
):
    operation = register(running.service, running.leaf).operation_id
    running.schedule()
    # Judged once more, so that the result rests on the present epoch and could be told as it is.
    register(running.service, running.leaf)
    ask = {
        "poll": lambda: poll_operation(running.service, operation, running.ask()),
        "look-up": lambda: look_up_registration(running.service, running.ask()),
    }[question]
    pause = Pause()
    monkeypatch.setattr(registrations, "_told", getattr(pause, moment)(registrations._told))

    thread, results = in_thread(ask)
    assert pause.reached.wait(PATIENCE)
    if not recorded:
        full_history_later()
    database_clock.set_to(running.deadline)
    pause.go_on.set()
    finish(thread)

    assert results[0].outcome is Outcome.DISABLED


@pytest.mark.parametrize("ask", ["poll", "look up"])
def test_result_from_before_the_deadline_is_not_told_after_it(running, database_clock, ask):
    operation = register(running.service, running.leaf).operation_id
    running.schedule()
    told = poll_operation(running.service, operation, running.ask())

    database_clock.set_to(running.deadline)

    assert told.outcome is Outcome.ASSIGNED
    if ask == "poll":
        assert poll_operation(running.service, operation, running.ask()).outcome is Outcome.DISABLED
    else:
        assert look_up_registration(running.service, running.ask()).outcome is Outcome.DISABLED


@pytest.mark.parametrize("passes", [True, False], ids=["passes", "stands still"])
def test_deadline_while_a_remote_hub_answers(running, database_clock, passes, monkeypatch):
    hub = RemoteHub()
    monkeypatch.setitem(CONNECTORS, "remote", hub)
    running.service.hubs.update(kind="remote")
    running.schedule()
    if passes:
        hub.meanwhile = lambda: database_clock.set_to(running.deadline)

    answer = register(running.service, running.leaf)

    assert answer.outcome is (Outcome.DISABLED if passes else Outcome.ASSIGNED)
    assert bool(hub.identities) is not passes


def test_deadline_between_the_last_judgement_and_the_end_of_a_remote_assignment(
    running, database_clock, monkeypatch
):
    hub = RemoteHub()
    monkeypatch.setitem(CONNECTORS, "remote", hub)
    running.service.hubs.update(kind="remote")
    running.schedule()
    judge_, asked = registrations._judge, []

    def passes_after_the_second(service, request, standing=None):
        judgement = judge_(service, request, standing)
        asked.append(1)
        if len(asked) == 2:
            database_clock.set_to(running.deadline)
        return judgement

    monkeypatch.setattr(registrations, "_judge", passes_after_the_second)

    assert register(running.service, running.leaf).outcome is Outcome.DISABLED
    assert hub.identities == {}


def test_judgement_under_the_lock_writes_no_row_and_admits_nobody_who_is_due_to_be_shut_out(
    running, database_clock, monkeypatch
):
    """Changes come so fast that it is judged under the lock, where nobody can settle; the deadline passes there."""
    running.schedule()
    judge_ = registrations._judge
    rounds = []

    def disturbed(service, request, standing=None):
        if connection.in_atomic_block:
            database_clock.set_to(running.deadline)
            return judge_(service, request, standing)
        judgement = judge_(service, request, standing)
        ProvisioningService.objects.get(pk=service.pk).raise_epoch()
        rounds.append(1)
        return judgement

    monkeypatch.setattr(registrations, "_judge", disturbed)

    assert register_device(running.service, running.ask()).outcome is Outcome.DISABLED
    assert len(rounds) == registrations.MAX_ROUNDS
    assert not rows_by_schedule()


def test_pending_times_cost_a_registration_no_further_query(running):
    def queries() -> int:
        register(
            running.service, running.leaf
        )  # on the present epoch, so that the next one is like all others
        counted = _Count()
        with connection.execute_wrapper(counted):
            register(running.service, running.leaf)
        return counted.number

    without = queries()
    running.schedule()

    assert queries() == without > 0


class _Count:
    def __init__(self) -> None:
        self.number = 0

    def __call__(self, execute, sql, params, many, context):
        self.number += 1
        return execute(sql, params, many, context)


# --- By hand ---------------------------------------------------------------------------------------


def latest() -> HistoryEvent:
    return HistoryEvent.objects.latest("id")


@pytest.fixture
def entry(service):
    enroll_ca(service, root("Root A"))

    class ByHand:
        def disable(self, **more):
            return disable_enrollment_group(service, "root-a", actor=ALICE, **more)

        def enable(self, **more):
            return enable_enrollment_group(service, "root-a", actor=ALICE, **more)

        def cancel(self, **more):
            return cancel_group_schedule(service, "root-a", actor=ALICE, **more)

        @property
        def row(self):
            return EnrollmentGroup.objects.get()

    return ByHand()


def test_disabling_by_hand_ends_a_time_box_and_is_recorded(entry, service, database_clock, deadline):
    """In an emergency, «disable» must not leave an entry that opens by itself tomorrow."""
    entry.disable(until=deadline)
    entry.disable(reason="for good")

    row = latest()
    assert (row.event, row.reason, row.actor_name) == ("group.disabled", "for good", "alice")
    assert (row.before["status"], row.after) == ("disabled", {"status": "disabled"})
    assert "until" in row.before
    database_clock.set_to(deadline)
    assert settle_due(service) == 0
    assert not entry.row.enabled


def test_enabling_what_is_enabled_leaves_a_disabling_that_is_scheduled(
    entry, service, database_clock, deadline
):
    """Nobody stays in by that: dropping it is another act, which rests on a preview of that time."""
    entry.disable(at=deadline)
    rows, before = HistoryEvent.objects.count(), entry.row

    entry.enable(expected_epoch=-1)

    assert (HistoryEvent.objects.count(), entry.row.etag) == (rows, before.etag)
    assert entry.row.switches_at == deadline
    database_clock.set_to(deadline)
    assert settle_due(service) == 1
    assert not entry.row.enabled


def test_enabling_for_good_ends_a_time_box_and_is_recorded(entry, service, database_clock, deadline):
    entry.disable(at=deadline)
    entry.enable(for_good=True)

    assert (latest().event, latest().after) == ("group.enabled", {"status": "enabled"})
    database_clock.set_to(deadline)
    assert settle_due(service) == 0
    assert entry.row.enabled


def test_denying_a_device_ends_the_time_box_of_its_entry(service, database_clock, deadline):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    disable_enrollment(service, "pump-042", until=deadline, actor=ALICE)

    deny_device(service, "pump-042", actor=ALICE)
    database_clock.set_to(deadline)

    assert register(service, leaf).outcome is Outcome.DISABLED


def test_another_time_takes_the_place_of_the_former(entry, service, database_clock, deadline):
    later = deadline + timedelta(hours=1)
    entry.disable(until=deadline)
    entry.disable(until=later, reason="longer")

    assert latest().before["until"] < latest().after["until"]
    database_clock.set_to(deadline)
    assert settle_due(service) == 0
    database_clock.set_to(later)
    assert settle_due(service) == 1
    assert rows_by_schedule()[0].reason == "longer"


@pytest.mark.parametrize("act", ["disable until", "enable until", "disable at", "cancel"])
def test_the_same_twice_changes_nothing_and_records_nothing(entry, deadline, act):
    acts = {
        "disable until": lambda: entry.disable(until=deadline),
        "enable until": lambda: entry.enable(until=deadline),
        "disable at": lambda: entry.disable(at=deadline),
        "cancel": entry.cancel,
    }
    acts[act]()
    rows, etag = HistoryEvent.objects.count(), entry.row.etag

    acts[act]()

    assert (HistoryEvent.objects.count(), entry.row.etag) == (rows, etag)


@pytest.mark.parametrize(("act", "stays"), [("disable", False), ("enable", True)])
def test_cancelling_leaves_the_switch_as_it_stands(entry, service, database_clock, deadline, act, stays):
    getattr(entry, act)(until=deadline)
    entry.cancel(reason="plans changed")

    row = latest()
    assert (row.event, row.reason) == ("group.schedule_cancelled", "plans changed")
    assert row.after == {"status": "enabled" if stays else "disabled"}
    database_clock.set_to(deadline)
    assert settle_due(service) == 0
    assert entry.row.enabled is stays


ACTS = {
    "enable": lambda entry, at, **epoch: entry.enable(**epoch),
    "enable for good": lambda entry, at, **epoch: entry.enable(for_good=True, **epoch),
    "enable until": lambda entry, at, **epoch: entry.enable(until=at, **epoch),
    "disable": lambda entry, at, **epoch: entry.disable(**epoch),
    "disable until": lambda entry, at, **epoch: entry.disable(until=at, **epoch),
    "disable at": lambda entry, at, **epoch: entry.disable(at=at, **epoch),
    "cancel": lambda entry, at, **epoch: entry.cancel(**epoch),
}
# How the switch stands before, what is done, and whether somebody may come in by it who would not have, at any time.
REACHES = [
    ("on", "disable", "narrows"),
    ("on", "disable until", "narrows"),
    ("on", "disable at", "narrows"),
    ("on", "enable until", "narrows"),
    ("off", "enable", "widens"),
    ("off", "enable until", "widens"),
    ("off", "disable until", "widens"),
    ("on, off sooner", "enable for good", "widens"),
    ("on, off sooner", "enable until", "widens"),
    ("on, off sooner", "cancel", "widens"),
    ("on, off sooner", "disable at", "widens"),
    ("on, off sooner", "disable", "narrows"),
    ("on, off sooner", "disable until", "widens"),
    ("on, off later", "disable at", "narrows"),
    ("on, off later", "enable until", "narrows"),
    ("off, on sooner", "disable until", "narrows"),
    ("off, on sooner", "disable", "narrows"),
    ("off, on sooner", "cancel", "narrows"),
    ("off, on sooner", "enable until", "widens"),
    ("off, on later", "disable until", "widens"),
    ("off, on later", "enable", "widens"),
]


def _set_before(entry, state, deadline):
    """`sooner`, `later`: than the deadline, which is what the act that follows is given."""
    other = deadline + (timedelta(minutes=-30) if "sooner" in state else timedelta(minutes=30))
    match state.partition(",")[0], "," in state:
        case "on", True:
            entry.disable(at=other)
        case "off", True:
            entry.disable(until=other)
        case "off", False:
            entry.disable()


@pytest.mark.parametrize(("state", "act", "reach"), REACHES)
def test_what_may_let_somebody_in_rests_on_its_preview_and_nothing_else_does(
    entry, service, deadline, state, act, reach
):
    _set_before(entry, state, deadline)
    epoch = ProvisioningService.epoch_of(service.pk)
    rows, before = HistoryEvent.objects.count(), Span.of(entry.row)

    if reach == "widens":
        with pytest.raises(PreviewOutdated):
            ACTS[act](entry, deadline, expected_epoch=epoch - 1)
        assert HistoryEvent.objects.count() == rows
        assert Span.of(entry.row) == before
        ACTS[act](entry, deadline, expected_epoch=epoch)
    else:
        ACTS[act](entry, deadline, expected_epoch=epoch - 1)

    assert HistoryEvent.objects.count() == rows + 1
    assert Span.of(entry.row) != before


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not recorded"])
def test_a_preview_from_before_a_deadline_is_outdated_after_it(
    entry, service, database_clock, deadline, recorded
):
    """Also where nobody has written down yet that a switch has turned: the epoch is the same then."""
    entry.disable()
    enroll_keys(service, "other")
    disable_enrollment(service, "other", until=deadline, actor=ALICE)
    epoch = ProvisioningService.epoch_of(service.pk)
    database_clock.set_to(deadline)
    if recorded:
        settle_due(service)

    with pytest.raises(PreviewOutdated):
        entry.enable(expected_epoch=epoch)
    with pytest.raises(PreviewOutdated):
        carry_out(service, Act.ENABLE, [entry.row], actor=ALICE, expected_epoch=epoch)
    assert not entry.row.enabled


def test_cancelling_too_late_finds_the_switch_turned(entry, service, database_clock, deadline):
    entry.disable(at=deadline)
    database_clock.set_to(deadline)

    after = entry.cancel()

    assert not after.enabled
    assert [row.event for row in rows_by_schedule()] == ["group.disabled"]
    assert not HistoryEvent.objects.filter(event="group.schedule_cancelled").exists()


def test_an_act_after_the_deadline_comes_after_it_in_the_history(entry, database_clock, deadline):
    entry.disable(until=deadline)
    database_clock.set_to(deadline)

    entry.disable(reason="again")

    events = HistoryEvent.objects.order_by("id").values_list("event", "way")
    assert list(events)[-2:] == [("group.enabled", "schedule"), ("group.disabled", "portal")]
    assert not entry.row.enabled


def test_disabling_at_a_time_what_is_disabled_for_good_changes_nothing(entry, deadline):
    entry.disable()
    rows = HistoryEvent.objects.count()

    entry.disable(at=deadline)

    assert HistoryEvent.objects.count() == rows
    assert entry.row.switches_at is None


def test_disabling_at_a_time_what_is_disabled_until_another_is_refused(entry, deadline):
    entry.disable(until=deadline)

    with pytest.raises(Conflict, match="disabled until"):
        entry.disable(at=deadline + timedelta(hours=1))


@pytest.mark.parametrize("name", ["until", "at"])
@pytest.mark.parametrize(
    ("span", "sentence"),
    [
        (timedelta(seconds=-1), "That time has passed"),
        (timedelta(0), "That time has passed"),
        (timedelta(days=3654), "more than ten years ahead"),
    ],
)
def test_times_that_cannot_be_meant_are_refused(entry, database_clock, name, span, sentence):
    rows = HistoryEvent.objects.count()

    with pytest.raises(Invalid, match=sentence) as refused:
        entry.disable(**{name: database_clock.now + span})

    assert list(refused.value.errors) == [name]
    assert len(refused.value.errors[name]) == 1
    assert entry.row.enabled
    assert HistoryEvent.objects.count() == rows


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_times_at_the_ends_of_the_calendar_are_refused(entry, moment):
    with pytest.raises(Invalid):
        entry.disable(until=moment)


def test_a_time_without_a_zone_is_refused(entry, deadline):
    with pytest.raises(Invalid, match="in which zone"):
        entry.enable(until=deadline.replace(tzinfo=None))


def test_both_times_at_once_are_refused(entry, deadline):
    with pytest.raises(Invalid, match="one scheduled change"):
        entry.disable(until=deadline, at=deadline)


# --- Saving the form, deleting ---------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [True, False], ids=["switch untouched", "switch turned"])
def test_saving_an_entry_keeps_what_is_scheduled_unless_the_switch_is_turned(
    service, database_clock, deadline, enabled
):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    entry = disable_enrollment(service, "pump-042", at=deadline, actor=ALICE)
    spec = IndividualSpec(certificates={Slot.PRIMARY: leaf.parsed}, enabled=enabled, device_id="other")

    changed = change_individual_enrollment(service, "pump-042", spec, expected_etag=entry.etag, actor=ALICE)

    assert (changed.switches_at == deadline) is enabled
    row = latest()
    assert row.event == ("enrollment.changed" if enabled else "enrollment.disabled")
    assert ("until" in row.before) is not enabled
    database_clock.set_to(deadline)
    assert register(service, leaf).outcome is Outcome.DISABLED


def test_saving_a_form_from_before_the_deadline_after_it_is_refused(service, database_clock, deadline):
    top = root("Root A")
    enroll_ca(service, top)
    seen = disable_enrollment_group(service, "root-a", at=deadline, actor=ALICE).etag
    spec = GroupSpec(certificates={Slot.PRIMARY: top.parsed})

    database_clock.set_to(deadline)

    with pytest.raises(ChangedMeanwhile):
        change_enrollment_group(service, "root-a", spec, expected_etag=seen, actor=ALICE)
    assert register(service, top.leaf("pump-042")).outcome is Outcome.DISABLED
    assert not EnrollmentGroup.objects.get().enabled


def test_deleting_on_consequences_from_before_the_deadline_is_refused(service, database_clock, deadline):
    enroll_ca(service, root("Root A"))
    enroll_ca(service, root("Root B"))
    disable_enrollment_group(service, "root-b", at=deadline, actor=ALICE)
    epoch = ProvisioningService.epoch_of(service.pk)

    database_clock.set_to(deadline)

    with pytest.raises(ChangedMeanwhile):
        delete_enrollment_groups(service, ["root-a"], actor=ALICE, expected_epoch=epoch)
    assert EnrollmentGroup.objects.count() == 2


# --- Other times -----------------------------------------------------------------------------------


def test_judging_for_another_time_counts_what_is_scheduled_until_then_and_changes_nothing(
    service, database_clock, deadline
):
    top = root("Root A")
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    enroll_device(service, leaf)
    disable_enrollment(service, "pump-042", until=deadline, actor=ALICE)
    disable_enrollment_group(service, "root-a", at=deadline + timedelta(hours=1), actor=ALICE)
    sibling = top.leaf("pump-043", key=leaf.key)
    rows = HistoryEvent.objects.count()

    def verdict(name, device, at):
        return judge(service, name, shows(device), at=timezone.now(), entries_at=at).decision.verdict

    hours = [deadline + timedelta(hours=number, seconds=-1) for number in range(4)]
    own = [verdict("pump-042", leaf, at) for at in hours]
    of_key = [verdict("pump-043", sibling, at) for at in hours]

    # R8: the enabled individual enrollment is not asked what the group says.
    assert own == [Verdict.DISABLED, Verdict.ADMIT, Verdict.ADMIT, Verdict.ADMIT]
    # R6 bars the key until the deadline, the group everybody from an hour later on.
    assert of_key == [Verdict.DISABLED, Verdict.ADMIT, Verdict.DISABLED, Verdict.DISABLED]
    assert HistoryEvent.objects.count() == rows


def test_issuer_that_only_a_disabled_individual_holds_is_found_from_its_time_on(
    service, database_clock, deadline
):
    """R6 bars a key wherever it stands on a chain, also where the device does not send the certificate."""
    top = root("Root A")
    line = top.intermediate("Line")
    enroll_ca(service, top)
    enroll_device(service, line)
    disable_enrollment(service, "Line", at=deadline, actor=ALICE)
    leaf = line.leaf("pump-042")

    verdicts = [
        judge(service, "pump-042", shows(leaf), at=timezone.now(), entries_at=at).decision.verdict
        for at in (deadline - timedelta(seconds=1), deadline)
    ]
    bare = [
        judge(
            service,
            "pump-042",
            PresentedCredential(certificates=(leaf.der,)),
            at=timezone.now(),
            entries_at=at,
        ).decision.verdict
        for at in (deadline - timedelta(seconds=1), deadline)
    ]

    assert verdicts == [Verdict.ADMIT, Verdict.DISABLED]
    assert bare == [Verdict.UNAUTHORIZED, Verdict.DISABLED]


@pytest.mark.parametrize("moment", [BEFORE, AT], ids=["before", "at"])
def test_previews_go_by_the_same_clock(service, database_clock, deadline, moment):
    top = root("Root A")
    line = top.intermediate("Line")
    enroll_ca(service, top)
    group = enroll_ca(service, line)
    register(service, line.leaf("pump-042"))
    disable_enrollment_group(service, "root-a", at=deadline, actor=ALICE)
    disable_enrollment_group(service, "line", at=deadline, actor=ALICE)
    database_clock.set_to(deadline + moment)
    group.refresh_from_db()

    (above,) = below_others(service, [group])
    told = preview_of_act(service, Act.DELETE, [group])

    is_open = moment == BEFORE
    assert [one.effect for one in told.devices] == [Effect.STILL_ADMITTED if is_open else Effect.STILL_OUT]
    assert (bool(above.through), bool(above.barred_by)) == (is_open, not is_open)


@pytest.mark.parametrize("kind", ["certificate", "key", "group of keys", "barred key"])
def test_previews_know_what_is_due_and_cannot_be_recorded(
    service, database_clock, deadline, kind, full_history_later
):
    """Nothing has turned the stored switch, and the device is out: whatever is asked about, a preview must say so."""
    top = root("Root A")
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    match kind:
        case "certificate":
            enroll_device(service, leaf)
            register(service, leaf)
            disable_enrollment(service, "pump-042", at=deadline, actor=ALICE)
        case "key":
            key = enroll_keys(service, "pump-042").primary_key
            register(service, signs(service, "pump-042", key), "pump-042")
            disable_enrollment(service, "pump-042", at=deadline, actor=ALICE)
        case "group of keys":
            keys = enroll_key_group(service, "keys")
            device = signs(service, "pump-042", derived_key(keys.primary_key, "pump-042"))
            register(service, device, "pump-042")
            disable_enrollment_group(service, "keys", at=deadline, actor=ALICE)
        case "barred key":
            enroll_device(service, top.leaf("pump-041", key=leaf.key))
            register(service, leaf)
            disable_enrollment(service, "pump-041", at=deadline, actor=ALICE)
    full_history_later()
    database_clock.set_to(deadline)
    entries = [*service.enrollmentgroups.filter(group_id="keys"), *service.individualenrollments.all()]

    told = preview_of(service, list, entries)

    about = [one for one in told.devices if one.registration_id == "pump-042"]
    assert [one.before.verdict for one in about] == [Verdict.DISABLED]


def test_nothing_shown_proves_nothing_on_either_side(service, database_clock, deadline):
    case = group(service)
    case.disable(until=deadline)
    nothing = PresentedCredential()

    before = register(service, nothing, "pump-042").outcome
    database_clock.set_to(deadline)

    assert {before, register(service, nothing, "pump-042").outcome} == {Outcome.UNAUTHORIZED}


def test_individual_schedule_can_be_cancelled_too(service, database_clock, deadline):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    disable_enrollment(service, "pump-042", at=deadline, actor=ALICE)
    cancel_enrollment_schedule(service, "pump-042", actor=ALICE)

    database_clock.set_to(deadline)

    assert register(service, leaf).outcome is Outcome.ASSIGNED


def test_what_is_disabled_until_a_fraction_of_a_second_is_enabled_no_earlier(entry, database_clock):
    until = database_clock.now.replace(microsecond=0) + timedelta(minutes=5, milliseconds=250)

    entry.disable(until=until)

    assert entry.row.switches_at == until.replace(microsecond=0) + timedelta(seconds=1)


def test_what_is_disabled_at_a_fraction_of_a_second_is_so_no_later(entry, database_clock):
    at = database_clock.now.replace(microsecond=0) + timedelta(minutes=5, milliseconds=250)

    entry.disable(at=at)

    assert entry.row.switches_at == at.replace(microsecond=0)


def test_a_time_within_the_second_that_it_is_is_no_time_to_come(entry, database_clock):
    now = database_clock.now.replace(microsecond=50_000)
    database_clock.set_to(now)

    with pytest.raises(Invalid, match="within the second that it is now"):
        entry.disable(at=now.replace(microsecond=950_000))
    entry.disable(until=now.replace(microsecond=950_000))

    assert entry.row.switches_at == now.replace(microsecond=0) + timedelta(seconds=1)
