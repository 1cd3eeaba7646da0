"""Lists in pages without OFFSET and COUNT: a page begins where another one ended (keyset paging)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Field, Model, Q, QuerySet
from django.http import QueryDict

from enrollments.models.merging import first_ids

# A page of the widest table, that of the history, stays below 60 kB before it is compressed.
PAGE_SIZE = 25
MAX_ID = 2**63 - 1

Row = TypeVar("Row", bound=Model)


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
    """One page of a list. URLs are query strings to the same path, empty where there is no such page."""

    rows: list[Row]
    previous_url: str
    next_url: str
    headers: dict[str, Header]

    @property
    def summary(self) -> str:
        number = len(self.rows)
        more = ", and more" if self.next_url or self.previous_url else ""
        return f"{number} {'entry' if number == 1 else 'entries'} on this page{more}"


def paged(
    rows: QuerySet[Row],
    query: QueryDict,
    sorts: Mapping[str, str],
    default: str,
    *,
    size: int = PAGE_SIZE,
    ranges: Sequence[Q] = (),
) -> Page[Row]:
    """The page that `?sort=`, `?after=` and `?before=` ask for; everything else in the query stays as it is.

    `sorts`: name in the address to column; `-` before the name sorts downwards, also in `default`. As the id has
    the last word, each row has a place of its own. A place that cannot be read means the first page. `ranges`: of
    these conditions, which exclude each other, one has to hold as well.
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
    else:
        rows = rows.filter(beyond(column, place, upwards=descending == backwards))
    direction = "-" if descending != backwards else ""
    if ranges:
        ids = first_ids(rows, ranges, column, descending=bool(direction), limit=size + 1)
        related, rows = rows.query.select_related, rows.model._default_manager.filter(pk__in=ids)
        rows.query.select_related = related
    found = list(rows.order_by(f"{direction}{column}", f"{direction}id")[: size + 1])
    more, found = len(found) > size, found[:size]
    if backwards:
        found.reverse()
    has_next, has_previous = (True, more) if backwards else (more, place is not None)
    return Page(
        rows=found,
        previous_url=_url(query, before=_place(found[0], column)) if has_previous and found else "",
        next_url=_url(query, after=_place(found[-1], column)) if has_next and found else "",
        headers={one: _header(query, one, name, descending) for one in sorts},
    )


def beyond(column: str, place: tuple[Any, int], *, upwards: bool) -> Q:
    """Strictly after the place. The first condition alone lets an index begin there."""
    value, pk = place
    than = "gt" if upwards else "lt"
    from_here_on = Q(**{f"{column}__{than}e": value})
    return from_here_on & (Q(**{f"{column}__{than}": value}) | Q(**{f"id__{than}": pk}))


def _place(row: Model, column: str) -> str:
    value = getattr(row, column)
    return f"{value.isoformat() if isinstance(value, datetime) else value}~{row.pk}"


def _read_place(model: type[Model], column: str, text: str) -> tuple[Any, int] | None:
    value, _, pk = text.rpartition("~")
    if not pk.isascii() or not pk.isdigit() or len(pk) > 19 or int(pk) > MAX_ID or "\x00" in value:
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
