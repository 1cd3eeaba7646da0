"""`manage.py import_enrollments` and `export_enrollments`, and what is left when a process is killed."""

import json
import os
import random
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.actions.enrollments import disable_enrollment
from enrollments.errors import SecretUnreadable
from enrollments.management.commands import import_enrollments
from enrollments.models import HistoryEvent, ImportRun, ImportState, IndividualEnrollment
from enrollments.transfer.limits import CHUNK_LINES
from enrollments.transfer.words import UPDATING_RESETS
from enrollments.transfer.work import carry_out_run
from tests.certificates import self_signed
from tests.devices import ALICE, enroll_keys, register, signs
from tests.live import installation
from tests.management.calls import answering, json_of, printed_by, refusal_of, refused_with_words
from tests.transfer.lists import KEY, checked, csv_of, json_lines, keys, pinned, zip_of

pytestmark = pytest.mark.django_db
# `make test-import` has it as large as an import is meant to be.
KILLED_LINES = int(os.environ.get("DPS_IMPORT_LINES", str(3 * CHUNK_LINES)))


@pytest.fixture
def written(tmp_path):
    """Writes a list and returns its path."""

    def write(content, name="list.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


def names():
    return sorted(IndividualEnrollment.objects.values_list("registration_id", flat=True))


def test_a_list_is_imported_with_its_reason(service, written):
    told = printed_by(
        "import_enrollments", written(json_lines(keys("a"), keys("b"))), "--reason", "ticket 4711", "--yes"
    )

    assert told.endswith(": 2 added.\n")
    row = HistoryEvent.objects.get(event="enrollment.added", subject_name="a")
    assert (row.actor_kind, row.way, row.reason) == ("cli", "command line", "ticket 4711")


def test_a_dry_run_says_every_error_and_changes_nothing(service, written, tmp_path):
    errors = tmp_path / "errors.csv"
    path = written(json_lines(keys("a"), "bad", {"registrationId": "=c"}))

    code, sentence = refusal_of("import_enrollments", path, "--dry-run", "--errors", str(errors))

    assert (code, names()) == (1, [])
    assert sentence == "2 of 3 lines are wrong. Nothing was changed."
    assert errors.read_text().splitlines()[0] == "line,entry,problem,found"
    assert len(errors.read_text().splitlines()) == 3
    assert ImportRun.objects.get().state == ImportState.CANCELLED
    assert not HistoryEvent.objects.filter(event__startswith="import").exists()


def test_devices_are_written_by_a_dry_run_alone(service, written, tmp_path):
    path = written(json_lines(keys("a")))

    code, sentence = refusal_of("import_enrollments", path, "--preview", str(tmp_path / "devices.csv"))

    assert (code, names()) == (2, [])
    assert "add --dry-run, or leave --preview out" in sentence


def test_a_dry_run_says_what_holds_once_the_times_of_the_list_have_come(service, written, tmp_path):
    enroll_keys(service, "pump-1")
    line = {
        "registrationId": "pump-1",
        "operation": "update",
        "attestation": {"type": "symmetricKey"},
        "provisioningStatus": "enabled",
        "switchesAt": (timezone.now() + timedelta(days=1)).isoformat(),
    }
    path = written(json_lines(line))

    text = printed_by("import_enrollments", path, "--dry-run")
    devices = tmp_path / "devices.csv"
    told = json_of("import_enrollments", path, "--dry-run", "--preview", str(devices))["preview"]

    assert devices.read_text().splitlines() == [
        "when,registration ID,effect,now,now by,afterwards,afterwards by,name held through,admitted otherwise through",
        "once carried out,pump-1,still_admitted,admitted,individual enrollment pump-1,admitted,"
        "individual enrollment pump-1,,",
        "once its entries have turned,pump-1,refused,admitted,individual enrollment pump-1,disabled,"
        "individual enrollment pump-1,,",
    ]
    now, _, later = text.partition("Once it has:\n")
    assert "1 device will still be admitted" in now
    assert "1 device will be refused: pump-1." in later
    assert (told["turning"], told["effects"]["still_admitted"]["devices"]) == (1, 1)
    assert told["later"]["effects"]["refused"]["devices"] == 1


def test_a_dry_run_says_what_becomes_of_known_devices(service, written):
    entry = enroll_keys(service, "pump-1")
    register(service, signs(service, "pump-1", entry.primary_key), "pump-1")
    path = written(json_lines(keys("new"), {"registrationId": "pump-1", "operation": "disable"}))

    text = printed_by("import_enrollments", path, "--dry-run")
    told = json_of("import_enrollments", path, "--dry-run")

    assert "1 device will be refused: pump-1.\n" in text
    assert told["preview"]["effects"]["refused"]["devices"] == 1
    assert told["preview"]["known"] == 1
    entry.refresh_from_db()
    assert entry.enabled


def test_what_an_import_is_started_on_is_said_and_kept(service, written):
    for name in ("pump-1", "pump-2"):
        entry = enroll_keys(service, name)
        register(service, signs(service, name, entry.primary_key), name)
    one, other = (
        written(json_lines({"registrationId": name, "operation": "disable"}), f"{name}.jsonl")
        for name in ("pump-1", "pump-2")
    )

    text = printed_by("import_enrollments", one)
    told = json_of("import_enrollments", other)

    assert text.startswith("1 device will be refused: pump-1.\nImport ")
    assert told["preview"]["effects"]["refused"]["devices"] == 1
    assert told["preview"] == ImportRun.objects.get(pk=told["import"]).foreseen
    started = [row.after["preview"]["devices"] for row in HistoryEvent.objects.filter(event="import.started")]
    assert started == [{"refused": 1}, {"refused": 1}]


def test_an_import_starts_at_once_where_nobody_wants_a_preview(service, written, monkeypatch):
    monkeypatch.setattr(import_enrollments, "foresee", None)
    entry = enroll_keys(service, "a")
    path = written(json_lines({"registrationId": "a", "operation": "disable"}))

    told = json_of("import_enrollments", path, "--no-preview")

    assert (told["disabled"], told["preview"]) == (1, None)
    entry.refresh_from_db()
    assert not entry.enabled


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            [], "nobody is here to answer: look at it with --dry-run, then say --yes", id="no terminal"
        ),
        pytest.param(["--json"], "With --json nobody is asked: say --yes", id="json"),
        pytest.param(["--yes", "--no-preview"], "leave --no-preview out", id="no preview"),
    ],
)
def test_r12_nobody_comes_in_by_a_list_that_nobody_agreed_to(service, written, options, sentence):
    code, told = refusal_of("import_enrollments", written(json_lines(keys("a"))), *options)

    assert code == 2
    assert sentence in told
    assert names() == []
    assert ImportRun.objects.get().state == ImportState.CANCELLED
    assert not HistoryEvent.objects.filter(event="import.started").exists()


