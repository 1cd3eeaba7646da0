"""Through which groups above it the devices of a group could come in, registered ones or not (R7)."""

import pytest

from enrollments.actions.preview import below_others, disabled_groups_above, ref_of
from tests.certificates import EXPIRED, root, self_signed
from tests.devices import enroll_ca, enroll_device
from tests.factories import a_service

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def ca():
    return root("Root")


def names(refs):
    return [ref.name for ref in refs]


def test_the_root_is_named_before_any_device_registered(service, ca):
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, ca.intermediate("Plant 7"), "plant-7")

    (said,) = below_others(service, [group])

    assert (names(said.through), said.is_open) == (["root"], True)


def test_a_root_stands_below_nobody_and_not_below_itself(service, ca):
    (said,) = below_others(service, [enroll_ca(service, ca, "root")])

    assert (said.through, said.barred_by, said.is_open) == ((), (), False)


def test_the_root_is_found_over_a_helper_that_was_uploaded_along(service, ca):
    middle = ca.intermediate("Middle")
    enroll_ca(service, ca, "root")
    group = enroll_ca(service, middle.intermediate("Plant 7"), "plant-7", helpers=(middle.parsed,))

    assert names(below_others(service, [group])[0].through) == ["root"]


def test_a_root_that_has_expired_or_goes_as_well_admits_nobody(service):
    old = root("Old root", **EXPIRED)
    new = root("New root")
    enroll_ca(service, old, "old")
    below_old = enroll_ca(service, old.intermediate("Plant 7"), "plant-7")
    root_group = enroll_ca(service, new, "new")
    below_new = enroll_ca(service, new.intermediate("Plant 8"), "plant-8")

    gone = [ref_of(below_new), ref_of(root_group)]

    assert below_others(service, [below_old])[0].through == ()
    assert [one.through for one in below_others(service, [below_new, root_group], gone)] == [(), ()]


def test_r8_enabled_entry_overrides_the_disabled_groups_above_its_certificate(service, ca):
    line = ca.intermediate("Plant 7")
    enroll_ca(service, ca, "root", enabled=False)
    enroll_ca(service, line, "plant-7", enabled=False)
    enroll_ca(service, root("Elsewhere"), "elsewhere", enabled=False)
    below = enroll_device(service, line.leaf("pump-042"), enabled=False)
    apart = enroll_device(service, self_signed("pump-043"), enabled=False)

    assert sorted(one.name for one in disabled_groups_above(service, [below])) == ["plant-7", "root"]
    assert disabled_groups_above(service, [apart]) == ()


def test_a_disabled_root_keeps_barring_what_is_below_it(service, ca):
    enroll_ca(service, ca, "root", enabled=False)
    group = enroll_ca(service, ca.intermediate("Plant 7"), "plant-7")

    (said,) = below_others(service, [group])

    assert (names(said.barred_by), said.is_open) == (["root"], False)
