"""The whole history as a file: what the commands on the page need, for whoever may export (R1, R17)."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from enrollments.audit import checkpoints
from enrollments.models import HistoryCheckpoint, HistoryEvent, HistorySeal, ProvisioningService
from enrollments.policy.roles import Role
from tests.audit.histories import fill
from tests.audit.tampering import tampered
from tests.factories import a_service, a_user
from tests.management.calls import json_of, printed_by

PROOF = "/services/plant/history/checkpoint/"
WHOLE = f"{PROOF}whole/"
SOURCE = Path(__file__).parents[2]


@pytest.fixture
def plant(db: None) -> ProvisioningService:
    service = a_service("plant")
    fill(90, service_ids=(service.pk, 9001, None))
    return service


def downloaded(client: Client, url: str, folder: Path) -> Path:
    answer = client.post(url)
    assert answer.status_code == 200
    path = folder / re.search(r'filename="([^"]+)"', answer["Content-Disposition"])[1]
    path.write_bytes(b"".join(answer.streaming_content))
    return path


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of the page, typed in the folder of the downloads."""
    python, script, *rest = shlex.split(command)
    assert python == "python"
    return subprocess.run(
        [sys.executable, str(SOURCE / script), *rest], cwd=folder, capture_output=True, text=True, timeout=120
    )


def command_on(page: str, id: str) -> str:
    return re.search(rf'<pre id="{id}">([^<]+)</pre>', page)[1].replace("&#x2B;", "+")


def test_auditor_of_a_service_proves_alone_with_what_the_page_gives(auditor, plant, tmp_path):
    kept = auditor.post(f"{PROOF}download/")
    (tmp_path / re.search(r'filename="([^"]+)"', kept["Content-Disposition"])[1]).write_bytes(kept.content)
    page = auditor.get(PROOF).content.decode()
    whole = downloaded(auditor, WHOLE, tmp_path)

    done = run(command_on(page, "verify-there"), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every sealed row is what was sealed." in done.stdout

    # The whole history has to be as new as the excerpt, which the page says.
    fill(3, service_ids=(plant.pk,), seed=5)
    excerpt = auditor.get("/services/plant/history/export/?format=jsonl&subject=pump-00001")
    (tmp_path / "EXCERPT.jsonl").write_bytes(b"".join(excerpt.streaming_content))
    assert run(command_on(page, "verify-excerpt"), tmp_path).returncode == 1
    downloaded(auditor, WHOLE, tmp_path)
    done = run(command_on(page, "verify-excerpt"), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rows of the excerpt stand in the history as they are there" in done.stdout

    whole.write_bytes(whole.read_bytes().replace(b'"pump-000030"', b'"pump-000031"', 1))
    done = run(command_on(page, "verify-there"), tmp_path)
    assert (done.returncode, "it is not the row that was sealed" in done.stdout) == (1, True)


def test_rows_of_other_services_are_there_by_their_hash_alone(auditor, plant, tmp_path):
    whole = downloaded(auditor, WHOLE, tmp_path)

    lines = [json.loads(line) for line in whole.read_text().splitlines()]
    shown = [one["event"] for one in lines if "event" in one]
    assert {one["service_id"] for one in shown} == {plant.pk}
    assert sum("row_hash" in one for one in lines) >= 60
    assert "service-9001" not in whole.read_text()
    assert json_of("audit_verify", str(whole))["ok"]


def test_installation_downloads_what_the_command_writes(client, plant, tmp_path):
    client.force_login(a_user(Role.ADMINISTRATOR, None))

    whole = downloaded(client, "/history/checkpoint/whole/", tmp_path)

    *rows, last = whole.read_bytes().splitlines()
    assert whole.name == "whole-history-installation.jsonl"
    assert all(line.startswith(b'{"event":') for line in rows)
    assert printed_by("export_history").encode().splitlines()[: len(rows)] == rows
    assert json.loads(last)["checkpoint"] in {one.note for one in HistoryCheckpoint.objects.all()}


def test_download_is_recorded_as_its_own_last_row_and_sent_in_pieces(auditor, plant, monkeypatch):
    monkeypatch.setattr("enrollments.portal.views.history_proof.LINES_AT_ONCE", 10)

    answer = auditor.post(WHOLE)
    pieces = list(answer.streaming_content)

    row = HistoryEvent.objects.get(event="history.exported")
    assert (row.actor_name, row.subject_name, row.service_id) == (
        "some-auditor",
        "history with seals",
        plant.pk,
    )
    rows = b"".join(pieces).splitlines()
    assert json.loads(rows[-2])["event"]["id"] == row.pk
    assert len(pieces) == -(-len(rows) // 10)


def test_history_that_disagrees_with_what_was_signed_is_not_exported(auditor, plant):
    auditor.post(f"{PROOF}download/")
    with tampered("UPDATE enrollments_historyseal SET hash = previous_hash"):
        answer = auditor.post(WHOLE)

    assert answer.status_code == 409
    assert "was rewritten" in answer.content.decode()


def test_viewer_is_refused_and_that_is_recorded(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    assert client.post(WHOLE).status_code == 403
    assert HistoryEvent.objects.filter(event="action.refused").count() == 1
    assert checkpoints.latest_checkpoint() is None
    assert not HistorySeal.objects.exists()
