"""Who comes in later by a list, when switches of other entries turn: told beforehand, and then it is so."""

import pytest

from enrollments.actions.preview import NO_LIMITS, Act, Effect, carry_out
from enrollments.actions.preview.to_come import MAX_TIMES
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import as_text
from enrollments.management.import_reports import foreseen_in_lines
from enrollments.models import ImportRun
from enrollments.transfer import foreseen
from enrollments.transfer.foreseen import foresee
from enrollments.transfer.kept import as_json, numbers_of, parts_of, told_of
from enrollments.transfer.words import how_far
from tests.certificates import root
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, register, shows, signs
from tests.preview.test_preview_to_come import Fleet
from tests.preview.worlds import grown
from tests.transfer.comparing import ROOT, given_by
from tests.transfer.lists import below, carried_out, checked, json_lines, keys, pinned, problems
from tests.transfer.random_lines import lines, that_bar

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.fixture
def plant(service, database_clock):
    """A group below one that is disabled until tomorrow, with a device; and when that is."""
    top = root("Root")
    line = top.intermediate("Line")
    high = enroll_ca(service, top, "high")
    enroll_ca(service, line, "low")
    register(service, line.leaf("pump-1"))
    at = database_clock.ahead(days=1)
    carry_out(service, Act.DISABLE, [high], actor=ALICE, until=at)
    return line, at


def seen_of(service, *listed):
    run = checked(service, json_lines(*listed))
    assert problems(run) == {}
    return foresee(run)


def admitted(preview):
    return {one.registration_id.lower() for one in preview.devices if one.after and one.after.admitted}


def out(preview):
    return {
        one.registration_id.lower()
        for one in preview.devices
        if one.effect in (Effect.STILL_OUT, Effect.REFUSED)
    }


@pytest.mark.parametrize("turns", [False, True], ids=["a list without times", "a list with one"])
@pytest.mark.parametrize("seed", seeds(0, 2))
def test_those_who_come_in_later_are_told(forest, seed, turns, database_clock):
    fleet = Fleet(forest, seed, database_clock, renewing=seed % 3 == 0)
    world, chance = fleet.world, fleet.world.chance
    listed = lines(world, that_bar(forest), chance)
    at = database_clock.ahead(days=chance.choice([1, 2, 3, 4, 5]))
    for line in listed if turns else ():
        if "provisioningStatus" in line and chance.random() < 0.5:
            line["switchesAt"] = at.isoformat()
            fleet.times = sorted({*fleet.times, at})
    run = checked(world.service, json_lines(*listed), actor=ROOT)
    if not run.chunks:
        pytest.skip("no line of this list can be imported")
    before = fleet.admitted()

    seen = foresee(run, NO_LIMITS)
    assert fleet.admitted() == before, "a preview leaves nothing behind"
    carried_out(run, actor=ROOT)
    after = fleet.admitted()
    given = given_by(world, listed)
    fleet.known = {
        name: {**given.get(name, {}), **fleet.known.get(name, {})} for name in {*fleet.known, *given}
    }
    by_whatever = dict(zip(fleet.times, fleet.admitted()[1:], strict=True))

    told = [one.preview for one in (*seen.comings, *seen.later_comings)] + (
        [seen.later] if seen.later else []
    )
    names = {name for preview in told for name in admitted(preview)}
    for without, then in zip(before[1:], after[1:], strict=True):
        for name in (then.keys() & out(seen.now)) - world.vague:
            assert then[name].items() <= without.get(name, {}).items() or name in names, name
    for one in seen.comings:
        if one.at is not None:
            assert admitted(one.preview) - world.vague <= by_whatever[one.at].keys()


def test_who_is_let_in_by_no_switch_stays_out(service, plant):
    deny_device(service, "pump-1", actor=ALICE)

    seen = seen_of(service, {"enrollmentGroupId": "low", "operation": "disable"})

    assert seen.comings == ()
    assert foreseen_in_lines(seen) == ["1 device is shut out already, and stays so: pump-1."]


def test_a_group_that_a_list_lets_in_below_one_that_opens_later(service, database_clock):
    """The list does nothing now, and lets in when somebody else's switch turns."""
    top = root("Root")
    line = top.intermediate("Line")
    low, high = enroll_ca(service, line, "low"), enroll_ca(service, top, "high")
    register(service, line.leaf("pump-1"))
    carry_out(service, Act.DISABLE, [low], actor=ALICE)
    at = database_clock.ahead(days=1).replace(microsecond=0)
    carry_out(service, Act.DISABLE, [high], actor=ALICE, until=at)

    seen = seen_of(service, below("low", line, operation="update", provisioningStatus="enabled"))

    assert foreseen_in_lines(seen) == [
        f"1 device is shut out already, not counting what is scheduled from {as_text(at)} on: pump-1.",
        f"From {as_text(at)} on, with whatever else is scheduled until then:",
        "1 device will come in anew through enrollment group low: pump-1.",
    ]
    (coming,) = as_json(seen)["to_come"]
    assert (coming["at"], coming["effects"]["comes_in"]["devices"]) == (at.isoformat(), 1)
    assert coming["words"] == f"From {as_text(at)} on, with whatever else is scheduled until then:"
    assert told_of(seen)["to_come"][0]["effects"]["comes_in"]["examples"] == ["pump-1"]
    ((part,),) = (parts_of(numbers_of(seen)),)
    assert part.lines[0].words == f"is shut out already, not counting what is scheduled from {as_text(at)} on"
    assert (part.comings[0].sentence, part.comings[0].lines[0].words) == (
        coming["words"],
        "will come in anew",
    )


