"""`manage.py enrollments` and `manage.py groups`: what they show, what they do, and what they ask before it."""

import io
import json
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.registrations import Outcome
from enrollments.management import entry_commands
from enrollments.models import HistoryEvent, IndividualEnrollment, ProvisioningService
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_line,
    enroll_tpm,
    new_service,
    register,
)
from tests.management.calls import answering, json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db
WHY = ("--reason", "stolen")


@pytest.fixture
def pumps(service):
    return [enroll_keys(service, name) for name in ("pump-1", "Pump-2", "pump-3")]


@pytest.fixture
def line(service):
    """A group below an enabled root, with two devices."""
    return enroll_line(service, "valve-0", "valve-1")


def rows():
    return HistoryEvent.objects.count()


def states(service):
    return dict(service.individualenrollments.values_list("registration_id", "enabled"))


def json_lines(*command):
    return [json.loads(text) for text in printed_by(*command, "--json").splitlines()]


# --- Lists -----------------------------------------------------------------------------------------


def test_the_list_is_aligned_and_in_order(service, pumps):
    enroll_device(service, self_signed("a-valve-with-a-longer-name"))
    disable_enrollment(service, "pump-3", actor=ALICE)

    lines = printed_by("enrollments", "list").splitlines()

    assert lines[0].split() == [
        "REGISTRATION",
        "ID",
        "STATUS",
        "UNTIL",
        "(UTC)",
        "MECHANISM",
        "EXPIRES",
        "CREATED",
    ]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["a-valve-with-a-longer-name", "enabled", "-", "x509"],
        ["pump-1", "enabled", "-", "symmetricKey"],
        ["Pump-2", "enabled", "-", "symmetricKey"],
        ["pump-3", "disabled", "-", "symmetricKey"],
    ]
    assert (
        len({line.index(word) for line, word in zip(lines[1:], ["enabled"] * 3 + ["disabled"], strict=True)})
        == 1
    )
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        pytest.param(["--search", "PUMP-"], ["pump-1", "Pump-2", "pump-3"], id="beginning"),
        pytest.param(["--status", "disabled"], ["pump-3"], id="status"),
        pytest.param(["--mechanism", "x509"], ["valve-9"], id="mechanism"),
        pytest.param(["--search", "pump", "--status", "enabled", "--limit", "1"], ["pump-1"], id="together"),
        pytest.param(["--search", "%"], [], id="no pattern"),
        pytest.param(["--limit", "2"], ["pump-1", "Pump-2"], id="limit"),
    ],
)
def test_the_list_is_filtered_as_in_the_portal(service, pumps, filters, found):
    enroll_device(service, self_signed("valve-9"))
    disable_enrollment(service, "pump-3", actor=ALICE)

    assert [one["registration_id"] for one in json_lines("enrollments", "list", *filters)] == found


def test_pages_follow_each_other_without_gap_or_repetition(service, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr("enrollments.models.keyset.FIRST_PAGE", 2)
    monkeypatch.setattr("enrollments.models.keyset.PAGE", 3)
    names = [f"pump-{number}" for number in range(8)]
    for name in names:
        enroll_device(service, self_signed(name))

    # The service and how its switches stand, then of each page (2, 3, 3, none) the rows and their certificates.
    with django_assert_num_queries(2 + 2 * 3 + 1):
        found = json_lines("enrollments", "list")

    assert [one["registration_id"] for one in found] == names
    assert len(json_lines("enrollments", "list", "--limit", "5")) == 5
    assert all(one["certificate_expires"].endswith("Z") for one in found)


def test_groups_are_listed_with_the_certificate_that_ends_first(service):
    ca = root("Root")
    enroll_ca(service, ca, "plant-7")
    enroll_key_group(service, "line-9")

    keys, plant = json_lines("groups", "list")

    assert (keys["group_id"], keys["certificate_expires"]) == ("line-9", None)
    assert plant["certificate_expires"][:10] == ca.parsed.not_after.strftime("%Y-%m-%d")


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_an_empty_list_says_so_beside(service, capsys, form):
    assert printed_by("enrollments", "list", *form) == ""
    assert capsys.readouterr().err == "No individual enrollments of plant are like that.\n"


def test_entries_of_another_service_are_not_there(service, pumps):
    new_service("depot")

    assert json_lines("enrollments", "list", "--service", "depot") == []
    assert refusal_of("enrollments", "list")[0] == 2
    code, sentence = refusal_of("enrollments", "disable", "pump-1", *WHY, "--service", "depot")
    assert (code, sentence) == (1, "There is no individual enrollment pump-1 in depot. Nothing was changed.")
    assert all(states(service).values())


# --- Showing ---------------------------------------------------------------------------------------


def test_an_entry_is_shown_with_its_record_and_last_attempts(service):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf, initial_twin={"tags": {"line": 9}, "properties": {"desired": {}}})
    register(service, leaf)

    text = printed_by("enrollments", "show", "PUMP-042")
    (told,) = json_lines("enrollments", "show", "pump-042")

    for word in (leaf.parsed.thumbprint_sha256, '"line": 9', "assigned, device pump-042", "198.51.100.20"):
        assert word in text
    assert (told["registration"]["status"], told["attempts"][0]["outcome"]) == ("assigned", "assigned")
    assert told["certificates"][0]["thumbprint_sha256"] == leaf.parsed.thumbprint_sha256


