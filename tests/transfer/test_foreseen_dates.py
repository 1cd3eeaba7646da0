"""What a list does at times to come by the dates of certificates: of those that came, and of those that it brings."""

from datetime import timedelta

import pytest

from enrollments.actions.enrollment_groups import delete_enrollment_groups, disable_enrollment_group
from enrollments.actions.preview import Act, Effect, carry_out, planned
from enrollments.actions.revocation import release_registration
from enrollments.actions.schedule import as_text
from enrollments.attestation.credential import PresentedCredential
from enrollments.management.import_reports import foreseen_in_lines
from enrollments.transfer.foreseen import foresee
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, register, shows
from tests.transfer.comparing import ROOT
from tests.transfer.lists import below, carried_out, checked, json_lines, pinned, problems

pytestmark = pytest.mark.django_db
ENABLED = {"operation": "update", "provisioningStatus": "enabled"}


def list_of(service, *listed):
    run = checked(service, json_lines(*listed), actor=ROOT)
    assert problems(run) == {}
    return run


def told(comings):
    """When who comes in, in all."""
    return [(one.at, {device.registration_id for device in one.preview.devices}) for one in comings]


@pytest.mark.parametrize("order", [("pump-0", "pump-1"), ("pump-1", "pump-0")], ids=" first, ".join)
def test_what_came_at_attempts_is_judged_by_its_dates_then(service, database_clock, order):
    """Of two that are alike but for that, by a certificate that ends before the other switch turns, one comes in."""
    top = root("Root")
    line = top.intermediate("Line")
    ends = {"pump-0": database_clock.ahead(days=300), "pump-1": database_clock.ahead(days=1)}
    high, _ = enroll_ca(service, top, "high"), enroll_ca(service, line, "low")
    for name in order:
        register(service, shows(line.leaf(name, not_after=ends[name]), line), name)
        release_registration(service, name, actor=ALICE)
        newer = line.leaf(name, not_after=database_clock.ahead(hours=20))
        assert register(service, shows(newer, line), name).outcome == "assigned"
    disable_enrollment_group(service, "low", actor=ALICE)
    at = database_clock.ahead(days=2)
    carry_out(service, Act.DISABLE, [high], actor=ALICE, until=at)

    seen = foresee(list_of(service, below("low", line, **ENABLED)))

    assert told(seen.comings) == [(at, {"pump-0"})]


def test_a_certificate_of_later_that_a_list_gives_to_a_device(service, database_clock):
    at = database_clock.ahead(days=1)
    now, later = self_signed("pump-1"), self_signed("pump-1", not_before=at)
    enroll_device(service, now, enabled=False)
    register(service, now)
    run = list_of(service, pinned(later, **ENABLED))

    seen = foresee(run)

    assert told(seen.comings) == [(at, {"pump-1"})]
    assert foreseen_in_lines(seen) == [
        f"1 device is shut out already, not counting what is scheduled from {as_text(at)} on: pump-1.",
        f"From {as_text(at)} on, with whatever else is scheduled until then:",
        "1 device will come in anew through individual enrollment of its own: pump-1.",
    ]
    carried_out(run, actor=ROOT)
    database_clock.set_to(at)
    assert register(service, later, at=at).outcome == "assigned"


def test_a_group_of_a_list_that_begins_later(service, database_clock):
    at = database_clock.ahead(days=1)
    plant = root("Plant")
    leaf = plant.leaf("pump-1")
    enroll_ca(service, plant, "plant")
    register(service, leaf)
    delete_enrollment_groups(service, ["plant"], actor=ALICE)
    run = list_of(service, below("plant", plant.reissued(not_before=at)))

    assert told(foresee(run).comings) == [(at, {"pump-1"})]
    carried_out(run, actor=ROOT)
    database_clock.set_to(at)
    assert register(service, leaf, at=at).outcome == "assigned"


def test_a_certificate_below_the_ca_of_a_group_that_begins_later(service, database_clock):
    """The group is there; the list gives it one more that may stand between."""
    at = database_clock.ahead(days=1)
    plant = root("Plant")
    line = plant.intermediate("Line")
    leaf = line.leaf("pump-1")
    enroll_ca(service, plant, "plant", helpers=[line.parsed])
    alone = PresentedCredential(certificates=(leaf.der,))
    assert register(service, alone, "pump-1").outcome == "assigned"
    delete_enrollment_groups(service, ["plant"], actor=ALICE)
    enroll_ca(service, plant, "plant")
    run = list_of(service, below("plant", plant, line.reissued(not_before=at), **ENABLED))

    assert told(foresee(run).comings) == [(at, {"pump-1"})]
    carried_out(run, actor=ROOT)
    database_clock.set_to(at)
    assert register(service, alone, "pump-1", at=at).outcome == "assigned"


def test_of_many_certificates_of_later_the_first_ones_are_kept(service, database_clock, monkeypatch):
    """However many different times a list brings, no more of them are held than may be looked at."""
    monkeypatch.setattr(planned, "MOST_BEGINNING", 2)
    first = database_clock.ahead(days=1)
    listed = []
    for number in reversed(range(6)):
        now = self_signed(f"pump-{number}")
        later = self_signed(f"pump-{number}", not_before=first + timedelta(hours=number))
        enroll_device(service, now, enabled=False)
        register(service, now)
        listed.append(pinned(later, **ENABLED))

    seen = foresee(list_of(service, *listed))

    assert seen.now.times.beginning == (first, first + timedelta(hours=1))
    assert seen.now.out_until == first
    assert told(seen.comings) == [
        (first, {"pump-0"}),
        (first + timedelta(hours=1), {"pump-1"}),
    ]


def test_of_certificates_that_are_valid_already_nothing_is_to_come(service):
    leaf = self_signed("pump-1")
    enroll_device(service, leaf, enabled=False)
    register(service, leaf)

    seen = foresee(list_of(service, pinned(leaf, **ENABLED)))

    assert [one.effect for one in seen.now.devices] == [Effect.COMES_IN]
    assert not seen.now.times
