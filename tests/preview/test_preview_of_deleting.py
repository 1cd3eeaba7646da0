"""What deleting would do, told beforehand: it is what then happens (R7)."""

import pytest

from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.enrollment_groups import delete_enrollment_groups
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.preview import Act, Effect, limits, names_left_open, preview_of_act, ref_of
from enrollments.actions.revocation import deny_device
from enrollments.models import ProvisioningService
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    register,
    shows,
    signs,
)
from tests.factories import a_group, a_service, an_individual

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def ca():
    return root("Root")


def deleting(service, *entries):
    return preview_of_act(service, Act.DELETE, entries)


def counts(said):
    return {effect: count for effect, count in said.counts.items() if count}


def through(said, *effects):
    """Who is admitted afterwards, by the entry that does it."""
    found = {}
    for effect in effects or (Effect.STILL_ADMITTED, Effect.COMES_IN):
        for device in said.of(effect):
            found.setdefault(device.through.name, set()).add(device.registration_id)
    return found


def test_devices_of_a_group_below_an_enabled_root_come_back_through_it(service, ca):
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, plant, "plant-7")
    pumps = [plant.leaf(f"pump-{number}") for number in range(3)]
    for pump in pumps:
        register(service, pump)

    said = deleting(service, group)

    assert counts(said) == {Effect.STILL_ADMITTED: 3}
    assert through(said) == {"root": {"pump-0", "pump-1", "pump-2"}}
    assert len(said.passing_to_others({ref_of(group)})) == 3
    delete_enrollment_groups(service, ["plant-7"], actor=ALICE)
    assert {register(service, pump).outcome for pump in pumps} == {"assigned"}


def test_records_of_a_group_that_is_deleted_keep_its_name_alone(service, ca):
    group = enroll_ca(service, ca, "root")
    register(service, ca.leaf("pump-0"))
    deleting(service, group)

    delete_enrollment_groups(service, ["root"], actor=ALICE)

    record = service.registrations.get()
    assert (record.group_id, record.owner_group_id, record.entry_name) == (None, None, "root")


def test_devices_of_a_lone_group_are_refused(service, ca):
    group = enroll_ca(service, ca, "root")
    register(service, ca.leaf("pump-0"))

    said = deleting(service, group)

    assert counts(said) == {Effect.REFUSED: 1}
    assert said.passing_to_others({ref_of(group)}) == []
    delete_enrollment_groups(service, ["root"], actor=ALICE)
    assert register(service, ca.leaf("pump-0")).outcome == "unauthorized"


def test_deleting_a_disabled_group_ends_its_bar(service, ca):
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, plant, "plant-7", enabled=False)
    assert register(service, plant.leaf("pump-0")).outcome == "disabled"

    said = deleting(service, group)

    assert through(said, Effect.COMES_IN) == {"root": {"pump-0"}}


def test_a_device_with_an_individual_enrollment_that_shuts_it_out_stays_out(service, ca):
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, plant, "plant-7")
    for number in range(2):
        register(service, plant.leaf(f"pump-{number}"))
    deny_device(service, "pump-1", actor=ALICE)

    said = deleting(service, group)

    assert counts(said) == {Effect.STILL_ADMITTED: 1, Effect.STILL_OUT: 1}
    assert through(said) == {"root": {"pump-0"}}


@pytest.mark.parametrize("enabled", [True, False])
def test_an_individual_comes_back_through_a_group_although_it_never_registered(service, ca, enabled):
    leaf = ca.leaf("pump-042")
    enroll_ca(service, ca, "plant-7")
    entry = enroll_device(service, leaf, enabled=enabled)

    said = deleting(service, entry)

    assert counts(said) == {Effect.STILL_ADMITTED if enabled else Effect.COMES_IN: 1}
    assert through(said) == {"plant-7": {"pump-042"}}
    delete_enrollments(service, ["pump-042"], actor=ALICE)
    assert register(service, leaf).outcome == "assigned"


def test_an_individual_with_a_certificate_of_its_own_is_refused(service):
    leaf = self_signed("pump-042")
    entry = enroll_device(service, leaf)

    assert counts(deleting(service, entry)) == {Effect.REFUSED: 1}

    delete_enrollments(service, ["pump-042"], actor=ALICE)
    assert register(service, leaf).outcome == "unauthorized"


def test_a_device_that_was_denied_singly_is_judged_by_what_its_group_saw_of_it(service, ca):
    enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("pump-042"))
    entry = deny_device(service, "pump-042", actor=ALICE)

    assert through(deleting(service, entry), Effect.COMES_IN) == {"plant-7": {"pump-042"}}


def test_a_device_that_signs_is_refused_and_of_one_that_nobody_ever_saw_nothing_is_promised(service):
    signing = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", signing.primary_key), "key-1")
    barred = deny_device(service, "never-seen", actor=ALICE)

    assert counts(deleting(service, signing)) == {Effect.REFUSED: 1}
    said = deleting(service, barred)
    assert [one.registration_id for one in said.of(Effect.UNKNOWN)] == ["never-seen"]
    assert counts(said) == {Effect.UNKNOWN: 1}


