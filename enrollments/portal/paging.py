"""Lists in pages without OFFSET and COUNT: a page begins where another one ended (keyset paging)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, thread_time
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Field, Model, Q, QuerySet
from django.http import QueryDict

from enrollments.models.history_reading import UNREADABLE, of_a_row
from enrollments.models.merging import first_ids
from enrollments.policy.words import counted

# A page of the widest table, that of the history, stays below 60 kB before it is compressed.
PAGE_SIZE = 25
MAX_ID = 2**63 - 1
# A page goes on to a row of which the value can be read, where there is one among so many.
MOST_WITHOUT_PLACE = 1000
# Of rows that are looked through for what no index has.
FIRST_PORTION, FEWEST = 5000, 1000
_NUMBER = re.compile("-?[0-9]{1,19}")

Row = TypeVar("Row", bound=Model)
Rows = TypeVar("Rows", bound=QuerySet[Any])
# The value of the column that a list is sorted by, and the ID.
Place = tuple[Any, int]


@dataclass(frozen=True, slots=True)
class Header:
    """A column by which a list can be sorted. `direction` is empty unless it is sorted by this one now."""

    url: str
    direction: str

    @property
    def icon(self) -> str:
        return {"ascending": "chevron-up", "descending": "chevron-down"}.get(self.direction, "selector")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list. URLs are query strings to the same path, empty where there is no such page.

    `reached`: where not all was looked through, the value of the last row that was, beyond which `further_url` leads;
    `upwards`: whether to greater ones.
    """

    rows: list[Row]
    previous_url: str
    next_url: str
    headers: dict[str, Header]
    reached: Any = None
    upwards: bool = False
    further_url: str = ""

    @property
    def summary(self) -> str:
        more = ", and more" if self.next_url else ""
        return f"{counted(len(self.rows), 'row')} on this page{more}"


@dataclass(frozen=True, slots=True)
class Reach(Generic[Row]):
    """A bound for what no index answers: a page looks through `most` of these rows, which hold those asked for, or
    through fewer where that would take more than `seconds`: rows are narrow or wide, and machines quick or slow."""

    rows: QuerySet[Row]
    most: int
    seconds: float

    def end(self, column: str, place: Place | None, number: int, *, upwards: bool) -> Place | None:
        """The last of so many rows from a place on; None where there are no more than these."""
        rows = self.rows if place is None else from_there_on(self.rows, column, place, upwards=upwards)
        order = (column, "id") if upwards else (f"-{column}", "-id")
        last = rows.order_by(*order)[number - 1 : number + 1]
        try:
            places = list(last.values_list(column, "id"))
        except UNREADABLE as problem:
            of_a_row(problem)
            places = [_place_of(row, column) for row in last]
        # Without a value it is no place: then all is looked through.
        return places[0] if len(places) == 2 and places[0][0] is not None else None

    def further(self, looked: int, seconds: float) -> int:
        """How many more rows, after so many that took so long; 0 where it is not worth another portion."""
        in_time = looked * (self.seconds / seconds - 1) if seconds else self.most
        more = min(self.most - looked, int(in_time))
        return more if more >= FEWEST else 0


def paged(
    rows: QuerySet[Row],
    query: QueryDict,
    sorts: Mapping[str, str],
    default: str,
    *,
    size: int = PAGE_SIZE,
    ranges: Sequence[Q] = (),
    reach: Reach[Row] | None = None,
) -> Page[Row]:
    """The page that `?sort=`, `?after=` and `?before=` ask for; everything else in the query stays as it is.

    `sorts`: name in the address to column; `-` before the name sorts downwards, also in `default`. As the id has
    the last word, each row has a place of its own. A place that cannot be read means the first page. `ranges`: of
    these conditions, which exclude each other, one has to hold as well. `reach`: how far a page looks.
    """
    sort = query.get("sort", "")
    if sort.removeprefix("-") not in sorts:
        sort = default
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    column = sorts[name]
    backwards = "before" in query
    place = _read_place(rows.model, column, query.get("before" if backwards else "after", ""))
    if place is None:
        backwards = False
    upwards = descending == backwards
    walk = _Walk(rows, column, upwards, tuple(ranges))
    found, end = walk.within(reach, place, size + 1) if reach else (walk.between(place, None, size + 1), None)
    more, found = len(found) > size, found[:size]
    while more and size < MOST_WITHOUT_PLACE and all(getattr(row, column) is None for row in found):
        size *= 2
        found = walk.between(place, None, size + 1)
        more, found = len(found) > size, found[:size]
    # Onwards in the direction of this page, and back to where it began, which is where an empty one ends, too. A row
    # of which the value cannot be read has no place.
    places = [one for one in (_place_of(row, column) for row in found) if one[0] is not None]
    onwards = (places[-1] if places else None) if more else end
    back = None if place is None else _including(place, upwards=not upwards)
    if places and back is not None:
        back = places[0]
    if backwards:
        found.reverse()
        onwards, back = back, onwards
    urls = {
        "previous_url": _url(query, before=_written(back)) if back else "",
        "next_url": _url(query, after=_written(onwards)) if onwards else "",
    }
    reached = end if end is not None and not more else None
    return Page(
        rows=found,
        **urls,
        headers={one: _header(query, one, name, descending) for one in sorts},
        reached=reached[0] if reached else None,
        upwards=upwards,
        further_url=urls["previous_url" if backwards else "next_url"] if reached else "",
    )


