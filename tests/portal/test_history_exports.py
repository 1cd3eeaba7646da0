"""Exports of the history: exactly what is filtered, sealed and signed, recorded first, and readable by others."""

import csv
import io
import json
import re
import tracemalloc
import zipfile
from datetime import UTC, datetime, timedelta
from html import unescape
from xml.etree import ElementTree

import pytest
from django.utils import timezone

from enrollments.audit import checkpoints
from enrollments.audit.notes import read_checkpoint
from enrollments.errors import HistoryDisagrees
from enrollments.models import HistoryCheckpoint, HistoryEvent, HistorySeal
from enrollments.policy.roles import Role
from enrollments.portal import history_export, xlsx
from tests.audit.histories import fill
from tests.audit.tampering import ON_SQLITE, tampered
from tests.factories import a_service, a_user
from tests.portal.history_pages import EXPORT, URL, a_row

FORMATS = ("csv", "jsonl", "xlsx")
each_format = pytest.mark.parametrize("format", FORMATS)
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def export(client, format, url=EXPORT, **query) -> bytes:
    answer = client.get(url, {**query, "format": format})
    assert answer.status_code == 200
    assert answer["Content-Type"] == history_export.TYPES[format]
    ending = history_export.ENDINGS[format]
    assert re.fullmatch(
        rf'attachment; filename="history-[a-z]+-[0-9-]+\.{ending}"', answer["Content-Disposition"]
    )
    return b"".join(answer.streaming_content)


