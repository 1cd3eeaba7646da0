"""Queries (contract 6.6): their text, and pages that go on behind the last entry that was told.

Entries are told in the order in which they were added, which no write changes: none comes twice, and none that is there
throughout is missed, whatever is added and deleted meanwhile.
"""

import re
from dataclasses import dataclass
from typing import Any

from django.core import signing
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from enrollments.service_api.errors import WRONG_CONTINUATION, WRONG_QUERY
from enrollments.wire.errors import ApiError

DEFAULT_PAGE, LARGEST_PAGE = 100, 1000
MAX_QUERY = 1000
# One client sends its whole specification as Python writes it.
_AS_PYTHON = re.compile(r"\{.*'query':\s*(?P<quote>['\"])(?P<text>.*?)(?P=quote)\s*\}", re.DOTALL)
_ALL = re.compile(r"(select\s+)?\*(\s+from\s+[a-z]+)?\s*;?", re.IGNORECASE)
_SALT = "enrollments.service_api.continuation"


@dataclass(frozen=True, slots=True)
class Query:
    """`item_type` is what clients look for in the answer; `scope` ties a continuation to what was asked."""

    item_type: str
    scope: str


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Any]
    continuation: str

    def set_headers(self, response: HttpResponse, query: Query) -> None:
        response["x-ms-item-type"] = query.item_type
        if self.continuation:
            response["x-ms-continuation"] = self.continuation


def check_query(text: str) -> None:
    """Only "all of them" is understood; anything else would be answered with more than was asked for."""
    if len(text) > MAX_QUERY:
        raise ApiError(WRONG_QUERY, f"query: at most {MAX_QUERY} characters are taken.")
    if match := _AS_PYTHON.fullmatch(text.strip()):
        text = match["text"]
    if not _ALL.fullmatch(text.strip()):
        raise ApiError(
            WRONG_QUERY, "query: this service understands SELECT * without conditions, and nothing else."
        )


def page_of(rows: QuerySet[Any], request: HttpRequest, query: Query) -> Page:
    size = page_size(request)
    after = told_before(request, query)
    found = list(rows.filter(pk__gt=after or 0).order_by("pk")[: size + 1])
    if len(found) <= size:
        return Page(found, "")
    return Page(found[:size], continuation(query, found[size - 1].pk))


def page_size(request: HttpRequest) -> int:
    text = request.headers.get("x-ms-max-item-count", "").strip()
    if not text:
        return DEFAULT_PAGE
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ApiError(WRONG_QUERY, "x-ms-max-item-count: give a whole number from 1 on.")
    return min(int(text), LARGEST_PAGE)


def continuation(query: Query, last: Any) -> str:
    """`last`: what the page ends with, as its continuation is read back by `told_before`."""
    return signing.dumps([query.scope, last], salt=_SALT)


def told_before(request: HttpRequest, query: Query) -> Any:
    """What the page before ended with; None where the first one is asked for."""
    token = request.headers.get("x-ms-continuation", "").strip()
    if not token:
        return None
    try:
        scope, last = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        raise ApiError(
            WRONG_CONTINUATION, "x-ms-continuation: this is none that was given out here."
        ) from None
    if scope != query.scope:
        raise ApiError(WRONG_CONTINUATION, "x-ms-continuation: this belongs to another query.")
    return last
