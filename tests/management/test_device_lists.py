"""`--list` and `--csv` of every command that changes who comes in: each device of a dry run by its name."""

import csv
import importlib
import pkgutil
from argparse import _SubParsersAction
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone

from enrollments.actions.preview import Device, Outcome, Preview
from enrollments.management import commands
from enrollments.management.device_lists import DeviceLists
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from tests.certificates import root, self_signed
from tests.devices import demand_proof, enroll_ca, enroll_device, enroll_keys, register
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db
HEAD = [
    "registration ID",
    "effect",
    "now",
    "now by",
    "afterwards",
    "afterwards by",
    "name held through",
    "admitted otherwise through",
]


@pytest.fixture
def line(service, tmp_path):
    """A group with one device, whose CA is uploaded and has its code."""
    ca = root("Plant")
    enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("Pump-0"))
    (tmp_path / "ca.pem").write_text(ca.pem)
    json_of("ca_certificates", "add", "plant", "--certificate", str(tmp_path / "ca.pem"))
    code = json_of("ca_certificates", "code", "plant")["code"]
    (tmp_path / "proof.pem").write_text(ca.leaf(code).pem)
    demand_proof(service)
    return ca


def admitted(tmp_path):
    printed_by("ca_certificates", "verify", "plant", "--certificate", str(tmp_path / "proof.pem"), "--yes")


def test_columns_line_up_whatever_stands_in_them():
    """Also where something else would admit a device, of which the table says so in its last column."""
    group, own = (
        EntryRef(EntryKind.GROUP, 1, "a-group-with-a-long-name"),
        EntryRef(EntryKind.INDIVIDUAL, 1, "p-2"),
    )
    is_in, is_out = Outcome(Verdict.ADMIT, group), Outcome(Verdict.DISABLED, group)
    devices = (
        Device("p-1", is_in, is_out),
        Device("p-2", is_in, is_out, unless=own),
        Device("p-3", is_out, is_out),
    )

    head, *rows = DeviceLists(listed=True).lines({"from now on": Preview(1, devices)})

    assert [row.rindex("disabled by") for row in rows] == [head.index("AFTERWARDS")] * 3
    assert rows[1].endswith("; otherwise admitted by individual enrollment p-2")


REFUSED = ("refused", "admitted by enrollment group plant-7")
DRY_RUNS = [
    pytest.param(["groups", "disable", "plant-7"], *REFUSED, id="groups disable"),
    pytest.param(["groups", "delete", "plant-7"], *REFUSED, id="groups delete"),
    pytest.param(["registrations", "disable", "pump-0"], *REFUSED, id="registrations disable"),
    pytest.param(["registrations", "deprovision", "pump-0"], *REFUSED, id="registrations deprovision"),
    pytest.param(["disable", "group", "plant-7"], *REFUSED, id="disable group"),
    pytest.param(["disable", "individual", "pump-0", "--deny"], *REFUSED, id="disable --deny"),
    pytest.param(["ca_certificates", "delete", "plant"], *REFUSED, id="ca_certificates delete"),
]


@pytest.mark.parametrize(("command", "effect", "now"), DRY_RUNS)
def test_each_device_is_told_in_a_table_in_json_and_in_a_file(service, line, tmp_path, command, effect, now):
    admitted(tmp_path)
    before = HistoryEvent.objects.count(), ProvisioningService.epoch_of(service.pk)
    path = tmp_path / "devices.csv"

    text = printed_by(*command, "--dry-run", "--list")
    told = json_of(*command, "--dry-run", "--list", "--csv", str(path))

    (row,) = [row for row in text.splitlines() if row.startswith("Pump-0  ")]
    assert effect in row and now in row
    (device,) = told["devices"]
    assert (device["registration_id"], device["effect"], device["now"]) == ("Pump-0", effect, now)
    head, (name, told_effect, *_) = csv.reader(path.read_text().splitlines())
    assert (head, name, told_effect) == (HEAD, "Pump-0", effect)
    assert "devices" not in json_of(*command, "--dry-run")
    rows, epoch = before
    # That the file was written is the only row.
    assert (HistoryEvent.objects.count(), ProvisioningService.epoch_of(service.pk)) == (rows + 1, epoch)


