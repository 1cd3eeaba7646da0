"""Previews where there are more classes of evidence, or more devices to be looked at alone, than there is time for."""

from contextlib import contextmanager

import pytest

from enrollments.actions import attempts
from enrollments.actions.enrollment_groups import add_enrollment_group, enable_enrollment_group
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.preview import Act, Effect, preview_of, preview_of_act, rehearsing
from enrollments.actions.preview.limits import NO_LIMITS, Limits
from enrollments.actions.preview.words import in_lines
from enrollments.actions.schedule import as_text
from enrollments.models import RegistrationRecord, Slot
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.preview.worlds import HOSTS, PLANT_ALONE, named, only

pytestmark = pytest.mark.django_db
FEW = Limits(classes=2, singly=1, seconds=None)


def effects(said):
    return {one.registration_id: one.effect for one in said.devices}


def adding(service, ca, *, enabled):
    """The preview of a group for this CA."""

    def change():
        spec = GroupSpec(group_id="added", certificates={Slot.PRIMARY: ca.parsed}, enabled=enabled)
        return [add_enrollment_group(service, spec, actor=ALICE)]

    return change


@pytest.fixture
def fleet(service):
    """Groups for a root above five intermediates, each with one device, and for a CA of its own above one device."""
    top, lone = root("Top"), root("Lone")
    groups = enroll_ca(service, top, "top"), enroll_ca(service, lone, "lone")
    for number in range(5):
        register(service, top.intermediate(f"Line {number}").leaf(f"pump-{number}"))
    register(service, lone.leaf("valve-1"))
    return groups


class TestClasses:
    def test_of_more_than_are_looked_at_those_of_the_group_come_first(self, service, fleet):
        _, lone = fleet

        said = preview_of_act(service, Act.DISABLE, [lone], limits=FEW)

        assert (effects(said), said.not_examined) == ({"valve-1": Effect.REFUSED}, 0)

    def test_without_limits_all_are_looked_at_a_few_in_each_rehearsal(self, service, fleet, monkeypatch):
        top, _ = fleet
        monkeypatch.setattr(rehearsing, "MOST_LOOKS", 2)
        counted = counting_rehearsals(monkeypatch)

        few = preview_of_act(service, Act.DISABLE, [top], limits=FEW)
        assert (few.known, few.not_examined, len(counted)) == (2, 3, 1)

        counted.clear()
        every = preview_of_act(service, Act.DISABLE, [top], limits=NO_LIMITS)
        assert effects(every) == {f"pump-{number}": Effect.REFUSED for number in range(5)}
        assert (every.not_examined, len(counted)) == (0, 3)


def counting_rehearsals(monkeypatch):
    counted = []
    rehearsal = rehearsing.rehearsal

    @contextmanager
    def noted():
        counted.append(1)
        with rehearsal():
            yield

    monkeypatch.setattr(rehearsing, "rehearsal", noted)
    return counted


class TestUnverified:
    """Devices whose leaf nobody's signature was verified under: they were pinned, and their CA is enrolled now."""

    def test_who_was_signed_by_one_key_is_looked_at_together(self, service, monkeypatch):
        ca, other = root("Plant"), root("Plant")
        for number in range(4):
            leaf = (other if number == 3 else ca).leaf(f"pump-{number}")
            enroll_device(service, leaf)
            register(service, leaf)
        service.individualenrollments.all().delete()
        looked = []
        monkeypatch.setattr(rehearsing.Look, "above", noting(looked))

        said = preview_of(service, adding(service, ca, enabled=True), limits=FEW)

        assert effects(said) == {f"pump-{number}": Effect.COMES_IN for number in range(3)}
        assert said.not_examined == 0, "of another CA of that name is who is not touched"
        assert len(looked) == 2, "before and after"

    def test_pinned_devices_below_a_barred_ca_are_named(self, service):
        """R8: an enabled individual enrollment admits its device below a disabled group too."""
        ca = root("Plant")
        for number in range(3):
            leaf = ca.leaf(f"pump-{number}")
            enroll_device(service, leaf)
            register(service, leaf)

        said = preview_of(service, adding(service, ca, enabled=False), limits=FEW)

        assert effects(said) == {f"pump-{number}": Effect.STILL_ADMITTED for number in range(3)}

    def test_a_bulk_act_on_self_signed_devices_leaves_nobody_out(self, service):
        leaves = [self_signed(f"pump-{number}") for number in range(6)]
        entries = [enroll_device(service, leaf) for leaf in leaves]
        for leaf in leaves[:3]:
            register(service, leaf)

        said = preview_of_act(service, Act.DISABLE, entries, limits=FEW)

        assert effects(said) == {f"pump-{number}": Effect.REFUSED for number in range(6)}
        assert said.not_examined == 0

    def test_devices_below_a_ca_that_constrains_names_are_looked_at_alone(self, service):
        ca = root("Plant", extensions=[(PLANT_ALONE, True)])
        inside, outside = (
            ca.leaf(name, extensions=[named(host)]) for name, host in zip(("in", "out"), HOSTS, strict=True)
        )
        for leaf in (inside, outside):
            enroll_device(service, leaf)
            register(service, leaf)
        service.individualenrollments.all().delete()
        change = adding(service, ca, enabled=True)

        said = preview_of(service, change, limits=NO_LIMITS)
        assert effects(said) == {"in": Effect.COMES_IN, "out": Effect.STILL_OUT}

        few = preview_of(service, change, limits=FEW)
        assert (few.known, few.not_examined) == (1, 1)


