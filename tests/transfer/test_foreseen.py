"""What a checked import would do to devices that are known, before it is started; and that it then does that."""

import pytest
from django.utils import timezone

from enrollments.actions.judging import judge
from enrollments.actions.preview import Effect
from enrollments.audit.actor import Actor, Way
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.transfer import foreseen
from enrollments.transfer.foreseen import foresee
from tests.certificates import root
from tests.devices import enroll_ca, enroll_device, enroll_keys, new_service, register, shows
from tests.transfer.lists import below, carried_out, checked, json_lines, keys, pinned, problems

pytestmark = pytest.mark.django_db
ROOT = Actor("cli", "root", Way.COMMAND_LINE)


@pytest.fixture
def service():
    return new_service()


@pytest.fixture
def ca():
    return root("Plant")


def effects(preview):
    return {one.registration_id: one.effect for one in preview.devices}


def test_devices_of_all_kinds_of_lines(service, ca):
    line, other = ca.intermediate("Line"), root("Other")
    enroll_ca(service, ca, "plant")
    enroll_ca(service, other, "other", enabled=False)
    leaves = {
        leaf.parsed.common_names[0]: leaf
        for leaf in (
            ca.leaf("stays"),
            ca.leaf("denied"),
            line.leaf("barred"),
            other.leaf("comes-back"),
            ca.leaf("off"),
        )
    }
    enroll_device(service, leaves["off"])
    for leaf in leaves.values():
        register(service, leaf)
    lines = json_lines(
        *(keys(f"new-{number}") for number in range(20)),
        keys("denied", provisioningStatus="disabled"),
        below("line", line, provisioningStatus="disabled"),
        below("other", other, operation="update"),
        {"registrationId": "off", "operation": "disable"},
    )
    run = checked(service, lines, actor=ROOT)
    rows, epoch = HistoryEvent.objects.count(), ProvisioningService.epoch_of(service.pk)

    seen = foresee(run)

    assert not problems(run)
    assert seen.lines == 4, "new devices are nobody's matter"
    assert effects(seen.preview) == {
        "denied": Effect.REFUSED,
        "barred": Effect.REFUSED,
        "comes-back": Effect.COMES_IN,
        "off": Effect.REFUSED,
    }
    assert seen.preview.epoch == epoch
    assert (HistoryEvent.objects.count(), ProvisioningService.epoch_of(service.pk)) == (rows, epoch)
    carried_out(run, actor=ROOT)
    told = {one.registration_id: one.after.verdict for one in seen.preview.devices}
    assert told == {name: verdict(service, name, leaves[name]) for name in told}


def verdict(service, name, leaf):
    return judge(service, name, shows(leaf), at=timezone.now()).decision.verdict


def test_a_new_disabled_entry_that_bars_the_key_of_a_known_device_counts(service, ca):
    enroll_ca(service, ca, "plant")
    leaf = ca.leaf("pump-1")
    register(service, leaf)
    barring = {**pinned(leaf), "registrationId": "pump-1", "provisioningStatus": "disabled"}
    again = {**pinned(ca.leaf("pump-2", key=leaf.key)), "provisioningStatus": "disabled"}

    for line in (barring, again):
        seen = foresee(checked(service, json_lines(line)))

        assert effects(seen.preview)["pump-1"] is Effect.REFUSED


def test_lines_about_one_entry_are_tried_together(service, ca):
    enroll_ca(service, ca, "plant")
    register(service, ca.leaf("pump-1"))
    first = {**keys("pump-1"), "operation": "create"}
    second = {"registrationId": "pump-1", "operation": "disable"}

    seen = foresee(checked(service, json_lines(first)))
    assert effects(seen.preview) == {"pump-1": Effect.REFUSED}
    assert seen.lines == 1
    # Whoever names an entry that only the list itself adds is told so by the check.
    assert checked(service, json_lines(first, second)).bad_lines == 1


def test_of_too_many_lines_nothing_is_said(service, monkeypatch):
    monkeypatch.setattr(foreseen, "MOST_LINES", 1)
    for name in ("a", "b"):
        enroll_keys(service, name)
    lines = [{"registrationId": name, "operation": "disable"} for name in ("a", "b")]

    seen = foresee(checked(service, json_lines(*lines)))

    assert (seen.lines, seen.preview) == (2, None)