def test_whom_a_proof_lets_in_is_listed(line, tmp_path):
    path = tmp_path / "devices.csv"
    verify = ["ca_certificates", "verify", "plant", "--certificate", str(tmp_path / "proof.pem"), "--dry-run"]

    told = json_of(*verify, "--list", "--csv", str(path))

    assert [(one["registration_id"], one["effect"]) for one in told["devices"]] == [("Pump-0", "comes_in")]
    assert "comes_in" in path.read_text()


def test_entries_of_single_devices_are_listed_alike(service, tmp_path):
    enroll_device(service, self_signed("pump-1"), registration_id="pump-1")
    printed_by("enrollments", "disable", "pump-1", "--reason", "lost")

    told = json_of("enrollments", "enable", "pump-1", "--dry-run", "--list")

    assert [one["registration_id"] for one in told["devices"]] == ["pump-1"]


@pytest.mark.parametrize("command", [["groups", "disable", "plant-7"], ["disable", "group", "plant-7"]])
def test_of_what_is_done_until_a_time_its_end_is_listed_too(service, line, tmp_path, command):
    admitted(tmp_path)
    until = (timezone.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%MZ")
    path = tmp_path / "devices.csv"

    told = json_of(*command, "--until", until, "--dry-run", "--list", "--csv", str(path))
    text = printed_by(*command, "--until", until, "--dry-run", "--list")

    assert [one["effect"] for one in told["devices"]] == ["refused"]
    assert [one["effect"] for one in told["devices_at_the_end"]] == ["comes_in"]
    head, *rows = csv.reader(path.read_text().splitlines())
    assert head == ["when", *HEAD]
    assert [(row[0][:8], row[2]) for row in rows] == [
        ("from now", "refused"),
        (f"at {until[:5]}", "comes_in"),
    ]
    assert "From now on:\nREGISTRATION ID" in text


@pytest.mark.parametrize(("command", "effect", "now"), DRY_RUNS)
@pytest.mark.parametrize("option", ["--list", "--csv"])
def test_whoever_asks_for_what_a_dry_run_tells_does_not_get_the_act(
    service, line, tmp_path, command, effect, now, option
):
    before = HistoryEvent.objects.count()
    asked = [option] if option == "--list" else [option, str(tmp_path / "devices.csv")]

    code, sentence = refusal_of(
        *command, *asked, "--reason", "sold", *(["--yes"] if "groups" in command else [])
    )

    assert (code, sentence) == (2, f"{option} is of a dry run: add --dry-run, or leave it out.")
    assert HistoryEvent.objects.count() == before


def test_a_file_that_cannot_be_written_is_said(line, tmp_path):
    code, sentence = refusal_of(
        "disable", "group", "plant-7", "--dry-run", "--csv", str(tmp_path / "none" / "devices.csv")
    )

    assert (code, "cannot be written" in sentence) == (2, True)


def test_where_nothing_can_be_worked_out_there_is_no_list(service, settings, tmp_path):
    """R16: the dry run says so, and a list of nobody would say something else."""
    enroll_keys(service, "key-1")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    assert refusal_of("enrollments", "disable", "key-1", "--dry-run", "--list")[0] == 1
    assert "cannot be worked out" in printed_by("enrollments", "disable", "key-1", "--dry-run")


# Rehearsals without these lists, and why.
OTHERWISE = {
    "registrations release": "frees a name, and touches no device",
    "registrations delete": "the same",
    "import_enrollments": "writes the list with --preview FILE",
}


def parsers():
    for module in pkgutil.iter_modules(commands.__path__):
        command = importlib.import_module(f"{commands.__name__}.{module.name}").Command()
        parser = command.create_parser("manage.py", module.name)
        yield module.name, parser
        for action in parser._actions:
            if isinstance(action, _SubParsersAction):
                yield from ((f"{module.name} {verb}", sub) for verb, sub in action.choices.items())


def test_every_dry_run_has_these_lists():
    options = {name: set(parser._option_string_actions) for name, parser in parsers()}
    rehearsing = {name for name, has in options.items() if "--dry-run" in has}

    assert len(rehearsing) >= len(OTHERWISE) + 10
    assert {name for name in rehearsing if not {"--list", "--csv"} <= options[name]} == OTHERWISE.keys()
