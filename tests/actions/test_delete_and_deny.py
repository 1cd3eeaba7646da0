"""Deleting entries, and keeping out the devices that another entry would let in then (R7): all of it or nothing."""

import pytest

from enrollments.actions import deleting
from enrollments.actions.deleting import Deleted, delete_and_deny
from enrollments.actions.enrollment_groups import change_enrollment_group, disable_enrollment_group
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.revocation import deny_device
from enrollments.errors import Conflict, PreviewOutdated
from enrollments.models import HistoryEvent, ProvisioningService, Slot
from tests.certificates import root, self_signed
from tests.devices import ALICE, derived_key, enroll_ca, enroll_device, enroll_key_group, register, signs
from tests.factories import a_service

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def ca():
    return root("Root")


@pytest.fixture
def line(service, ca):
    """A group below an enabled root, through which its devices would come back."""
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    enroll_ca(service, plant, "plant-7")
    return plant


def devices_of(service, ca, number, prefix="pump"):
    leaves = [ca.leaf(f"{prefix}-{one}") for one in range(number)]
    assert {register(service, leaf).outcome for leaf in leaves} == {"assigned"}
    return leaves


def outcomes(service, leaves):
    return {register(service, leaf).outcome for leaf in leaves}


def rows(service, event):
    return HistoryEvent.objects.filter(service_id=service.pk, event=event).order_by("pk")


def group(service, group_id="plant-7"):
    return service.enrollmentgroups.by_group_id(group_id)


def test_the_devices_of_the_group_stay_out_and_others_below_the_root_do_not(service, ca, line):
    pumps, valves = devices_of(service, line, 3), devices_of(service, ca, 2, "valve")

    done = delete_and_deny(service, [group(service)], actor=ALICE, reason="sold")

    assert done == Deleted(deleted=1, denied=3)
    assert not service.enrollmentgroups.filter(group_id="plant-7").exists()
    assert outcomes(service, pumps) == {"disabled"}
    assert outcomes(service, valves) == {"assigned"}
    added = rows(service, "enrollment.added_disabled")
    assert {(row.subject_name, row.reason, row.actor_name) for row in added} == {
        (f"pump-{number}", "sold", "alice") for number in range(3)
    }
    assert [row.subject_name for row in rows(service, "group.deleted")] == ["plant-7"]


def test_an_individual_of_the_group_above_is_replaced_by_a_deny_entry(service, ca):
    leaf = ca.leaf("pump-042")
    enroll_ca(service, ca, "root")
    entry = enroll_device(service, leaf)
    register(service, leaf)

    done = delete_and_deny(service, [entry], actor=ALICE)

    assert done == Deleted(deleted=1, denied=1)
    assert not service.individualenrollments.by_registration_id("pump-042").enabled
    assert register(service, leaf).outcome == "disabled"


def test_a_deny_entry_of_a_group_with_keys_stays_one(service):
    keys = enroll_key_group(service)
    shown = signs(service, "line-9-1", derived_key(keys.primary_key, "line-9-1"))
    register(service, shown, "line-9-1")
    entry = deny_device(service, "line-9-1", actor=ALICE)

    assert delete_and_deny(service, [entry], actor=ALICE).denied == 1

    assert register(service, shown, "line-9-1").outcome == "disabled"


def test_nobody_is_denied_who_is_refused_anyway(service, ca):
    lone = enroll_ca(service, ca, "lone")
    devices_of(service, ca, 2)

    assert delete_and_deny(service, [lone], actor=ALICE) == Deleted(deleted=1, denied=0)
    assert not service.individualenrollments.exists()


def test_what_fails_at_the_last_device_has_not_happened(service, line, monkeypatch):
    pumps = devices_of(service, line, 3)
    before = HistoryEvent.objects.count()
    really = deleting.deny_device

    def fails_at_the_last(service, registration_id, **rest):
        if registration_id == "pump-2":
            raise RuntimeError("the disk is full")
        return really(service, registration_id, **rest)

    monkeypatch.setattr(deleting, "deny_device", fails_at_the_last)
    with pytest.raises(RuntimeError):
        delete_and_deny(service, [group(service)], actor=ALICE)

    assert group(service).enabled
    assert not service.individualenrollments.exists()
    assert HistoryEvent.objects.count() == before
    assert outcomes(service, pumps) == {"assigned"}


def test_a_preview_of_before_a_change_is_no_ground_to_act_on(service, line):
    epoch = ProvisioningService.epoch_of(service.pk)
    deny_device(service, "somebody", actor=ALICE)

    with pytest.raises(PreviewOutdated):
        delete_and_deny(service, [group(service)], actor=ALICE, expected_epoch=epoch)

    assert group(service).enabled