def test_no_secret_is_shown_nor_needed(service, settings):
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]
    hook = {"allocation_policy": "custom", "webhook_url": "https://hooks.example/pick?code=s3cr3tcode"}
    keyed, group = enroll_keys(service, "pump-1", **hook), enroll_key_group(service, "line-9")
    secrets = [keyed.primary_key, keyed.secondary_key, group.primary_key, "s3cr3tcode"]
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    for form in ((), ("--json",)):
        shown = printed_by("enrollments", "show", "pump-1", *form) + printed_by(
            "groups", "show", "line-9", *form
        )

        assert [one for one in secrets if one in shown] == []
        assert "hooks.example/pick" in shown


def test_a_group_is_shown_with_how_many_came_through_it(service, line):
    assert json_lines("groups", "show", "plant-7")[0]["registrations"] == {"assigned": 2}
    assert "2 assigned" in printed_by("groups", "show", "plant-7")


def test_what_strangers_wrote_moves_no_cursor(service):
    enroll_tpm(service, "press-01")
    leaf = self_signed("press-01")
    register(service, leaf)
    service.attempts.update(peer_address="\x1b[2Jhere", client="x\ny")

    text = printed_by("enrollments", "show", "press-01")

    assert "\x1b" not in text
    assert "\ufffd[2Jhere" in text


# --- Shutting out ----------------------------------------------------------------------------------


def test_several_are_disabled_at_once_and_it_is_told_what_that_did(service, pumps):
    text = printed_by("enrollments", "disable", "PUMP-1", "pump-2", "pump-1", *WHY)

    assert text == (
        "Disabled 2 individual enrollments (pump-1, Pump-2) of plant: 2 devices are refused from now on.\n"
    )
    assert states(service) == {"pump-1": False, "Pump-2": False, "pump-3": True}
    disabled = HistoryEvent.objects.filter(event="enrollment.disabled")
    assert [(row.reason, row.way) for row in disabled] == [("stolen", "command line")] * 2


def test_all_of_them_or_none(service, pumps):
    before = rows()

    code, sentence = refusal_of("enrollments", "disable", "pump-1", "nobody", "\x1b[2J", *WHY)

    assert code == 1
    assert sentence == "There are no individual enrollments nobody, '\\x1b[2J' in plant. Nothing was changed."
    assert (all(states(service).values()), rows()) == (True, before)


def test_names_come_from_standard_input(service, pumps, monkeypatch):
    answering(monkeypatch, "pump-1\n\n  pump-3 \npump-1\n", is_terminal=False)

    told = json_of("enrollments", "disable", "-", *WHY)

    assert (told["entries"], told["changed"]) == (["pump-1", "pump-3"], ["pump-1", "pump-3"])
    assert told["preview"]["effects"]["refused"]["devices"] == 2
    assert states(service)["Pump-2"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param("", "Standard input holds no ID.", id="nothing"),
        pytest.param("x" * 300 + "\n", "Line 1 of standard input is no ID", id="too long a line"),
        pytest.param("".join(f"p{n}\n" for n in range(1001)), "more than 1,000 IDs", id="too many"),
    ],
)
def test_standard_input_is_bounded(service, monkeypatch, given, sentence):
    answering(monkeypatch, given, is_terminal=False)

    code, said = refusal_of("enrollments", "disable", "-", *WHY)

    assert code == 2
    assert sentence in said


def test_what_is_disabled_already_is_said_and_not_recorded(service, pumps):
    printed_by("enrollments", "disable", "pump-1", *WHY)
    before = rows()

    text = printed_by("enrollments", "disable", "pump-1", *WHY)

    assert text == "Individual enrollment pump-1 was disabled already; nothing was changed there.\n"
    assert json_of("enrollments", "disable", "pump-1", *WHY)["changed"] == []
    assert rows() == before


