"""«Verify now»: what a check in the portal says, how it goes on in portions, and who may begin one (R17)."""

import re
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from enrollments.audit import checkpoints, verify
from enrollments.audit.notes import SigningKey
from enrollments.audit.sealer import seal_everything
from enrollments.models import HistoryEvent, HistorySeal
from enrollments.models.locks import if_nobody_else
from enrollments.policy.roles import Role
from enrollments.portal.views import history_checks as views
from tests.audit.histories import execute, fill
from tests.audit.tampering import tampered
from tests.factories import a_user

PROOF = "/services/plant/history/checkpoint/"
CHECK = f"{PROOF}check/"
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def note(plant) -> str:
    """Of 60 rows and what made the world, a third of them of the service."""
    fill(60, service_ids=(plant.pk, 9001, None))
    return checkpoints.make_checkpoint().note


@pytest.fixture
def in_portions(monkeypatch):
    """Each request checks seven rows."""
    monkeypatch.setattr(verify, "PORTION", 7)
    monkeypatch.setattr(views, "SECONDS", 0)
    monkeypatch.setattr(views, "SECONDS_WITHOUT_SCRIPT", 0)


def state_of(answer) -> str:
    return re.search(r'name="state" value="([^"]+)"', answer.content.decode())[1]


def ended(client: Client, answer, **headers):
    """Press «Go on» as long as it is there; the last answer and how often that was."""
    pressed = 0
    while 'name="state"' in answer.content.decode():
        answer = client.post(CHECK, {"state": state_of(answer)}, **headers)
        pressed += 1
        assert pressed < 100
    return answer, pressed


def text_of(answer) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", answer.content.decode()))


def test_whole_history_is_said_to_be_whole_with_what_was_checked(auditor, note):
    assert f'action="{CHECK}"' in auditor.get(PROOF).content.decode()

    answer = auditor.post(CHECK)

    text = text_of(answer)
    assert answer.status_code == 200
    assert "Every row is as it was sealed" in text
    report = answer.context["report"]
    assert (report.rows, report.head) == (
        HistoryEvent.objects.count() - 1,  # the row about the check comes after it
        HistorySeal.objects.get(pk=report.rows).hash,
    )
    assert report.head in text
    assert f"{checkpoints.verifier_key().name}: {report.checkpoints}" in text
    assert "given to a check, rules that out" in text


def test_check_leaves_a_row_with_what_was_found(auditor, note):
    auditor.post(CHECK)

    row = HistoryEvent.objects.get(event="history.checked")
    assert (row.actor_name, row.service_name, row.subject_name) == ("some-auditor", "plant", "the history")
    assert row.after["problem"] is None
    assert row.after["rows"] == HistoryEvent.objects.count() - 1
    assert "verified the history" in text_of(auditor.get("/services/plant/history/"))


def test_bad_row_is_named_and_linked_and_kept_in_the_history(auditor, note, plant):
    bad = HistorySeal.objects.filter(event__service_id=plant.pk).order_by("-index")[5]
    with tampered(f"UPDATE enrollments_historyevent SET actor_name = 'mallory' WHERE id = {bad.event_id}"):
        answer = auditor.post(CHECK)

        sentence = f"#{bad.index} row {bad.event_id}: it is not the row that was sealed"
        assert sentence in text_of(answer)
        url = f"/services/plant/history/rows/{bad.event_id}/"
        assert f'href="{url}"' in answer.content.decode()
        assert auditor.get(url).status_code == 200
        assert HistoryEvent.objects.get(event="history.checked").after["problem"] == sentence
        assert answer.context["report"].rows == bad.index - 1


