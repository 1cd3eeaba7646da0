"""The preview of a checked import: worked out apart, by one at a time, left when it is of no use, kept to the start."""

import gc
import json
import random
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions import import_previews
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.import_holding import NotHeld
from enrollments.actions.import_previews import (
    claim_preview,
    end_preview,
    keep_foreseen,
    keep_portions,
    preview_begun,
    preview_kept,
    preview_wanted,
    tell_progress,
)
from enrollments.actions.imports import cancel_import, start_import
from enrollments.actions.preview import Effect, Preview, above
from enrollments.actions.preview.limits import turn_to_examine_all
from enrollments.actions.preview.progress import Step
from enrollments.actions.preview.table import in_order, values
from enrollments.errors import Conflict, SecretUnreadable
from enrollments.models import (
    ImportPreview,
    ImportPreviewPortion,
    ImportRun,
    ImportState,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.transfer import kept_devices, previewing, work
from enrollments.transfer.foreseen import foresee
from enrollments.transfer.kept import numbers_of, told_of
from enrollments.transfer.kept_devices import KeptDevices, portions_of
from enrollments.transfer.previewing import work_out_preview
from enrollments.transfer.words import how_far
from tests.certificates import root, self_signed
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service, register, signs
from tests.transfer.lists import checked, json_lines, keys, pinned, started

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return new_service()


@pytest.fixture(autouse=True)
def _told_each_time(monkeypatch):
    monkeypatch.setattr(previewing, "EVERY_SECONDS", 0.0)


def known(service, *names):
    """Devices that came, and a line for each that disables it."""
    for name in names:
        entry = enroll_keys(service, name)
        register(service, signs(service, name, entry.primary_key), name)
    return [{"registrationId": name, "operation": "disable"} for name in names]


def kept(run, *, everyone=False):
    return preview_kept(run, everyone=everyone)


def rows_of(preview, effect=None, *, is_later=False):
    return list(KeptDevices(preview, effect, is_later=is_later).every())


def test_what_is_kept_is_what_was_foreseen(service):
    at = (timezone.now() + timedelta(days=1)).isoformat()
    lines = known(service, "pump-1", "pump-2", "Pump-3")
    lines[1] = keys("pump-2", operation="update", provisioningStatus="enabled", switchesAt=at)
    run = checked(service, json_lines(*lines))
    seen = foresee(run)

    work_out_preview(run.pk)

    run.refresh_from_db()
    preview = kept(run)
    assert (run.state, run.foreseen, preview.told) == (ImportState.CHECKED, numbers_of(seen), told_of(seen))
    assert preview.told["effects"]["refused"]["examples"] == ["pump-1", "Pump-3"]
    assert preview.told["later"]["effects"]["refused"]["examples"] == ["pump-1", "pump-2", "Pump-3"]
    assert rows_of(preview) == [list(values(one)) for one in in_order(seen.now)]
    assert rows_of(preview, is_later=True) == [list(values(one)) for one in in_order(seen.later)]
    assert not preview_wanted(run, everyone=False)
    assert preview_wanted(run, everyone=True)


def test_what_was_uploaded_is_previewed_when_it_is_checked(service, monkeypatch):
    seen = []
    run = checked(service, json_lines(keys("a")))
    ImportRun.objects.update(state=ImportState.CHECKING)

    def checks(run, holder):
        ImportRun.objects.update(state=ImportState.CHECKED, holder="", held_until=None)

    monkeypatch.setattr(work, "_check_uploaded", checks)
    monkeypatch.setattr(work, "work_out_preview", seen.append)

    work.work_on(run.pk)

    assert seen == [run.pk]


def test_how_far_it_is_is_told_step_by_step(service, monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", 2)
    at = (timezone.now() + timedelta(days=1)).isoformat()
    lines = known(service, "pump-1", "pump-2")
    lines += [keys("new", switchesAt=at, provisioningStatus="enabled"), "bad"]
    lines[0] = keys("pump-1", operation="update", switchesAt=at, provisioningStatus="enabled")
    run = checked(service, json_lines(*lines))
    told = []

    foresee(run, tell=told.append)

    at_first, later = ([one for one in told if one.is_later is is_later] for is_later in (False, True))
    for passed in (at_first, later):
        read = [(one.done, one.of) for one in passed if one.step is Step.READING]
        assert read == [(0, 3), (2, 3)]
        assert [one.done for one in passed if one.step is Step.JUDGING] == [0]
    words = how_far({"step": "reading", "done": 2000, "of": 3000, "is_later": True})
    assert words.sentence == (
        "Lines read: 2,000 of 3,000. This is about the time when its entries have turned. This goes on when you leave "
        "the page."
    )
    assert (words.done, words.of) == (2000, 3000)
    assert how_far({"step": "of another version"}).of is None


def test_leaves_without_a_class_are_told_of_as_they_are_passed(service, monkeypatch):
    """There may be a hundred thousand: whoever says nothing for that long would lose its claim."""
    monkeypatch.setattr(above, "LEAVES_TOLD", 1)
    names = [f"pump-{number}" for number in range(4)]
    for name in names:
        enroll_device(service, self_signed(name), enabled=False)
    lines = (pinned(self_signed(name), operation="update", provisioningStatus="enabled") for name in names)
    run = checked(service, json_lines(*lines))
    told = []

    foresee(run, tell=told.append)

    passed = [one.done for one in told if one.step is Step.LOOKING]
    assert passed[:4] == [1, 2, 3, 4]


def test_entries_of_a_portion_are_gone_when_the_next_is_read(service, monkeypatch):
    """Nobody looks for cycles meanwhile, and what is read of an entry refers to it: of long lists that would stay."""
    monkeypatch.setattr(work, "CHUNK_LINES", 10)
    names = [f"pump-{number:02}" for number in range(60)]
    for name in names:
        enroll_keys(service, name)
    run = checked(service, json_lines(*(keys(name, operation="update", deviceId="x") for name in names)))
    alive = []

    def count(far):
        if far.step is Step.READING:
            # By its type: to ask others whether they are one, as isinstance does, wakes those that are lazy.
            alive.append(sum(type(one) is IndividualEnrollment for one in gc.get_objects()))

    gc.collect()
    foresee(run, tell=count)

    assert len(alive) == 6
    assert max(alive) - alive[0] < 20


def test_two_who_claim_it_and_one_has_it(service):
    run = checked(service, json_lines(keys("a")))
    first = claim_preview(run.pk, service.epoch, everyone=False)

    assert claim_preview(run.pk, service.epoch, everyone=False) is None
    assert not preview_wanted(run, everyone=False)
    assert claim_preview(run.pk, service.epoch, everyone=True).everyone
    work_out_preview(run.pk)
    assert preview_begun(run, everyone=False) == first


def test_who_was_gone_for_too_long_keeps_nothing(service):
    """Somebody else has it by then: neither its progress nor its devices nor its end are taken."""
    run = checked(service, json_lines(*known(service, "pump-1")))
    epoch = ProvisioningService.epoch_of(service.pk)
    slow = claim_preview(run.pk, epoch, everyone=False)
    seen = foresee(run)
    ImportPreview.objects.update(held_until=run.created_at)
    assert preview_wanted(run, everyone=False)
    quick = claim_preview(run.pk, epoch, everyone=False)

    for late in (
        lambda: tell_progress(slow, {"step": "reading"}),
        lambda: keep_portions(slow, portions_of(slow, seen.now, is_later=False)),
        lambda: end_preview(slow, told_of(seen), numbers_of(seen)),
    ):
        with pytest.raises(NotHeld):
            late()
    assert not ImportPreviewPortion.objects.exists()
    run.refresh_from_db()
    assert run.foreseen is None
    end_preview(quick, told_of(seen), numbers_of(seen))
    assert kept(run) == quick


class Killed(BaseException):
    """What a process does not outlive."""


@pytest.mark.parametrize("seed", seeds(0, 12))
def test_killed_at_random_statements_another_works_it_out(service, monkeypatch, seed):
    monkeypatch.setattr(kept_devices, "PORTION", 2)
    monkeypatch.setattr(import_previews, "TOGETHER", 2)
    run = checked(service, json_lines(*known(service, *(f"pump-{number}" for number in range(9)))))
    whole = foresee(run)
    chance, kills = random.Random(seed), 0
    while kept(run) is None and kills < 50:
        left = [chance.randrange(1, 150)]

        def kill(execute, *statement, left=left):
            left[0] -= 1
            if not left[0]:
                raise Killed
            return execute(*statement)

        try:
            with connection.execute_wrapper(kill):
                work_out_preview(run.pk)
        except Killed:
            kills += 1
        # Nobody waits here for the time after which it is somebody else's.
        ImportPreview.objects.filter(ended_at=None).update(held_until=run.created_at)

    run.refresh_from_db()
    assert (kept(run).told, run.foreseen) == (told_of(whole), numbers_of(whole))
    assert rows_of(kept(run)) == [list(values(one)) for one in in_order(whole.now)]
    assert ImportPreview.objects.count() == 1


def interrupted(monkeypatch, act, *, at=Step.JUDGING):
    """What `act` does while devices are judged, once."""
    done = []

    def telling(run, limits=None, *, tell):
        def told(far):
            if far.step is at and not done:
                done.append(act())
            tell(far)

        return foresee(run, limits, tell=told)

    monkeypatch.setattr(previewing, "foresee", telling)


def test_a_change_meanwhile_ends_it_and_it_begins_anew(service, monkeypatch):
    run = checked(service, json_lines(*known(service, "pump-1", "pump-2")))
    interrupted(monkeypatch, lambda: disable_enrollment(service, "pump-2", actor=ALICE))

    work_out_preview(run.pk)

    assert (kept(run), preview_wanted(run, everyone=False)) == (None, True)
    work_out_preview(run.pk)
    told = kept(run)
    assert told.epoch == ProvisioningService.epoch_of(service.pk)
    assert [told.told["effects"][effect]["devices"] for effect in ("refused", "still_out")] == [1, 1]


@pytest.mark.parametrize("step", list(Step))
def test_cancelling_the_import_ends_it_and_nothing_of_it_stays(service, monkeypatch, step):
    ca = root("Plant")
    enroll_ca(service, ca, "plant")
    register(service, ca.leaf("pump-1"))
    run = checked(service, json_lines(keys("pump-1", provisioningStatus="disabled")))
    interrupted(monkeypatch, lambda: cancel_import(run, actor=ALICE), at=step)

    work_out_preview(run.pk)

    run.refresh_from_db()
    assert (run.state, run.foreseen) == (ImportState.CANCELLED, None)
    assert not ImportPreview.objects.exists()
    assert not ImportPreviewPortion.objects.exists()
    work_out_preview(run.pk)
    assert not ImportPreview.objects.exists()


def test_starting_the_import_ends_it_and_of_one_that_is_there_the_numbers_stay(service, monkeypatch):
    first, second = (checked(service, json_lines(*known(service, name))) for name in ("pump-1", "pump-2"))
    work_out_preview(first.pk)
    expected = kept(first).epoch
    interrupted(monkeypatch, lambda: started(second))

    start_import(first, without_bad_lines=False, actor=ALICE, expected_epoch=expected)
    work_out_preview(second.pk)

    first.refresh_from_db()
    second.refresh_from_db()
    assert first.foreseen["effects"]["refused"]["devices"] == 1
    assert (second.state, second.foreseen) == (ImportState.RUNNING, None)
    assert not ImportPreview.objects.exists()


def test_it_is_worked_out_anew_when_something_has_changed_or_time_has_passed(service, monkeypatch):
    run = checked(service, json_lines(*known(service, "pump-1")))
    work_out_preview(run.pk)
    first = kept(run)
    work_out_preview(run.pk)
    assert kept(run) == first, "it is there"

    enroll_keys(service, "another")
    assert kept(run) is None
    work_out_preview(run.pk)
    second = kept(run)
    assert (second.pk, second.epoch) > (first.pk, first.epoch)

    monkeypatch.setattr(import_previews, "HOLDS", timedelta(0))
    assert kept(run) is None
    work_out_preview(run.pk)
    assert ImportPreview.objects.get().pk > second.pk


def test_a_switch_that_is_due_makes_it_another_state(service):
    enroll_keys(service, "other")
    disable_enrollment(service, "other", actor=ALICE, until=timezone.now() + timedelta(hours=1))
    run = checked(service, json_lines(*known(service, "pump-1")))
    work_out_preview(run.pk)
    assert kept(run) is not None

    an_hour_ago = timezone.now() - timedelta(hours=1)
    service.individualenrollments.filter(registration_id="other").update(switches_at=an_hour_ago)

    assert preview_wanted(run, everyone=False)
    work_out_preview(run.pk)
    assert kept(run) is not None


def test_all_devices_are_examined_for_one_at_a_time_and_the_others_wait(service):
    run = checked(service, json_lines(*known(service, "pump-1")))

    with turn_to_examine_all() as has_turn:
        work_out_preview(run.pk, everyone=True)
        waiting = preview_begun(run, everyone=True)
        work_out_preview(run.pk)

    assert has_turn
    assert "this one waits" in how_far(waiting.progress).sentence
    assert "goes on when you leave" not in how_far(waiting.progress).sentence
    assert preview_wanted(run, everyone=True), "by whoever looks next"
    assert not kept(run).everyone
    work_out_preview(run.pk, everyone=True)
    assert kept(run, everyone=True).everyone
    assert kept(run).everyone, "it says no less than one at a glance"


def test_waiting_for_the_turn_is_written_once_however_often_somebody_looks(service):
    """On SQLite whoever begins a transaction keeps devices waiting, whether or not something is written in it."""
    run = checked(service, json_lines(*known(service, "pump-1")))

    def writes():
        with CaptureQueriesContext(connection) as taken:
            assert preview_wanted(run, everyone=True)
            work_out_preview(run.pk, everyone=True)
        return [one["sql"] for one in taken if not one["sql"].startswith("SELECT")]

    with turn_to_examine_all():
        assert any(sql.startswith("INSERT") for sql in writes())
        assert [writes() for _ in range(3)] == [[], [], []]
        assert "this one waits" in how_far(preview_begun(run, everyone=True).progress).sentence
    work_out_preview(run.pk, everyone=True)
    assert kept(run, everyone=True).everyone


def test_no_turn_is_taken_for_what_is_there(service):
    run = checked(service, json_lines(*known(service, "pump-1")))
    work_out_preview(run.pk, everyone=True)
    there = kept(run, everyone=True)

    with turn_to_examine_all():
        work_out_preview(run.pk, everyone=True)
        assert kept(run, everyone=True) == there


def test_why_it_cannot_be_told_is_kept_for_that_state(service, monkeypatch):
    run = checked(service, json_lines(keys("a")))

    def fails(*_, **__):
        raise SecretUnreadable

    with monkeypatch.context() as patched:
        patched.setattr(previewing, "foresee", fails)
        work_out_preview(run.pk)
    told = kept(run)
    run.refresh_from_db()

    assert (told.told, told.problem, run.foreseen) == (None, SecretUnreadable().message, None)
    enroll_keys(service, "another")
    work_out_preview(run.pk)
    assert kept(run).told is not None


def test_what_nobody_foresaw_is_logged_and_said(service, monkeypatch, caplog):
    run = checked(service, json_lines(keys("a")))
    monkeypatch.setattr(previewing, "foresee", lambda *_, **__: 1 / 0)

    work_out_preview(run.pk)

    assert "the log of the service says what" in kept(run).problem
    assert "ZeroDivisionError" in caplog.text


def test_nothing_is_worked_out_of_what_cannot_be_started(service):
    nothing = checked(service, json_lines("bad"))
    cancelled = cancel_import(checked(service, json_lines(keys("a"))), actor=ALICE)

    for run in (nothing, cancelled):
        assert not preview_wanted(run, everyone=False)
        work_out_preview(run.pk)
    assert not ImportPreview.objects.exists()


def test_of_two_previews_that_of_the_later_state_is_kept_with_the_import(service):
    run = checked(service, json_lines(keys("a")))
    older = numbers_of(foresee(run))
    enroll_keys(service, "another")
    newer = numbers_of(foresee(run))

    for numbers in (newer, older):
        keep_foreseen(run, numbers)

    assert ImportRun.objects.get().foreseen == newer
    keep_foreseen(ImportRun.objects.get(), None)
    assert ImportRun.objects.get().foreseen is None


@pytest.fixture
def many(service, monkeypatch):
    """A preview of 25 devices in portions of 4: every third comes in, in an order that no database has by itself."""
    monkeypatch.setattr(kept_devices, "PORTION", 4)
    run = checked(service, json_lines(*known(service, "a", "b")))
    seen = foresee(run)
    one = seen.now.devices[0]
    names = [f"{'X' if number % 2 else 'x'}{'-._'[number % 3]}{number:02}" for number in range(25)]
    devices = [
        type(one)(name, *((one.after, one.before) if number % 3 == 0 else (one.before, one.after)))
        for number, name in enumerate(names)
    ]
    preview = claim_preview(run.pk, ProvisioningService.epoch_of(service.pk), everyone=False)
    keep_portions(preview, portions_of(preview, Preview(1, tuple(devices)), is_later=False))
    return preview, in_order(Preview(1, tuple(devices)))


@pytest.mark.parametrize("effect", [None, Effect.COMES_IN, Effect.REFUSED, Effect.UNKNOWN])
def test_devices_are_read_by_pages_as_from_one_list(many, effect):
    preview, devices = many
    rows = [list(values(one)) for one in devices if effect in (None, one.effect)]
    names = [row[0].lower() for row in rows]
    read = KeptDevices(preview, effect, is_later=False)

    assert read.total == len(rows)
    assert list(read.every()) == rows
    for key in ["", "x", "zzz", *(one.registration_id.lower() for one in devices)]:
        behind = sum(name <= key for name in names)
        before = max(0, sum(name < key for name in names) - 5)
        after, upwards = read.after(key, 5), read.before(key, 5)
        assert (after.rows, after.start) == (rows[behind : behind + 5], behind), key
        assert (upwards.rows, upwards.start) == (rows[before : before + 5], before), key


def test_a_page_reads_few_portions_of_many(many, django_assert_num_queries):
    preview, devices = many

    with django_assert_num_queries(3):
        found = KeptDevices(preview, None, is_later=False).after(devices[10].registration_id.lower(), 3)

    assert len(found.rows) == 3


def test_half_of_a_list_is_not_taken_along(many):
    """The preview is replaced while somebody exports it: that must not look like all of it."""
    preview, _ = many
    rows = KeptDevices(preview, None, is_later=False).every()
    next(rows)
    preview.delete()

    with pytest.raises(Conflict, match="worked out anew meanwhile"):
        list(rows)


def test_portions_hold_no_keys(service):
    entry = enroll_keys(service, "pump-1")
    run = checked(service, json_lines(keys("pump-1", operation="update")))
    work_out_preview(run.pk)

    kept_text = json.dumps([list(one) for one in ImportPreviewPortion.objects.values_list("rows")])
    assert "pump-1" in kept_text
    assert entry.primary_key not in kept_text + json.dumps(ImportPreview.objects.get().told)
