"""R12: from the moment a change has been answered, nothing is admitted or handed out on the old state.

A registration is paused at each of its steps, an administrator's change is made, the registration is resumed.
Where the registration holds the lock at that step, the change has to wait for it: it is then the next
registration and the next poll that must be refused.
"""

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from enrollments.actions import registrations
from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.enrollment_groups import (
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
)
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.hubs import HubSpec, change_hub, link_hub
from enrollments.actions.registrations import (
    Outcome,
    RegistrationAnswer,
    look_up_registration,
    poll_operation,
)
from enrollments.actions.revocation import (
    delete_registration,
    deprovision_device,
    deregister_device,
    release_registration,
)
from enrollments.actions.services import change_settings
from enrollments.models import EnrollmentGroup, HubDevice, ProvisioningService, RegistrationRecord, Slot
from tests.certificates import root
from tests.devices import (
    ALICE,
    asks,
    demand_proof,
    enroll_ca,
    enroll_device,
    new_service,
    prove,
    register,
    shows,
)

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 15


class World:
    def __init__(self) -> None:
        self.service = new_service()
        self.top = root("Root A")
        self.leaf = self.top.leaf("pump-042")
        enroll_ca(self.service, self.top)

    def ask(self):
        return asks("pump-042", shows(self.leaf))


@pytest.fixture
def world(request):
    world = World()
    if "take_the_proof_away" in request.node.name:
        prove(world.service, world.top)
        demand_proof(world.service)
    return world


def disable_group(world: World) -> None:
    disable_enrollment_group(world.service, "root-a", actor=ALICE)


def delete_group(world: World) -> None:
    delete_enrollment_groups(world.service, ["root-a"], actor=ALICE)


def deny_singly(world: World) -> None:
    enroll_device(world.service, world.leaf, enabled=False)


def bar_the_name(world: World) -> None:
    enroll_device(world.service, world.leaf, certificates={}, registration_id="PUMP-042", enabled=False)


def change_certificate(world: World) -> None:
    group = EnrollmentGroup.objects.get()
    spec = GroupSpec(certificates={Slot.PRIMARY: root("Root B").parsed})
    change_enrollment_group(world.service, "root-a", spec, expected_etag=group.etag, actor=ALICE)


def demand_what_nobody_has_proven(world: World) -> None:
    demand_proof(world.service)


def take_the_proof_away(world: World) -> None:
    delete_ca_certificate(world.service, "root-a", actor=ALICE)


CHANGES = [
    disable_group,
    delete_group,
    deny_singly,
    bar_the_name,
    change_certificate,
    demand_what_nobody_has_proven,
    take_the_proof_away,
]


