"""R12: whatever others change while an import runs, nobody comes in by it whom its preview told to stay out."""

import random

import pytest

from enrollments.actions import import_freed
from enrollments.actions.enrollments import delete_enrollments, enable_enrollment
from enrollments.actions.import_agreed import ChangedSincePreview
from enrollments.actions.import_holding import hold
from enrollments.actions.imports import start_import
from enrollments.actions.preview import Effect
from enrollments.actions.preview.limits import NO_LIMITS
from enrollments.audit.actor import Actor, Way
from enrollments.models import HistoryEvent, ImportState, ProvisioningService
from enrollments.policy.decision import Verdict
from enrollments.transfer import work
from enrollments.transfer.foreseen import foresee
from enrollments.transfer.work import carry_out_run
from tests.certificates import root
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.preview.worlds import World, grown
from tests.transfer.lists import below, checked, json_lines, keys, pinned
from tests.transfer.random_lines import lines, that_bar

pytestmark = pytest.mark.django_db
ROOT = Actor("cli", "root", Way.COMMAND_LINE)


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.fixture(scope="module")
def barring(forest):
    return that_bar(forest)


def begun(run):
    """On the preview that is told, by whoever looked at it."""
    seen = foresee(run, NO_LIMITS).now
    start_import(run, without_bad_lines=True, actor=ROOT, expected_epoch=seen.epoch)
    held = hold(run.pk)
    assert held is not None
    return seen, *held


def is_carried_out(run, holder):
    """Or else it waits for somebody to look once more."""
    try:
        return carry_out_run(run, holder).state == ImportState.DONE
    except ChangedSincePreview:
        return False


def admitted(judged):
    return {
        (name, credential)
        for name, several in judged.items()
        for credential, (verdict, _, _) in several.items()
        if verdict is Verdict.ADMIT
    }


def stay_out(seen):
    return {
        device.registration_id.lower()
        for device in seen.devices
        if device.effect is not Effect.UNKNOWN and device.after.verdict is not Verdict.ADMIT
    }


def meddle(world, chance):
    """What others do to individual enrollments above all: they bar keys, and hold names."""
    individuals = list(world.service.individualenrollments.all())
    if individuals and chance.random() < 0.8:
        act = chance.choice([world.turning_individual, world.deleting_individuals, world.changing_keys])
        return act([], individuals)
    return world.change()


