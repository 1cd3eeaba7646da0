"""`manage.py disable`; with real processes around it, in tests/simulator/test_break_glass.py."""

import os
import pwd

import pytest
from cryptography.fernet import Fernet

from enrollments.actions.registrations import Outcome
from enrollments.management.command import command_line_actor
from enrollments.models import HistoryEvent
from tests.certificates import root
from tests.devices import enroll_ca, enroll_device, enroll_key_group, enroll_keys, new_service, register
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def ca(service):
    ca = root("Plant")
    enroll_ca(service, ca)
    return ca


def test_a_group_is_disabled_with_who_and_why(service, ca):
    pump = ca.leaf("pump-1")
    assert register(service, pump).outcome is Outcome.ASSIGNED

    text = printed_by("disable", "group", "PLANT", "--service", "plant", "--reason", "key leaked")

    assert text == (
        "Enrollment group plant of plant is disabled from now on.\n1 device is refused from now on.\n"
    )
    assert register(service, pump).outcome is Outcome.DISABLED
    row = HistoryEvent.objects.get(event="group.disabled")
    assert (row.actor_kind, row.way, row.reason) == ("cli", "command line", "key leaked")
    assert row.actor_name == pwd.getpwuid(os.getuid()).pw_name
    assert row.client == "manage.py disable"


@pytest.mark.parametrize("enroll", ["certificate", "key"])
def test_an_individual_enrollment_is_disabled(service, ca, enroll):
    pump = ca.leaf("pump-1")
    entry = enroll_device(service, pump) if enroll == "certificate" else enroll_keys(service, "pump-1")

    printed_by("disable", "individual", "Pump-1", "--reason", "stolen")

    entry.refresh_from_db()
    assert not entry.enabled
    assert register(service, pump).outcome is Outcome.DISABLED


@pytest.mark.parametrize("kind", ["individual", "group"])
def test_what_is_disabled_already_is_said_and_not_recorded(service, ca, kind):
    enroll_device(service, ca.leaf("plant"))
    printed_by("disable", kind, "plant", "--reason", "first")
    rows = HistoryEvent.objects.count()

    text = printed_by("disable", kind, "plant", "--reason", "second")

    assert "was disabled already; nothing was changed" in text
    assert json_of("disable", kind, "plant", "--reason", "third")["changed"] is False
    assert HistoryEvent.objects.count() == rows


def test_a_device_of_a_group_is_denied_only_when_that_is_asked_for(service, ca):
    pump, sibling = ca.leaf("pump-1"), ca.leaf("pump-2")
    register(service, pump)

    code, sentence = refusal_of("disable", "individual", "pump-1", "--reason", "stolen")
    assert (code, service.individualenrollments.count()) == (1, 0)
    assert "add --deny" in sentence

    told = json_of("disable", "individual", "pump-1", "--reason", "stolen", "--deny")

    did = told.pop("preview")
    assert told == {
        "kind": "individual",
        "id": "pump-1",
        "service": "plant",
        "status": "disabled",
        "changed": True,
    }
    assert did["effects"]["refused"]["devices"] == 1
    assert register(service, pump).outcome is Outcome.DISABLED
    assert register(service, sibling).outcome is Outcome.ASSIGNED


def test_denying_a_device_that_has_an_enrollment_disables_that(service, ca):
    entry = enroll_device(service, ca.leaf("pump-1"))

    printed_by("disable", "individual", "pump-1", "--reason", "stolen", "--deny")

    entry.refresh_from_db()
    assert not entry.enabled


def test_another_service_is_left_alone(service, ca):
    other = new_service("lab")
    enroll_ca(other, ca)
    pump = ca.leaf("pump-1")

    printed_by("disable", "group", "plant", "--service", "plant", "--reason", "key leaked")

    assert register(service, pump).outcome is Outcome.DISABLED
    assert register(other, pump).outcome is Outcome.ASSIGNED


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        (["group", "nobody", "--reason", "x"], 1, "There is no enrollment group nobody"),
        (["individual", "nobody", "--reason", "x"], 1, "There is no individual enrollment nobody"),
        (["individual", "not an ID", "--reason", "x", "--deny"], 1, "cannot be used here"),
        (["group", "plant", "--reason", "x" * 501], 1, "The reason may be 500 characters long"),
        (["group", "plant", "--reason", "x", "--deny"], 2, "--deny is for single devices"),
        (["group", "plant", "--reason", "x", "--service", "lab"], 1, "no provisioning service 'lab'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(service, ca, command, code, sentence):
    rows = HistoryEvent.objects.count()

    refused, said = refusal_of("disable", *command)

    assert refused == code
    assert sentence in said
    assert HistoryEvent.objects.count() == rows
    assert register(service, ca.leaf("pump-1")).outcome is Outcome.ASSIGNED


@pytest.mark.parametrize("command", [["group", "plant"], ["groups", "plant", "--reason", "x"], ["group"]])
def test_a_command_line_that_lacks_something_is_refused(command):
    refusal_of("disable", *command)


# --- A dry run -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["group", "plant"], ["individual", "pump-1", "--deny"], ["individual", "own-1"]]
)
def test_a_dry_run_says_who_is_refused_and_changes_nothing(service, ca, command):
    enroll_device(service, ca.leaf("own-1"))
    pump = ca.leaf("pump-1")
    register(service, pump)
    rows, epoch = HistoryEvent.objects.count(), type(service).epoch_of(service.pk)

    text = printed_by("disable", *command, "--dry-run")
    told = json_of("disable", *command, "--dry-run")

    name = "own-1" if "own-1" in command else "pump-1"
    assert f"1 device will be refused: {name}." in text
    assert text.endswith("Nothing was changed.\n")
    assert (told["dry_run"], told["changed"]) == (True, False)
    assert told["preview"]["effects"]["refused"]["devices"] == 1
    assert (HistoryEvent.objects.count(), type(service).epoch_of(service.pk)) == (rows, epoch)
    assert register(service, pump).outcome is Outcome.ASSIGNED