@pytest.mark.parametrize(("answer", "added"), [("y", ["a"]), ("n", []), ("", [])])
def test_r12_what_may_let_somebody_in_is_asked_about(service, written, monkeypatch, capsys, answer, added):
    answering(monkeypatch, answer)
    path = written(json_lines(keys("a")))

    if added:
        told = printed_by("import_enrollments", path)
        assert told.index("1 line: 1 added.") < told.index("Import ")
    else:
        assert refusal_of("import_enrollments", path) == (1, "Nobody said yes, so nothing was changed.")

    assert "Start? [y/N]" in capsys.readouterr().err
    assert names() == added


def test_r12_it_starts_on_the_epoch_that_a_dry_run_looked_at_or_not_at_all(service, written, capsys):
    path = written(json_lines(keys("a")))
    printed_by("import_enrollments", path, "--dry-run")
    epoch = capsys.readouterr().err.rpartition("epoch ")[2].rstrip(".\n")
    service.raise_epoch()

    assert refusal_of("import_enrollments", path, "--yes", "--epoch", epoch)[0] == 1
    assert names() == []
    assert json_of("import_enrollments", path, "--yes", "--epoch", str(int(epoch) + 1))["added"] == 1


def test_an_import_whose_preview_fails_is_not_left_behind(service, written, monkeypatch):
    def fails(*_, **__):
        raise SecretUnreadable

    monkeypatch.setattr(import_enrollments, "foresee", fails)

    assert refusal_of("import_enrollments", written(json_lines(keys("a"))), "--yes")[0] == 1
    assert ImportRun.objects.get().state == ImportState.CANCELLED
    assert names() == []


def test_one_bad_line_holds_up_the_list_unless_it_may_be_left_out(service, written):
    path = written(json_lines(keys("a"), "bad"))

    assert refusal_of("import_enrollments", path)[0] == 1
    assert names() == []
    assert json_of("import_enrollments", path, "--skip-bad-lines", "--yes")["added"] == 1
    assert names() == ["a"]


