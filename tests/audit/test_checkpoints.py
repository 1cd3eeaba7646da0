"""Checkpoints: the note as others read it, what is never signed, and where checkpoints are brought."""

import base64
import hashlib
import os
import re
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connection
from django.utils import timezone

from enrollments.actions.history import take_checkpoint
from enrollments.audit import checkpoints, upkeep
from enrollments.audit.notes import BadNote, Checkpoint, SigningKey, VerifierKey, notes_in, read_checkpoint
from enrollments.audit.sealer import seal_everything
from enrollments.errors import Conflict, HistoryDisagrees
from enrollments.models import CheckpointDelivery, HistoryCheckpoint, HistorySeal
from tests.audit.histories import execute, fill
from tests.audit.tampering import tampered
from tests.webhooks import running_webhook

pytestmark = pytest.mark.django_db
SEED = bytes(range(32))
AT = timezone.now().replace(microsecond=0)


@pytest.fixture
def file(settings) -> Path:
    return Path(settings.DPS_CHECKPOINT_FILE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_webhook(tmp_path_factory.mktemp("webhook")) as hook:
        yield hook


@pytest.fixture
def webhook(server, settings):
    settings.DPS_CHECKPOINT_URL = f"{server.url}?code=a-key-that-nobody-may-read"
    settings.DPS_WEBHOOK_CA = server.ca_file
    server.asked.clear()
    server.answer = (200, {})
    return server


# --- The note ----------------------------------------------------------------------------------------------------


def test_note_is_what_the_specification_of_signed_notes_says():
    """Taken apart here by C2SP signed-note, tlog-checkpoint, and nothing of ours."""
    fill(3)
    checkpoint = checkpoints.make_checkpoint()

    text, signature = checkpoint.note.split("\n\n")
    origin, size, head, form, time = text.split("\n")
    name, encoded = re.fullmatch("— ([^ +]+) ([A-Za-z0-9+/=]+)\n", signature).groups()
    key_name, key_hash, encoded_key = str(checkpoints.verifier_key()).split("+", 2)
    raw_key, raw = base64.b64decode(encoded_key), base64.b64decode(encoded)
    assert origin == name == key_name
    assert (size, form) == ("3", "form dpsportal-history/1")
    assert base64.b64decode(head).hex() == HistorySeal.objects.get(pk=3).hash == checkpoint.head
    assert time == f"time {checkpoint.at:%Y-%m-%dT%H:%M:%SZ}"
    assert raw_key[0] == 1
    assert raw[:4].hex() == key_hash == hashlib.sha256(f"{name}\n".encode() + raw_key).hexdigest()[:8]
    Ed25519PublicKey.from_public_bytes(raw_key[1:]).verify(raw[4:], f"{text}\n".encode())


def test_verifier_key_is_read_as_it_is_written():
    key = SigningKey(SEED).verifier

    assert VerifierKey.read(f" {key}\n") == key
    for text in ("", "x", "a+b+c", str(key)[:-4], str(key).replace("+", "-", 1), f"other{key}"):
        with pytest.raises(BadNote):
            VerifierKey.read(text)


def signed(text: str) -> str:
    return SigningKey(SEED).signed(text)


GOOD = Checkpoint(SigningKey(SEED).verifier.name, 7, "ab" * 32, AT)


def test_note_says_what_was_signed():
    assert read_checkpoint(signed(GOOD.text()), [SigningKey(SEED).verifier]) == GOOD


@pytest.mark.parametrize(
    "note",
    [
        "",
        GOOD.text(),
        signed(GOOD.text()).replace("\n7\n", "\n8\n"),
        signed(GOOD.text()).rstrip("\n"),
        signed(GOOD.text()).replace("— ", "- "),
        signed(GOOD.text().replace("\n7\n", "\n07\n")),
        signed(GOOD.text().replace("\n7\n", "\n-7\n")),
        signed(GOOD.text().replace("history/1", "history/2")),
        signed(GOOD.text().replace("time ", "tide ")),
        signed(GOOD.text() + "more of it\n"),
        signed("dpsportal\n7\n"),
        SigningKey(b"m" * 32).signed(GOOD.text()),
    ],
)
def test_note_that_is_not_ours_or_not_of_its_form_is_refused(note):
    with pytest.raises(BadNote):
        read_checkpoint(note, [SigningKey(SEED).verifier])


def test_notes_of_a_file_are_told_apart():
    note = signed(GOOD.text())

    assert notes_in(note) == [note]
    assert notes_in(f"{note}\n{note}\n") == [note, note]
    for broken in ("", "hello\n", note + "\nhello", GOOD.text()):
        with pytest.raises(BadNote):
            notes_in(broken)


# --- What is signed, and what is not -----------------------------------------------------------------------------


def test_what_waits_is_sealed_first_and_the_same_end_is_signed_once():
    fill(3)

    first, again = checkpoints.make_checkpoint(), checkpoints.make_checkpoint()
    fill(1)
    later = checkpoints.make_checkpoint()

    assert (first.size, later.size) == (3, 4)
    assert again == first
    assert HistoryCheckpoint.objects.count() == 2


def test_empty_history_is_not_signed():
    with pytest.raises(Conflict):
        checkpoints.make_checkpoint()


CUT = ('DELETE FROM enrollments_historyseal WHERE "index" > 3', "DELETE FROM enrollments_historyevent")
REWRITTEN = (f"UPDATE enrollments_historyseal SET hash = '{'b' * 64}' WHERE \"index\" = 5",)


@pytest.mark.parametrize("kept_in", ["database", "file"])
@pytest.mark.parametrize(("change", "said"), [(CUT, "cut off"), (REWRITTEN, "rewritten")])
def test_history_that_disagrees_with_what_was_signed_is_not_signed_again(file, kept_in, change, said):
    """Where whoever changed the database took the checkpoints out of it as well, the file remembers."""
    fill(5)
    take_checkpoint()
    if kept_in == "database":
        file.unlink()
        forget: tuple[str, ...] = ()
    else:
        forget = ("DELETE FROM enrollments_historycheckpoint",)

    with tampered(*change, *forget):
        fill(1, seed=9)
        with pytest.raises(HistoryDisagrees, match=said):
            checkpoints.make_checkpoint()
        signed_since = HistoryCheckpoint.objects.filter(note__contains="\n6\n").exists()
    assert not signed_since
    assert checkpoints.make_checkpoint().size == 5


def test_file_of_another_installation_is_held_against_nobody(file):
    file.write_text(signed(GOOD.text()))
    fill(1)

    assert checkpoints.make_checkpoint().size == 1


def test_file_that_was_spoiled_is_said_and_holds_nothing_up(file, caplog):
    fill(2)
    take_checkpoint()
    file.write_text(file.read_text().replace("\n2\n", "\n900\n"))

    assert checkpoints.make_checkpoint().size == 2
    assert "cannot be read" in caplog.text


# --- Where it is brought -----------------------------------------------------------------------------------------


def test_checkpoints_are_appended_to_the_file_for_its_owner_alone(file):
    fill(2)
    first, problems = take_checkpoint()
    fill(1)
    second, _ = take_checkpoint()
    take_checkpoint()

    assert problems == {}
    assert notes_in(file.read_text()) == [first.note, second.note]
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


def test_checkpoint_is_posted_as_it_is(webhook):
    fill(2)

    checkpoint, problems = take_checkpoint()

    assert problems == {}
    (asked,) = webhook.asked
    assert (asked.path, asked.body) == ("/choose?code=a-key-that-nobody-may-read", checkpoint.note)
    assert asked.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert CheckpointDelivery.objects.get(destination="webhook").size == 2


@pytest.mark.parametrize("answer", [(500, {}), (302, {}), (404, b"no such hook")])
def test_delivery_that_fails_is_noted_and_tried_again(webhook, answer, caplog):
    webhook.answer = answer
    fill(2)

    _, problems = take_checkpoint()

    noted = CheckpointDelivery.objects.get(destination="webhook")
    assert problems["webhook"] == noted.problem
    assert f"it answered {answer[0]}" in noted.problem
    assert (noted.size, noted.delivered_at) == (0, None)
    assert "was not delivered" in caplog.text
    assert "nobody-may-read" not in caplog.text + noted.problem + str(checkpoints.places())
    webhook.answer = (200, {})
    assert take_checkpoint()[1] == {}
    noted.refresh_from_db()
    assert (noted.size, noted.problem) == (2, "")


def test_file_that_cannot_be_written_is_noted(file):
    file.mkdir()
    fill(2)
    try:
        checkpoint, problems = take_checkpoint()
    finally:
        file.rmdir()

    assert checkpoint.size == 2
    assert "cannot be written" in problems["file"]


# --- By itself ---------------------------------------------------------------------------------------------------


def aged(minutes: int) -> None:
    execute(
        "DROP TRIGGER IF EXISTS history_checkpoints_no_update"
        if connection.vendor == "sqlite"
        else "DROP TRIGGER IF EXISTS history_checkpoints_no_change ON enrollments_historycheckpoint"
    )
    HistoryCheckpoint.objects.update(at=timezone.now() - timedelta(minutes=minutes))


def look() -> None:
    upkeep.signing.next_at = 0.0
    upkeep.seal_for_a_page()


def test_checkpoint_is_made_by_itself_when_it_is_due_and_something_happened(file):
    look()
    assert not HistoryCheckpoint.objects.exists()
    fill(2)
    look()
    assert notes_in(file.read_text()) == [HistoryCheckpoint.objects.get().note]

    fill(1)
    look()
    assert HistoryCheckpoint.objects.count() == 1
    aged(61)
    look()
    assert HistoryCheckpoint.objects.count() == 2
    aged(61)
    look()
    assert HistoryCheckpoint.objects.count() == 2
    assert len(notes_in(file.read_text())) == 2


def test_what_could_not_be_delivered_is_delivered_later(file):
    fill(2)
    file.mkdir()
    look()
    file.rmdir()
    look()
    assert not file.exists()  # it has just failed

    CheckpointDelivery.objects.update(tried_at=timezone.now() - timedelta(minutes=6))
    look()

    assert len(notes_in(file.read_text())) == 1


def test_each_node_brings_the_last_checkpoint_to_the_file_of_its_own(file, settings, tmp_path):
    fill(2)
    look()
    settings.DPS_CHECKPOINT_FILE = tmp_path / "of another node"

    look()
    look()

    assert settings.DPS_CHECKPOINT_FILE.read_text() == file.read_text()


def test_page_is_shown_where_the_history_disagrees_and_the_log_says_so(caplog):
    fill(5)
    take_checkpoint()
    fill(1)
    seal_everything()
    with tampered(*REWRITTEN):
        aged(61)
        look()
        assert HistoryCheckpoint.objects.count() == 1

    assert "the history disagrees with its checkpoints" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_the_webhook(webhook, monkeypatch):
    threads = []

    class Watched(upkeep.threading.Thread):
        def start(self) -> None:
            threads.append(self)
            super().start()

    monkeypatch.setattr(upkeep.threading, "Thread", Watched)
    fill(2)
    seal_everything()

    look()
    (thread,) = threads
    thread.join(15)

    assert [asked.body for asked in webhook.asked] == [HistoryCheckpoint.objects.get().note]
    assert CheckpointDelivery.objects.get(destination="webhook").size == 2
