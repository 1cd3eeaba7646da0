"""R12: what only shuts out is never held up, in a list that pauses for somebody to look at the rest neither."""

import random
from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import enable_enrollment
from enrollments.actions.import_agreed import ChangedSincePreview, narrow_by_themselves
from enrollments.actions.import_holding import NotHeld, hold
from enrollments.actions.import_work import pause_import
from enrollments.actions.imports import NOT_LOOKED_AT, cancel_import, may_widen, start_import
from enrollments.actions.preview.limits import NO_LIMITS
from enrollments.errors import PreviewOutdated
from enrollments.models import HistoryEvent, ImportRun, ImportState, Slot
from enrollments.policy.decision import Verdict
from enrollments.transfer import work
from enrollments.transfer.foreseen import foresee
from enrollments.transfer.planning import from_text, plan
from enrollments.transfer.work import carry_out_run, work_on
from tests.certificates import root
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys
from tests.preview.worlds import World, grown
from tests.transfer.comparing import ROOT, compare
from tests.transfer.lists import below, carried_out, checked, json_lines, keys, pinned, problems, started
from tests.transfer.random_lines import lines, that_bar

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]


def disable(name):
    return {"registrationId": name, "operation": "disable"}


def enabled(service):
    return set(service.individualenrollments.filter(enabled=True).values_list("registration_id", flat=True))


def held(run):
    found = hold(run.pk)
    assert found is not None
    return found


@pytest.fixture
def changed_above(service):
    """A list that was started, and a group that somebody disabled since."""
    enroll_ca(service, root("Plant CA"), "plant-7")

    def begin(*given):
        run = started(checked(service, json_lines(*given)))
        disable_enrollment_group(service, "plant-7", actor=ALICE)
        return run

    return begin


