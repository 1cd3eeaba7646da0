"""What deleting would do, told beforehand: it is what then happens (R7)."""

import pytest

from enrollments.actions import consequences
from enrollments.actions.consequences import consequences_of_deleting
from enrollments.actions.enrollment_groups import delete_enrollment_groups
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.revocation import deny_device
from tests.certificates import EXPIRED, root, self_signed
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
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


def through(said):
    return {one.through.name: set(one.devices) for one in said.still_admitted}


def test_devices_of_a_group_below_an_enabled_root_come_back_through_it(service, ca):
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, plant, "plant-7")
    pumps = [plant.leaf(f"pump-{number}") for number in range(3)]
    for pump in pumps:
        register(service, pump)

    said = consequences_of_deleting(service, [group])

    assert through(said) == {"root": {"pump-0", "pump-1", "pump-2"}}
    assert (said.known, said.examined, said.refused) == (3, 3, 0)
    assert [ref.name for ref in said.below_others[0].through] == ["root"]
    assert said.widens_access
    delete_enrollment_groups(service, ["plant-7"], actor=ALICE)
    assert {register(service, pump).outcome for pump in pumps} == {"assigned"}


def test_devices_of_a_lone_group_are_refused(service, ca):
    group = enroll_ca(service, ca, "root")
    register(service, ca.leaf("pump-0"))

    said = consequences_of_deleting(service, [group])

    assert (said.still_admitted, said.refused, said.widens_access) == ((), 1, False)
    assert said.below_others[0].through == ()
    delete_enrollment_groups(service, ["root"], actor=ALICE)
    assert register(service, ca.leaf("pump-0")).outcome == "unauthorized"


def test_the_root_is_named_before_any_device_registered(service, ca):
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, ca.intermediate("Plant 7"), "plant-7")

    said = consequences_of_deleting(service, [group])

    assert said.known == 0
    assert [ref.name for ref in said.below_others[0].through] == ["root"]
    assert said.widens_access


def test_the_root_is_found_over_a_helper_that_was_uploaded_along(service, ca):
    middle = ca.intermediate("Middle")
    plant = middle.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, plant, "plant-7", helpers=(middle.parsed,))

    assert [ref.name for ref in consequences_of_deleting(service, [group]).below_others[0].through] == [
        "root"
    ]


def test_a_root_that_has_expired_or_goes_as_well_admits_nobody(service):
    old = root("Old root", **EXPIRED)
    new = root("New root")
    enroll_ca(service, old, "old")
    below_old = enroll_ca(service, old.intermediate("Plant 7"), "plant-7")
    root_group = enroll_ca(service, new, "new")
    below_new = enroll_ca(service, new.intermediate("Plant 8"), "plant-8")

    assert consequences_of_deleting(service, [below_old]).below_others[0].through == ()
    said = consequences_of_deleting(service, [below_new, root_group])
    assert [one.through for one in said.below_others] == [(), ()]


def test_a_disabled_root_keeps_barring_what_is_below_it(service, ca):
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root", enabled=False)
    group = enroll_ca(service, plant, "plant-7")
    register(service, plant.leaf("pump-0"))

    said = consequences_of_deleting(service, [group])

    assert [ref.name for ref in said.below_others[0].barred_by] == ["root"]
    assert not said.widens_access


def test_deleting_a_disabled_group_ends_its_bar(service, ca):
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, plant, "plant-7", enabled=False)
    assert register(service, plant.leaf("pump-0")).outcome == "disabled"

    said = consequences_of_deleting(service, [group])

    assert through(said) == {"root": {"pump-0"}}
    assert [ref.name for ref in said.no_longer_barring] == ["plant-7"]


def test_a_device_with_an_individual_enrollment_that_shuts_it_out_stays_out(service, ca):
    plant = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, plant, "plant-7")
    for number in range(2):
        register(service, plant.leaf(f"pump-{number}"))
    deny_device(service, "pump-1", actor=ALICE)

    said = consequences_of_deleting(service, [group])

    assert (through(said), said.refused) == ({"root": {"pump-0"}}, 1)


@pytest.mark.parametrize("enabled", [True, False])
def test_an_individual_comes_back_through_a_group_although_it_never_registered(service, ca, enabled):
    leaf = ca.leaf("pump-042")
    enroll_ca(service, ca, "plant-7")
    entry = enroll_device(service, leaf, enabled=enabled)

    said = consequences_of_deleting(service, [entry])

    assert through(said) == {"plant-7": {"pump-042"}}
    assert bool(said.no_longer_barring) is not enabled
    delete_enrollments(service, ["pump-042"], actor=ALICE)
    assert register(service, leaf).outcome == "assigned"


