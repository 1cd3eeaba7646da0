"""`manage.py audit_verify`, `export_history` and `history_checkpoint`."""

import json
import os
import stat
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from enrollments.audit import checkpoints
from enrollments.audit.notes import read_checkpoint
from enrollments.models import HistoryEvent, HistorySeal, SignInFailures
from tests.audit.histories import execute, fill
from tests.audit.tampering import tampered, with_triggers
from tests.devices import new_service
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def history() -> None:
    fill(20)
    printed_by("history_checkpoint")


def changed_row() -> str:
    row = HistorySeal.objects.get(pk=7).event_id
    return f"UPDATE enrollments_historyevent SET actor_name = 'mallory' WHERE id = {row}"


def test_whole_history_is_said_to_be_whole(history):
    fill(2)

    text = printed_by("audit_verify")

    assert "Every sealed row is what was sealed." in text
    assert json_of("audit_verify") == {
        "ok": True,
        "rows": 20,
        "head": HistorySeal.objects.get(pk=20).hash,
        "signed_rows": 20,
        "checkpoints": 2,  # in the database, and in the file
        "waiting": 2,
        "rows_by_hash_only": 0,
        "notices": [],
        "problem": None,
    }


def test_first_bad_row_is_named_and_the_exit_code_is_1(history):
    out = StringIO()
    with tampered(changed_row()):
        row = HistorySeal.objects.get(pk=7).event_id
        code, sentence = refusal_of("audit_verify")
        with pytest.raises(CommandError):
            call_command("audit_verify", "--json", stdout=out)

    assert code == 1
    assert sentence == f"The history is not as it was sealed. #7 row {row}: it is not the row that was sealed"
    report = json.loads(out.getvalue())
    assert (report["ok"], report["rows"]) == (False, 6)
    assert report["problem"] == {"index": 7, "event_id": row, "what": "it is not the row that was sealed"}


def test_verifying_changes_nothing(history):
    fill(2)
    before = HistorySeal.objects.count(), HistoryEvent.objects.count()

    printed_by("audit_verify")

    assert (HistorySeal.objects.count(), HistoryEvent.objects.count()) == before


def test_end_that_was_cut_off_is_found_by_the_file_of_checkpoints_and_by_one_that_was_kept(
    history, settings, tmp_path
):
    kept = tmp_path / "kept.txt"
    kept.write_text(checkpoints.latest_checkpoint().note)
    cut = (
        "DELETE FROM enrollments_historycheckpoint",
        "DELETE FROM enrollments_historyevent",
        "DELETE FROM enrollments_historyseal",
    )
    with tampered(*cut):
        assert "cut off" in refusal_of("audit_verify")[1]
        Path(settings.DPS_CHECKPOINT_FILE).unlink()
        assert "not guarded" in refusal_of("audit_verify")[1]
        for statement in with_triggers():
            execute(statement)
        assert "is what was sealed" in printed_by("audit_verify")
        assert refusal_of("audit_verify", "--checkpoint", str(kept))[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [["nowhere.jsonl"], ["--checkpoint", "nowhere.txt"], ["--verifier-key", "x"]],
)
def test_wrong_calls_end_with_2(history, arguments):
    assert refusal_of("audit_verify", *arguments)[0] == 2


def test_checkpoint_that_is_none_is_refused(history, tmp_path):
    (tmp_path / "note.txt").write_text("hello\n")

    assert refusal_of("audit_verify", "--checkpoint", str(tmp_path / "note.txt"))[0] == 1


def test_export_goes_into_a_file_of_ones_own_and_is_itself_the_last_row(history, tmp_path):
    path = tmp_path / "export.jsonl"

    assert printed_by("export_history", "--out", str(path)) == ""

    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[-2]["event"]["event"] == "history.exported"
    assert rows[-2]["event"]["actor_kind"] == "cli"
    assert read_checkpoint(rows[-1]["checkpoint"], [checkpoints.verifier_key()]).size == 21
    assert json_of("audit_verify", str(path))["rows"] == 21
    assert printed_by("export_history").splitlines()[:20] == path.read_text().splitlines()[:20]
    code, sentence = refusal_of("export_history", "--out", str(path))
    assert (code, "cannot be written" in sentence) == (2, True)


def test_export_that_was_changed_is_found(history, tmp_path):
    path = tmp_path / "export.jsonl"
    path.write_text(printed_by("export_history").replace('"pump-000003"', '"pump-000004"', 1))

    code, sentence = refusal_of("audit_verify", str(path))

    row = HistorySeal.objects.get(pk=4).event_id
    assert (code, f"#4 row {row}: it is not the row that was sealed" in sentence) == (1, True)


def test_export_of_a_history_with_a_row_missing_is_refused_and_leaves_no_file(history, tmp_path):
    path = tmp_path / "export.jsonl"
    with tampered(
        f"DELETE FROM enrollments_historyevent WHERE id = {HistorySeal.objects.get(pk=7).event_id}"
    ):
        code, sentence = refusal_of("export_history", "--out", str(path))

    assert (code, "sealed as #7, is gone" in sentence) == (1, True)
    assert not path.exists()


def test_export_of_one_service(history):
    new_service("plant")

    lines = [json.loads(line) for line in printed_by("export_history", "--service", "plant").splitlines()]

    assert {one["event"]["service_name"] for one in lines if "event" in one} == {"plant"}
    assert sum("row_hash" in one for one in lines) >= 20
    assert refusal_of("export_history", "--service", "lab")[0] == 1


def test_checkpoint_command_prints_the_note_and_the_key(history, tmp_path):
    key = str(checkpoints.verifier_key())
    note = printed_by("history_checkpoint")

    assert read_checkpoint(note, [checkpoints.verifier_key()]).size == 20
    assert printed_by("history_checkpoint", "--show-verifier-key").strip() == key
    assert json_of("history_checkpoint", "--show-verifier-key") == {"verifier_key": key}
    told = json_of("history_checkpoint")
    assert (told["size"], told["note"], told["verifier_key"], told["not_delivered"]) == (20, note, key, {})
    assert printed_by("history_checkpoint", "--out", str(tmp_path / "note.txt")) == ""
    assert (tmp_path / "note.txt").read_text() == note
    assert refusal_of("history_checkpoint", "--out", str(tmp_path))[0] == 2


def test_checkpoint_that_was_not_delivered_is_no_success(settings):
    fill(1)
    Path(settings.DPS_CHECKPOINT_FILE).mkdir()
    try:
        code, sentence = refusal_of("history_checkpoint")
    finally:
        Path(settings.DPS_CHECKPOINT_FILE).rmdir()

    assert (code, "not delivered everywhere" in sentence) == (1, True)


def test_history_that_disagrees_is_not_signed_by_the_command(history):
    with tampered('DELETE FROM enrollments_historyseal WHERE "index" = 20'):
        assert refusal_of("history_checkpoint")[0] == 1


def test_failed_sign_ins_whose_window_has_ended_are_part_of_what_is_signed(history):
    SignInFailures.objects.create(
        name_key="nobody", address="192.0.2.9", count=2, window_started_at=HistoryEvent.objects.first().at
    )

    assert json_of("history_checkpoint")["size"] == 21
    assert HistoryEvent.objects.latest("pk").event == "person.sign_in_failed"