@pytest.mark.parametrize("seed", seeds(0, 40))
def test_nobody_comes_in_of_whom_it_was_said_that_they_stay_out(forest, barring, seed, monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", (1, 500)[seed % 2])
    chance = random.Random(seed)
    world = World(forest, chance)
    world.enroll_unshown(barring)
    run = checked(world.service, json_lines(*lines(world, barring, chance)))
    if not run.chunks:
        pytest.skip("no line of this list can be imported")
    known = world.credentials()
    seen, run, holder = begun(run)
    for _ in range(chance.randint(1, 3)):
        meddle(world, chance)()
    before = admitted(world.judged(known))

    is_carried_out(run, holder)

    come_in = {name for name, _ in admitted(world.judged(known)) - before}
    assert not come_in & (stay_out(seen) - world.vague)


# --- By which keys and names, and which lines wait for it ----------------------------------------------------------


@pytest.fixture
def ca():
    return root("Plant CA")


@pytest.fixture(autouse=True)
def _a_line_a_portion(monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", 1)


def enable(service, name):
    enable_enrollment(service, name, actor=ALICE)


def delete(service, name):
    delete_enrollments(service, [name], actor=ALICE)


def outcome(service, leaf):
    return register(ProvisioningService.objects.get(pk=service.pk), leaf).outcome


ENDS = pytest.mark.parametrize("end", [enable, delete])


@ENDS
def test_a_bar_that_ends_holds_up_the_line_that_has_its_key(service, ca, end):
    """R6: «bars» is disabled, and what it pins has the key of the device that the list lets in."""
    barring = ca.leaf("bars")
    leaf = ca.leaf("pump-1", key=barring.key)
    enroll_device(service, barring, enabled=False)
    _, run, holder = begun(checked(service, json_lines(keys("new"), pinned(leaf))))
    end(service, "bars")

    assert not is_carried_out(run, holder)

    assert "pump-1" not in names(service)
    assert outcome(service, leaf) != "assigned"
    run.refresh_from_db()
    assert (run.counts, run.position) == ({"added": 1}, 1)


@ENDS
def test_so_does_one_of_a_key_above_it(service, ca, end):
    plant = ca.intermediate("Plant 7")
    leaf = plant.leaf("pump-1")
    enroll_device(service, ca.leaf("bars", key=plant.key), enabled=False)
    enroll_ca(service, plant, "plant-7")
    _, run, holder = begun(checked(service, json_lines(pinned(leaf))))
    end(service, "bars")

    assert not is_carried_out(run, holder)
    assert "pump-1" not in names(service)


@ENDS
def test_and_one_below_a_group_that_the_list_adds(service, ca, end):
    leaf = ca.leaf("pump-1")
    enroll_device(service, ca.leaf("bars", key=leaf.key), enabled=False)
    register(service, leaf)
    _, run, holder = begun(checked(service, json_lines(below("plant-7", ca))))
    end(service, "bars")

    assert not is_carried_out(run, holder)
    assert outcome(service, leaf) != "assigned"


def test_a_name_that_becomes_free_holds_up_groups(service, ca):
    """R5: «pump-1» is kept from every group, as long as its entry is there."""
    leaf = ca.leaf("pump-1")
    enroll_device(service, root("Other").leaf("pump-1"))
    _, run, holder = begun(checked(service, json_lines(below("plant-7", ca))))
    delete(service, "pump-1")

    assert not is_carried_out(run, holder)
    assert outcome(service, leaf) != "assigned"


def test_it_holds_up_a_line_that_ends_a_bar_itself(service, ca):
    """Two bar one key: of the second the preview says that nobody comes in by its line."""
    enroll_ca(service, ca, "plant-7")
    leaf = ca.leaf("pump-1")
    for name in ("one", "two"):
        enroll_device(service, ca.leaf(name, key=leaf.key), enabled=False)
    two = pinned(ca.leaf("two"), operation="update")
    _, run, holder = begun(checked(service, json_lines(two)))
    delete(service, "one")

    assert not is_carried_out(run, holder)
    assert outcome(service, leaf) != "assigned"


@ENDS
def test_what_bars_no_key_of_the_list_holds_up_nothing(service, ca, end):
    for name in ("elsewhere", "there"):
        enroll_device(service, ca.leaf(name), enabled=False)
    lines_ = [keys("new"), pinned(ca.leaf("pump-1")), keys("last")]
    _, run, holder = begun(checked(service, json_lines(*lines_)))
    end(service, "elsewhere")

    assert is_carried_out(run, holder)
    assert names(service) >= {"new", "pump-1", "last"}


def test_nor_does_what_the_import_itself_has_ended(service, ca):
    barring = ca.leaf("bars")
    leaf = ca.leaf("pump-1", key=barring.key)
    enroll_device(service, barring, enabled=False)
    lines_ = [pinned(barring, operation="update", deviceId="d"), pinned(leaf)]
    _, run, holder = begun(checked(service, json_lines(*lines_)))

    assert is_carried_out(run, holder)
    assert outcome(service, leaf) == "assigned"


def test_of_more_changes_than_can_be_looked_at_each_may_matter(service, ca, monkeypatch):
    monkeypatch.setattr(import_freed, "MOST_ROWS", 2)
    for number in range(3):
        enroll_device(service, ca.leaf(f"there-{number}"), enabled=False)
    _, run, holder = begun(checked(service, json_lines(keys("new"))))
    for number in range(3):
        enable(service, f"there-{number}")

    assert not is_carried_out(run, holder)


def test_certificates_that_are_not_there_any_more_may_have_been_any(service, ca):
    enroll_device(service, ca.leaf("elsewhere"), enabled=False)
    delete(service, "elsewhere")
    row = HistoryEvent.objects.last()
    assert import_freed._may_have_barred(service, row)

    row.before["certificates"]["primary"] = f"CN=gone (SHA-256 {'0' * 64})"
    assert import_freed._may_have_barred(service, row) is None


def names(service):
    return set(service.individualenrollments.values_list("registration_id", flat=True))