def test_an_individual_with_a_certificate_of_its_own_is_refused(service):
    leaf = self_signed("pump-042")
    entry = enroll_device(service, leaf)

    said = consequences_of_deleting(service, [entry])

    assert (said.known, said.refused, said.widens_access) == (1, 1, False)
    delete_enrollments(service, ["pump-042"], actor=ALICE)
    assert register(service, leaf).outcome == "unauthorized"


def test_a_device_that_was_denied_singly_is_judged_by_what_its_group_saw_of_it(service, ca):
    enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("pump-042"))
    entry = deny_device(service, "pump-042", actor=ALICE)

    said = consequences_of_deleting(service, [entry])

    assert (said.known, through(said)) == (1, {"plant-7": {"pump-042"}})


def test_a_device_that_signs_is_refused_and_one_that_nobody_ever_saw_is_not_promised(service):
    signing = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", signing.primary_key), "key-1")
    barred = deny_device(service, "never-seen", actor=ALICE)

    assert consequences_of_deleting(service, [signing]).refused == 1
    said = consequences_of_deleting(service, [barred])
    assert (said.refused, said.unknown) == (0, ("never-seen",))


def test_a_device_of_a_key_group_comes_back_when_what_shuts_it_out_is_deleted(service):
    group = enroll_key_group(service)
    gauge = signs(service, "gauge-1", derived_key(group.primary_key, "gauge-1"))
    register(service, gauge, "gauge-1")
    entry = deny_device(service, "gauge-1", actor=ALICE)
    register(service, gauge, "gauge-1")

    said = consequences_of_deleting(service, [entry])

    assert (through(said), said.refused) == ({"line-9": {"gauge-1"}}, 0)
    delete_enrollments(service, ["gauge-1"], actor=ALICE)
    assert register(service, gauge, "gauge-1").outcome == "assigned"


def test_devices_of_a_key_group_are_refused_when_it_goes_itself(service):
    group = enroll_key_group(service)
    register(service, signs(service, "gauge-1", derived_key(group.primary_key, "gauge-1")), "gauge-1")

    said = consequences_of_deleting(service, [group])

    assert (said.still_admitted, said.refused) == ((), 1)


def test_a_tpm_is_refused_when_its_entry_goes(service):
    said = consequences_of_deleting(service, [enroll_tpm(service, "press-01")])

    assert (said.refused, said.unknown) == (1, ())


def test_a_large_group_is_judged_by_its_most_recent_devices(service, ca, monkeypatch):
    monkeypatch.setattr(consequences, "MAX_DEVICES", 2)
    group = enroll_ca(service, ca, "plant-7")
    for number in range(3):
        register(service, ca.leaf(f"pump-{number}"))

    said = consequences_of_deleting(service, [group])

    assert (said.known, said.examined, said.refused, said.is_partial) == (3, 2, 2, True)


def test_nobody_waits_long_for_the_answer_and_it_says_on_how_many_it_rests(service, ca, monkeypatch):
    monkeypatch.setattr(consequences, "MAX_SECONDS", 0)
    group = enroll_ca(service, ca, "plant-7")
    for number in range(3):
        register(service, ca.leaf(f"pump-{number}"))

    said = consequences_of_deleting(service, [group])

    assert (said.known, said.examined, said.refused, said.is_partial) == (3, 1, 1, True)


def test_asking_changes_nothing(service, ca):
    group = enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("pump-0"))
    epoch = type(service).epoch_of(service.pk)

    consequences_of_deleting(service, [group])

    assert type(service).epoch_of(service.pk) == epoch
    assert register(service, shows(ca.leaf("pump-0")), "pump-0").outcome == "assigned"


def test_another_services_group_admits_nobody_here(service, ca):
    elsewhere = a_service("elsewhere")
    a_group(elsewhere, "root", ca=ca)
    entry = an_individual(service, leaf=ca.leaf("pump-042"))

    assert consequences_of_deleting(service, [entry]).still_admitted == ()


def test_an_individual_comes_back_through_the_intermediate_that_it_sent(service, ca):
    """Its pinned certificate was proof enough, and still what it sent along is known (R8)."""
    pump = ca.intermediate("Plant 7").leaf("pump-0")
    enroll_ca(service, ca, "root")
    individual = enroll_device(service, pump)
    register(service, pump)

    said = consequences_of_deleting(service, [individual])

    assert through(said) == {"root": {"pump-0"}}
    delete_enrollments(service, ["pump-0"], actor=ALICE)
    assert register(service, pump).outcome == "assigned"