def test_disabling_works_without_the_key_that_decrypts(service, pumps, settings):
    """R16."""
    enroll_key_group(service, "line-9")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    assert "Disabled individual enrollment pump-1" in printed_by("enrollments", "disable", "pump-1", *WHY)
    assert "Disabled enrollment group line-9" in printed_by("groups", "disable", "line-9", *WHY)
    dry = printed_by("enrollments", "disable", "pump-3", "--dry-run")
    assert "Shutting out works all the same." in dry
    assert refusal_of("enrollments", "enable", "pump-1", "--yes", *WHY)[0] == 1
    assert dict(service.individualenrollments.values_list("registration_id", "enabled"))["pump-1"] is False


@pytest.mark.parametrize("act", ["disable", "enable", "delete"])
def test_a_reason_is_needed_but_for_a_dry_run(service, pumps, act):
    before = rows()

    code, sentence = refusal_of("enrollments", act, "pump-1")

    assert (code, "--reason" in sentence) == (2, True)
    assert "Nothing was changed." in printed_by("enrollments", act, "pump-1", "--dry-run")
    assert (rows(), states(service)["pump-1"]) == (before, True)


def test_time_boxed_switches_are_listed_as_they_stand(service, pumps):
    soon = timezone.now().replace(microsecond=0) + timedelta(hours=3)
    disable_enrollment(service, "pump-1", actor=ALICE, until=soon)
    disable_enrollment(service, "pump-2", actor=ALICE, at=soon)
    # Its time is over, and nobody has written that down.
    disable_enrollment(service, "pump-3", actor=ALICE, until=soon)
    service.individualenrollments.filter(registration_id="pump-3").update(switches_at=timezone.now())

    told = {
        one["registration_id"]: (one["status"], one["until"]) for one in json_lines("enrollments", "list")
    }

    until = f"{soon:%Y-%m-%dT%H:%M:%SZ}"
    assert told == {"pump-1": ("disabled", until), "Pump-2": ("enabled", until), "pump-3": ("enabled", None)}
    assert f"{soon:%Y-%m-%d %H:%M}" in printed_by("enrollments", "list")
    assert f"{soon:%Y-%m-%d %H:%M:%S} UTC" in printed_by("enrollments", "show", "pump-1")
    assert [one["registration_id"] for one in json_lines("enrollments", "list", "--status", "disabled")] == [
        "pump-1"
    ]


def test_what_was_disabled_for_a_time_is_disabled_for_good(service, pumps):
    disable_enrollment(service, "pump-1", actor=ALICE, until=timezone.now() + timedelta(hours=3))

    text = printed_by("enrollments", "disable", "pump-1", "pump-2", *WHY)

    assert "Disabled individual enrollment Pump-2 of plant: 1 device is refused from now on." in text
    assert "Disabled for good, and no longer for a time: individual enrollment pump-1." in text
    assert service.individualenrollments.get(registration_id="pump-1").switches_at is None
    disable_enrollment(service, "pump-3", actor=ALICE, at=timezone.now() + timedelta(hours=3))
    assert json_of("enrollments", "disable", "pump-3", *WHY)["changed"] == ["pump-3"]


# --- Letting in, and deleting ----------------------------------------------------------------------


def test_a_dry_run_says_who_comes_in_and_through_which_entry(service, line):
    printed_by("groups", "disable", "root", "plant-7", *WHY)
    before, epoch = rows(), ProvisioningService.epoch_of(service.pk)

    text = printed_by("groups", "enable", "plant-7", "root", "--dry-run", "--list")
    told = json_of("groups", "delete", "plant-7", "--dry-run", "--list")

    assert "2 devices will come in anew through enrollment group plant-7: valve-0, valve-1." in text
    assert f"Nothing was changed. It was looked at on epoch {epoch}." in text
    assert "admitted by enrollment group plant-7" in text
    assert [one["registration_id"] for one in told["devices"]] == ["valve-0", "valve-1"]
    assert told["below"][0]["barred_by"] == ["enrollment group root"]
    assert (rows(), ProvisioningService.epoch_of(service.pk)) == (before, epoch)


def test_nobody_is_let_in_without_a_yes(service, pumps, monkeypatch):
    printed_by("enrollments", "disable", "pump-1", *WHY)
    before = rows()

    answering(monkeypatch, "y\n", is_terminal=False)
    code, sentence = refusal_of("enrollments", "enable", "pump-1", *WHY)
    assert (code, "--yes" in sentence) == (2, True)
    for answer in ("n\n", "\n", "", "yes please\n"):
        answering(monkeypatch, answer)
        assert refusal_of("enrollments", "enable", "pump-1", *WHY) == (
            1,
            "Nobody said yes, so nothing was changed.",
        )
    assert refusal_of("enrollments", "enable", "pump-1", *WHY, "--json")[0] == 2
    assert (rows(), states(service)["pump-1"]) == (before, False)