def test_a_dry_run_at_a_time_says_what_happens_then(service, ca, database_clock):
    register(service, ca.leaf("pump-1"))
    register(service, ca.leaf("pump-2", not_after=database_clock.ahead(hours=1)))
    at = database_clock.ahead(days=1)
    command = ("disable", "group", "plant", "--dry-run", "--at", at.isoformat())

    text, told = printed_by(*command), json_of(*command)

    assert text.startswith(f"At {at:%Y-%m-%d %H:%M:%S} UTC, with whatever else is scheduled until then:\n")
    assert "1 device will be refused: pump-1.\n" in text
    assert "1 device is shut out already, and stays so: pump-2.\n" in text
    assert (told["at"], told["preview"]["effects"]["refused"]["devices"]) == (at.isoformat(), 1)
    assert "at_the_end" not in told


def test_a_dry_run_until_a_time_says_what_changes_back(service, ca, database_clock):
    register(service, ca.leaf("pump-1"))
    until = database_clock.ahead(days=1)
    command = ("disable", "group", "plant", "--dry-run", "--until", until.isoformat())

    text, told = printed_by(*command), json_of(*command)

    assert text == (
        "From now on:\n1 device will be refused: pump-1.\n"
        f"At {until:%Y-%m-%d %H:%M:%S} UTC, when it is enabled again, with whatever else is scheduled until then:\n"
        "1 device will come in anew through enrollment group plant: pump-1.\nNothing was changed.\n"
    )
    assert told["at_the_end"]["effects"]["comes_in"]["devices"] == 1
    assert service.enrollmentgroups.get().enabled


@pytest.mark.parametrize("command", [["group", "nobody"], ["individual", "nobody"]])
def test_a_dry_run_of_what_is_not_there_is_refused(service, ca, command):
    code, sentence = refusal_of("disable", *command, "--dry-run")

    assert (code, "Nothing was changed." in sentence) == (1, True)


def test_r16_a_group_is_disabled_although_what_that_did_cannot_be_told(service, settings):
    enroll_key_group(service)
    settings.DPS_ENCRYPTION_KEY = "A" * 43 + "="

    text = printed_by("disable", "group", "line-9", "--reason", "leaked")

    assert "is disabled from now on." in text
    assert "could not be worked out" in text
    assert not service.enrollmentgroups.without_secrets().get().enabled


def test_a_user_without_a_name_is_told_by_number(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 54321)

    assert command_line_actor().name == "uid 54321"


def test_back_ends_are_shut_out_by_their_policy():
    service = new_service()
    told = json_of("disable", "policy", "ProvisioningServiceOwner", "--reason", "key leaked")
    again = printed_by("disable", "policy", "provisioningserviceowner", "--reason", "key leaked")

    assert told == {
        "kind": "policy",
        "id": "provisioningserviceowner",
        "service": service.name,
        "status": "disabled",
        "changed": True,
    }
    assert "was disabled already" in again
    assert not service.access_policies.get().enabled
    row = HistoryEvent.objects.get(event="policy.disabled")
    assert (row.reason, row.way) == ("key leaked", "command line")


def test_a_policy_is_shut_out_without_the_key_that_decrypts_it(settings):
    service = new_service()
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    printed_by("disable", "policy", "provisioningserviceowner", "--reason", "key leaked")

    assert not service.access_policies.defer("primary_key", "secondary_key").get().enabled


def test_a_policy_that_is_not_there_and_one_that_is_denied():
    new_service()

    assert refusal_of("disable", "policy", "nobody", "--reason", "x")[0] == 1
    assert refusal_of("disable", "policy", "nobody", "--reason", "x", "--deny")[0] == 2


