"""What a checked import would do to devices that are known, before it is started; and that it then does that."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import delete_enrollment_groups, disable_enrollment_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.enrollments_together import add_individual_enrollments
from enrollments.actions.import_changes import carry_out_changes
from enrollments.actions.judging import judge
from enrollments.actions.preview import Effect, above, limits
from enrollments.actions.preview.words import turning_in_line
from enrollments.actions.revocation import release_registration
from enrollments.attestation.credential import PresentedCredential
from enrollments.audit.actor import Actor, Way
from enrollments.models import (
    AttestationMechanism,
    HistoryEvent,
    ProvisioningService,
    RegistrationRecord,
    locks,
)
from enrollments.transfer.foreseen import foresee
from tests.certificates import EXPIRED, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, register, shows, signs
from tests.transfer.lists import below, carried_out, checked, json_lines, keys, pinned, problems

pytestmark = pytest.mark.django_db
ROOT = Actor("cli", "root", Way.COMMAND_LINE)


def foresee_now(run):
    return foresee(run).now


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

    seen = foresee_now(run)

    assert not problems(run)
    assert effects(seen) == {
        "denied": Effect.REFUSED,
        "barred": Effect.REFUSED,
        "comes-back": Effect.COMES_IN,
        "off": Effect.REFUSED,
    }
    assert seen.epoch == epoch
    assert (HistoryEvent.objects.count(), ProvisioningService.epoch_of(service.pk)) == (rows, epoch)
    carried_out(run, actor=ROOT)
    told = {one.registration_id: one.after.verdict for one in seen.devices}
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
        seen = foresee_now(checked(service, json_lines(line)))

        assert effects(seen)["pump-1"] is Effect.REFUSED


def test_what_a_device_proved_since_it_was_admitted_counts(service):
    ca = root("Plant", not_before=EXPIRED["not_before"])
    enroll_ca(service, ca, "plant")
    register(service, ca.leaf("pump-1", **EXPIRED), at=EXPIRED["not_after"] - timedelta(days=1))
    disable_enrollment_group(service, "plant", actor=ALICE)
    renewed = ca.leaf("pump-1")
    assert register(service, renewed).outcome == "disabled"
    run = checked(service, json_lines(below("plant", ca, operation="update")), actor=ROOT)

    assert effects(foresee_now(run)) == {"pump-1": Effect.COMES_IN}
    carried_out(run, actor=ROOT)
    assert register(service, renewed).outcome == "assigned"


def test_who_comes_in_by_sending_along_what_a_group_holds_no_more(service, ca):
    line, new = ca.intermediate("Line"), root("New")
    enroll_ca(service, ca, "plant")
    enroll_ca(service, line, "line")
    leaf = line.leaf("pump-1")
    alone = PresentedCredential(certificates=(leaf.der,))
    assert register(service, alone, "pump-1").outcome == "assigned"
    release_registration(service, "pump-1", actor=ALICE)
    run = checked(service, json_lines(below("line", new, operation="update")))

    (device,) = foresee_now(run).devices

    assert (device.effect, str(device.unless)) == (Effect.REFUSED, "enrollment group plant")
    assert device.sides.is_sent_along
    carried_out(run, actor=ROOT)
    assert register(service, alone, "pump-1").outcome == "unauthorized"
    assert register(service, shows(leaf, line), "pump-1").outcome == "assigned"


def test_so_does_each_of_several_certificates_of_a_device_without_a_record(service, ca):
    other = root("Other")
    enroll_ca(service, ca, "plant", enabled=False)
    enroll_ca(service, other, "other", enabled=False)
    for one in (ca, other):
        register(service, one.leaf("pump-1"))
    RegistrationRecord.objects.all().delete()
    run = checked(service, json_lines(below("plant", ca, operation="update")), actor=ROOT)

    assert effects(foresee_now(run)) == {"pump-1": Effect.COMES_IN}


def test_lines_about_one_entry_are_tried_together(service, ca):
    enroll_ca(service, ca, "plant")
    register(service, ca.leaf("pump-1"))
    first = {**keys("pump-1"), "operation": "create"}
    second = {"registrationId": "pump-1", "operation": "disable"}

    seen = foresee_now(checked(service, json_lines(first)))
    assert effects(seen) == {"pump-1": Effect.REFUSED}
    # Whoever names an entry that only the list itself adds is told so by the check.
    assert checked(service, json_lines(first, second)).bad_lines == 1


def test_individuals_are_worked_out_while_nothing_is_locked(service, ca, monkeypatch):
    """A rehearsal would hold the one lock of SQLite: as many lines as a list has are none of its business."""

    def refused(*_, **__):
        raise AssertionError("something was rehearsed, or changed")

    enroll_ca(service, ca, "plant")
    leaves = [ca.leaf(f"pump-{number}") for number in range(3)]
    for leaf in leaves:
        register(service, leaf)
    lines = [pinned(leaves[0]), {**pinned(leaves[1]), "provisioningStatus": "disabled"}, keys("pump-2")]
    run = checked(service, json_lines(*lines))
    monkeypatch.setattr(locks.transaction, "atomic", refused)

    seen = foresee_now(run)

    assert effects(seen) == {
        "pump-0": Effect.STILL_ADMITTED,
        "pump-1": Effect.REFUSED,
        "pump-2": Effect.REFUSED,
    }


def test_a_list_of_any_length_is_worked_out(service):
    """More lines than were tried before, all of them about devices that are known, in several portions."""
    count = 1100
    names = [f"pump-{number}" for number in range(count)]
    specs = [
        IndividualSpec(registration_id=name, mechanism=AttestationMechanism.SYMMETRIC_KEY) for name in names
    ]
    added = add_individual_enrollments(service, specs, actor=ROOT)
    register(service, signs(service, names[0], added[0].primary_key), names[0])
    record = service.registrations.get()
    RegistrationRecord.objects.bulk_create(like(record, one) for one in added[1:])
    lines = [{"registrationId": name, "operation": "disable"} for name in names[::2]]
    lines += [keys(name, operation="update") for name in names[1::2]]

    seen = foresee_now(checked(service, json_lines(*lines)))

    assert seen.counts == {Effect.REFUSED: count // 2, Effect.STILL_ADMITTED: count // 2}
    assert seen.not_examined == 0


def like(record, entry):
    values = {one.attname: getattr(record, one.attname) for one in record._meta.concrete_fields}
    name = entry.registration_id
    owner = {"individual_id": entry.pk, "owner_individual_id": entry.pk, "key_ids": entry.primary_key_id}
    return RegistrationRecord(
        **{**values, "id": None, "registration_id": name, "registration_key": name, **owner}
    )


@pytest.fixture
def rehearsed(monkeypatch):
    """How many lines were carried out to be taken back, for each time that some were."""
    numbers = []

    def noted(service, changes, *, actor):
        numbers.append(len(changes))
        return carry_out_changes(service, changes, actor=actor)

    monkeypatch.setattr(above, "carry_out_changes", noted)
    return numbers


def test_only_lines_that_can_lie_above_devices_are_rehearsed(service, ca, rehearsed):
    line, lone = ca.intermediate("Line"), root("Lone")
    enroll_ca(service, ca, "plant")
    enroll_ca(service, root("Other"), "other")
    register(service, ca.leaf("pump-1"))

    nobody_below = [
        below("lone", lone),
        {"enrollmentGroupId": "other", "operation": "disable"},
        below("line", line),
    ]
    foresee_now(checked(service, json_lines(*nobody_below)))
    assert rehearsed == []
    foresee_now(checked(service, json_lines(below("plant", ca, operation="update"))))
    assert rehearsed == [], "it is so already"
    changed = below("plant", ca, operation="update", provisioningStatus="disabled")
    seen = foresee_now(checked(service, json_lines(*nobody_below, changed)))
    assert rehearsed == [1]
    assert effects(seen) == {"pump-1": Effect.REFUSED}


def test_what_a_group_waits_for_is_rehearsed_with_it(service, ca, rehearsed):
    register_below(service, ca, "pump-1")
    lines = [below("first", root("First")), below("plant", ca, predecessor="first")]

    seen = foresee_now(checked(service, json_lines(*lines)))

    assert rehearsed == [2]
    assert effects(seen) == {"pump-1": Effect.COMES_IN}


def register_below(service, ca, name):
    """A device of a group that is deleted since."""
    enroll_ca(service, ca, "gone")
    register(service, ca.leaf(name))
    delete_enrollment_groups(service, ["gone"], actor=ROOT)


def test_a_device_certificate_with_the_key_of_a_ca_bars_all_below(service, ca, rehearsed):
    line = ca.intermediate("Line")
    enroll_ca(service, ca, "plant")
    register(service, line.leaf("pump-1"))
    barring = {**pinned(ca.leaf("bars-line", key=line.key)), "provisioningStatus": "disabled"}

    seen = foresee_now(checked(service, json_lines(barring)))

    assert rehearsed == [1, 1], "for what lies above the devices of the line, and above its own"
    assert effects(seen)["pump-1"] is Effect.REFUSED


def test_each_rehearsal_is_of_few_lines_however_many_there_are(service, monkeypatch, rehearsed):
    """Others who write wait for a rehearsal: devices are looked at together that need the same lines."""
    monkeypatch.setattr(above, "MOST_LINES", 2)
    cas = [root(f"Plant {number}") for number in range(5)]
    for number, ca in enumerate(cas):
        enroll_ca(service, ca, f"plant-{number}")
        register(service, ca.leaf(f"pump-{number}"))
    lines = [{"enrollmentGroupId": f"plant-{number}", "operation": "disable"} for number in range(5)]

    seen = foresee_now(checked(service, json_lines(*lines)))

    assert rehearsed == [2, 2, 1]
    assert effects(seen) == {f"pump-{number}": Effect.REFUSED for number in range(5)}
    assert seen.not_examined == 0


def test_devices_that_too_many_lines_lie_above_are_counted(service, ca, monkeypatch, rehearsed):
    monkeypatch.setattr(above, "MOST_LINES", 1)
    line = ca.intermediate("Line")
    enroll_ca(service, ca, "plant")
    enroll_ca(service, line, "line")
    register(service, line.leaf("pump-1"))
    register(service, ca.leaf("pump-2"))
    lines = [{"enrollmentGroupId": name, "operation": "disable"} for name in ("plant", "line")]

    seen = foresee_now(checked(service, json_lines(*lines)))

    assert rehearsed == [1]
    assert (effects(seen), seen.not_examined) == ({"pump-2": Effect.REFUSED}, 1)


def test_whose_entry_alone_decides_is_never_too_many(service, ca, monkeypatch):
    """Devices that share with nobody what lies above them, and those that never came, by their leaf and their entry."""
    monkeypatch.setattr(limits, "MAX_CLASSES", 0)
    monkeypatch.setattr(limits, "MAX_SINGLY", 0)
    enroll_ca(service, ca, "plant")
    own = [self_signed(f"own-{number}") for number in range(3)]
    below_ca = [ca.leaf("pump-1"), ca.leaf("pump-2")]
    for leaf in (*own, *below_ca):
        enroll_device(service, leaf)
    for leaf in (*own, below_ca[0]):
        register(service, leaf)
    lines = [{"registrationId": name, "operation": "disable"} for name in ("own-1", "pump-1", "pump-2")]
    lines += [pinned(own[0], operation="update"), keys("own-2", operation="update")]

    seen = foresee_now(checked(service, json_lines(*lines)))

    refused = dict.fromkeys(("own-1", "own-2", "pump-1", "pump-2"), Effect.REFUSED)
    assert effects(seen) == {"own-0": Effect.STILL_ADMITTED, **refused}
    assert seen.not_examined == 0


def test_a_leaf_that_is_not_valid_comes_in_by_no_entry(service, ca, monkeypatch):
    monkeypatch.setattr(limits, "MAX_CLASSES", 0)
    leaf = self_signed("own-1", **EXPIRED)
    enroll_device(service, leaf, enabled=False)
    run = checked(service, json_lines({"registrationId": "own-1", "operation": "disable"}))

    (device,) = foresee_now(run).devices

    assert device.after.verdict is verdict(service, "own-1", leaf)


def test_an_entry_does_not_decide_alone_where_a_key_above_may_be_barred(service, ca, monkeypatch):
    """R6 comes before R5: of a device that was not looked at nothing is said then."""
    monkeypatch.setattr(limits, "MAX_CLASSES", 0)
    monkeypatch.setattr(limits, "MAX_SINGLY", 0)
    line = ca.intermediate("Line")
    leaf = line.leaf("pump-1")
    enroll_ca(service, ca, "plant")
    enroll_device(service, leaf)
    register(service, leaf)
    enroll_device(service, ca.leaf("bars-line", key=line.key), enabled=False)

    seen = foresee_now(checked(service, json_lines(pinned(leaf, operation="update"))))

    assert (effects(seen), seen.not_examined) == ({}, 1)


def test_a_ca_two_steps_above_is_found_through_what_is_held(service, ca, rehearsed):
    """The device has sent its own certificate alone: that its issuer has an issuer is known by the group."""
    line = ca.intermediate("Line")
    leaf = line.leaf("pump-1")
    enroll_ca(service, line, "line")
    register(service, PresentedCredential(certificates=(leaf.der,)), "pump-1")

    seen = foresee_now(checked(service, json_lines(below("plant", ca, provisioningStatus="disabled"))))

    assert rehearsed == [1]
    assert effects(seen) == {"pump-1": Effect.REFUSED}


def test_what_a_list_does_at_the_times_that_it_gives(service, ca):
    """Who is shut out until a time comes in then, and who is let in until a time does not any more."""
    enroll_ca(service, ca, "plant")
    leaves = {name: ca.leaf(name) for name in ("pump-1", "pump-2", "pump-3")}
    for leaf in leaves.values():
        enroll_device(service, leaf)
        register(service, leaf)
    disable_enrollment(service, "pump-1", actor=ALICE)
    at = (timezone.now() + timedelta(days=1)).isoformat()
    lines = [
        pinned(leaves["pump-1"], operation="update", provisioningStatus="disabled", switchesAt=at),
        pinned(leaves["pump-2"], operation="update", provisioningStatus="enabled", switchesAt=at),
        pinned(leaves["pump-3"], operation="update", provisioningStatus="disabled"),
        keys("new", provisioningStatus="enabled", switchesAt=at),
    ]
    run = checked(service, json_lines(*lines), actor=ROOT)
    assert not problems(run)

    seen = foresee(run)

    stays = {"pump-1": Effect.STILL_OUT, "pump-2": Effect.STILL_ADMITTED, "pump-3": Effect.REFUSED}
    assert (effects(seen.now), seen.turning) == (stays, 2)
    assert effects(seen.later) == {
        "pump-1": Effect.COMES_IN,
        "pump-2": Effect.REFUSED,
        "pump-3": Effect.REFUSED,
    }
    carried_out(run, actor=ROOT)
    at_that_time = {
        name: judge(
            service, name, shows(leaf), at=timezone.now(), entries_at=timezone.now() + timedelta(days=2)
        )
        for name, leaf in leaves.items()
    }
    told = {one.registration_id: one.after.verdict for one in seen.later.devices}
    assert told == {name: judged.decision.verdict for name, judged in at_that_time.items()}


def test_a_group_that_is_let_in_until_a_time_takes_its_devices_along(service, ca):
    enroll_ca(service, ca, "plant")
    register(service, ca.leaf("pump-1"))
    at = (timezone.now() + timedelta(days=1)).isoformat()

    line = below("plant", ca, operation="update", provisioningStatus="enabled", switchesAt=at)
    seen = foresee(checked(service, json_lines(line)))

    assert effects(seen.later) == {"pump-1": Effect.REFUSED}
    assert (
        turning_in_line(seen.turning) == "1 entry turns by itself at a time that the list gives. Once it has:"
    )
