"""Times in the commands about entries: set for several at once, looked at, and asked about where they may let in."""

import json
from datetime import UTC, timedelta

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.management import entry_commands
from enrollments.models import HistoryEvent, ProvisioningService
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_keys, register
from tests.management.calls import answering, json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db
WHY = ("--reason", "audit")
BOTH = "2 individual enrollments (pump-1, pump-2)"


@pytest.fixture
def pumps(service):
    return [enroll_keys(service, name) for name in ("pump-1", "pump-2")]


@pytest.fixture
def line(service, database_clock):
    dates = {"not_before": database_clock.ahead(days=-1)}
    ca = root("Plant", **dates)
    group = enroll_ca(service, ca, "plant-7")
    for number in range(2):
        register(service, ca.leaf(f"valve-{number}", **dates))
    return group


@pytest.fixture
def later(database_clock):
    return database_clock.ahead(hours=1)


def text(at):
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def said(at):
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def state(entries):
    for one in entries:
        one.refresh_from_db()
    return [(one.enabled, one.switches_at) for one in entries]


def test_several_are_disabled_until_a_time(pumps, later):
    told = printed_by("enrollments", "disable", "pump-1", "pump-2", "--until", text(later), *WHY)

    assert told == (f"Disabled {BOTH} of plant until {said(later)}: 2 devices are refused from now on.\n")
    assert state(pumps) == [(False, later)] * 2
    assert {one.schedule_reason for one in pumps} == {"audit"}
    assert list(
        HistoryEvent.objects.filter(event="enrollment.disabled").values_list("reason", flat=True)
    ) == [
        "audit",
        "audit",
    ]


def test_several_are_to_be_disabled_at_a_time(pumps, later):
    command = ("enrollments", "disable", "pump-1", "pump-2", "--at", text(later), *WHY)

    told, again = printed_by(*command), printed_by(*command, "--yes")

    assert told == (f"{BOTH} of plant will be disabled at {said(later)}. Until then they are enabled.\n")
    assert again == f"{BOTH} will be disabled then already; nothing was changed there.\n"
    assert state(pumps) == [(True, later)] * 2


def test_of_those_that_are_to_be_disabled_the_ones_that_are_already_are_told_apart(service, pumps, later):
    disable_enrollment(service, "pump-1", actor=ALICE)

    told = printed_by("enrollments", "disable", "pump-1", "pump-2", "--at", text(later), "--yes", *WHY)

    assert f"Individual enrollment pump-2 of plant will be disabled at {said(later)}." in told
    assert "Individual enrollment pump-1 was disabled already; nothing was changed there." in told
    assert state(pumps) == [(False, None), (True, later)]


def test_a_group_is_enabled_until_a_time_and_that_is_looked_at_first(service, line, later, monkeypatch):
    disable_enrollment_group(service, "plant-7", actor=ALICE)
    answering(monkeypatch, "y\n")

    told = printed_by("groups", "enable", "plant-7", "--until", text(later), *WHY)

    assert told.splitlines()[:5] == [
        "If you enable enrollment group plant-7 of plant:",
        "From now on:",
        "- 2 devices will come in anew through enrollment group plant-7: valve-0, valve-1.",
        f"At {said(later)}, when it is disabled again, with whatever else is scheduled until then:",
        "- 2 devices will be refused: valve-0, valve-1.",
    ]
    assert f"Enabled enrollment group plant-7 of plant until {said(later)}: 2 devices" in told
    assert state([line]) == [(True, later)]


def test_an_end_by_which_somebody_comes_in_is_asked_about(service, line, later, monkeypatch):
    disable_enrollment_group(service, "plant-7", actor=ALICE)
    command = ("groups", "disable", "plant-7", "--until", text(later), *WHY)
    rows = HistoryEvent.objects.count()

    answering(monkeypatch, "n\n")
    status, sentence = refusal_of(*command)
    assert (status, "Nobody said yes" in sentence) == (1, True)
    assert (state([line]), HistoryEvent.objects.count()) == ([(False, None)], rows)

    answering(monkeypatch, "y\n")
    told = printed_by(*command)
    assert f"At {said(later)}, when it is enabled again" in told
    assert "- 2 devices will come in anew through enrollment group plant-7: valve-0, valve-1." in told
    assert f"Disabled until {said(later)}: enrollment group plant-7." in told
    assert state([line]) == [(False, later)]


