"""Files that come from the history and cannot be verified: told apart, so that nobody is alarmed by what they gave.

By what nobody could make of an export by changing a line of it: whatever begins like one is checked as one, and wrong
where a line of it is wrong.
"""

import zipfile
from pathlib import Path

_ZIP, _SQLITE = b"PK\x03\x04", b"SQLite format 3\0"
# How the first line of history.csv begins; a spreadsheet may have put a byte order mark before it.
_CSV = (b"when (UTC),who,", b"\xef\xbb\xbfwhen (UTC),who,")
_LINE_OF_EXPORT, _MOST_OF_A_LINE = b'{"', 1024 * 1024
_NOT_SEALED = "does not hold the bytes that were sealed"
_INSTEAD = (
    "Give JSON Lines instead: the whole history, as manage.py export_history and the portal's page Proof write it, or "
    "what a filter found, with --against."
)


def other_form(path: Path) -> str:
    """What the file is, and what to give instead, as the rest of a sentence; empty where it is to be checked."""
    with path.open("rb") as file:
        first = file.readline(1024)
        is_csv = first.startswith(_CSV) and not any(
            line.startswith(_LINE_OF_EXPORT) for line in iter(lambda: file.readline(_MOST_OF_A_LINE), b"")
        )
    if first.startswith(_SQLITE):
        return "a database of SQLite, which tools/verify_history.py takes. Give an export here, or nothing."
    if is_csv:
        return f"CSV, which {_NOT_SEALED}. {_INSTEAD}"
    if first.startswith(_ZIP) and zipfile.is_zipfile(path):
        return f"{_kind_of_zip(path)}, which {_NOT_SEALED}. {_INSTEAD}"
    return ""


def _kind_of_zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return "a sheet of Excel" if "xl/workbook.xml" in archive.namelist() else "a ZIP"