def test_what_could_not_be_carried_out_is_told_from_what_was_wrong(service, written, monkeypatch, tmp_path):
    """Somebody else adds the device between the check and its turn."""

    def beaten(run, holder, **how):
        enroll_keys(run.service, "a")
        return carry_out_run(run, holder, **how)

    monkeypatch.setattr(import_enrollments, "carry_out_run", beaten)
    errors = tmp_path / "errors.csv"
    path = written(json_lines(keys("a"), "bad", keys("b")))

    code, told, sentence = refused_with_words(
        "import_enrollments", path, "--skip-bad-lines", "--errors", str(errors), "--yes"
    )

    assert (code, sentence) == (1, "1 line could not be carried out.")
    assert ": 1 added, 1 could not be carried out.\n" in told
    assert "line 1 (a) could not be carried out: " in told
    assert "line 2: That is not valid JSON" in told
    assert "refused" not in told
    assert [line.rsplit(",", 1)[1] for line in errors.read_text().splitlines()[1:]] == [
        "when carried out",
        "when checked",
    ]
    ended_row = HistoryEvent.objects.get(event="import.ended").after
    assert (ended_row["could not be carried out"], "refused" in ended_row) == (1, False)


def test_what_is_wrong_is_not_called_refused(service, written):
    path = written(json_lines(keys("a"), "bad"))

    code, told, sentence = refused_with_words("import_enrollments", path)
    (problem,) = json_of("import_enrollments", path, "--skip-bad-lines", "--yes")["problems"]

    assert (code, sentence.partition(".")[0]) == (1, "1 of 2 lines is wrong")
    assert told.startswith("2 lines: 1 added, 1 wrong.\n")
    assert problem["found"] == "when checked"


def test_csv_with_a_zip(service, written):
    path = written(csv_of({"registrationId": "p", "primaryCertificate": "p.pem"}), "list.csv")
    archive = written(zip_of({"p.pem": self_signed("p").pem}), "certificates.zip")

    told = json_of("import_enrollments", path, "--zip", archive, "--dry-run")

    assert (told["added"], told["dry_run"], names()) == (1, True, [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param([], "Give the list, or --resume", id="nothing"),
        pytest.param(["a.csv", "--resume", "1"], "Give the list, or --resume", id="both"),
        pytest.param(["nowhere.csv"], "cannot be read: No such file", id="no file"),
        pytest.param(["list.xlsx"], "say which it is, with --format", id="no format"),
        pytest.param(["a.csv", "--dry-run", "--no-preview"], "leave --no-preview out", id="neither"),
    ],
)
def test_called_wrongly(service, arguments, sentence):
    code, told = refusal_of("import_enrollments", *arguments)

    assert code == 2
    assert sentence in told


def test_the_help_says_what_updating_resets():
    told = import_enrollments.Command().create_parser("manage.py", "import_enrollments").format_help()

    assert UPDATING_RESETS in " ".join(told.split())


def test_an_unreadable_list_is_refused(service, written):
    code, sentence = refusal_of("import_enrollments", written(b"colour\nred\n", "list.csv"))

    assert code == 1
    assert "a column that is not known, 'colour'" in sentence
    assert "Nothing was changed" in sentence


def test_resuming_what_is_not_there_or_done(service, written):
    assert refusal_of("import_enrollments", "--resume", "99")[1] == "There is no import 99 in this service."
    printed_by("import_enrollments", written(json_lines(keys("a"))), "--yes")
    run = ImportRun.objects.get()

    assert "it is done" in refusal_of("import_enrollments", "--resume", str(run.pk))[1]


@pytest.mark.parametrize("into_file", [False, True])
def test_an_export_with_keys_says_so_beside_it(service, tmp_path, capsys, into_file):
    enroll_keys(service, "a", primary_key=KEY, secondary_key=KEY)
    out = str(tmp_path / "plant.jsonl")
    where = ["--out", out] if into_file else []

    printed_by("export_enrollments", *where, "--with-keys")

    assert capsys.readouterr().err == (
        f"{out if into_file else 'The list'} holds keys in clear: whoever has it can come in as any of its devices. "
        "The history has it as a disclosure.\n"
    )
    printed_by("export_enrollments")
    assert capsys.readouterr().err == ""


def test_exports_go_to_a_file_that_nobody_else_can_read(service, tmp_path):
    enroll_keys(service, "a", primary_key=KEY, secondary_key=KEY)
    out = tmp_path / "out.jsonl"

    printed_by("export_enrollments", "--with-keys", "--out", str(out))

    assert oct(out.stat().st_mode & 0o777) == "0o600"
    assert json.loads(out.read_text())["attestation"]["symmetricKey"]["primaryKey"] == KEY
    assert HistoryEvent.objects.filter(event="keys.revealed").count() == 1
    assert KEY not in printed_by("export_enrollments")
    assert refusal_of("export_enrollments", "--with-keys", "--out", str(out))[0] == 2
    assert HistoryEvent.objects.filter(event="keys.revealed").count() == 1
    assert printed_by("export_enrollments", "--only", "groups") == ""