def test_an_end_on_a_state_that_has_passed_is_refused(service, line, later):
    disable_enrollment_group(service, "plant-7", actor=ALICE)
    command = ("groups", "disable", "plant-7", "--until", text(later), *WHY)
    looked = json_of(*command, "--dry-run")
    enroll_keys(service, "somebody")

    status, sentence = refusal_of(*command, "--yes", "--epoch", str(looked["preview"]["epoch"]))

    assert (status, "changed after the preview was made" in sentence) == (1, True)
    assert state([line]) == [(False, None)]
    now = str(ProvisioningService.epoch_of(service.pk))
    assert json_of(*command, "--yes", "--epoch", now)["changed"] == ["plant-7"]
    assert state([line]) == [(False, later)]


def test_one_that_was_disabled_for_good_meanwhile_is_not_opened_unasked(service, line, later, monkeypatch):
    """Between the look at what is enabled and the deed: the end that would narrow then lets in."""
    really, done = entry_commands.carry_out, []

    def outrun(*given, **how):
        if not done:
            done.append(disable_enrollment_group(service, "plant-7", actor=ALICE, reason="stolen"))
        return really(*given, **how)

    monkeypatch.setattr(entry_commands, "carry_out", outrun)
    answering(monkeypatch, "n\n")

    status, sentence = refusal_of("groups", "disable", "plant-7", "--until", text(later), *WHY)

    assert (status, "Nobody said yes" in sentence) == (1, True)
    assert state([line]) == [(False, None)]


@pytest.mark.parametrize(
    ("way", "first", "end"), [("--until", {"refused": 2}, {"comes_in": 2}), ("--at", {"refused": 2}, None)]
)
def test_a_dry_run_for_programs(line, later, way, first, end):
    def devices(told):
        return {name: one["devices"] for name, one in told["effects"].items() if one["devices"]}

    told = json_of("groups", "disable", "plant-7", way, text(later), "--dry-run")
    looked = json_of("preview", "disable", "group", "plant-7", way, text(later))

    assert told[way[2:]] == looked[way[2:]] == later.isoformat()
    assert (devices(told["preview"]), devices(looked)) == (first, first)
    for one in (told, looked):
        assert (devices(one["at_the_end"]) if "at_the_end" in one else None) == end
    assert state([line]) == [(True, None)]


def test_a_preview_at_a_time_in_words(line, later):
    told = printed_by("preview", "disable", "group", "plant-7", "--at", text(later))

    assert told.splitlines() == [
        "If you disable enrollment group plant-7 of plant:",
        f"At {said(later)}, with whatever else is scheduled until then:",
        "- 2 devices will be refused: valve-0, valve-1.",
        "Nothing was changed.",
    ]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("preview", "delete", "group", "plant-7", "--until"), "give no time"),
        (("preview", "enable", "group", "plant-7", "--at"), "Nothing is enabled at a time to come"),
    ],
)
def test_acts_that_have_no_such_time(line, later, command, sentence):
    status, told = refusal_of(*command, text(later))

    assert (status, sentence in told) == (2, True)


def test_a_time_that_has_passed_changes_nothing(pumps):
    past = text(timezone.now() - timedelta(hours=1))

    status, sentence = refusal_of("enrollments", "disable", "pump-1", "pump-2", "--until", past, *WHY)

    assert (status, "That time has passed" in sentence) == (1, True)
    assert state(pumps) == [(True, None)] * 2


def test_r16_what_only_narrows_is_done_without_the_key_that_decrypts(pumps, later, settings):
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    told = printed_by("enrollments", "disable", "pump-1", "--at", text(later), *WHY)

    assert f"will be disabled at {said(later)}" in told
    entry = type(pumps[0]).objects.without_secrets().get(pk=pumps[0].pk)
    assert (entry.enabled, entry.switches_at) == (True, later)


