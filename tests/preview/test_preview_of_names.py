"""R11: a device that another entry would admit has no use of it while its name is held through the former."""

import pytest

from enrollments.actions.enrollment_groups import add_enrollment_group, change_enrollment_group
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.preview import Effect, preview_of
from enrollments.actions.preview.table import csv_text
from enrollments.actions.preview.words import in_lines
from enrollments.actions.registrations import Outcome
from enrollments.models import EnrollmentGroup, Slot
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, new_service, register

pytestmark = pytest.mark.django_db


@pytest.fixture
def moved():
    """Devices of group a, whose CA is another one by now: its names are still held through it."""
    service, first, second = new_service(), root("Plant CA 1"), root("Plant CA 2")
    group = enroll_ca(service, first, "a")
    leaves = [first.leaf(f"pump-{number}") for number in range(2)]
    for leaf in leaves:
        register(service, leaf)
    spec = GroupSpec(certificates={Slot.PRIMARY: second.parsed})
    change_enrollment_group(service, "a", spec, expected_etag=group.etag, actor=ALICE)
    return service, first, leaves


def adding(service, ca, *, predecessor=None):
    spec = GroupSpec(group_id="b", certificates={Slot.PRIMARY: ca.parsed}, predecessor=predecessor)
    return lambda: [add_enrollment_group(service, spec, actor=ALICE)]


def test_r11_devices_that_would_come_in_and_fail_are_told_with_the_way_out(moved):
    service, first, leaves = moved

    said = preview_of(service, adding(service, first))

    assert said.counts == {Effect.COMES_IN: 2}
    assert [(str(entry), count) for entry, count in said.held(Effect.COMES_IN)] == [("enrollment group a", 2)]
    assert in_lines(said)[1] == (
        "2 of these fail all the same: their registration IDs are held through enrollment group a. Name that as the "
        "predecessor of the group that admits them, or release the names."
    )
    assert all(
        line.endswith(",enrollment group a,\r\n")
        for line in "".join(csv_text(said.devices)).splitlines(True)[1:]
    )
    adding(service, first)()
    assert register(service, leaves[0]).outcome is Outcome.FAILED


def test_r11_with_the_former_group_as_predecessor_nothing_is_held(moved):
    service, first, leaves = moved
    former = EnrollmentGroup.objects.get(group_id="a")

    said = preview_of(service, adding(service, first, predecessor=former))

    assert said.counts == {Effect.COMES_IN: 2}
    assert said.held(Effect.COMES_IN) == []
    adding(service, first, predecessor=former)()
    assert register(service, leaves[0]).outcome is Outcome.ASSIGNED