# `manage.py` that is struck by a signal before one of its statements; they are counted from one that names a table on.
STRUCK = """
import os, signal, sys
# Whoever runs tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpsportal.settings")
import django
from django.core.management import execute_from_command_line
django.setup()
from django.db import connection
left, how, since = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def strike(execute, sql, *rest):
    global left, since
    if since in sql:
        since = ""
    left -= not since
    if left == 0:
        left = -1
        os.kill(os.getpid(), how)
    return execute(sql, *rest)
connection.execute_wrappers.append(strike)
execute_from_command_line(["manage.py", *sys.argv[4:]])
"""
INSERTED = 'INTO "enrollments_individualenrollment"'
# Fewer than from there to the same place in the next portion.
STATEMENTS = 25


@pytest.mark.parametrize("seed", [1])
def test_killed_as_a_process_it_ends_as_an_unbroken_run(tmp_path, seed):
    """The real thing: SIGKILL at random statements, Ctrl-C among them, and each line once in entries and history."""
    chance, count = random.Random(seed), KILLED_LINES
    leaves = [self_signed(f"pinned-{number:04}") for number in range(40)]
    lines = [*map(pinned, leaves), *(keys(f"pump-{number:04}") for number in range(count - 40))]
    path = tmp_path / "list.jsonl"
    path.write_bytes(json_lines(*lines))
    # About one portion in each turn, of more lines an eighth: so that the first three are struck, whatever comes.
    most = STATEMENTS * max(1, count // CHUNK_LINES // 8)
    with installation(tmp_path / "data") as live:
        arguments = ["import_enrollments", str(path), "--yes"]
        ended = []
        for turn in range(60):
            how = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT)[turn % 3]
            done = subprocess.run(
                [
                    *(sys.executable, "-c", STRUCK, str(chance.randrange(1, most)), str(int(how)), INSERTED),
                    *(*arguments, "--service", "local"),
                ],
                cwd=PROJECT_DIR,
                env=live.environment,
                capture_output=True,
                text=True,
            )
            ended.append(done.returncode)
            (run,) = live.rows("SELECT id, state FROM enrollments_importrun")
            if run["state"] == "done":
                break
            # Nobody waits here for the time after which a run is somebody else's.
            live.python("from enrollments.models import ImportRun; ImportRun.objects.update(held_until=None)")
            arguments = ["import_enrollments", "--resume", str(run["id"]), "--yes"]
        entries = live.rows("SELECT registration_id FROM enrollments_individualenrollment")
        rows = live.rows(
            "SELECT subject_name FROM enrollments_historyevent WHERE event = 'enrollment.added' ORDER BY id"
        )

    assert run["state"] == "done", done.stdout + done.stderr
    assert ended[:2] == [-signal.SIGKILL, -signal.SIGKILL]
    assert ended[2] not in (0, -signal.SIGKILL)
    expected = sorted(line["registrationId"] for line in lines)
    assert sorted(one["registration_id"] for one in entries) == expected
    assert sorted(one["subject_name"] for one in rows) == expected


def test_r12_it_starts_on_the_state_of_the_preview_that_it_shows(service, written, monkeypatch):
    path = written(json_lines(keys("a")))
    foreseen, times = import_enrollments._foreseen, []

    def outrun(run, progress):
        seen = foreseen(run, progress)
        times.append(seen.now.epoch)
        if len(times) == 1:
            service.raise_epoch()
        return seen

    monkeypatch.setattr(import_enrollments, "_foreseen", outrun)

    told = json_of("import_enrollments", path, "--reason", "ticket 4711", "--yes")

    assert len(times) == 2
    assert told["preview"]["epoch"] == times[1] > times[0]
    assert service.individualenrollments.count() == 1


@pytest.mark.parametrize("resumed", [False, True])
def test_r12_a_list_that_let_nobody_in_when_it_was_checked_undoes_no_revocation(
    service, written, monkeypatch, resumed
):
    """Nobody is asked about such a list, so the preview that it prints is agreed to by nobody."""
    for name in ("a", "b"):
        enroll_keys(service, name)
    lines = json_lines(
        {"registrationId": "a", "operation": "disable"},
        {"registrationId": "b", "operation": "update", "attestation": {"type": "symmetricKey"}},
    )
    if resumed:
        run = checked(service, lines)
        disable_enrollment(service, "b", actor=ALICE, reason="stolen")
        told = refused_with_words("import_enrollments", "--resume", str(run.pk))[1]
    else:
        may_widen = import_enrollments.may_widen

        def outrun(run):
            asked = may_widen(run)
            disable_enrollment(service, "b", actor=ALICE, reason="stolen")
            return asked

        monkeypatch.setattr(import_enrollments, "may_widen", outrun)
        told = refused_with_words("import_enrollments", written(lines))[1]

    assert not service.individualenrollments.get(registration_id="b").enabled
    assert not service.individualenrollments.get(registration_id="a").enabled
    assert "1 could not be carried out" in told