def test_bad_row_of_another_service_is_named_and_not_linked(auditor, note, client):
    bad = HistorySeal.objects.filter(event__service_id=9001).order_by("-index")[5]
    with tampered(f"UPDATE enrollments_historyevent SET actor_name = 'mallory' WHERE id = {bad.event_id}"):
        answer = auditor.post(CHECK)
        assert f"#{bad.index} row {bad.event_id}" in text_of(answer)
        assert "mallory" not in text_of(answer)
        assert "rows/" not in answer.content.decode()

        client.force_login(a_user(Role.AUDITOR, None, "chief"))
        everywhere = client.post("/history/checkpoint/check/")
        assert f'href="/history/rows/{bad.event_id}/"' in everywhere.content.decode()


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["by hand", "by script"])
def test_check_goes_on_in_portions_and_says_how_far_it_is(auditor, note, in_portions, headers):
    rows = HistorySeal.objects.count()

    first = auditor.post(CHECK)

    assert first.context["report"].rows == 7
    assert f"7 of {rows} rows are as they were sealed" in text_of(first)
    assert not HistoryEvent.objects.filter(event="history.checked").exists()
    second = auditor.post(CHECK, {"state": state_of(first)}, **headers)
    assert second.context["report"].rows == 14
    assert ("<html" in second.content.decode()) == (not headers)
    last, pressed = ended(auditor, second, **headers)
    assert pressed >= rows // 7 - 2
    assert "Every row is as it was sealed" in text_of(last)
    assert last.context["report"].rows == rows
    assert HistoryEvent.objects.filter(event="history.checked").count() == 1


def test_portions_find_what_one_check_finds(auditor, note, in_portions, plant):
    bad = HistorySeal.objects.get(pk=40)
    with tampered(f"DELETE FROM enrollments_historyevent WHERE id = {bad.event_id}"):
        answer, _ = ended(auditor, auditor.post(CHECK))

    assert f"#40 row {bad.event_id}: it is gone" in text_of(answer)


CUT = ('DELETE FROM enrollments_historyseal WHERE "index" > 30', "DELETE FROM enrollments_historycheckpoint")
AS_FILE = pytest.mark.parametrize("as_file", [False, True], ids=["pasted", "uploaded"])


def given(note: str, as_file: bool) -> dict[str, object]:
    return {"kept_file": SimpleUploadedFile("kept.txt", note.encode())} if as_file else {"kept": note}


def no_trace_here() -> None:
    """Whoever has the machine takes the file of checkpoints away as well."""
    Path(checkpoints.settings.DPS_CHECKPOINT_FILE).unlink(missing_ok=True)


@AS_FILE
@pytest.mark.parametrize("portions", [False, True], ids=["in one", "in portions"])
def test_kept_checkpoint_shows_that_the_end_was_cut_off(auditor, note, as_file, portions, request):
    if portions:
        request.getfixturevalue("in_portions")
    lost = [seal.event_id for seal in HistorySeal.objects.filter(pk__gt=30)]
    gone = f"DELETE FROM enrollments_historyevent WHERE id IN ({','.join(map(str, lost))})"
    with tampered(*CUT, gone):
        no_trace_here()
        assert "Every row is as it was sealed" in text_of(ended(auditor, auditor.post(CHECK))[0])

        answer, _ = ended(auditor, auditor.post(CHECK, given(note, as_file)))

    assert "the history was cut off: the checkpoint of" in text_of(answer) or (
        "was signed for another row here" in text_of(answer)
    )
    assert "The history is not as it was sealed" in text_of(answer)


@AS_FILE
def test_kept_checkpoint_shows_that_the_history_was_sealed_anew(auditor, note, as_file):
    size = int(note.splitlines()[1])
    with tampered(
        "DELETE FROM enrollments_historycheckpoint",
        "UPDATE enrollments_historyevent SET actor_name = 'mallory' WHERE id = "
        "(SELECT MIN(id) FROM enrollments_historyevent)",
        "INSERT INTO enrollments_unsealedevent SELECT event_id FROM enrollments_historyseal",
        "DELETE FROM enrollments_historyseal",
    ):
        no_trace_here()
        seal_everything()
        assert "Every row is as it was sealed" in text_of(auditor.post(CHECK))

        answer = auditor.post(CHECK, given(note, as_file))

    assert f"#{size}: the checkpoint of" in text_of(answer)
    assert f"something from #1 to #{size} was changed and sealed anew" in text_of(answer)


