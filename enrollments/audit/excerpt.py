"""Some rows of the history with their seals, exactly as the database holds them: what a filtered export is made of."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from enrollments.audit.canonical import MEMBERS, NotCanonical, link_hash, row_hash
from enrollments.audit.chain import EVENTS, SEALS, columns_as_text, fetched, form_of
from enrollments.errors import HistoryDisagrees


class ExcerptRow(NamedTuple):
    """One sealed row. `members`: its columns, `before` and `after` as JSON text; `form`: the bytes that were hashed."""

    number: int
    previous: str
    hash: str
    members: dict[str, Any]
    form: bytes
    row_hash: str


def rows_with_seals(ids: Sequence[int]) -> list[ExcerptRow]:
    """The rows with these IDs, in their order, each held against its own seal.

    Raises HistoryDisagrees where one is not what was sealed, or has no seal. Whether a seal is in its place is for the
    verifiers to say.
    """
    if not ids:
        return []
    marks = ", ".join(["%s"] * len(ids))
    rows = fetched(
        f'SELECT s."index", s.previous_hash, s.hash, {columns_as_text()} '  # noqa: S608  # names of our own
        f"FROM {EVENTS} e JOIN {SEALS} s ON s.event_id = e.id WHERE e.id IN ({marks})",
        list(ids),
    )
    found = {row[3 + _ID]: row for row in rows}
    return [_read(pk, found.get(pk)) for pk in ids]


def excerpt_lines(heading: dict[str, Any], rows: Iterator[ExcerptRow], note: str) -> Iterator[bytes]:
    """JSON Lines: what it is an excerpt of, rows as in a whole export, and the checkpoint that covers all of them."""
    yield _line({"excerpt": heading})
    count = 0
    for row in rows:
        count += 1
        seal = f'"seal":{{"hash":"{row.hash}","index":{row.number},"previous":"{row.previous}"}}}}\n'
        yield b'{"event":' + row.form + b"," + seal.encode()
    yield _line({"checkpoint": note, "rows": count})


_ID = MEMBERS.index("id")


def _read(pk: int, row: tuple[Any, ...] | None) -> ExcerptRow:
    if row is None:
        raise HistoryDisagrees(
            f"Row {pk} has no seal: somebody put it in, or took its seal away. The export ends here: run audit_verify."
        )
    number, previous, hash, *values = row
    try:
        form = form_of(values)
    except NotCanonical as problem:
        raise HistoryDisagrees(
            f"Row {pk}, sealed as #{number}, is no row: {problem.message}. The export ends here: run audit_verify."
        ) from None
    of_row = row_hash(form)
    try:
        is_its_own = link_hash(number, previous, of_row) == hash
    except UnicodeEncodeError:  # a seal that is no text
        is_its_own = False
    if not is_its_own:
        raise HistoryDisagrees(
            f"Row {pk} is not the row that was sealed as #{number}. The export ends here: run audit_verify."
        )
    return ExcerptRow(number, previous, hash, dict(zip(MEMBERS, values, strict=True)), form, of_row)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
