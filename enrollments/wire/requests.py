"""Reading requests: the version that they ask for, and their bodies, bounded before anything is parsed."""

import re
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest

from enrollments.policy.documents import DocumentProblem, parse_json
from enrollments.wire.errors import TOO_LARGE, ApiError, ErrorAnswer

MAX_MESSAGE_BYTES = 96 * 1024
NO_VERSION = 400004
NO_JSON = 400001
# The same in general, for the OpenAPI document.
VERSION_REFUSAL = ErrorAnswer(NO_VERSION, "api-version is missing, or no date.")
MESSAGE_REFUSALS = (
    ErrorAnswer(NO_JSON, "The body is no JSON object, or not one that can be kept."),
    ErrorAnswer(TOO_LARGE, f"The body is longer than {MAX_MESSAGE_BYTES} bytes."),
)
# Any well-formed date version is served alike (contract 1.2).
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?\Z", re.ASCII)


def check_api_version(request: HttpRequest) -> None:
    version = request.GET.get("api-version", "")
    if not version:
        raise ApiError(NO_VERSION, "The query parameter api-version is missing.")
    if not _API_VERSION.match(version):
        raise ApiError(NO_VERSION, "api-version is a date such as 2021-06-01.")


def json_object(request: HttpRequest) -> dict[str, Any] | None:
    """The JSON object that is the body; None where the body is empty."""
    raw = _bounded_body(request)
    if not raw.strip():
        return None
    try:
        message = parse_json(raw, max_bytes=MAX_MESSAGE_BYTES)
    except DocumentProblem as problem:
        raise ApiError(NO_JSON, str(problem)) from None
    if not isinstance(message, dict):
        raise ApiError(NO_JSON, "The body must be a JSON object.")
    return message


def _bounded_body(request: HttpRequest) -> bytes:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isascii() and length.isdigit() and int(length) > MAX_MESSAGE_BYTES:
        raise ApiError(TOO_LARGE, f"The body is longer than {MAX_MESSAGE_BYTES} bytes.")
    raw: bytes = request.read(MAX_MESSAGE_BYTES + 1)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ApiError(TOO_LARGE, f"The body is longer than {MAX_MESSAGE_BYTES} bytes.")
    return raw


def utc(at: datetime) -> str:
    """ISO 8601 with `Z` and up to seven digits of fraction, trailing zeros trimmed."""
    text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"
