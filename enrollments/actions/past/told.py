"""Whether rows of the history can be read as what they tell of the past: nothing is worked out from one that cannot."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import MAXYEAR, MINYEAR
from typing import Any

from enrollments.actions.past.entries import KINDS, NotTold, due, moment_of_creation
from enrollments.audit.events import Event
from enrollments.models import AttestationMechanism, HistoryEvent
from enrollments.models.history import LAST, HistoryQuerySet
from enrollments.models.history_reading import UNREADABLE, UnreadableState, of_a_row

MOST_DIGITS = len(str(LAST))
# Texts that entries hold are put back as they were: none of them is longer.
MOST_CHARACTERS = 128
_BY_NUMBER = (Event.CA_VERIFIED.value, Event.CA_DELETED.value)
_MECHANISMS = frozenset(AttestationMechanism.values)
_TEXTS = (
    "registration_id",
    "group_id",
    "primary_key_id",
    "secondary_key_id",
    "endorsement_key_sha256",
)


class RowNotTold(NotTold):
    """Names the row."""

    def __init__(self, pk: Any) -> None:
        super().__init__(
            f"Row ID {pk} of the history cannot be read, so what stood before it cannot be told. Run audit_verify."
        )


def is_number(text: str) -> bool:
    """Whether it is written as a primary key that there can be."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def checked(rows: Iterable[HistoryEvent]) -> Iterator[HistoryEvent]:
    """The rows. Raises RowNotTold at the first that cannot be read."""
    for row in rows:
        if not _can_be_read(row):
            raise RowNotTold(row.pk)
        yield row


def columns_of(rows: HistoryQuerySet, *columns: str, distinct: bool = False) -> Iterator[Any]:
    """As `values_list` has them; `subject_id` is a number. Raises RowNotTold where one cannot be read."""
    found = rows.values_list(*columns)
    try:
        for values in (found.distinct() if distinct else found).iterator(chunk_size=2000):
            if not all(map(_is_told, columns, values)):
                _name_one(rows)
            yield values
    except UNREADABLE as problem:
        of_a_row(problem)
        _name_one(rows)
        raise


def first_of(rows: HistoryQuerySet, among: HistoryQuerySet) -> HistoryEvent | None:
    """The first row. among: what it is looked for in, without conditions that not every row can answer."""
    try:
        return next(checked(rows[:1]), None)
    except UNREADABLE as problem:
        of_a_row(problem)
        _name_one(among)
        raise


def _is_told(column: str, value: Any) -> bool:
    if column in ("before", "after"):
        return not isinstance(value, UnreadableState)
    return value is not None and not isinstance(value, bytes) and (column != "subject_id" or is_number(value))


def _name_one(rows: HistoryQuerySet) -> None:
    for _ in checked(rows):
        pass


def _can_be_read(row: HistoryEvent) -> bool:
    if row.unreadable or not MINYEAR < row.at.year < MAXYEAR:
        return False
    if row.event in _BY_NUMBER:
        return is_number(row.subject_id)
    if row.subject_kind not in KINDS:
        return True
    return is_number(row.subject_id) and all(_is_state(one) for one in (row.before, row.after) if one)


def _is_state(state: Mapping[str, Any]) -> bool:
    certificates = state.get("certificates")
    if not (certificates is None or isinstance(certificates, dict)):
        return False
    mechanism = state.get("mechanism")
    if not (mechanism is None or (isinstance(mechanism, str) and mechanism in _MECHANISMS)):
        return False
    texts = (state.get(name) for name in _TEXTS)
    if not all(one is None or (isinstance(one, str) and len(one) <= MOST_CHARACTERS) for one in texts):
        return False
    try:
        due(state.get("until"))
        created = moment_of_creation(state.get("created_at"))
    except ValueError:
        return False
    return created is None or created.tzinfo is not None
