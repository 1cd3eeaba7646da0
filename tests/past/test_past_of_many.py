"""All devices of a service in the past: those of no class of evidence are looked at by who signed their leaves."""

import importlib
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment
from enrollments.actions.past import ALL_OF_FLEET, FleetLimits, compare, fleet
from enrollments.actions.past.words import through_at
from enrollments.actions.preview import Effect
from enrollments.actions.preview.looking import Look
from enrollments.policy.decision import Verdict
from tests.certificates import EXPIRED, mint, root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, new_service, register
from tests.preview.worlds import HOSTS, PLANT_ALONE, named

pytestmark = pytest.mark.django_db
# Whoever is judged by itself is not examined.
NOBODY_ALONE = FleetLimits(singly=0, seconds=None)


@pytest.fixture
def looked(monkeypatch):
    """The names under which what lies above devices was looked at."""
    names = []
    above = Look.above

    def noting(look, *args):
        names.append(look.evidence)
        return above(look, *args)

    monkeypatch.setattr(Look, "above", noting)
    return names


def now():
    return timezone.now()


def effects(said):
    return {one.registration_id: one.effect for one in said.preview.devices}


def test_who_was_pinned_before_its_ca_was_enrolled_is_looked_at_with_the_others_of_that_key(service, looked):
    ca, other = root("Plant"), root("Plant")
    for number in range(4):
        leaf = (other if number == 3 else ca).leaf(f"pump-{number}")
        enroll_device(service, leaf)
        register(service, leaf)
    delete_enrollments(service, [f"pump-{number}" for number in range(4)], actor=ALICE)
    at = now()
    enroll_ca(service, ca, "plant")

    said = compare(service, at, limits=NOBODY_ALONE)

    assert effects(said) == {
        **{f"pump-{number}": Effect.COMES_IN for number in range(3)},
        "pump-3": Effect.STILL_OUT,
    }
    assert said.preview.not_examined == 0
    assert len(looked) == 2, "once at each of the times"


def test_devices_that_never_came_are_judged_by_what_is_enrolled_for_them_and_none_of_them_alone(
    service, looked
):
    ca = root("Plant")
    leaves = [ca.leaf(f"pump-{number}") for number in range(5)]
    entries = [enroll_device(service, leaf) for leaf in leaves]
    enroll_device(service, self_signed("valve-1"))
    enroll_device(service, self_signed("valve-2"), enabled=False)
    at = now()
    disable_enrollment(service, entries[0].registration_id, actor=ALICE)
    delete_enrollments(service, ["pump-1", "valve-1"], actor=ALICE)
    between = now()
    enroll_ca(service, ca, "plant")

    first, second = (compare(service, *times, limits=NOBODY_ALONE) for times in ((at, between), (at, None)))

    others = {f"pump-{number}": Effect.STILL_ADMITTED for number in (2, 3, 4)}
    shut_out = {"pump-0": Effect.REFUSED, "valve-1": Effect.REFUSED, "valve-2": Effect.STILL_OUT}
    assert effects(first) == {**others, **shut_out, "pump-1": Effect.REFUSED}
    assert effects(second) == {**others, **shut_out, "pump-1": Effect.STILL_ADMITTED}
    assert ("enrollment group plant", 1) in through_at(second, first=False)
    assert (first.preview.not_examined, second.preview.not_examined) == (0, 0)
    assert len({name for name in looked if name.startswith("kind")}) == 1


def test_a_disabled_ca_bars_who_never_came_and_not_who_is_pinned(service):
    """R8: an enabled individual enrollment admits its device below a disabled group too."""
    ca = root("Plant")
    for number in range(3):
        enroll_device(service, ca.leaf(f"pump-{number}"))
    enroll_ca(service, ca, "plant")
    at = now()
    disable_enrollment_group(service, "plant", actor=ALICE)
    delete_enrollments(service, ["pump-1"], actor=ALICE)

    said = compare(service, at, limits=NOBODY_ALONE)

    assert effects(said) == {
        "pump-0": Effect.STILL_ADMITTED,
        "pump-1": Effect.REFUSED,
        "pump-2": Effect.STILL_ADMITTED,
    }


def test_dates_of_who_never_came_are_those_of_each_time(monkeypatch):
    begun = now() - timedelta(days=20)
    stamp = importlib.import_module("enrollments.audit.record")
    monkeypatch.setattr(stamp, "moment_of_change", lambda: begun - timedelta(days=1))
    service = new_service()
    ca = root("Plant")
    enroll_device(service, ca.leaf("old-1", **EXPIRED), enabled=False)
    enroll_device(service, ca.leaf("new-1"))
    # As it was enrolled when its certificate was valid.
    service.individualenrollments.update(enabled=True)

    said = compare(service, begun, limits=NOBODY_ALONE)

    assert effects(said) == {"old-1": Effect.REFUSED, "new-1": Effect.COMES_IN}