def test_where_no_switch_turns_the_list_is_gone_through_once(service, monkeypatch):
    gone_through = []
    monkeypatch.setattr(
        foreseen,
        "preview_of_list",
        lambda *given, _preview=foreseen.preview_of_list, **how: (
            gone_through.append(how["at"]) or _preview(*given, **how)
        ),
    )
    entry = enroll_keys(service, "pump-1")
    register(service, signs(service, "pump-1", entry.primary_key), "pump-1")

    seen_of(service, {"registrationId": "pump-1", "operation": "disable"})

    assert gone_through == [None]


@pytest.mark.parametrize(("few", "most"), [(MAX_TIMES, MAX_TIMES), (0, 2)])
def test_of_a_long_list_no_more_than_one_time_is_looked_at_by_itself(
    service, database_clock, monkeypatch, few, most
):
    """And all together: however many there are, the list is gone through three times, and not once for each."""
    top = root("Root")
    listed = []
    for number in range(MAX_TIMES):
        line = top.intermediate(f"Line {number}")
        leaf = line.leaf(f"pump-{number}")
        own = enroll_device(service, leaf, enabled=False)
        group = enroll_ca(service, line, f"line-{number}")
        register(service, leaf)
        carry_out(service, Act.DISABLE, [group], actor=ALICE, until=database_clock.ahead(days=1 + number))
        # By its entry it is out now; the list makes it one that pins another certificate of another CA.
        listed.append({"registrationId": own.registration_id, "operation": "disable"})
    monkeypatch.setattr(foreseen, "FEW_LINES", few)
    run = checked(service, json_lines(*listed, keys("new")))
    far = []

    foresee(run, tell=far.append)

    passes = {(one.is_later, one.is_to_come) for one in far}
    assert passes == {(False, False), (False, True)}
    read = [one for one in far if one.step == "reading" and one.is_to_come]
    assert len(read) <= most


def test_an_end_that_a_line_leaves_in_place_counts(service, database_clock):
    """Enabled until tomorrow, and enabled by the list: it is shut then, whatever opens the day after."""
    ca = root("Plant")
    leaf = ca.leaf("pump-1")
    enroll_ca(service, ca, "plant")
    own = enroll_device(service, leaf)
    register(service, leaf)
    carry_out(service, Act.ENABLE, [own], actor=ALICE, until=database_clock.ahead(days=1))
    bar = enroll_device(service, ca.leaf("other", key=leaf.key), enabled=False)
    carry_out(service, Act.DISABLE, [bar], actor=ALICE, until=database_clock.ahead(days=2))

    edge = {"operation": "update", "capabilities": {"iotEdge": True}}
    seen = seen_of(service, pinned(leaf, provisioningStatus="enabled", **edge))
    assert out(seen.now) == {"pump-1"}
    assert seen.comings == ()

    kept = {"provisioningStatus": "enabled", "switchesAt": database_clock.ahead(days=3).isoformat()}
    (coming,) = seen_of(service, pinned(leaf, **edge, **kept)).comings
    assert coming.at == database_clock.ahead(days=2).replace(microsecond=0)


def test_the_list_and_another_switch_together_let_in(service, database_clock):
    """The list opens its group after the other switch: neither alone lets the device in."""
    top = root("Root")
    line = top.intermediate("Line")
    low, high = enroll_ca(service, line, "low"), enroll_ca(service, top, "high")
    register(service, line.leaf("pump-1"))
    carry_out(service, Act.DISABLE, [low], actor=ALICE)
    first, second = (database_clock.ahead(days=days).replace(microsecond=0) for days in (1, 2))
    carry_out(service, Act.DISABLE, [high], actor=ALICE, until=first)

    line = below(
        "low", line, operation="update", provisioningStatus="disabled", switchesAt=second.isoformat()
    )
    seen = seen_of(service, line)

    assert seen.comings == ()
    assert [(one.at, admitted(one.preview)) for one in seen.later_comings] == [(first, {"pump-1"})]
    assert foreseen_in_lines(seen) == [
        f"1 device is shut out already, not counting what is scheduled from {as_text(second)} on: pump-1.",
        "1 entry turns by itself at a time that the list gives. Once it has:",
        f"1 device is shut out already, not counting what is scheduled from {as_text(first)} on: pump-1.",
        f"From {as_text(first)} on, with whatever else is scheduled until then:",
        "1 device will come in anew through enrollment group low: pump-1.",
    ]


def test_who_is_out_until_an_entry_of_the_list_opens_is_not_said_to_stay_so(service, database_clock):
    leaf = root("Plant").leaf("pump-1")
    enroll_device(service, leaf, enabled=False)
    register(service, shows(leaf))
    at = database_clock.ahead(days=1).replace(microsecond=0)
    line = pinned(leaf, operation="update", provisioningStatus="disabled", switchesAt=at.isoformat())

    told = foreseen_in_lines(seen_of(service, line))

    assert (
        told[0]
        == f"1 device is shut out already, not counting what is scheduled from {as_text(at)} on: pump-1."
    )


def test_how_far_tells_that_it_is_about_times_to_come():
    far = {"step": "reading", "done": 1, "of": 2, "is_later": False, "is_to_come": True}
    assert "This is about times to come at which other switches turn." in how_far(far).sentence
    del far["is_to_come"]
    assert "times to come" not in how_far(far).sentence, "as the version before has kept it"


def test_numbers_of_the_version_before_say_nothing_of_how_long_somebody_stays_out(service, plant):
    deny_device(service, "pump-1", actor=ALICE)
    numbers = numbers_of(seen_of(service, {"enrollmentGroupId": "low", "operation": "disable"}))
    del numbers["out_until"]

    assert parts_of(numbers)[0].lines[0].words == "is shut out already"
    assert ImportRun.objects.exists()
