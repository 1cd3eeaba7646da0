"""Files that come from the history and cannot be verified: told apart, so that nobody is alarmed by what they gave.

By what nobody could make of an export by changing lines of it, or by putting something around them: whatever holds rows
as an export has them is checked as one, and wrong where a line of it is wrong.
"""

import re
import sqlite3
import struct
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

_ZIP, _SQLITE = b"PK\x03\x04", b"SQLite format 3\0"
# How the first line of history.csv begins; a spreadsheet may have put a byte order mark before it.
_CSV = (b"when (UTC),who,", b"\xef\xbb\xbfwhen (UTC),who,")
# What each row of an export has, and its end. CSV doubles these quotation marks. It is long enough never to come about
# in a file of compressed bytes, where a mere { at the beginning of a line does.
_OF_EXPORT, _MOST_OF_A_LINE = re.compile(rb'"(?:seal|checkpoint)"\s*:'), 1024 * 1024
_TABLE = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'enrollments_historyevent'"
_NOT_SEALED = "does not hold the bytes that were sealed"
_INSTEAD = (
    "Give JSON Lines instead: the whole history, as manage.py export_history and the portal's page Proof write it, or "
    "what a filter found, with --against."
)


def other_form(path: Path) -> str:
    """What the file is, and what to give instead, as the rest of a sentence; empty where it is to be checked.

    A pipe can be read once, and is left to the check.
    """
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        begin = file.readline(1024)
    if begin.startswith(_SQLITE):
        if not _is_database(path):
            return ""
        return "a database of SQLite, which tools/verify_history.py takes. Give an export here, or nothing."
    if begin.startswith(_CSV) and not _holds_export(path):
        return f"CSV, which {_NOT_SEALED}. {_INSTEAD}"
    if begin.startswith(_ZIP) and not _holds_export(path) and (kind := _kind_of_zip(path)):
        return f"{kind}, which {_NOT_SEALED}. {_INSTEAD}"
    return ""


def _holds_export(path: Path) -> bool:
    with path.open("rb") as file:
        return any(_OF_EXPORT.search(line) for line in _lines(file))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.readline(_MOST_OF_A_LINE), b"")


def _is_database(path: Path) -> bool:
    """A history in a database may tell of a checkpoint as an export does, so one that can be read is asked first."""
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            has_history: bool = database.execute(_TABLE).fetchone() != (0,)
    except sqlite3.Error:
        has_history = False
    return has_history or not _holds_export(path)


def _kind_of_zip(path: Path) -> str:
    """Empty where it is none, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "a sheet of Excel" if "xl/workbook.xml" in archive.namelist() else "a ZIP"
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        return ""