def test_devices_that_register_meanwhile_do_not_make_it_void(service, line):
    epoch = ProvisioningService.epoch_of(service.pk)
    pumps = devices_of(service, line, 2)

    done = delete_and_deny(service, [group(service)], actor=ALICE, expected_epoch=epoch)

    assert done.denied == 2
    assert outcomes(service, pumps) == {"disabled"}


def test_many_are_denied_in_parts_and_the_entry_goes_with_the_last(service, line, monkeypatch):
    monkeypatch.setattr(deleting, "DENIED_AT_ONCE", 2)
    pumps = devices_of(service, line, 5)

    assert delete_and_deny(service, [group(service)], actor=ALICE) == Deleted(deleted=1, denied=5)
    assert outcomes(service, pumps) == {"disabled"}


def test_more_than_one_call_denies_are_left_for_the_next_and_nothing_is_deleted_yet(
    service, line, monkeypatch
):
    monkeypatch.setattr(deleting, "DENIED_AT_ONCE", 2)
    monkeypatch.setattr(deleting, "MAX_DENIED", 2)
    pumps = devices_of(service, line, 5)

    first = delete_and_deny(service, [group(service)], actor=ALICE)
    assert first == Deleted(deleted=0, denied=2, left=3)
    assert group(service).enabled
    assert outcomes(service, pumps) == {"assigned", "disabled"}

    assert delete_and_deny(service, [group(service)], actor=ALICE) == Deleted(deleted=1, denied=3)
    assert outcomes(service, pumps) == {"disabled"}


def test_what_somebody_changes_between_two_parts_ends_it_before_anything_is_deleted(
    service, line, monkeypatch
):
    monkeypatch.setattr(deleting, "DENIED_AT_ONCE", 2)
    devices_of(service, line, 5)
    ours = deleting._epoch_at_its_end
    # Somebody else's change comes after the first part: the epoch is one more than ours left behind.
    monkeypatch.setattr(deleting, "_epoch_at_its_end", lambda service: ours(service) - 1)

    with pytest.raises(PreviewOutdated):
        delete_and_deny(service, [group(service)], actor=ALICE)

    assert group(service).enabled
    assert service.individualenrollments.count() == 2