@dataclass(frozen=True, slots=True)
class _Walk(Generic[Row]):
    """Through rows in their order, upwards or downwards."""

    rows: QuerySet[Row]
    column: str
    upwards: bool
    ranges: tuple[Q, ...]

    def between(self, place: Place | None, end: Place | None, limit: int) -> list[Row]:
        """The first rows beyond a place, up to another one and with it."""
        rows = self.rows
        if place is not None:
            rows = from_there_on(rows, self.column, place, upwards=self.upwards)
        if end is not None:
            back_from = _including(end, upwards=not self.upwards)
            rows = from_there_on(rows, self.column, back_from, upwards=not self.upwards)
        direction = "" if self.upwards else "-"
        if self.ranges:
            ids = first_ids(rows, self.ranges, self.column, descending=bool(direction), limit=limit)
            related, rows = rows.query.select_related, rows.model._default_manager.filter(pk__in=ids)
            rows.query.select_related = related
        return list(rows.order_by(f"{direction}{self.column}", f"{direction}id")[:limit])

    def within(self, reach: Reach[Row], place: Place | None, limit: int) -> tuple[list[Row], Place | None]:
        """What a page finds, and where it stopped looking. A first portion tells what a row costs."""
        # SQLite works in this thread, whatever else the machine does meanwhile.
        clock = thread_time if connection.vendor == "sqlite" else monotonic
        began, looked, portion = clock(), 0, min(FIRST_PORTION, reach.most)
        found: list[Row] = []
        while True:
            end = reach.end(self.column, place, portion, upwards=self.upwards)
            found += self.between(place, end, limit - len(found))
            looked += portion
            portion = reach.further(looked, clock() - began)
            if end is None or len(found) == limit or not portion:
                return found, end
            place = end


def from_there_on(rows: Rows, column: str, place: Place, *, upwards: bool) -> Rows:
    """The rows beyond a place. Of several bounds of a column SQLite begins at the one that stands first, so this does:
    a page is nearer to its place than to the bounds of the filter."""
    bounded = rows.filter(beyond(column, place, upwards=upwards))
    conditions, already = bounded.query.where.children, len(rows.query.where.children)
    conditions[:] = conditions[already:] + conditions[:already]
    return bounded


def beyond(column: str, place: Place, *, upwards: bool) -> Q:
    """Strictly after the place. The first condition alone lets an index begin there."""
    value, pk = place
    than = "gt" if upwards else "lt"
    from_here_on = Q(**{f"{column}__{than}e": value})
    return from_here_on & (Q(**{f"{column}__{than}": value}) | Q(**{f"id__{than}": pk}))


def _including(place: Place, *, upwards: bool) -> Place:
    """The place from which one comes upon this one first. No row is between them, since IDs are whole numbers."""
    value, pk = place
    return value, pk - 1 if upwards else pk + 1


def _place_of(row: Model, column: str) -> Place:
    return getattr(row, column), row.pk


def _written(place: Place) -> str:
    value, pk = place
    return f"{value.isoformat() if isinstance(value, datetime) else value}~{pk}"


def _read_place(model: type[Model], column: str, text: str) -> Place | None:
    value, _, pk = text.rpartition("~")
    # Somebody may have put in a row below the first; pages go on beyond it.
    if not _NUMBER.fullmatch(pk) or abs(int(pk)) > MAX_ID or "\x00" in value:
        return None
    try:
        place = _concrete(model, column).to_python(value)
    except ValidationError:
        return None
    if isinstance(place, datetime):
        if place.tzinfo is None:
            return None
        try:
            place = place.astimezone(UTC)
        except OverflowError:
            return None
    return place, int(pk)


def _concrete(model: type[Model], column: str) -> "Field[Any, Any]":
    field = model._meta.get_field(column)
    assert isinstance(field, Field)  # lists are sorted by columns of their own table
    return field


def _header(query: QueryDict, name: str, sorted_by: str, descending: bool) -> Header:
    if name != sorted_by:
        return Header(_url(query, sort=name), "")
    return Header(
        _url(query, sort=name if descending else f"-{name}"), "descending" if descending else "ascending"
    )


def _url(query: QueryDict, **changed: str) -> str:
    kept = query.copy()
    for name in ("after", "before", "page"):
        kept.pop(name, None)
    for name, value in changed.items():
        kept[name] = value
    return f"?{kept.urlencode()}"