class Pause:
    """Stops a thread at a call until it is told to go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.armed = True

    def before(self, function: Callable) -> Callable:
        def paused(*args, **kwargs):
            self._wait()
            return function(*args, **kwargs)

        return paused

    def after(self, function: Callable) -> Callable:
        def paused(*args, **kwargs):
            result = function(*args, **kwargs)
            self._wait()
            return result

        return paused

    def _wait(self) -> None:
        if self.armed:
            self.armed = False
            self.reached.set()
            assert self.go_on.wait(PATIENCE)


def in_thread(work: Callable) -> tuple[threading.Thread, list]:
    results: list = []

    def run() -> None:
        try:
            results.append(work())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def finish(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def is_waited_for(world: World, pause: Pause, change: Callable[[World], None]) -> RegistrationAnswer:
    """The change does not come through while a registration holds the lock, which is answered as `assigned`."""
    admitted, results = in_thread(lambda: registrations.register_device(world.service, world.ask()))
    assert pause.reached.wait(PATIENCE)
    changing, _ = in_thread(lambda: change(world))
    changing.join(0.2)
    still_waiting = changing.is_alive()
    pause.go_on.set()
    finish(admitted, changing)

    assert still_waiting
    assert results[0].outcome is Outcome.ASSIGNED
    return results[0]


@pytest.mark.parametrize("change", CHANGES)
def test_change_answered_while_a_registration_is_being_judged(world, change, monkeypatch):
    pause = Pause()
    monkeypatch.setattr(registrations, "_judge", pause.after(registrations._judge))

    thread, results = in_thread(lambda: registrations.register_device(world.service, world.ask()))
    assert pause.reached.wait(PATIENCE)
    change(world)
    pause.go_on.set()
    finish(thread)

    assert results[0].outcome in (Outcome.DISABLED, Outcome.UNAUTHORIZED)
    assert not HubDevice.objects.exists()
    assert not RegistrationRecord.objects.filter(status="assigned").exists()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", ["assign", "count_attempt"])
def test_change_waits_for_a_registration_that_holds_the_lock_and_ends_what_it_gave(
    world, change, step, monkeypatch
):
    pause = Pause()
    monkeypatch.setattr(registrations, step, pause.after(getattr(registrations, step)))

    admitted = is_waited_for(world, pause, change)

    poll = poll_operation(world.service, admitted.operation_id, world.ask())
    look_up = look_up_registration(world.service, world.ask())
    again = register(world.service, world.leaf)
    assert {poll.outcome, look_up.outcome, again.outcome} <= {Outcome.DISABLED, Outcome.UNAUTHORIZED}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("question", ["poll", "look-up"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_change_answered_while_a_poll_is_being_judged(world, change, question, moment, monkeypatch):
    operation = register(world.service, world.leaf).operation_id
    ask = {
        "poll": lambda: poll_operation(world.service, operation, world.ask()),
        "look-up": lambda: look_up_registration(world.service, world.ask()),
    }[question]
    pause = Pause()
    monkeypatch.setattr(registrations, "_told", getattr(pause, moment)(registrations._told))

    thread, results = in_thread(ask)
    assert pause.reached.wait(PATIENCE)
    change(world)
    pause.go_on.set()
    finish(thread)

    assert results[0].outcome in (Outcome.DISABLED, Outcome.UNAUTHORIZED)


def test_facts_gathered_half_before_and_half_after_a_change_do_not_count(world, monkeypatch):
    """The epoch is read before the first fact, so a change between two look-ups shows."""
    from enrollments.actions.judging import chains

    enroll_device(world.service, world.leaf)
    pause = Pause()
    monkeypatch.setattr(chains, "build_chain_graph", pause.before(chains.build_chain_graph))

    thread, results = in_thread(lambda: registrations.register_device(world.service, world.ask()))
    assert pause.reached.wait(PATIENCE)
    disable_enrollment(world.service, "pump-042", actor=ALICE)
    pause.go_on.set()
    finish(thread)

    assert results[0].outcome is Outcome.DISABLED


def test_device_is_answered_even_when_changes_never_pause(world, monkeypatch):
    judge = registrations._judge
    calls = []

    def disturbed(service, request, standing=None):
        judgement = judge(service, request, standing)
        if not connection.in_atomic_block:
            ProvisioningService.objects.get(pk=service.pk).raise_epoch()
            calls.append(1)
        return judgement

    monkeypatch.setattr(registrations, "_judge", disturbed)

    assert registrations.register_device(world.service, world.ask()).outcome is Outcome.ASSIGNED
    assert len(calls) == registrations.MAX_ROUNDS


def test_registrations_of_one_device_at_once_make_one_record(world):
    threads = [in_thread(lambda: registrations.register_device(world.service, world.ask())) for _ in range(6)]
    finish(*(thread for thread, _ in threads))

    assert {results[0].outcome for _, results in threads} == {Outcome.ASSIGNED}
    assert len({results[0].operation_id for _, results in threads}) == 1
    assert RegistrationRecord.objects.count() == HubDevice.objects.count() == 1


def test_racing_disable_and_registrations_never_admit_after_the_answer(world):
    """By chance rather than by plan: devices that keep registering, and one disable among them."""
    leaves = [world.top.leaf(f"pump-{n}") for n in range(4)]
    answered = threading.Event()
    stop = threading.Event()
    late: list[Outcome] = []

    def keep_registering(leaf):
        while not stop.is_set():
            was_answered = answered.is_set()
            outcome = register(world.service, leaf).outcome
            if was_answered:
                late.append(outcome)

    threads = [in_thread(lambda leaf=leaf: keep_registering(leaf)) for leaf in leaves]
    disable_group(world)
    answered.set()
    while len(late) < 12:
        threading.Event().wait(0.02)
    stop.set()
    finish(*(thread for thread, _ in threads))

    assert set(late) == {Outcome.DISABLED}


def test_name_that_two_suppliers_want_at_once_goes_to_one_of_them(world):
    """R11 under R12: both are admitted, one is first, and the other must see that."""
    other = root("Root B")
    enroll_ca(world.service, other)
    rival = other.leaf("pump-042")

    threads = [
        in_thread(lambda leaf=leaf: register(world.service, leaf))
        for leaf in (world.leaf, rival)
        for _ in range(2)
    ]
    finish(*(thread for thread, _ in threads))

    outcomes = sorted(results[0].outcome for _, results in threads)
    assert outcomes == [Outcome.ASSIGNED, Outcome.ASSIGNED, Outcome.FAILED, Outcome.FAILED]
    record, identity = RegistrationRecord.objects.get(), HubDevice.objects.get()
    assert record.leaf_thumbprint == identity.thumbprint_sha256


def test_devices_that_are_refused_for_the_first_time_at_once_make_one_record(world):
    disable_group(world)

    threads = [in_thread(lambda: register(world.service, world.leaf)) for _ in range(4)]
    finish(*(thread for thread, _ in threads))

    assert {results[0].outcome for _, results in threads} == {Outcome.DISABLED}
    assert RegistrationRecord.objects.count() == 1


def link_another_hub(world: World) -> None:
    link_hub(world.service, HubSpec(name="there", host_name="there.example"), actor=ALICE)


def change_a_setting(world: World) -> None:
    change_settings(world.service, {"allocation_policy": "static"}, actor=ALICE)


def take_the_hub_out(world: World) -> None:
    hub = world.service.hubs.get()
    spec = HubSpec(name=hub.name, host_name=hub.host_name, apply_allocation_policy=False)
    change_hub(world.service, hub.pk, spec, actor=ALICE)


@pytest.mark.parametrize("change", [link_another_hub, change_a_setting, take_the_hub_out])
def test_settings_and_hubs_wait_for_a_registration_that_holds_the_lock(world, change, monkeypatch):
    """R12 counts them among the changes: a setting that decisions read."""
    pause = Pause()
    monkeypatch.setattr(registrations, "assign", pause.before(registrations.assign))
    epoch = ProvisioningService.epoch_of(world.service.pk)

    is_waited_for(world, pause, change)

    assert ProvisioningService.epoch_of(world.service.pk) == epoch + 1


@pytest.mark.parametrize(
    "act",
    [
        lambda world: delete_registration(world.service, "pump-042", actor=ALICE),
        lambda world: release_registration(world.service, "pump-042", actor=ALICE),
        lambda world: deprovision_device(world.service, "pump-042", actor=ALICE),
        lambda world: deregister_device(world.service, HubDevice.objects.get(), actor=ALICE),
    ],
    ids=["delete", "release", "deprovision", "deregister"],
)
def test_acts_on_records_raise_the_epoch(world, act):
    register(world.service, world.leaf)
    epoch = ProvisioningService.epoch_of(world.service.pk)

    act(world)

    assert ProvisioningService.epoch_of(world.service.pk) > epoch
