"""A list counts by all that its devices, and those that share a key with them, are known to have or may get by it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.preview import Effect, limits
from enrollments.audit.actor import Actor, Way
from enrollments.models import Slot
from enrollments.transfer.foreseen import foresee
from tests.certificates import EXPIRED, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, new_service, register
from tests.transfer.lists import below, carried_out, checked, json_lines, pinned

pytestmark = pytest.mark.django_db
ROOT = Actor("cli", "root", Way.COMMAND_LINE)
THEN = EXPIRED["not_after"] - timedelta(days=1)


@pytest.fixture(autouse=True)
def however_busy_this_machine_is(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)


@pytest.fixture
def service():
    return new_service()


@pytest.fixture
def ca():
    return root("Plant CA", not_before=EXPIRED["not_before"])


def of(*leaves, **members):
    """A line that pins these, the primary one first."""
    return pinned(*leaves, **{"operation": "update", **members})


def switched_off(name):
    return {"registrationId": name, "operation": "disable"}


def enroll(service, *leaves, **spec):
    pins = dict(zip(Slot, [one.parsed for one in leaves], strict=False))
    return enroll_device(service, leaves[0], certificates=pins, **spec)


def foreseen(service, *lines):
    """The effects that are told, and the import that is ready to be started."""
    run = checked(service, json_lines(*lines), actor=ROOT)
    assert run.bad_lines == 0
    seen = foresee(run).now
    assert seen.not_examined == 0
    return {one.registration_id: one.effect for one in seen.devices}, run


def outcome(service, leaf):
    return register(service, leaf).outcome


class TestCertificatesThatNobodyHasShown:
    @pytest.mark.parametrize("came", [True, False])
    def test_a_secondary_one_comes_in_when_its_entry_is_enabled(self, service, came):
        first, second = self_signed("pump-1", **EXPIRED), self_signed("pump-1")
        enroll(service, first, second)
        if came:
            assert register(service, first, at=THEN).outcome == "assigned"
        disable_enrollment(service, "pump-1", actor=ALICE)

        told, run = foreseen(service, of(first, second, provisioningStatus="enabled"))

        assert told == {"pump-1": Effect.COMES_IN}
        carried_out(run, ROOT)
        assert outcome(service, second) == "assigned"

    @pytest.mark.parametrize("came", [True, False])
    def test_and_is_refused_when_it_is_disabled(self, service, ca, came):
        first, second = ca.leaf("pump-1", **EXPIRED), ca.leaf("pump-1")
        enroll(service, first, second)
        if came:
            assert register(service, first, at=THEN).outcome == "assigned"

        told, run = foreseen(service, switched_off("pump-1"))

        assert told == {"pump-1": Effect.REFUSED}
        carried_out(run, ROOT)
        assert outcome(service, second) == "disabled"

    def test_one_that_is_kept_does_not_keep_in_who_shows_another(self, service):
        first, second, third = (self_signed("pump-1") for _ in range(3))
        enroll(service, first, second)
        register(service, first)

        told, run = foreseen(service, of(second, third))

        assert told == {"pump-1": Effect.REFUSED}
        carried_out(run, ROOT)
        assert (outcome(service, first), outcome(service, second)) == ("unauthorized", "assigned")

    def test_what_the_list_brings_lets_in_who_was_out(self, service):
        first, second = self_signed("pump-1"), self_signed("pump-1")
        enroll(service, first, enabled=False)
        register(service, first)

        told, run = foreseen(service, of(second, provisioningStatus="enabled"))

        assert told == {"pump-1": Effect.COMES_IN}
        carried_out(run, ROOT)
        assert outcome(service, second) == "assigned"

    def test_and_keeps_nobody_in_who_has_not_got_it(self, service):
        first, second = self_signed("pump-1"), self_signed("pump-1")
        enroll(service, first)
        register(service, first)

        told, run = foreseen(service, of(second))

        assert told == {"pump-1": Effect.REFUSED}
        carried_out(run, ROOT)
        assert outcome(service, first) == "unauthorized"

    def test_a_secondary_one_that_the_list_brings_to_whom_it_adds_counts(self, service, ca):
        enroll_ca(service, ca, "plant")
        first, second = ca.leaf("pump-1", **EXPIRED), self_signed("pump-1")
        register(service, first, at=THEN)

        told, run = foreseen(service, of(first, second, operation="create"))

        assert told == {"pump-1": Effect.COMES_IN}
        carried_out(run, ROOT)
        assert outcome(service, second) == "assigned"

    def test_who_came_by_a_group_is_still_admitted_by_what_its_entry_holds(self, service, ca):
        enroll_ca(service, ca, "plant")
        register(service, ca.leaf("pump-1"))
        own = self_signed("pump-1")
        enroll(service, own)

        told, run = foreseen(service, below("plant", ca, operation="update", provisioningStatus="disabled"))

        assert told == {"pump-1": Effect.STILL_ADMITTED}
        carried_out(run, ROOT)
        assert outcome(service, own) == "assigned"

    def test_unless_that_one_is_good_no_more(self, service, ca):
        enroll_ca(service, ca, "plant")
        register(service, ca.leaf("pump-1"))
        enroll(service, self_signed("pump-1", **EXPIRED))

        told, _ = foreseen(service, below("plant", ca, operation="update", provisioningStatus="disabled"))

        assert told == {"pump-1": Effect.STILL_OUT}


class TestKeysThatTwoEntriesHold:
    """R6: a key is barred under any name, also that of a device that never came."""

    @pytest.mark.parametrize("line", ["disable", "update"])
    def test_the_other_device_is_refused(self, service, line):
        leaf = self_signed("pump-y")
        twin = self_signed("pump-x", key=leaf.key)
        enroll(service, leaf)
        enroll(service, twin)
        how = of(leaf, provisioningStatus="disabled") if line == "update" else switched_off("pump-y")

        told, run = foreseen(service, how)

        assert told == {"pump-y": Effect.REFUSED, "pump-x": Effect.REFUSED}
        carried_out(run, ROOT)
        assert outcome(service, twin) == "disabled"

    def test_and_comes_in_with_it(self, service):
        leaf = self_signed("pump-y")
        twin = self_signed("pump-x", key=leaf.key)
        enroll(service, leaf, enabled=False)
        enroll(service, twin)

        told, run = foreseen(service, of(leaf, provisioningStatus="enabled"))

        assert told == {"pump-y": Effect.COMES_IN, "pump-x": Effect.COMES_IN}
        carried_out(run, ROOT)
        assert outcome(service, twin) == "assigned"

    def test_so_it_is_where_the_list_adds_the_entry_that_bars(self, service):
        leaf = self_signed("pump-y")
        twin = self_signed("pump-x", key=leaf.key)
        enroll(service, twin)

        told, run = foreseen(service, of(leaf, operation="create", provisioningStatus="disabled"))

        assert told["pump-x"] is Effect.REFUSED
        carried_out(run, ROOT)
        assert outcome(service, twin) == "disabled"

    def test_also_where_that_one_is_let_in_until_a_time(self, service):
        leaf = self_signed("pump-y")
        enroll(service, self_signed("pump-x", key=leaf.key))
        at = (timezone.now() + timedelta(days=1)).isoformat()
        lines = of(leaf, operation="create", provisioningStatus="enabled", switchesAt=at)

        seen = foresee(checked(service, json_lines(lines)))

        later = {one.registration_id: one.effect for one in seen.later.devices}
        assert (seen.turning, later["pump-x"]) == (1, Effect.REFUSED)

    def test_who_has_another_certificate_stays_in(self, service):
        leaf, own = self_signed("pump-y"), self_signed("pump-x")
        twin = self_signed("pump-x", key=leaf.key)
        enroll(service, leaf)
        enroll(service, twin, own)
        register(service, own)

        told, run = foreseen(service, switched_off("pump-y"))

        assert told == {"pump-y": Effect.REFUSED, "pump-x": Effect.STILL_ADMITTED}
        carried_out(run, ROOT)
        assert outcome(service, own) == "assigned"

    @pytest.mark.parametrize("came", [True, False])
    def test_a_key_above_an_enrolled_certificate_counts(self, service, ca, came):
        line = ca.intermediate("Line")
        shown, kept = self_signed("pump-x", **EXPIRED), line.leaf("pump-x")
        enroll(service, shown, kept)
        if came:
            assert register(service, shown, at=THEN).outcome == "assigned"
        enroll(service, ca.leaf("bars-line", key=line.key))

        told, run = foreseen(service, switched_off("bars-line"))

        assert told == {"bars-line": Effect.REFUSED, "pump-x": Effect.REFUSED}
        carried_out(run, ROOT)
        assert outcome(service, kept) != "assigned"

    def test_through_a_ca_that_the_list_itself_brings(self, service, ca):
        line = ca.intermediate("Line")
        kept = line.leaf("pump-x")
        enroll(service, kept)
        enroll(service, self_signed("bars-plant", key=ca.key))
        lines = below("line", line), switched_off("bars-plant")

        told, run = foreseen(service, *lines)

        assert told == {"bars-plant": Effect.REFUSED, "pump-x": Effect.REFUSED}
        carried_out(run, ROOT)
        assert outcome(service, kept) != "assigned"


class TestTwoCertificatesOfOneKey:
    """Below one CA: what lies above the one lies above the other, so these devices share it."""

    def test_none_has_to_be_looked_at_alone(self, service, ca, monkeypatch):
        monkeypatch.setattr(limits, "MAX_SINGLY", 3)
        enroll_ca(service, ca, "plant")
        names = [f"plant-{number}" for number in range(5)]
        pairs = [(first, ca.leaf(name, key=first.key)) for name in names if (first := ca.leaf(name))]
        for first, second in pairs:
            enroll(service, first, second, enabled=False)

        seen = foresee(
            checked(service, json_lines(*[of(*pair, provisioningStatus="enabled") for pair in pairs]))
        ).now

        told = {one.registration_id: one.effect for one in seen.devices}
        assert (told, seen.not_examined) == (dict.fromkeys(names, Effect.COMES_IN), 0)


class TestATwinOfAnotherDevice:
    """A certificate of the key of one device, below a CA whose key is barred: of the others nothing hangs on it."""

    @pytest.fixture
    def unseen(self, service, ca):
        """A device that was never there, below the same CA as the one that has the twin."""
        line = ca.intermediate("Line")
        seen, unseen = ca.leaf("plant-1"), ca.leaf("plant-0")
        enroll(service, seen)
        register(service, seen)
        service.registrations.all().delete()
        enroll_ca(service, ca, "plant")
        enroll(service, ca.leaf("bars-line", key=line.key), enabled=False)
        enroll(service, line.leaf("again-1", key=seen.key), enabled=False)
        return unseen

    def test_does_not_keep_it_out(self, service, unseen):
        enroll(service, unseen, enabled=False)

        told, run = foreseen(service, of(unseen, provisioningStatus="enabled"))

        assert told == {"plant-0": Effect.COMES_IN}
        carried_out(run, ROOT)
        assert outcome(service, unseen) == "assigned"

    def test_nor_was_it_out_before(self, service, unseen):
        enroll(service, unseen)
        assert outcome(service, unseen) == "assigned"
        service.registrations.all().delete()
        service.attempts.filter(registration_key="plant-0").delete()

        told, run = foreseen(service, of(unseen, provisioningStatus="disabled"))

        assert told == {"plant-0": Effect.REFUSED}
        carried_out(run, ROOT)
        assert outcome(service, unseen) == "disabled"