def test_until_a_time_and_at_a_time(service, ca, database_clock):
    pump, until = ca.leaf("pump-1"), database_clock.ahead(hours=1)
    enroll_device(service, pump)

    said = printed_by("disable", "group", "plant", "--reason", "audit", "--until", until.isoformat())
    entry = printed_by(
        "disable", "individual", "pump-1", "--reason", "moved", "--at", f"{until:%Y-%m-%dT%H:%M:%S}"
    )

    then = f"{until:%Y-%m-%d %H:%M:%S} UTC"
    assert said == (
        f"Enrollment group plant of plant is disabled from now on, until {then}.\n"
        "No device that is known is touched.\n"
    )
    assert entry == (
        f"Individual enrollment pump-1 of plant will be disabled at {then}. Until then it is enabled.\n"
    )
    sibling = ca.leaf("pump-2")
    before = register(service, pump).outcome, register(service, sibling).outcome
    database_clock.set_to(until)
    assert before == (Outcome.ASSIGNED, Outcome.DISABLED)
    # Bound to the state of the database, and in a test's transaction nobody settles: what is due to open is shut.
    assert register(service, pump).outcome is Outcome.DISABLED
    row = HistoryEvent.objects.get(event="enrollment.disabling_scheduled")
    assert (row.reason, row.after) == ("moved", {"status": "enabled", "until": then})


def test_json_says_until_when(service, ca, database_clock):
    until = database_clock.ahead(days=1)

    told = json_of("disable", "group", "plant", "--reason", "audit", "--until", until.isoformat())

    assert (told["status"], told["until"], told["changed"]) == ("disabled", until.isoformat(), True)


def test_disabling_for_good_says_so_where_it_was_for_a_time(service, ca, database_clock):
    until = database_clock.ahead(hours=1)
    printed_by("disable", "group", "plant", "--reason", "audit", "--until", until.isoformat())

    assert "is disabled from now on.\n" in printed_by("disable", "group", "plant", "--reason", "for good")
    assert service.enrollmentgroups.get().switches_at is None


def test_what_is_scheduled_already_is_said_and_not_recorded(service, ca, database_clock):
    command = (
        "disable",
        "group",
        "plant",
        "--reason",
        "x",
        "--at",
        database_clock.ahead(hours=1).isoformat(),
    )
    printed_by(*command)
    rows = HistoryEvent.objects.count()

    assert "will be disabled at" in (said := printed_by(*command)) and "already; nothing was changed" in said
    assert HistoryEvent.objects.count() == rows


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--until", "2020-01-01T00:00Z"], 1, "That time has passed"),
        (["--at", "2199-01-01"], 1, "more than ten years ahead"),
        (["--until", "2199-01-01", "--deny"], 2, "--deny is for good"),
    ],
)
def test_times_that_cannot_be_meant_are_refused(service, ca, options, code, sentence):
    enroll_device(service, ca.leaf("pump-1"))

    refused, said = refusal_of("disable", "individual", "pump-1", "--reason", "x", *options)

    assert (refused, sentence in said) == (code, True)
    assert service.individualenrollments.get().enabled


@pytest.mark.parametrize(
    "options",
    [
        ["--until", "tomorrow"],
        ["--at", "9999-12-31T23:59:59-23:00"],
        ["--until", "2199-01-01", "--at", "2199-01-01"],
    ],
)
def test_times_that_cannot_be_read_are_refused(service, ca, options):
    _, said = refusal_of("disable", "group", "plant", "--reason", "x", *options)

    assert "give a time such as 2026-05-03T14:00Z" in said or "not allowed with argument" in said
    assert service.enrollmentgroups.get().enabled


def test_r12_an_end_that_lets_devices_in_is_not_set_where_nobody_is_asked(service, ca, database_clock):
    """It shuts out, with the portal down too; what may let somebody in is asked about elsewhere."""
    printed_by("disable", "group", "plant", "--reason", "leaked")
    rows = HistoryEvent.objects.count()

    code, sentence = refusal_of(
        "disable", "group", "plant", "--reason", "oops", "--until", database_clock.ahead(hours=1).isoformat()
    )

    assert code == 1
    assert (
        "somebody may come in by a time that is set now: groups disable plant shows who, and asks" in sentence
    )
    group = service.enrollmentgroups.get()
    assert (group.enabled, group.switches_at, HistoryEvent.objects.count()) == (False, None, rows)
    later = database_clock.ahead(hours=2)
    printed_by("groups", "disable", "plant", "--reason", "oops", "--until", later.isoformat(), "--yes")
    printed_by(
        "disable",
        "group",
        "plant",
        "--reason",
        "longer",
        "--until",
        database_clock.ahead(hours=3).isoformat(),
    )
    assert service.enrollmentgroups.get().switches_at == database_clock.ahead(hours=3)