@pytest.mark.parametrize("portion", [1, 2, 500])
def test_what_only_shuts_out_goes_on_where_the_rest_waits(service, changed_above, portion, monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", portion)
    one, two = root("Own").leaf("two-pins"), root("Own").leaf("two-pins")
    enroll_device(service, one, certificates={Slot.PRIMARY: one.parsed, Slot.SECONDARY: two.parsed})
    for name in ("stolen", "as-it-is"):
        enroll_keys(service, name)
    barred = below("barred", root("Stranger"), provisioningStatus="disabled")
    run = changed_above(
        keys("new-1"),
        disable("stolen"),
        keys("deny", provisioningStatus="disabled"),
        keys("new-2"),
        pinned(two, operation="update"),
        keys("as-it-is", operation="update"),
        barred,
        keys("new-3"),
    )

    work_on(run.pk)

    run.refresh_from_db()
    assert run.state == ImportState.PAUSED
    assert "What only shuts out goes on by itself" in run.problem
    assert run.counts == {"disabled": 1, "added_disabled": 2, "changed": 1, "unchanged": 1}
    assert (run.lines_done, enabled(service)) == (5, {"two-pins", "as-it-is"})
    assert service.individualenrollments.get(registration_id="two-pins").certificates.count() == 1
    assert not service.enrollmentgroups.get(group_id="barred").enabled
    run = carried_out(run)
    assert (run.state, run.lines_done) == (ImportState.DONE, 8)
    assert run.counts["added"] == 3
    assert enabled(service) == {"two-pins", "as-it-is", "new-1", "new-2", "new-3"}


def test_the_preview_of_the_rest_is_about_the_rest(service, changed_above, monkeypatch):
    """What was shut out by the list is told as it stands, and nothing that waits undoes it."""
    monkeypatch.setattr(work, "CHUNK_LINES", 1)
    enroll_keys(service, "stolen")
    enroll_keys(service, "back", enabled=False)
    run = changed_above(keys("back", operation="update", provisioningStatus="enabled"), disable("stolen"))
    work_on(run.pk)

    told = {one.registration_id: one.effect.value for one in foresee(ImportRun.objects.get()).now.devices}

    assert told == {"back": "comes_in"}
    assert enabled(service) == set()


def test_whoever_goes_on_where_somebody_was_killed_does_nothing_twice(service, changed_above, monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", 1)
    for number in range(4):
        enroll_keys(service, f"stolen-{number}")
    run = changed_above(keys("new"), *(disable(f"stolen-{number}") for number in range(4)))
    told = []

    def killed(run):
        told.append(run.lines_done)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out_run(*held(run), tell=killed)
    ImportRun.objects.update(holder="", held_until=None)
    done_before = enabled(service)
    work_on(run.pk)

    run.refresh_from_db()
    assert done_before == {"stolen-2", "stolen-3"}
    assert (run.state, run.counts, enabled(service)) == (ImportState.PAUSED, {"disabled": 4}, set())
    assert HistoryEvent.objects.filter(event="enrollment.disabled").count() == 4


def test_whoever_cancels_it_meanwhile_ends_that(service, changed_above, monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", 1)
    for number in range(2):
        enroll_keys(service, f"stolen-{number}")
    run = changed_above(keys("new"), disable("stolen-0"), disable("stolen-1"))

    with pytest.raises(NotHeld):
        carry_out_run(*held(run), tell=lambda run: cancel_import(run, actor=ALICE))

    assert enabled(service) == {"stolen-1"}


@pytest.mark.parametrize("first", ["enabled", "disabled"])
def test_a_disabled_group_waits_with_the_predecessor_that_waits(service, changed_above, first):
    old = below("old", root("Old"), provisioningStatus=first)
    new = below("new", root("New"), provisioningStatus="disabled", predecessor="old")
    run = changed_above(old, new, keys("pump"))

    work_on(run.pk)

    run.refresh_from_db()
    there = set(service.enrollmentgroups.values_list("group_id", flat=True))
    assert there == ({"plant-7"} if first == "enabled" else {"plant-7", "old", "new"})
    run = carried_out(run)
    assert problems(run) == {}
    assert service.enrollmentgroups.get(group_id="new").predecessor_name == "old"


@pytest.mark.parametrize("is_scheduled", ["before", "by the line"])
def test_what_is_disabled_and_holds_others_at_a_time_is_asked_about(service, is_scheduled):
    """R6: from then on the entry would have barred the key that the line takes away; or it lets in what it brings."""
    ca, at = root("Own"), timezone.now() + timedelta(hours=1)
    enroll_device(service, ca.leaf("pump-1"))
    line = pinned(ca.leaf("pump-1"), operation="update", provisioningStatus="disabled")
    plain = checked(service, json_lines(line))
    if is_scheduled == "before":
        enable_enrollment(service, "pump-1", until=at, actor=ALICE)
    else:
        line["switchesAt"] = at.isoformat()
    run = checked(service, json_lines(line))

    assert not may_widen(plain)
    assert may_widen(run)
    with pytest.raises(PreviewOutdated):
        start_import(run, without_bad_lines=False, actor=ALICE, expected_epoch=NOT_LOOKED_AT)


# --- Whatever the list, and whatever was changed ------------------------------------------------------------------


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.fixture(scope="module")
def barring(forest):
    return that_bar(forest)


def admitted(judged):
    return {
        (name, credential)
        for name, several in judged.items()
        for credential, (verdict, _, _) in several.items()
        if verdict is Verdict.ADMIT
    }


@pytest.mark.parametrize("seed", seeds(0, 24))
def test_nobody_comes_in_by_what_goes_on_and_the_preview_of_the_rest_tells_the_rest(
    forest, barring, seed, monkeypatch
):
    monkeypatch.setattr(work, "CHUNK_LINES", 1 + seed % 4)
    chance = random.Random(seed)
    world = World(forest, chance)
    world.enroll_unshown(barring)
    listed = lines(world, barring, chance)
    run = checked(world.service, json_lines(*listed))
    if not run.chunks:
        pytest.skip("no line of this list can be imported")
    epoch = foresee(run).now.epoch
    start_import(run, without_bad_lines=True, actor=ROOT, expected_epoch=epoch)
    enroll_ca(world.service, root("Above"), "above")
    known = world.credentials()
    before = admitted(world.judged(known))
    run, holder = held(run)
    try:
        carry_out_run(run, holder)
    except ChangedSincePreview as problem:
        pause_import(run.pk, holder, problem.message)
    else:
        pytest.skip("nobody comes in by it")

    assert admitted(world.judged(known)) <= before
    run.refresh_from_db()
    rest = [from_text(chunk.content) for chunk in run.content.filter(number__gte=run.position)]
    assert not [
        one
        for some in rest
        for one in narrow_by_themselves(plan(run.service_id, some, thoroughly=False).changes)
    ]
    assert run.lines_done + sum(map(len, rest)) == run.lines - run.bad_lines
    compare(world, run, listed, is_whole=True, within=NO_LIMITS)