class TestKnownByAnAttempt:
    """Whoever has no record, and proved itself at an attempt that is kept."""

    def test_it_is_told_and_one_who_proved_nothing_is_not(self, service):
        ca = root("Plant")
        group = enroll_ca(service, ca, "plant", enabled=False)
        register(service, ca.leaf("pump-1"))
        register(service, self_signed("pump-2"))
        RegistrationRecord.objects.filter(service=service).delete()

        said = preview_of_act(service, Act.ENABLE, [group])

        assert effects(said) == {"pump-1": Effect.COMES_IN}

    def test_certificates_that_it_sent_along_are_kept_too(self, service):
        ca = root("Plant")
        group = enroll_ca(service, ca, "plant", enabled=False)
        line = ca.intermediate("Line")
        leaves = [line.leaf(f"pump-{number}") for number in range(2)]
        for leaf in leaves:
            register(service, leaf)
        RegistrationRecord.objects.filter(service=service).delete()

        said = preview_of_act(service, Act.ENABLE, [group])

        assert effects(said) == {"pump-0": Effect.COMES_IN, "pump-1": Effect.COMES_IN}
        enable_enrollment_group(service, "plant", actor=ALICE)
        assert register(service, leaves[0]).outcome == "assigned"

    def test_the_row_of_many_strangers_is_no_device(self, service, monkeypatch):
        monkeypatch.setitem(attempts.MAX_PER_HOUR, "disabled", 1)
        ca = root("Plant")
        group = enroll_ca(service, ca, "plant", enabled=False)
        for number in range(3):
            register(service, ca.leaf(f"pump-{number}"))
        RegistrationRecord.objects.filter(service=service).delete()
        assert service.attempts.filter(claimed_registration_id=attempts.OVERFLOW_NAME).exists()

        assert effects(preview_of_act(service, Act.ENABLE, [group])) == {"pump-0": Effect.COMES_IN}

    def test_at_a_glance_the_latest_attempts_are_looked_at(self, service):
        ca = root("Plant")
        group = enroll_ca(service, ca, "plant", enabled=False)
        for number in range(3):
            register(service, ca.leaf(f"pump-{number}"))
        RegistrationRecord.objects.filter(service=service).delete()

        few = preview_of_act(service, Act.ENABLE, [group], limits=Limits(attempts=2))
        every = preview_of_act(service, Act.ENABLE, [group], limits=NO_LIMITS)

        assert (few.known, every.known) == (2, 3)
        oldest = service.attempts.order_by("last_at")[1].last_at
        assert (few.attempts_since, every.attempts_since) == (oldest, None)
        assert f"Attempts before {as_text(oldest)} were not looked at" in in_lines(few)[-1]
        assert not any("Attempts before" in line for line in in_lines(every))

    def test_its_own_entry_decides(self, service):
        ca = root("Plant")
        enroll_ca(service, ca, "plant", enabled=False)
        leaf = ca.leaf("pump-1")
        register(service, only(leaf), "pump-1")
        RegistrationRecord.objects.filter(service=service).delete()

        def change():
            return [enroll_device(service, leaf)]

        assert effects(preview_of(service, change)) == {"pump-1": Effect.COMES_IN}


def noting(looked):
    above = rehearsing.Look.above

    def noted(self, *args):
        looked.append(self.evidence)
        return above(self, *args)

    return noted