def test_a_key_of_a_disabled_entry_bars_other_devices_that_never_came(service):
    leaf = self_signed("pump-1")
    enroll_device(service, leaf)
    twin = mint("pump-2", key=leaf.key)
    enroll_device(service, twin)
    at = now()
    disable_enrollment(service, "pump-1", actor=ALICE)

    said = compare(service, at, limits=NOBODY_ALONE)

    assert effects(said) == {"pump-1": Effect.REFUSED, "pump-2": Effect.REFUSED}
    (barred,) = (one.after for one in said.preview.devices if one.registration_id == "pump-2")
    assert (barred.verdict, barred.through.name) == (Verdict.DISABLED, "pump-1")


def test_who_has_the_key_of_a_ca_or_is_below_one_that_constrains_names_is_judged_alone(service):
    ca = root("Plant")
    enroll_ca(service, ca, "plant")
    constrained = root("Narrow", extensions=[(PLANT_ALONE, True)])
    enroll_ca(service, constrained, "narrow")
    enroll_device(service, mint("boss-1", key=ca.key, issuer=ca))
    for name, host in zip(("in", "out"), HOSTS, strict=True):
        enroll_device(service, constrained.leaf(name, extensions=[named(host)]))
    enroll_device(service, ca.leaf("pump-1"))
    at = now()
    delete_enrollments(service, ["boss-1", "in", "out", "pump-1"], actor=ALICE)

    glance = compare(service, at, limits=NOBODY_ALONE)
    every = compare(service, at, limits=ALL_OF_FLEET)

    assert (effects(glance), glance.preview.not_examined) == ({"pump-1": Effect.STILL_ADMITTED}, 3)
    admitted = Effect.STILL_ADMITTED
    assert effects(every) == {
        "boss-1": admitted,
        "in": admitted,
        "out": Effect.REFUSED,
        "pump-1": admitted,
    }


def test_devices_for_whom_there_is_no_time_are_counted_and_all_of_them_are_told_without_limits(
    service, monkeypatch
):
    ca = root("Plant")
    enroll_ca(service, ca, "plant")
    for number in range(3):
        enroll_device(service, ca.leaf(f"pump-{number}"))
    register(service, ca.leaf("valve-1"))
    at = now()
    disable_enrollment_group(service, "plant", actor=ALICE)

    glance = compare(service, at, limits=FleetLimits(seconds=-1.0))
    every = compare(service, at, limits=ALL_OF_FLEET)

    assert (effects(glance), glance.preview.not_examined) == ({"valve-1": Effect.REFUSED}, 3)
    assert every.preview.not_examined == 0
    assert len(every.preview.devices) == 4


def test_who_was_judged_is_not_judged_again_where_something_is_changed_meanwhile(service, monkeypatch):
    constrained = root("Narrow", extensions=[(PLANT_ALONE, True)])
    enroll_ca(service, constrained, "narrow")
    for number in range(6):
        enroll_device(service, constrained.leaf(f"pump-{number}", extensions=[named(HOSTS[0])]))
    at = now()
    disable_enrollment_group(service, "narrow", actor=ALICE)
    delete_enrollments(service, [f"pump-{number}" for number in range(6)], actor=ALICE)
    until = now()
    judged, rehearsed = [], []
    judge, rehearsal = fleet.judge, fleet.rehearsal

    def noting(service, name, *args, **more):
        judged.append(name)
        return judge(service, name, *args, **more)

    @contextmanager
    def disturbed():
        with rehearsal():
            yield
        rehearsed.append(1)
        if len(rehearsed) % 5 == 0 and len(rehearsed) < 40:
            enroll_device(service, self_signed(f"valve-{len(rehearsed)}"), enabled=False)

    monkeypatch.setattr(fleet, "judge", noting)
    monkeypatch.setattr(fleet, "rehearsal", disturbed)
    monkeypatch.setattr(fleet, "SECONDS_AT_ONCE", 0.0)

    said = compare(service, at, until, limits=ALL_OF_FLEET)

    told = {name: effect for name, effect in effects(said).items() if name.startswith("pump")}
    assert told == {f"pump-{number}": Effect.REFUSED for number in range(6)}
    assert len(judged) == 12, "each once at each of the times"
    assert service.individualenrollments.count() > 3, (
        "it was disturbed more often than it is begun anew at a glance"
    )


def test_whoever_waits_to_write_has_a_turn_between_pieces(service, monkeypatch):
    constrained = root("Narrow", extensions=[(PLANT_ALONE, True)])
    enroll_ca(service, constrained, "narrow")
    for number in range(4):
        enroll_device(service, constrained.leaf(f"pump-{number}", extensions=[named(HOSTS[0])]))
    at = now()
    disable_enrollment_group(service, "narrow", actor=ALICE)
    rehearsals = []
    rehearsal = fleet.rehearsal

    def noted():
        rehearsals.append(monotonic())
        return rehearsal()

    monkeypatch.setattr(fleet, "rehearsal", noted)
    compare(service, at, limits=ALL_OF_FLEET)
    at_once = len(rehearsals)
    monkeypatch.setattr(fleet, "SECONDS_AT_ONCE", 0.0)
    rehearsals.clear()

    said = compare(service, at, limits=ALL_OF_FLEET)

    assert len(effects(said)) == 4
    assert len(rehearsals) >= at_once + 3, "each device in one of its own"