def test_for_programs_what_was_done_names_the_time(pumps, later):
    told = json_of("enrollments", "disable", "pump-1", "--until", text(later), *WHY)

    assert (told["changed"], told["until"], told["dry_run"]) == (["pump-1"], later.isoformat(), False)
    assert json.dumps(told["preview"])


# --- Enabling what is enabled, and to be disabled --------------------------------------------------


@pytest.fixture
def leaving(service, line, later):
    """The group, which is to be disabled."""
    disable_enrollment_group(service, "plant-7", at=later, actor=ALICE)
    return line


def test_enabling_leaves_what_is_scheduled_and_says_how_to_drop_it(leaving, later):
    rows = HistoryEvent.objects.count()

    told = printed_by("groups", "enable", "plant-7", "--yes", *WHY)

    assert told == (
        f"Enrollment group plant-7 was enabled already, and is to be disabled at {said(later)} as before: --for-good "
        "drops that.\n"
    )
    assert (state([leaving]), HistoryEvent.objects.count()) == ([(True, later)], rows)


@pytest.mark.parametrize(
    ("act", "way", "goes"),
    [("enable", "--for-good", "dropped"), ("enable", "--until", "put off"), ("disable", "--at", "put off")],
)
def test_a_disabling_that_is_dropped_or_put_off_is_asked_about(
    leaving, later, database_clock, monkeypatch, act, way, goes
):
    end = database_clock.ahead(days=5)
    command = ("groups", act, "plant-7", way, *([text(end)] if way != "--for-good" else []), *WHY)
    shown = [
        f"What is scheduled for {said(later)} would do this then, and is {goes}:",
        "- 2 devices will be refused: valve-0, valve-1.",
    ]

    looked = printed_by(*command, "--dry-run").splitlines()
    answering(monkeypatch, "n\n")
    status, _ = refusal_of(*command)
    before = state([leaving])
    answering(monkeypatch, "y\n")
    done = printed_by(*command).splitlines()

    for lines in (looked, done):
        at = lines.index(shown[0])
        assert lines[at : at + 2] == shown
    assert (status, before) == (1, [(True, later)])
    assert f"What was scheduled for {said(later)} is {goes}: enrollment group plant-7." in done
    assert state([leaving]) == [(True, None if way == "--for-good" else end)]


def test_for_programs_what_is_put_off_is_told_beside(leaving, later):
    told = json_of("groups", "enable", "plant-7", "--for-good", "--dry-run")
    looked = json_of("preview", "enable", "group", "plant-7", "--for-good")

    for one in (told, looked):
        assert one["scheduled"] == later.isoformat()
        assert one["put_off"]["effects"]["refused"]["devices"] == 2
    assert state([leaving]) == [(True, later)]


def test_each_list_of_devices_has_a_member_of_its_own(leaving, later, database_clock):
    end = text(database_clock.ahead(days=5))

    told = json_of("groups", "enable", "plant-7", "--until", end, "--dry-run", "--list")

    assert [one["effect"] for one in told["devices_put_off"]] == ["refused", "refused"]
    assert {"devices", "devices_at_the_end"} <= told.keys()


def test_what_is_scheduled_for_several_times_is_dropped_one_by_one(service, leaving, later, database_clock):
    enroll_ca(service, root("Other"), "plant-8")
    disable_enrollment_group(service, "plant-8", at=database_clock.ahead(hours=2), actor=ALICE)

    status, sentence = refusal_of("groups", "enable", "plant-7", "plant-8", "--for-good", "--yes", *WHY)

    assert (status, "look at it, put it off or drop it one by one" in sentence) == (1, True)
    assert state([leaving]) == [(True, later)]


def test_for_good_is_about_enabling(leaving):
    status, sentence = refusal_of("preview", "disable", "group", "plant-7", "--for-good")

    assert (status, "--for-good is about enabling" in sentence) == (2, True)
