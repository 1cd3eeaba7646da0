"""Files of the history that hold no bytes that were sealed: both verifiers say what they are, and raise no alarm."""

import io
import zipfile
from datetime import UTC, datetime

import pytest

from enrollments.portal.history_export import COLUMNS, csv_lines
from enrollments.portal.xlsx import Sheet, workbook
from tests.audit.tampering import by_tool
from tests.management.calls import refusal_of

pytestmark = pytest.mark.django_db
ROW = tuple("x" for _ in COLUMNS)


def archive(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr(name, content)
    return file.getvalue()


CSV = b"".join(csv_lines([ROW]))
XLSX = b"".join(workbook(iter([Sheet("History", COLUMNS, iter([ROW]))]), datetime(2026, 5, 1, tzinfo=UTC)))
GENUINE = {
    "history.csv": (CSV, "is CSV"),
    "as a spreadsheet saves it": (b"\xef\xbb\xbf" + CSV, "is CSV"),
    "no rows": (b"".join(csv_lines([])), "is CSV"),
    "the ZIP": (archive("history.csv", CSV), "is a ZIP"),
    "XLSX": (XLSX, "is a sheet of Excel"),
}


@pytest.mark.parametrize("case", GENUINE)
@pytest.mark.parametrize("place", ["file", "against"])
def test_what_was_given_is_named_and_what_to_give_instead(files, tmp_path, case, place):
    content, words = GENUINE[case]
    other = tmp_path / "given"
    other.write_bytes(content)
    given = [str(other)] if place == "file" else [str(files[0]), "--against", str(other)]

    code, sentence = refusal_of("audit_verify", *given)
    done = by_tool(*given[:1], *given[1:], as_json=False)

    for told in (sentence, done.stderr):
        assert f"Not checked: {other} {words}" in told
        assert "JSON Lines instead" in told
        assert "not as it was sealed" not in told
    assert (code, done.returncode, done.stdout) == (2, 2, "")


def first(line: bytes, of: bytes) -> bytes:
    return line + of.partition(b"\n")[2]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda whole: first(b"when (UTC),who,kind of actor\r\n", whole), id="the header of CSV"),
        pytest.param(lambda whole: first(b"PK\x03\x04\n", whole), id="the beginning of a ZIP"),
        pytest.param(lambda whole: first(b"SQLite format 3\n", whole), id="nearly a database"),
        pytest.param(lambda whole: first(b"x\n", whole), id="anything else"),
        pytest.param(lambda whole: whole + archive("history.csv", CSV), id="a ZIP behind it"),
        pytest.param(lambda whole: CSV + whole, id="CSV before it"),
        pytest.param(lambda whole: first(whole.partition(b"\n")[0] + b"\n" + CSV, whole), id="CSV in it"),
    ],
)
def test_export_of_which_a_line_was_made_something_else_is_wrong(files, change):
    """Whoever breaks a line does not have the verifiers say that there was nothing to check."""
    whole = files[1]
    whole.write_bytes(change(whole.read_bytes()))

    assert refusal_of("audit_verify", str(whole))[0] == 1
    assert by_tool(whole).returncode == 1


def test_database_given_to_the_command_is_named(tmp_path):
    copy = tmp_path / "copy.sqlite3"
    copy.write_bytes(b"SQLite format 3\0" + b"\0" * 100)

    code, sentence = refusal_of("audit_verify", str(copy))

    assert (code, "tools/verify_history.py takes" in sentence) == (2, True)
