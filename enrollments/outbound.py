"""Calling somebody else's server: HTTPS with verified certificates, no redirects, bounded in time and size."""

import time
from functools import lru_cache
from typing import cast

import urllib3
from django.conf import settings

from enrollments.errors import DpsError

MAX_ANSWER_BYTES = 64 * 1024
MAX_TOLD = 200


class CallFailed(DpsError):
    """A server gave no usable answer. The sentence says what it did instead; it never holds the address's query."""

    code = "call_failed"


def post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The body of a 2xx answer. Raises CallFailed. Never to be called inside a transaction."""
    seconds = settings.DPS_WEBHOOK_SECONDS
    deadline = time.monotonic() + seconds
    ca_file = str(settings.DPS_WEBHOOK_CA) if settings.DPS_WEBHOOK_CA else None
    try:
        response = _pool(ca_file).request(
            "POST",
            url,
            body=body,
            headers={"Accept-Encoding": "identity", "User-Agent": "dpsportal", **headers},
            timeout=urllib3.Timeout(total=seconds),
            # Nobody has said that wherever it would lead to may be called.
            redirect=False,
            preload_content=False,
        )
        try:
            answer = _bounded(cast("urllib3.HTTPResponse", response), deadline)
        finally:
            response.close()
    except urllib3.exceptions.NewConnectionError as problem:
        raise CallFailed(f"it could not be reached: {_cause(problem)}") from None
    except urllib3.exceptions.TimeoutError:
        raise CallFailed(f"it did not answer within {seconds} s") from None
    except (urllib3.exceptions.HTTPError, OSError) as problem:
        raise CallFailed(f"it could not be reached: {_cause(problem)}") from None
    if not 200 <= response.status < 300:
        raise CallFailed(f"it answered {response.status}: {told(answer)}")
    return answer


@lru_cache(maxsize=1)
def _pool(ca_file: str | None) -> urllib3.PoolManager:
    return urllib3.PoolManager(cert_reqs="CERT_REQUIRED", ca_certs=ca_file, retries=False)


def _bounded(response: urllib3.HTTPResponse, deadline: float) -> bytes:
    """What comes until the deadline, however slowly it drips."""
    body = b""
    while chunk := response.read1(4096):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise CallFailed(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise CallFailed(f"its answer was not complete within {settings.DPS_WEBHOOK_SECONDS} s")
    return body


def _cause(problem: Exception) -> str:
    """What went wrong, without the address: urllib3 writes the whole URL into some of its messages."""
    reason = getattr(problem, "reason", None) or problem
    text = str(reason.args[-1]) if getattr(reason, "args", None) else type(reason).__name__
    return f"{type(reason).__name__}: {_printable(text)}" if "?" not in text else type(reason).__name__


def told(body: bytes) -> str:
    """The beginning of an answer, as it can be told to people."""
    return _printable(body[: 4 * MAX_TOLD].decode("utf-8", "replace")) or "nothing"


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_TOLD]