def sheet_rows(data: bytes, number: int = 1) -> list[list[str]]:
    """The cells of a sheet as text, read with what has nothing to do with our writer."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        root = ElementTree.fromstring(archive.read(f"xl/worksheets/sheet{number}.xml"))
    return [
        [
            "".join(part.text or "" for part in cell.iter() if part.tag in (f"{_MAIN}t", f"{_MAIN}v"))
            for cell in row
        ]
        for row in root.iter(f"{_MAIN}row")
    ]


def table(data: bytes, format: str) -> list[dict[str, str]]:
    """Each exported row by the names of the columns that all formats have."""
    if format == "jsonl":
        lines = [json.loads(line) for line in data.decode().splitlines()]
        return [
            {
                "object": line["event"]["subject_name"],
                "row": str(line["event"]["id"]),
                "place": str(line["seal"]["index"]),
                "seal hash": line["seal"]["hash"],
            }
            for line in lines[1:-1]
        ]
    if format == "xlsx":
        head, *rows = sheet_rows(data)
        return [dict(zip(head, row, strict=True)) for row in rows]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return list(csv.DictReader(io.StringIO(archive.read("history.csv").decode())))


@each_format
def test_export_holds_exactly_what_is_filtered_newest_first(auditor, plant, monkeypatch, format):
    monkeypatch.setattr(history_export, "EXPORT_CHUNK", 3)
    start = datetime(2026, 5, 1, tzinfo=UTC)
    for number in range(10):
        event = ("enrollment.disabled", "group.deleted")[number % 2]
        a_row(plant, f"x-{number}", start + timedelta(minutes=number // 3), event=event)
    a_row(plant, "y", start)
    a_row(plant, "x-not", start, event="enrollment.enabled")
    a_row(a_service("lab"), "x-foreign", start)

    rows = table(export(auditor, format, subject="x-", event="shuts-out"), format)

    assert [row["object"] for row in rows] == [f"x-{number}" for number in reversed(range(10))]
    for row in rows:
        seal = HistorySeal.objects.get(event_id=int(row["row"]))
        assert (row["place"], row["seal hash"]) == (str(seal.index), seal.hash)


@each_format
def test_installation_exports_all_services_or_one(client, plant, format):
    client.force_login(a_user(Role.AUDITOR))
    a_row(plant, "x-1", timezone.now())
    a_row(a_service("lab"), "x-2", timezone.now())

    everything = table(export(client, format, "/history/export/", subject="x-"), format)
    of_lab = table(export(client, format, "/history/export/", subject="x-", service="lab"), format)

    assert [row["object"] for row in everything] == ["x-2", "x-1"]
    assert [row["object"] for row in of_lab] == ["x-2"]


@each_format
def test_export_is_recorded_before_its_first_byte_and_is_not_part_of_itself(auditor, plant, format):
    a_row(plant, "x", timezone.now())

    answer = auditor.get(EXPORT, {"format": format, "period": "24h"})

    row = HistoryEvent.objects.get(event="history.exported")
    assert row.after == {"period": "24h", "rows_up_to": HistoryCheckpoint.objects.latest("pk").size}
    found = table(b"".join(answer.streaming_content), format)
    assert str(row.pk) not in {one["row"] for one in found}
    assert "x" in {one["object"] for one in found}


@each_format
def test_export_holds_the_checkpoint_that_covers_it(auditor, plant, format):
    a_row(plant, "x", timezone.now())

    data = export(auditor, format, subject="x")

    if format == "jsonl":
        first, *_, last = data.decode().splitlines()
        note = json.loads(last)["checkpoint"]
        assert json.loads(last)["rows"] == 1
        assert json.loads(first) == {
            "excerpt": {"filter": {"subject": "x"}, "form": "dpsportal-history/1", "service": "plant"}
        }
    elif format == "xlsx":
        about = dict(sheet_rows(data, 2)[1:])
        note = about["Checkpoint"]
        assert (about["Rows"], about["Filter"], about["History of"]) == ("1", "subject = x", "service plant")
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            note = archive.read("checkpoint.txt").decode()
            assert "Rows: 1\r\n" in archive.read("about.txt").decode()
    said = read_checkpoint(note, [checkpoints.verifier_key()])
    (row,) = table(data, format)
    assert int(row["place"]) <= said.size


@pytest.mark.parametrize("query", [{"format": "pdf"}, {"format": "csv", "since": "yesterday"}, {"kind": "x"}])
def test_export_that_cannot_be_read_exports_nothing(auditor, query):
    answer = auditor.get(EXPORT, query)

    assert answer.status_code == 422
    assert not HistoryEvent.objects.filter(event="history.exported").exists()


def test_from_an_export_that_is_refused_one_goes_back_to_what_was_filtered(auditor, plant):
    a_row(plant, "x<y", timezone.now())

    refused = auditor.get(EXPORT, {"format": "pdf", "subject": "x<y"}).content.decode()

    (back,) = re.findall(r'href="([^"]+)">Go back<', refused)
    answer = auditor.get(unescape(back))
    assert answer.status_code == 200
    assert [row.event.subject_name for row in answer.context["rows"]] == ["x<y"]


def test_history_that_disagrees_is_not_exported_and_the_page_says_why(auditor, plant):
    checkpoints.make_checkpoint()
    with tampered("UPDATE enrollments_historyseal SET hash = previous_hash"):
        answer = auditor.get(EXPORT)

    assert answer.status_code == 409
    assert "Nothing was exported" in answer.content.decode()


@each_format
def test_row_that_is_not_what_was_sealed_is_not_exported(auditor, plant, format, monkeypatch):
    monkeypatch.setattr(history_export, "EXPORT_CHUNK", 3)
    start = datetime(2026, 5, 1, tzinfo=UTC)
    for number in range(10):
        a_row(plant, f"x-{number}", start + timedelta(minutes=number))
    export(auditor, format)
    forged = "UPDATE enrollments_historyevent SET reason = 'as agreed' WHERE subject_name = 'x-{}'"

    with tampered(forged.format(9)):
        answer = auditor.get(EXPORT, {"format": format, "subject": "x-"})
    with tampered(forged.format(1)), pytest.raises(HistoryDisagrees, match="is not the row that was sealed"):
        export(auditor, format, subject="x-")

    assert answer.status_code == 409
    assert "Nothing was exported: Row " in answer.content.decode()


@pytest.mark.skipif(not ON_SQLITE, reason="PostgreSQL takes no bytes that are no text")
def test_row_of_bytes_that_are_no_text_is_named_and_not_exported(auditor, plant):
    a_row(plant, "x", timezone.now())
    auditor.get(URL)

    with tampered(
        "UPDATE enrollments_historyevent SET reason = CAST(x'ff41' AS TEXT) WHERE subject_name = 'x'"
    ):
        answer = auditor.get(EXPORT)

    assert answer.status_code == 409
    assert "is not the row that was sealed" in answer.content.decode()


def test_export_says_from_which_place_on_rows_were_new(auditor, plant):
    a_row(plant, "old", timezone.now())
    seen = auditor.get(URL).context["news"].up_to
    auditor.post(f"{URL}seen/", {"index": seen})
    a_row(plant, "new", timezone.now())

    rows = table(export(auditor, "csv", since="last"), "csv")

    assert [row["object"] for row in rows] == ["new"]
    assert HistoryEvent.objects.get(event="history.exported").after["since"] == f"last, after #{seen}"


def test_viewers_own_rows_are_all_that_they_could_filter(client, plant):
    client.force_login(a_user(Role.VIEWER, plant))

    assert client.get(EXPORT, {"format": "jsonl"}).status_code == 403


@each_format
def test_export_is_made_in_memory_that_does_not_grow_with_it(auditor, plant, format, monkeypatch):
    monkeypatch.setattr(history_export, "EXPORT_CHUNK", 50)

    def peak(rows: int) -> int:
        fill(rows, service_ids=(plant.pk,))
        answer = auditor.get(EXPORT, {"format": format})
        tracemalloc.start()
        size = sum(map(len, answer.streaming_content))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size > 100 * rows / 10
        return found

    peak(100)  # what is loaded once
    assert peak(3000) < 2 * peak(300) + 500_000


class TestXlsx:
    """The workbook itself."""

    AT = datetime(2026, 5, 1, tzinfo=UTC)

    def book(self, rows, **limits) -> bytes:
        return b"".join(xlsx.workbook([xlsx.Sheet("History", ("a", "b"), rows)], self.AT))

    def test_cells_are_text_whatever_they_begin_with(self):
        data = self.book([("=1+1", "+cmd|' /C calc'!A0"), ("<b>&", 7)])

        assert sheet_rows(data)[1:] == [["=1+1", "+cmd|' /C calc'!A0"], ["<b>&", "7"]]
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = archive.read("xl/worksheets/sheet1.xml").decode()
        assert "<f>" not in text
        assert text.count('t="inlineStr"') == 5

    def test_what_xml_cannot_hold_is_escaped_and_what_is_too_long_is_cut(self):
        (row,) = sheet_rows(self.book([("a\x00b\x1b_x0041_\ud800\r\n", "x" * 40_000)]))[1:]

        assert row[0] == "a_x0000_b_x001B__x005F_x0041_\ufffd\r\n"
        assert len(row[1]) == 32_767
        assert row[1].endswith("JSON Lines has all of it)")

    def test_sheet_that_is_full_goes_on_in_another(self, monkeypatch):
        monkeypatch.setattr(xlsx, "MOST_ROWS", 4)
        monkeypatch.setattr(xlsx, "CHUNK", 2)

        data = self.book([(str(number), "") for number in range(7)])

        assert [row[0] for row in sheet_rows(data, 1)] == ["a", "0", "1", "2"]
        assert [row[0] for row in sheet_rows(data, 2)] == ["a", "3", "4", "5"]
        assert [row[0] for row in sheet_rows(data, 3)] == ["a", "6"]
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.read("xl/workbook.xml").decode().count("<sheet name=") == 3
            assert "History 3" in archive.read("xl/workbook.xml").decode()

    def test_table_without_rows_has_its_headings(self):
        assert sheet_rows(self.book([])) == [["a", "b"]]


LOSES = ["DELETE FROM enrollments_historyseal", """UPDATE enrollments_historyseal SET "index" = 'x'"""]


@each_format
@pytest.mark.parametrize("which", ["a", "b", "c"])
@pytest.mark.parametrize("how", LOSES if ON_SQLITE else LOSES[:1])
def test_row_that_lost_its_seal_is_not_left_out_of_an_export(auditor, plant, format, which, how):
    start = datetime(2026, 5, 1, tzinfo=UTC)
    for number, name in enumerate("abc"):
        a_row(plant, name, start + timedelta(minutes=number))
    checkpoints.make_checkpoint()
    a_row(plant, "later", timezone.now())
    row = HistoryEvent.objects.get(subject_name=which)

    with tampered(f"{how} WHERE event_id = {row.pk}"):
        answer = auditor.get(EXPORT, {"format": format, "until": "2026-06-01T00:00"})

    assert answer.status_code == 409
    assert "Nothing was exported: " in answer.content.decode()