@AS_FILE
def test_kept_checkpoint_that_agrees_is_said_to(auditor, note, as_file):
    answer = auditor.post(CHECK, given(note.rstrip() + "\r\n", as_file))

    size = int(note.splitlines()[1])
    assert "given to a check" not in text_of(answer)
    assert f"nothing up to row #{size} was changed or cut off since that was signed" in text_of(answer)


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ("hello", "This is no checkpoint"),
        ("x\n\n— x\n", "The signature of this checkpoint cannot be read"),
        ("x" * 70_000, "at most 65536 characters"),
    ],
    ids=["a word", "no signature", "too long"],
)
def test_what_is_no_checkpoint_is_said_beside_the_field(auditor, note, kept, sentence):
    answer = auditor.post(CHECK, {"kept": kept})

    assert answer.status_code == 422
    assert sentence in text_of(answer)
    assert not HistoryEvent.objects.filter(event="history.checked").exists()


def test_checkpoint_by_somebody_else_or_changed_is_refused(auditor, note):
    other = SigningKey(b"m" * 32).signed(note.partition("\n\n")[0] + "\n")

    assert "verifier key is not known here" in text_of(auditor.post(CHECK, {"kept": other}))
    changed = note.replace("form dps", "form dqs")
    assert "does not fit this checkpoint" in text_of(auditor.post(CHECK, {"kept": changed}))


def test_files_that_are_no_notes_are_refused(auditor, note):
    for content, sentence in ((b"\xff\xfe", "no text"), (b"x" * 66_000, "larger than 64 KiB")):
        answer = auditor.post(CHECK, {"kept_file": SimpleUploadedFile("kept.txt", content)})
        assert (answer.status_code, sentence in text_of(answer)) == (422, True)
    many = "\n".join([note] * 101)
    assert "at most 100 are checked at once" in text_of(auditor.post(CHECK, {"kept": many}))


def test_file_of_checkpoints_that_cannot_be_believed_is_a_finding(auditor, note, settings):
    path = Path(settings.DPS_CHECKPOINT_FILE)
    path.write_text(note.replace("form dps", "form dqs"))
    try:
        answer = auditor.post(CHECK)
    finally:
        path.unlink()

    assert "cannot be believed" in text_of(answer)
    assert "The history is not as it was sealed" in text_of(answer)


def test_one_check_at_a_time_and_another_waits(auditor, note, settings):
    with if_nobody_else(Path(settings.DPS_DATA_DIR) / "history-check") as first:
        assert first
        answer = auditor.post(CHECK)
        assert "Another check has its turn; this one waits." in text_of(answer)
        assert answer.context["report"].rows == 0

    assert "Every row is as it was sealed" in text_of(ended(auditor, answer)[0])


@pytest.mark.parametrize("change", ["x", "", "changed", "old", "of another", "of another place"])
def test_state_is_taken_from_nobody_else(auditor, note, in_portions, client, monkeypatch, change):
    state = state_of(auditor.post(CHECK))
    url = CHECK
    match change:
        case "changed":
            state = f"{state[:20]}{'A' if state[20] != 'A' else 'B'}{state[21:]}"
        case "old":
            monkeypatch.setattr(views, "MAX_AGE", -1)
        case "of another":
            client.force_login(a_user(Role.AUDITOR, None, "chief"))
        case "of another place":
            client.force_login(a_user(Role.AUDITOR, None, "chief"))
            state = state_of(client.post(CHECK))
            url = "/history/checkpoint/check/"
        case _:
            state = change

    answer = client.post(url, {"state": state})

    assert answer.status_code == 409
    assert "begin it anew" in text_of(answer)


def test_check_of_rows_that_were_put_in_from_outside(auditor, note, in_portions):
    row = HistorySeal.objects.get(pk=20).event_id
    with tampered():
        execute("UPDATE enrollments_historyseal SET event_id = event_id + 1000000 WHERE event_id = %s", row)
        answer, _ = ended(auditor, auditor.post(CHECK))
    assert "#20" in text_of(answer)
    with tampered("DELETE FROM enrollments_unsealedevent"):
        fill(1, seed=9)
        execute("DELETE FROM enrollments_unsealedevent")
        stranger = HistoryEvent.objects.latest("pk").pk
        answer, _ = ended(auditor, auditor.post(CHECK))
    assert f"row {stranger}: it has no seal and is not among the rows that wait for one" in text_of(answer)


def test_viewer_may_not_check(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    assert client.post(CHECK).status_code == 403
    assert client.get(CHECK).status_code == 405