def test_a_device_of_a_group_with_keys_comes_in_again_when_its_deny_entry_goes(service):
    """Its key is derived from that of the group, which is there still: the entry that goes knew none."""
    group = enroll_key_group(service)
    credential = signs(service, "line-9-1", derived_key(group.primary_key, "line-9-1"))
    assert register(service, credential, "line-9-1").outcome == "assigned"
    entry = deny_device(service, "line-9-1", actor=ALICE)
    assert register(service, credential, "line-9-1").outcome == "disabled"

    said = deleting(service, entry)

    assert through(said, Effect.COMES_IN) == {"line-9": {"line-9-1"}}
    delete_enrollments(service, ["line-9-1"], actor=ALICE)
    assert register(service, credential, "line-9-1").outcome == "assigned"


def test_nobody_waits_long_for_the_answer_and_it_says_how_many_are_missing(service, monkeypatch):
    """Devices that have never registered share their evidence with nobody, so each is judged by itself."""
    monkeypatch.setattr(limits, "SECONDS_SINGLY", -1)
    entries = [enroll_device(service, self_signed(f"pump-{number}")) for number in range(3)]

    said = deleting(service, *entries)

    assert (said.known, said.not_examined, said.touches_nobody) == (0, 3, False)


def test_asking_changes_nothing(service, ca):
    group = enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("pump-0"))
    epoch = ProvisioningService.epoch_of(service.pk)

    deleting(service, group)

    assert ProvisioningService.epoch_of(service.pk) == epoch
    assert register(service, shows(ca.leaf("pump-0")), "pump-0").outcome == "assigned"


def test_another_services_group_admits_nobody_here(service, ca):
    elsewhere = a_service("elsewhere")
    a_group(elsewhere, "root", ca=ca)
    entry = an_individual(service, leaf=ca.leaf("pump-042"))

    assert through(deleting(service, entry)) == {}


def test_an_individual_comes_back_through_the_intermediate_that_it_sent(service, ca):
    """Its pinned certificate was proof enough, and still what it sent along is known (R8)."""
    pump = ca.intermediate("Plant 7").leaf("pump-0")
    enroll_ca(service, ca, "root")
    individual = enroll_device(service, pump)
    register(service, pump)

    assert through(deleting(service, individual)) == {"root": {"pump-0"}}

    delete_enrollments(service, ["pump-0"], actor=ALICE)
    assert register(service, pump).outcome == "assigned"


def test_whom_another_entry_admits_now_does_not_pass_to_it(service, ca):
    """A nearer group decides about the device already, and goes on doing so: nobody asked to shut it out."""
    plant = ca.intermediate("Plant 7")
    group = enroll_ca(service, ca, "root")
    enroll_ca(service, plant, "plant-7")
    register(service, plant.leaf("pump-0"))

    said = deleting(service, group)

    assert counts(said) == {Effect.STILL_ADMITTED: 1}
    assert said.passing_to_others({ref_of(group)}) == []
    assert delete_and_deny(service, [group], actor=ALICE).denied == 0
    assert register(service, plant.leaf("pump-0")).outcome == "assigned"


# --- Names that nothing keeps any more -------------------------------------------------------------


def left_open(service, *entries):
    found = names_left_open(service, deleting(service, *entries), entries)
    return set(found.names), {ref.name for ref in found.groups}


@pytest.mark.parametrize(
    "enroll",
    [
        pytest.param(lambda service: enroll_keys(service, "line-9-1"), id="with keys of its own"),
        pytest.param(
            lambda service: enroll_device(service, self_signed("line-9-1")), id="with a certificate"
        ),
        pytest.param(lambda service: deny_device(service, "line-9-1", actor=ALICE), id="denied by its name"),
    ],
)
def test_a_group_with_keys_takes_any_name_that_an_individual_leaves(service, enroll):
    keys = enroll_key_group(service)
    entry = enroll(service)

    assert left_open(service, entry) == ({"line-9-1"}, {"line-9"})

    delete_enrollments(service, ["line-9-1"], actor=ALICE)
    derived = signs(service, "line-9-1", derived_key(keys.primary_key, "line-9-1"))
    assert register(service, derived, "line-9-1").outcome == "assigned"


def test_no_group_with_keys_takes_a_name_while_the_service_lets_none_admit_or_it_is_disabled(service):
    enroll_key_group(service, enabled=False)
    entry = enroll_keys(service, "line-9-1")

    assert left_open(service, entry) == (set(), set())

    enroll_key_group(service, "line-10")
    ProvisioningService.objects.filter(pk=service.pk).update(symmetric_key_groups=False)
    assert left_open(service, entry) == (set(), set())


def test_a_name_that_was_denied_before_it_ever_came_is_left_to_every_ca(service, ca):
    enroll_ca(service, ca, "plant-7")
    entry = deny_device(service, "pump-042", actor=ALICE)

    assert left_open(service, entry) == ({"pump-042"}, {"plant-7"})

    delete_enrollments(service, ["pump-042"], actor=ALICE)
    assert register(service, ca.leaf("pump-042")).outcome == "assigned"


def test_a_name_whose_certificate_is_known_is_left_to_every_ca_too_unless_its_device_comes_back(service, ca):
    enroll_ca(service, ca, "plant-7")
    entry = enroll_device(service, self_signed("pump-042"))

    assert left_open(service, entry) == ({"pump-042"}, {"plant-7"})
    assert left_open(service, enroll_device(service, ca.leaf("pump-043"))) == (set(), set())
    assert delete_and_deny(service, [entry], actor=ALICE).denied == 1
    assert register(service, ca.leaf("pump-042")).outcome == "disabled"


def test_a_group_that_goes_too_takes_no_name(service):
    group = enroll_key_group(service)
    entry = enroll_keys(service, "line-9-1")

    assert left_open(service, entry, group) == (set(), set())
