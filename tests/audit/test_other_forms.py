"""Files of the history that hold no bytes that were sealed: both verifiers say what they are, and raise no alarm."""

import contextlib
import io
import json
import os
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enrollments.portal.history_export import COLUMNS, csv_lines
from enrollments.portal.xlsx import Sheet, workbook
from enrollments.portal.zip_stream import Part, zipped
from tests.audit.tampering import ON_SQLITE, by_tool, copied
from tests.audit.test_attacks import MALLORY, signed_by
from tests.management.calls import printed_by, refusal_of, refused_with_words

pytestmark = pytest.mark.django_db
ROW = tuple("x" for _ in COLUMNS)


def archive(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr(name, content)
    return file.getvalue()


CSV = b"".join(csv_lines([ROW]))
# CSV doubles the quotation marks of a cell.
AS_EXPORTED = '{"checkpoint":"x"}'
XLSX = b"".join(workbook(iter([Sheet("History", COLUMNS, iter([ROW]))]), datetime(2026, 5, 1, tzinfo=UTC)))
GENUINE = {
    "history.csv": (CSV, "is CSV"),
    "as a spreadsheet saves it": (b"\xef\xbb\xbf" + CSV, "is CSV"),
    "no rows": (b"".join(csv_lines([])), "is CSV"),
    "tells of what an export has": (b"".join(csv_lines([(*ROW[:-1], AS_EXPORTED)])), "is CSV"),
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


def empty_database() -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        made.executescript("CREATE TABLE x (y); DROP TABLE x")
        return made.serialize()


# The end of a ZIP: that of an empty one, and one that tells of a directory that is not there.
END = b"PK\x05\x06" + b"\0" * 18
BROKEN_END = b"PK\x05\x06" + b"\0" * 4 + b"\1\0\1\0" + b"\x10\0\0\0" + b"\0" * 6


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda whole: first(b"when (UTC),who,kind of actor\r\n", whole), id="the header of CSV"),
        pytest.param(lambda whole: first(b"PK\x03\x04\n", whole), id="the beginning of a ZIP"),
        pytest.param(lambda whole: b"PK\x03\x04" + whole + END, id="between the ends of an empty ZIP"),
        pytest.param(lambda whole: b"PK\x03\x04" + whole + BROKEN_END, id="between the ends of a broken ZIP"),
        pytest.param(
            lambda whole: first(b"PK\x03\x04\n", whole) + archive("x", CSV), id="before a whole ZIP"
        ),
        pytest.param(lambda whole: first(b"SQLite format 3\n", whole), id="nearly a database"),
        pytest.param(lambda whole: first(b"SQLite format 3\0\n", whole), id="the beginning of a database"),
        pytest.param(lambda whole: b"SQLite format 3\0" + whole, id="the same before it"),
        pytest.param(lambda whole: empty_database() + whole, id="a database before it"),
        pytest.param(lambda whole: first(b"x\n", whole), id="anything else"),
        pytest.param(lambda whole: whole + archive("history.csv", CSV), id="a ZIP behind it"),
        pytest.param(lambda whole: CSV + whole, id="CSV before it"),
        pytest.param(
            lambda whole: (CSV + whole).replace(b'\n{"', b'\n {"'), id="CSV before it, and spaces in it"
        ),
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


@pytest.mark.skipif(not ON_SQLITE, reason="a copy is of a SQLite file")
@pytest.mark.django_db(transaction=True)
def test_database_is_one_whatever_its_rows_tell_of(files, tmp_path):
    copy = copied(tmp_path / "copy.sqlite3", f"CREATE TABLE told AS SELECT '\n{AS_EXPORTED}' AS x")

    assert refusal_of("audit_verify", str(copy))[0] == 2
    assert by_tool(copy).returncode == 0


def test_our_archives_are_compressed():
    """In one that was not, an export would be found that somebody had put something around."""
    line = AS_EXPORTED.encode() * 20
    content = b"".join(zipped(iter([Part("x.jsonl", iter([line]))]), datetime(2026, 5, 1, tzinfo=UTC)))

    for whole in (content, XLSX):
        with zipfile.ZipFile(io.BytesIO(whole)) as opened:
            assert {one.compress_type for one in opened.infolist()} == {zipfile.ZIP_DEFLATED}


@contextlib.contextmanager
def piped(path: Path) -> Iterator[str]:
    """As a shell gives it: `<(cat path)`."""
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb") as pipe:
            pipe.write(path.read_bytes())

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        yield f"/dev/fd/{reading}"
        while os.read(reading, 65536):
            pass
    finally:
        os.close(reading)
        feeding.join()


def test_export_through_a_pipe_is_checked(files):
    with piped(files[1]) as pipe:
        assert "Every sealed row is what was sealed." in printed_by("audit_verify", pipe)


def test_whole_through_a_pipe_is_checked(files):
    with piped(files[1]) as pipe:
        assert "each in its place" in printed_by("audit_verify", str(files[0]), "--against", pipe)


def test_excerpt_through_a_pipe_is_not_called_wrong(files):
    with piped(files[0]) as pipe:
        code, sentence = refusal_of("audit_verify", pipe, "--against", str(files[1]))

    assert (code, "not seekable" in sentence) == (2, True)


def test_tool_asks_for_a_file_instead_of_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    done = by_tool(pipe)

    assert (done.returncode, done.stdout) == (2, "")
    assert f"{pipe} is a pipe" in done.stderr


@pytest.mark.parametrize("name", ["\x1b[2K\x1b[1GEvery_sealed_row_is_what_was_sealed", "x" * 5000])
def test_name_of_an_unknown_signer_is_shown_printable_and_short(files, name):
    whole = signed_by(MALLORY, files[1])
    written = json.dumps(f"— {name} ", ensure_ascii=False)[1:-1]
    content = whole.read_text(encoding="utf-8").replace(f"— {MALLORY.verifier.name} ", written)
    whole.write_text(content, encoding="utf-8")

    code, sentence = refusal_of("audit_verify", str(whole))
    done = by_tool(whole, as_json=False)

    assert (code, done.returncode) == (2, 2)
    for told in (sentence, done.stderr.removesuffix("\n")):
        assert told.isprintable()
        assert len(told) < 700
        assert name[-10:] in told or "…" in told


def test_export_by_somebody_unknown_is_reported_as_json_by_both(files):
    whole = signed_by(MALLORY, files[1])

    code, printed, sentence = refused_with_words("audit_verify", str(whole), "--json")
    ours, tools = json.loads(printed), json.loads(by_tool(whole).stdout)

    assert code == 2
    assert ours["not_checked"] == [sentence]
    assert MALLORY.verifier.name in sentence
    same = ("ok", "rows", "head", "signed_rows", "checkpoints", "problem")
    assert [ours[member] for member in same] == [tools[member] for member in same]
    assert (ours["ok"], ours["rows"]) == (False, tools["rows"])
