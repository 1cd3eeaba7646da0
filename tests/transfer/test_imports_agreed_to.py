"""R12: an import does no more than somebody agreed to who saw its preview, whatever others change meanwhile."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment, enable_enrollment
from enrollments.actions.import_freed import Freed
from enrollments.actions.import_holding import hold
from enrollments.actions.import_work import pause_import
from enrollments.actions.imports import NOT_LOOKED_AT, may_widen, start_import
from enrollments.actions.services import change_settings
from enrollments.audit.events import Event
from enrollments.audit.record import record
from enrollments.errors import PreviewOutdated
from enrollments.models import ImportRun, ImportState, ProvisioningService
from enrollments.transfer import work
from enrollments.transfer.foreseen import foresee
from enrollments.transfer.work import carry_out_run, work_on
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_keys, register, signs
from tests.transfer.lists import KEY, below, checked, json_lines, keys, problems

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]


@pytest.fixture(autouse=True)
def a_line_a_portion(monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", 1)


def update(name, status="enabled", operation="update"):
    attestation = {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}
    return {
        "registrationId": name,
        "operation": operation,
        "attestation": attestation,
        "provisioningStatus": status,
    }


def enroll(service, *names):
    for name in names:
        enroll_keys(service, name, primary_key=KEY, secondary_key=KEY)


def outcome(service, name):
    return register(ProvisioningService.objects.get(pk=service.pk), signs(service, name, KEY), name).outcome


def started(run, epoch=None):
    """By whoever looked at what it does as things stand, unless it is said on which epoch."""
    epoch = ProvisioningService.epoch_of(run.service_id) if epoch is None else epoch
    start_import(run, without_bad_lines=False, actor=ALICE, expected_epoch=epoch)
    held = hold(run.pk)
    assert held is not None
    return held


def one_portion(run, holder):
    return work._chunk(run, holder, Freed())


def test_a_list_that_let_nobody_in_when_it_was_checked_undoes_no_revocation(service):
    enroll(service, "a", "b")
    run = checked(service, json_lines(update("a", "disabled"), update("b")))
    epoch = ProvisioningService.epoch_of(service.pk)
    assert not may_widen(run)
    disable_enrollment(service, "b", actor=ALICE, reason="stolen")

    run = carry_out_run(*started(run, epoch))

    assert (outcome(service, "a"), outcome(service, "b")) == ("disabled", "disabled")
    assert run.counts == {"disabled": 1, "refused": 1}
    assert "nobody" not in problems(run)[2]
    assert "which it did not when the list was checked" in problems(run)[2]


def test_nor_does_one_that_nobody_looked_at(service):
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant-7")
    run = checked(service, json_lines(below("plant-7", ca, operation="update", provisioningStatus="enabled")))
    disable_enrollment_group(service, "plant-7", actor=ALICE, reason="lost")

    carry_out_run(*started(run, NOT_LOOKED_AT))

    assert not service.enrollmentgroups.get().enabled


@pytest.mark.parametrize(
    "revoke",
    [
        pytest.param(lambda service: disable_enrollment(service, "b", actor=ALICE), id="disabled"),
        pytest.param(lambda service: delete_enrollments(service, ["b"], actor=ALICE), id="deleted"),
    ],
)
def test_what_is_shut_out_while_an_import_runs_stays_out(service, revoke):
    enroll(service, "b")
    lines = [keys("new"), update("b", operation="createOrUpdate"), keys("last")]
    run, holder = started(checked(service, json_lines(*lines)), ProvisioningService.epoch_of(service.pk))
    run = one_portion(run, holder)

    revoke(service)
    run = carry_out_run(run, holder)

    assert outcome(service, "b") != "assigned"
    assert run.counts == {"added": 2, "refused": 1}
    assert "alice" in problems(run)[2]
    assert (
        "after the preview on which this import was started, so the entry is left as it is"
        in problems(run)[2]
    )
    assert run.state == ImportState.DONE


def test_what_disables_is_done_whoever_changed_the_entry_meanwhile(service):
    enroll(service, "b")
    run, holder = started(checked(service, json_lines(keys("new"), update("b", "disabled"))))
    run = one_portion(run, holder)
    enable_enrollment(service, "b", until=timezone.now() + timedelta(days=1), actor=ALICE)

    assert carry_out_run(run, holder).counts == {"added": 1, "disabled": 1}
    assert outcome(service, "b") == "disabled"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda service: disable_enrollment_group(service, "plant-7", actor=ALICE), id="group"),
        pytest.param(
            lambda service: change_settings(service, {"proof_of_possession": True}, actor=ALICE), id="setting"
        ),
    ],
)
def test_where_what_stands_above_devices_was_changed_somebody_looks_at_the_rest_first(service, change):
    enroll_ca(service, root("Plant CA"), "plant-7")
    run, holder = started(checked(service, json_lines(keys("new"), keys("next"))))
    run = one_portion(run, holder)
    change(service)
    ImportRun.objects.update(holder="", held_until=None)

    work_on(run.pk)

    run.refresh_from_db()
    assert (run.state, run.position) == (ImportState.PAUSED, 1)
    assert "look at what the rest of it does now, and let it go on" in run.problem
    epoch = ProvisioningService.epoch_of(service.pk)
    assert foresee(run).now.epoch == epoch
    run = carry_out_run(*started(run, epoch))
    assert (run.state, run.counts) == (ImportState.DONE, {"added": 2})


def test_what_was_paused_goes_on_on_a_fresh_preview_alone(service):
    enroll(service, "b")
    run, holder = started(checked(service, json_lines(keys("new"), update("b"))))
    run = one_portion(run, holder)
    pause_import(run.pk, holder)
    before = ProvisioningService.epoch_of(service.pk)
    disable_enrollment(service, "b", actor=ALICE, reason="stolen")

    with pytest.raises(PreviewOutdated):
        start_import(run, without_bad_lines=False, actor=ALICE, expected_epoch=before)
    with pytest.raises(PreviewOutdated):
        start_import(run, without_bad_lines=False, actor=ALICE, expected_epoch=NOT_LOOKED_AT)
    seen = foresee(ImportRun.objects.get()).now
    assert [device.effect.value for device in seen.devices] == ["comes_in"]
    run = carry_out_run(*started(run, seen.epoch))

    assert run.counts == {"added": 1, "enabled": 1}


def test_its_own_portions_hold_it_up_by_nothing(service):
    ca, other = root("Plant CA"), root("Other CA")
    lines = [below("plant-7", ca), below("plant-8", other), keys("a"), keys("b")]
    run = carry_out_run(
        *started(checked(service, json_lines(*lines)), ProvisioningService.epoch_of(service.pk))
    )

    assert run.counts == {"added": 4}


def test_what_somebody_was_refused_to_do_to_an_entry_is_no_change_of_it(service):
    enroll(service, "b")
    lines = [keys("new"), {**update("b"), "deviceId": "other"}]
    run, holder = started(checked(service, json_lines(*lines)))
    run = one_portion(run, holder)
    entry = service.individualenrollments.get(registration_id="b")
    record(Event.REFUSED, subject=entry, actor=ALICE, service=service)

    assert carry_out_run(run, holder).counts == {"added": 1, "changed": 1}
