"""An export of the history that proves itself: JSON Lines of rows with their seals, and a checkpoint at the end."""

import json
from collections.abc import Iterator

from enrollments.audit.canonical import row_hash
from enrollments.audit.chain import SealedRow, sealed_rows
from enrollments.errors import HistoryDisagrees
from enrollments.models import HistoryCheckpoint


def line_of(row: SealedRow) -> bytes:
    """A row with its seal, in canonical form as a whole."""
    return b'{"event":' + _form(row) + b"," + _seal(row)


def opaque_line_of(row: SealedRow) -> bytes:
    """In the place of a row that the reader must not see: its hash holds the chain together.

    It tells nothing, but for whoever guesses the whole row, its time to the microsecond and its request ID included.
    """
    return f'{{"row_hash":"{row_hash(_form(row))}",'.encode() + _seal(row)


def export_lines(checkpoint: HistoryCheckpoint, service_id: int | None = None) -> Iterator[bytes]:
    """Every row up to the checkpoint, and the checkpoint; of one service, the others' rows without their content.

    Raises HistoryDisagrees at a row that cannot be read: nothing is left out of an export silently.
    """
    for row in sealed_rows(checkpoint.size):
        yield line_of(row) if service_id is None or row.service_id == service_id else opaque_line_of(row)
    yield json.dumps({"checkpoint": checkpoint.note}, ensure_ascii=False).encode() + b"\n"


def _form(row: SealedRow) -> bytes:
    if row.form is None:
        raise HistoryDisagrees(
            f"Row {row.event_id}, sealed as #{row.number}, {row.unreadable}. The export ends here: run audit_verify."
        )
    return row.form


def _seal(row: SealedRow) -> bytes:
    seal = f'"seal":{{"hash":"{row.hash}","index":{row.number},"previous":"{row.previous}"}}}}\n'
    return seal.encode()
