"""What a command writes into a file is history before it is given away, as what the portal exports is (R17)."""

import argparse
import re
from pathlib import Path

import pytest
from django.db import DatabaseError
from django.utils import timezone

from enrollments.actions import history
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent
from tests.certificates import root
from tests.devices import enroll_ca, enroll_keys, register
from tests.management.calls import printed_by, refusal_of
from tests.management.test_device_lists import parsers

pytestmark = pytest.mark.django_db
DRY = ["--dry-run", "--csv"]
FILE, CA_FILE, PROOF, LIST = "{file}", "{ca}", "{proof}", "{list}"
IMPORT = ["import_enrollments", LIST, "--dry-run"]
# By command and option: how it is called, and what the row says was exported.
PREVIEW = "preview as CSV"
WRITTEN = {
    ("preview", "--csv"): (["preview", "delete", "group", "plant-7", "--csv"], PREVIEW),
    ("disable", "--csv"): (["disable", "individual", "pump-0", "--deny", *DRY], PREVIEW),
    ("groups enable", "--csv"): (["groups", "enable", "plant-7", *DRY], PREVIEW),
    ("groups disable", "--csv"): (["groups", "disable", "plant-7", *DRY], PREVIEW),
    ("groups delete", "--csv"): (["groups", "delete", "plant-7", *DRY], PREVIEW),
    ("enrollments enable", "--csv"): (["enrollments", "enable", "key-1", *DRY], PREVIEW),
    ("enrollments disable", "--csv"): (["enrollments", "disable", "key-1", *DRY], PREVIEW),
    ("enrollments delete", "--csv"): (["enrollments", "delete", "key-1", *DRY], PREVIEW),
    ("registrations disable", "--csv"): (["registrations", "disable", "pump-0", *DRY], PREVIEW),
    ("registrations deprovision", "--csv"): (["registrations", "deprovision", "pump-0", *DRY], PREVIEW),
    ("ca_certificates", "--csv"): (["ca_certificates", "delete", "plant", *DRY], PREVIEW),
    ("as_of", "--csv"): (["as_of", "{now}", "--csv"], "who could have registered, as CSV"),
    ("import_enrollments", "--preview"): ([*IMPORT, "--preview"], PREVIEW),
    ("import_enrollments", "--errors"): ([*IMPORT, "--errors"], "problems of import {import}"),
    ("export_enrollments", "--out"): (["export_enrollments", "--out"], "groups and enrollments of plant"),
    ("export_history", "--out"): (["export_history", "--out"], "history with seals"),
}
# Files that a command reads, and those in which nothing stands of any device of a service, nor of any row.
OTHERWISE = {
    "audit_verify": {"export", "--checkpoint", "--against"},
    "ca_certificates": {"--certificate"},
    "dumpdata": {"-o"},  # refused, whatever it is given
    "explain": {"--certificate"},
    "history_checkpoint": {"--out"},
    "import_enrollments": {"file", "--zip"},
    "simulate": {"--cert", "--key", "--chain", "--cacert", "--write-pki"},
}
DJANGOS = ("pythonpath", "settings")
_OF_A_FILE = re.compile(
    r"csv|json-?lines|jsonl|xlsx|out(put)?|file|write|save|report|zip|path", re.IGNORECASE
)


@pytest.fixture
def called(service, tmp_path):
    """A way to call such a command, in a service with a device for each."""
    ca = root("Plant")
    enroll_ca(service, ca, "plant-7")
    enroll_keys(service, "key-1")
    register(service, ca.leaf("Pump-0"))
    for name, content in {"ca": ca.pem, "list": '{"registrationId": "x", "mechanism": "nonsense"}\n'}.items():
        (tmp_path / f"{name}.jsonl").write_text(content)
    printed_by("ca_certificates", "add", "plant", "--certificate", str(tmp_path / "ca.jsonl"))
    now = (timezone.now()).isoformat()

    def with_file(words):
        return [word.format(list=tmp_path / "list.jsonl", now=now) for word in words], tmp_path / "written"

    return with_file


def exports():
    return list(HistoryEvent.objects.filter(event=Event.EXPORTED.value).order_by("pk"))


@pytest.mark.parametrize("command", WRITTEN, ids=" ".join)
def test_the_row_says_who_took_what(called, command):
    words, path = called(WRITTEN[command][0])
    run_anyway(*words, str(path))

    (row,) = exports()

    assert re.fullmatch(re.sub(r"\\{import\\}", r"\\d+", re.escape(WRITTEN[command][1])), row.subject_name)
    assert (row.actor_kind, row.way) == ("cli", "command line")
    assert path.read_text()
    if row.subject_name == PREVIEW:
        assert row.after["change"].split()[0] in {*command[0].split(), *words, "deny", "import"}


@pytest.mark.parametrize("command", WRITTEN, ids=" ".join)
def test_without_the_row_nothing_is_given_away(called, command, monkeypatch):
    """R15. What the file held before is still there."""
    words, path = called(WRITTEN[command][0])
    takes_files_that_are_there = command[1] != "--out"
    if takes_files_that_are_there:
        path.write_text("of yesterday")

    def full(event, **_):
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(history, "record", full)

    assert refusal_of(*words, str(path))[0] == 1
    assert path.read_text() == "of yesterday" if takes_files_that_are_there else not path.exists()


def test_what_goes_through_a_pipe_has_its_row_too(called):
    words, _ = called(WRITTEN["preview", "--csv"][0])

    printed_by(*words, "/dev/null")

    assert [row.subject_name for row in exports()] == [PREVIEW]


def test_each_option_that_takes_a_file_is_one_of_these():
    """A new one is either read, or has its row."""
    found = {(name, option) for name, parser in parsers() for option in file_options(parser)}

    assert found - WRITTEN.keys() == {(name, option) for name, has in OTHERWISE.items() for option in has}
    assert WRITTEN.keys() <= found


def file_options(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.choices:
            continue
        takes_value = action.nargs != 0 and action.dest not in DJANGOS
        if takes_value and (action.type is Path or _OF_A_FILE.search(f"{action.metavar} {action.dest}")):
            yield action.option_strings[0] if action.option_strings else action.dest


def run_anyway(*words):
    """A dry run of a list with bad lines ends as one that was refused, after its files are written."""
    if words[0] == "import_enrollments":
        assert refusal_of(*words)[0] == 1
    else:
        printed_by(*words)
