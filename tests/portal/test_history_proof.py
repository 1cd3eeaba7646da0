"""What the portal shows of the proof: each row's place, and the page with checkpoint and verifier key (R17)."""

from pathlib import Path

import pytest

from enrollments.audit import checkpoints
from enrollments.audit.notes import read_checkpoint
from enrollments.models import (
    HistoryCheckpoint,
    HistoryEvent,
    HistorySeal,
    UnsealedEvent,
)
from enrollments.policy.roles import Role
from tests.audit.tampering import tampered
from tests.factories import a_user

URL = "/services/plant/history/"
PROOF = f"{URL}checkpoint/"


def test_rows_are_sealed_when_somebody_looks_and_show_their_place(auditor, plant):
    assert UnsealedEvent.objects.exists()

    text = auditor.get(URL).content.decode()

    assert not UnsealedEvent.objects.exists()
    assert "not yet sealed" not in text
    for seal in HistorySeal.objects.filter(event__service_id=plant.pk):
        assert f"#{seal.index}<br>" in text
        row = auditor.get(f"{URL}rows/{seal.event_id}/").content.decode()
        assert f'<span class="id-text">{seal.hash}</span>' in row
        assert f">{seal.hash[:8]}<" in text


def test_rows_that_wait_say_so(auditor, monkeypatch):
    monkeypatch.setattr("enrollments.audit.upkeep.seal_batch", lambda **_: 0)

    assert "not yet sealed" in auditor.get(URL).content.decode()


def test_auditor_finds_checkpoint_key_and_how_to_verify(auditor):
    note = checkpoints.make_checkpoint().note
    assert f'href="{PROOF}"' in auditor.get(URL).content.decode()

    answer = auditor.get(PROOF)

    text = answer.content.decode()
    assert note.splitlines()[2] in text.replace("&#x2B;", "+")
    for part in (checkpoints.latest_checkpoint().head, checkpoints.verifier_key().name, "verify_history.py"):
        assert part in text
    assert answer.context["verifier_key"] == str(checkpoints.verifier_key())
    assert answer.context["sealed"] == HistorySeal.objects.count()


def test_proof_of_a_history_that_was_never_signed(auditor, monkeypatch):
    monkeypatch.setattr("enrollments.audit.upkeep.signing.next_at", float("inf"))

    assert "Nothing has been signed yet." in auditor.get(PROOF).content.decode()
    assert not HistoryCheckpoint.objects.exists()


def test_checkpoint_is_signed_and_downloaded(auditor):
    answer = auditor.post(f"{PROOF}download/")

    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    said = read_checkpoint(answer.content.decode(), [checkpoints.verifier_key()])
    assert answer["Content-Disposition"] == f'attachment; filename="history-checkpoint-{said.size}.txt"'
    assert said.size == HistorySeal.objects.count() == HistoryEvent.objects.count()
    assert checkpoints.places()[0].size == said.size


def test_history_that_disagrees_is_not_signed_and_the_page_says_why(auditor):
    auditor.post(f"{PROOF}download/")
    with tampered("UPDATE enrollments_historyseal SET hash = previous_hash"):
        answer = auditor.post(f"{PROOF}download/")

    assert answer.status_code == 409
    assert "was rewritten" in answer.content.decode()


@pytest.fixture
def nowhere_to_keep(settings):
    """A checkpoint file that cannot be written, as a directory has its name."""
    path = Path(settings.DPS_CHECKPOINT_FILE)
    path.mkdir()
    yield path
    path.rmdir()


def test_destination_that_failed_is_shown(client, plant, nowhere_to_keep):
    client.force_login(a_user(Role.AUDITOR))
    client.post(f"{PROOF}download/")

    for url in (PROOF, "/history/checkpoint/"):
        text = client.get(url).content.decode()
        assert f">{nowhere_to_keep}<" in text
        assert "Last try failed: it cannot be written" in text


def test_people_of_one_service_are_not_told_where_on_the_server_checkpoints_are_kept(
    auditor, nowhere_to_keep
):
    auditor.post(f"{PROOF}download/")

    text = auditor.get(PROOF).content.decode()

    assert "the checkpoint file: " in text
    assert "Last try failed; people with a role in the whole installation see why" in text
    assert nowhere_to_keep.name not in text


def test_sentences_about_what_the_checkpoint_file_holds_do_not_name_its_path(auditor, settings):
    path = Path(settings.DPS_CHECKPOINT_FILE)
    auditor.post(f"{PROOF}download/")
    kept = path.read_text()
    rewritten = "UPDATE enrollments_historyseal SET hash = previous_hash"
    try:
        with tampered("DELETE FROM enrollments_historycheckpoint", rewritten):
            refused = auditor.post(f"{PROOF}download/").content.decode()
        path.write_text(kept.replace("form dps", "form dqs"))
        found = auditor.post(f"{PROOF}check/").content.decode()
    finally:
        path.unlink()

    assert "than the last one in the file that DPS_CHECKPOINT_FILE names was signed for" in refused
    assert "cannot be believed" in found
    row = HistoryEvent.objects.get(event="history.checked")
    for shown in (refused, found, str(row.after)):
        assert str(path) not in shown
        assert path.name not in shown


def test_viewer_is_offered_no_proof_and_refused_a_checkpoint(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    assert PROOF not in client.get(URL).content.decode()
    assert client.get(PROOF).status_code == 403
    assert client.post(f"{PROOF}download/").status_code == 403
    assert HistoryEvent.objects.filter(event="action.refused").count() == 2


def test_installation_has_the_same_page(client, plant):
    client.force_login(a_user(Role.AUDITOR, None))

    assert 'href="/history/checkpoint/"' in client.get("/history/").content.decode()
    assert client.get("/history/checkpoint/").status_code == 200
    assert client.post("/history/checkpoint/download/").status_code == 200


def test_viewer_who_tries_to_export_leaves_a_row(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    assert client.get(f"{URL}export/").status_code == 403

    row = HistoryEvent.objects.get(event="action.refused")
    assert (row.actor_name, row.subject_name) == ("some-viewer", f"GET {URL}export/")