def test_it_is_asked_with_the_preview_above(service, pumps, monkeypatch, capsys):
    printed_by("enrollments", "disable", "pump-1", *WHY)
    answering(monkeypatch, "Y\n")

    text = printed_by("enrollments", "enable", "pump-1", *WHY)

    assert text.splitlines()[:2] == [
        "If you enable individual enrollment pump-1 of plant:",
        "- 1 device will come in anew through individual enrollment of its own: pump-1.",
    ]
    assert "Enabled individual enrollment pump-1 of plant: 1 device is admitted from now on" in text
    assert capsys.readouterr().err == "Enable? [y/N] "
    assert states(service)["pump-1"]


def test_what_changed_while_it_was_asked_is_shown_before_it_is_asked_again(service, pumps, monkeypatch):
    """R12: a yes holds for what was looked at."""
    printed_by("enrollments", "disable", "pump-1", *WHY)
    asked = []

    def answer(_command, _question):
        asked.append(1)
        if len(asked) == 1:
            enroll_keys(service, "another")
        return True

    monkeypatch.setattr(entry_commands.EntriesCommand, "agreed", answer)

    text = printed_by("enrollments", "enable", "pump-1", *WHY)

    assert len(asked) == 2
    assert "Something was changed meanwhile, and nothing was done. This holds now:" in text
    assert states(service)["pump-1"]


def test_a_script_can_act_on_the_state_that_its_dry_run_saw(service, pumps):
    printed_by("enrollments", "disable", "pump-1", *WHY)
    epoch = str(json_of("enrollments", "enable", "pump-1", "--dry-run")["preview"]["epoch"])
    enroll_keys(service, "another")

    code, sentence = refusal_of("enrollments", "enable", "pump-1", *WHY, "--yes", "--epoch", epoch)

    assert (code, "changed after the preview was made" in sentence) == (1, True)
    assert not states(service)["pump-1"]
    epoch = str(json_of("enrollments", "enable", "pump-1", "--dry-run")["preview"]["epoch"])
    assert json_of("enrollments", "enable", "pump-1", *WHY, "--yes", "--epoch", epoch)["changed"] == [
        "pump-1"
    ]


def test_deleting_says_what_it_opens_and_is_done_on_a_yes(service, line):
    printed_by("groups", "disable", "plant-7", *WHY)

    dry = printed_by("groups", "delete", "plant-7", "--dry-run")
    text = printed_by("groups", "delete", "plant-7", "--yes", *WHY)

    assert "2 devices will come in anew through enrollment group root" in dry
    assert "- Enrollment group plant-7 is disabled: deleting it ends its bar" in dry
    assert text.startswith("Deleted enrollment group plant-7 of plant: 2 devices are admitted from now on")
    assert HistoryEvent.objects.get(event="group.deleted").reason == "stolen"
    assert refusal_of("groups", "delete", "plant-7", "--yes", *WHY)[0] == 1


def test_deleting_can_keep_the_devices_out(service, line):
    told = json_of("groups", "delete", "plant-7", "--yes", "--keep-out", *WHY)

    assert told["denied"] == 2
    assert states(service) == {"valve-0": False, "valve-1": False}
    assert register(service, line.leaf("valve-0")).outcome is Outcome.DISABLED


def test_keeping_out_more_than_one_call_denies_goes_on_to_the_end(service, line, monkeypatch):
    monkeypatch.setattr("enrollments.actions.deleting.DENIED_AT_ONCE", 1)
    monkeypatch.setattr("enrollments.actions.deleting.MAX_DENIED", 1)
    for number in range(2, 5):
        register(service, line.leaf(f"valve-{number}"))

    text = printed_by("groups", "delete", "plant-7", "--yes", "--keep-out", *WHY)

    assert (
        text == "Deleted enrollment group plant-7 of plant: 5 devices are kept out, each by its own entry.\n"
    )
    assert list(states(service).values()) == [False] * 5


def test_a_change_that_cannot_be_recorded_does_not_happen(service, pumps, monkeypatch):
    monkeypatch.setattr(HistoryEvent.objects, "create", lambda **_: IndividualEnrollment.objects.raw("x")[0])

    assert refusal_of("enrollments", "delete", "pump-1", "--yes", *WHY)[0] == 1
    monkeypatch.undo()
    assert set(states(service)) == {"pump-1", "Pump-2", "pump-3"}


def test_what_cannot_be_told_any_more_is_not_called_undone(service, pumps, monkeypatch):
    """The reader went away after the deed: it is done, and a second call finds it so."""

    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    call_command("enrollments", "disable", "pump-1", *WHY, stdout=Gone())
    assert not states(service)["pump-1"]
    # Before the deed it is none.
    answering(monkeypatch, "y\n")
    with pytest.raises(CommandError) as refused:
        call_command("enrollments", "enable", "pump-1", *WHY, stdout=Gone())
    assert refused.value.returncode == 1
    assert not states(service)["pump-1"]
