"""What a listener says when it refuses a request before the application saw it, in the form of those who call there."""

import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from gunicorn.http import errors  # type: ignore[import-untyped]  # gunicorn has no types

from dpsportal.serving.limits import MIB

logger = logging.getLogger("dpsportal.requests")

_PAGE = """<!doctype html>
<html lang="en-GB">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not accepted · dpsportal</title>
<h1>This was not accepted</h1>
<p>{sentence}</p>
</html>
"""


class Refusal(NamedTuple):
    """Why a request is refused. `limit`: the bytes that were exceeded, if that is why."""

    status: int
    sentence: str
    limit: int = 0


class Wording(NamedTuple):
    """Header fields and body of a refusal; a listener has one way to make them."""

    fields: dict[str, str]
    body: bytes


InWords = Callable[[Refusal, str], Wording]


def as_text(refusal: Refusal, tracking_id: str) -> Wording:
    return Wording({"Content-Type": "text/plain; charset=utf-8"}, f"{refusal.sentence}\n".encode())


def for_people(refusal: Refusal, tracking_id: str) -> Wording:
    """A page of one sentence, with the way out where that is not simply to try again."""
    sentence = refusal.sentence
    if refusal.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        sentence = (
            f"What was sent is larger than {refusal.limit // MIB} MiB, the most that one form takes, so nothing was "
            "saved: go back and choose a smaller file. A certificate has a few KiB."
        )
    page = _PAGE.format(sentence=sentence).encode()
    return Wording({"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}, page)


def for_devices(refusal: Refusal, tracking_id: str) -> Wording:
    """The error body of the device API (contract 1.7)."""
    # Imported when it is needed: the arbiter, which outlives reloads, has no use for it.
    from enrollments.wire.errors import refused_by_listener

    return Wording(*refused_by_listener(refusal.status, refusal.sentence, tracking_id))


def answer(refusal: Refusal, in_words: InWords, client: object) -> bytes:
    """The whole answer, after which the connection ends; the log gets the line that the application would write."""
    tracking_id = str(uuid.uuid4())
    logger.info(
        "refused by the listener",
        extra={
            "fields": {
                "tracking_id": tracking_id,
                "status": refusal.status,
                "cause": refusal.sentence,
                "peer": client[0] if isinstance(client, tuple) else "",
            }
        },
    )
    fields, body = in_words(refusal, tracking_id)
    lines = [
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
        *(f"{name}: {value}" for name, value in fields.items()),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


FAILED = Refusal(500, "The service failed.")
# What gunicorn raises, the particular before the general. Nothing of the request is repeated.
_BY_KIND: tuple[tuple[type[Exception], Refusal], ...] = (
    # The application's own headers, although they count as parse errors.
    (errors.InvalidResponseHeader, FAILED),
    (errors.InvalidResponseHeaderName, FAILED),
    (errors.LimitRequestLine, Refusal(414, "The address is too long.")),
    (errors.LimitRequestHeaders, Refusal(431, "The header is too large.")),
    (errors.ExpectationFailed, Refusal(417, "What the request expects is not offered.")),
    (errors.UnsupportedTransferCoding, Refusal(501, "This transfer coding is not offered.")),
    (errors.ParseException, Refusal(400, "The request cannot be read.")),
)


def refusal_of(problem: BaseException) -> Refusal:
    """How to answer what was raised while a request was parsed or served; FAILED where that is no fault of its own."""
    return next((refusal for kind, refusal in _BY_KIND if isinstance(problem, kind)), FAILED)