class TestWhoComesMeanwhile:
    """A registration raises no epoch, so what was examined before it does not know of the device."""

    @pytest.fixture
    def newcomer(self, line):
        return line.leaf("newcomer")

    def test_who_registers_while_the_others_are_examined_is_kept_out(
        self, service, line, newcomer, monkeypatch
    ):
        devices_of(service, line, 2)
        meanwhile(monkeypatch, "preview_of_act", lambda: register(service, newcomer))

        assert delete_and_deny(service, [group(service)], actor=ALICE) == Deleted(deleted=1, denied=3)
        assert register(service, newcomer).outcome == "disabled"

    def test_so_is_who_comes_between_two_parts(self, service, line, newcomer, monkeypatch):
        monkeypatch.setattr(deleting, "DENIED_AT_ONCE", 2)
        devices_of(service, line, 5)
        really, taken = deleting.change_lock, []

        def locking(*args, **kwargs):
            taken.append(1)
            if len(taken) == 2:
                register(service, newcomer)
            return really(*args, **kwargs)

        monkeypatch.setattr(deleting, "change_lock", locking)

        assert delete_and_deny(service, [group(service)], actor=ALICE).denied == 6
        assert register(service, newcomer).outcome == "disabled"

    def test_and_who_was_refused_by_what_is_deleted(self, service, line, newcomer, monkeypatch):
        disable_enrollment_group(service, "plant-7", actor=ALICE)
        meanwhile(monkeypatch, "preview_of_act", lambda: register(service, newcomer))

        assert delete_and_deny(service, [group(service)], actor=ALICE).denied == 1
        assert register(service, newcomer).outcome == "disabled"

    def test_a_device_that_came_before_with_another_certificate_is_examined_anew(
        self, service, ca, line, newcomer, monkeypatch
    ):
        """It could not have come in by what it showed first: that was issued by a CA of the group alone."""
        lone = root("Lone")
        spec = GroupSpec(certificates={Slot.PRIMARY: line.parsed, Slot.SECONDARY: lone.parsed})
        etag = group(service).etag
        change_enrollment_group(service, "plant-7", spec, expected_etag=etag, actor=ALICE)
        register(service, lone.leaf("newcomer"))
        meanwhile(monkeypatch, "preview_of_act", lambda: register(service, newcomer))

        assert delete_and_deny(service, [group(service)], actor=ALICE).denied == 1
        assert register(service, newcomer).outcome == "disabled"

    def test_who_comes_through_another_entry_is_left_alone(self, service, ca, line, monkeypatch):
        valve = ca.leaf("valve")
        meanwhile(monkeypatch, "preview_of_act", lambda: register(service, valve))

        assert delete_and_deny(service, [group(service)], actor=ALICE).denied == 0
        assert register(service, valve).outcome == "assigned"

    def test_and_so_is_who_is_refused_without_the_entry_anyway(self, service, ca, monkeypatch):
        lone = enroll_ca(service, ca, "lone")
        pump = ca.leaf("pump")
        meanwhile(monkeypatch, "preview_of_act", lambda: register(service, pump))

        assert delete_and_deny(service, [lone], actor=ALICE) == Deleted(deleted=1, denied=0)
        assert not service.individualenrollments.exists()

    def test_who_comes_in_later_only_is_kept_out_too(
        self, service, line, newcomer, database_clock, monkeypatch
    ):
        """Refused now by the group above, which is to be enabled."""
        at = database_clock.ahead(days=1)
        disable_enrollment_group(service, "root", actor=ALICE, until=at)
        meanwhile(monkeypatch, "preview_of_act", lambda: register(service, newcomer))

        assert delete_and_deny(service, [group(service)], actor=ALICE).denied == 1
        database_clock.set_to(at)
        assert register(service, newcomer, at=at).outcome == "disabled"

    def test_many_are_examined_before_the_lock_is_taken(self, service, line, monkeypatch):
        monkeypatch.setattr(deleting, "DENIED_AT_ONCE", 2)
        came = []
        meanwhile(monkeypatch, "preview_of_act", lambda: came.extend(devices_of(service, line, 5)))

        assert delete_and_deny(service, [group(service)], actor=ALICE) == Deleted(deleted=1, denied=5)
        assert outcomes(service, came) == {"disabled"}

    def test_nothing_is_deleted_while_more_come_than_can_be_examined(self, service, line, monkeypatch):
        monkeypatch.setattr(deleting, "EXAMINED_UNDER_LOCK", 2)
        monkeypatch.setattr(deleting, "ROUNDS", 1)
        meanwhile(monkeypatch, "preview_of_act", lambda: devices_of(service, line, 3))
        meanwhile(monkeypatch, "_passing_once_gone", lambda: devices_of(service, line, 3, "valve"))

        with pytest.raises(Conflict, match="3 devices registered meanwhile"):
            delete_and_deny(service, [group(service)], actor=ALICE)

        assert group(service).enabled


def meanwhile(monkeypatch, name, happens):
    """Once, when that is worked out and not yet acted on."""
    really, done = getattr(deleting, name), []

    def then_something_happens(*args, **kwargs):
        result = really(*args, **kwargs)
        if not done:
            done.append(1)
            happens()
        return result

    monkeypatch.setattr(deleting, name, then_something_happens)


def test_all_devices_are_examined_however_many_there_are(service, ca, line, monkeypatch):
    """R16: whoever was not looked at would come back in."""
    pumps = devices_of(service, line, 2)
    monkeypatch.setattr("enrollments.actions.preview.limits.MAX_CLASSES", 0)
    monkeypatch.setattr("enrollments.actions.preview.limits.MAX_SINGLY", 0)

    done = delete_and_deny(service, [group(service)], actor=ALICE, reason="sold")

    assert done.denied == 2
    assert outcomes(service, pumps) == {"disabled"}


def test_a_name_that_a_group_with_keys_would_take_is_kept_and_so_are_the_bars_of_its_keys(service, ca):
    """It never registered, and its certificate is of no CA here: a derived key would come in under its name."""
    keys = enroll_key_group(service)
    pinned = self_signed("line-9-1")
    entry = enroll_device(service, pinned, enabled=False)

    assert delete_and_deny(service, [entry], actor=ALICE) == Deleted(deleted=1, denied=1)

    derived = signs(service, "line-9-1", derived_key(keys.primary_key, "line-9-1"))
    assert register(service, derived, "line-9-1").outcome == "disabled"
    held = service.individualenrollments.by_registration_id("line-9-1").certificates.get()
    assert held.spki_sha256 == pinned.parsed.spki_sha256


def test_a_name_that_was_denied_and_never_seen_stays_denied(service, ca):
    enroll_ca(service, ca, "plant-7")
    entry = deny_device(service, "pump-042", actor=ALICE)

    assert delete_and_deny(service, [entry], actor=ALICE).denied == 1
    assert register(service, ca.leaf("pump-042")).outcome == "disabled"
