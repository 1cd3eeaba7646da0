"""Asking a webhook which hub a device is to be assigned to (contract 7.3)."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import urllib3
from django.conf import settings

from enrollments.errors import DpsError
from enrollments.policy.documents import DocumentProblem, check_initial_twin, parse_json

MAX_URL = 1000
MAX_ANSWER_BYTES = 64 * 1024
MAX_TOLD = 200
# Webhooks that hang must not take all of the threads that answer devices.
CALLS_AT_ONCE = 4
PATIENCE_FOR_A_TURN = 1.0
_turns = threading.BoundedSemaphore(CALLS_AT_ONCE)


class WebhookFailed(DpsError):
    """The webhook gave no usable answer. The sentence says what it did instead; it never holds the URL's query."""

    code = "webhook_failed"


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """`initial_twin` and `payload` are None where the webhook gave none."""

    host_name: str
    initial_twin: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None


def problem_of_url(url: str) -> str:
    """Why a URL cannot be used as a webhook, in a sentence; empty where it can."""
    if len(url) > MAX_URL or not url.isascii() or any(character <= " " for character in url):
        return f"A webhook's URL has at most {MAX_URL} characters, ASCII without spaces."
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or 443
    except ValueError:
        return "The webhook's URL cannot be read: give https://host/path."
    if parts.scheme != "https" or not host:
        return "A webhook is asked over HTTPS: give https://host/path."
    if parts.username is not None or parts.fragment:
        return "A webhook's URL has no user name and no fragment; keys belong into its query."
    if not {host, f"{host}:{port}"} & {name.lower() for name in settings.DPS_WEBHOOK_HOSTS}:
        return f"{host} is not among the hosts that webhooks may be at: DPS_WEBHOOK_HOSTS lists them."
    return ""


def shown_url(url: str) -> str:
    """The URL as it may be shown and recorded: a query may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?…' if parts.query else ''}"


def ask_webhook(url: str, api_version: str, question: dict[str, Any]) -> WebhookAnswer:
    """Post the question and read the answer. Raises WebhookFailed. Never to be called inside a transaction."""
    if problem := problem_of_url(url):
        raise WebhookFailed(problem)
    with _turn():
        return _read_answer(_posted(url, api_version, question))


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=PATIENCE_FOR_A_TURN):
        raise WebhookFailed(f"it was not asked: {CALLS_AT_ONCE} calls were under way already")
    try:
        yield
    finally:
        _turns.release()


@lru_cache(maxsize=1)
def _pool(ca_file: str | None) -> urllib3.PoolManager:
    return urllib3.PoolManager(cert_reqs="CERT_REQUIRED", ca_certs=ca_file, retries=False)


def _posted(url: str, api_version: str, question: dict[str, Any]) -> bytes:
    seconds = settings.DPS_WEBHOOK_SECONDS
    deadline = time.monotonic() + seconds
    ca_file = str(settings.DPS_WEBHOOK_CA) if settings.DPS_WEBHOOK_CA else None
    try:
        response = _pool(ca_file).request(
            "POST",
            url,
            body=json.dumps(question).encode(),
            headers={
                "Content-Type": "application/json; charset=utf-8",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "dpsportal",
                "x-ms-api-version": api_version,
            },
            timeout=urllib3.Timeout(total=seconds),
            # Wherever it would lead to is not on the list of hosts.
            redirect=False,
            preload_content=False,
        )
        try:
            body = _bounded(cast("urllib3.HTTPResponse", response), deadline)
        finally:
            response.close()
    except urllib3.exceptions.NewConnectionError as problem:
        raise WebhookFailed(f"it could not be reached: {_cause(problem)}") from None
    except urllib3.exceptions.TimeoutError:
        raise WebhookFailed(f"it did not answer within {seconds} s") from None
    except (urllib3.exceptions.HTTPError, OSError) as problem:
        raise WebhookFailed(f"it could not be reached: {_cause(problem)}") from None
    if not 200 <= response.status < 300:
        raise WebhookFailed(f"it answered {response.status}: {_told(body)}")
    return body


def _bounded(response: urllib3.HTTPResponse, deadline: float) -> bytes:
    """What comes until the deadline, however slowly it drips."""
    body = b""
    while chunk := response.read1(4096):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise WebhookFailed(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise WebhookFailed(f"its answer was not complete within {settings.DPS_WEBHOOK_SECONDS} s")
    return body


def _read_answer(body: bytes) -> WebhookAnswer:
    try:
        answer = parse_json(body, max_bytes=MAX_ANSWER_BYTES)
    except DocumentProblem as problem:
        raise WebhookFailed(f"its answer cannot be read: {problem} It began: {_told(body)}") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("iotHubHostName"), str):
        raise WebhookFailed(f"its answer names no iotHubHostName: {_told(body)}")
    twin, payload = answer.get("initialTwin"), answer.get("payload")
    if twin is not None:
        try:
            if not isinstance(twin, dict):
                raise DocumentProblem("The initial twin must be a JSON object.")
            twin = check_initial_twin({name: value for name, value in twin.items() if value is not None})
        except DocumentProblem as problem:
            raise WebhookFailed(f"its initialTwin cannot be used: {problem}") from None
    if payload is not None and not isinstance(payload, dict):
        raise WebhookFailed("its payload is no JSON object")
    return WebhookAnswer(answer["iotHubHostName"], twin, payload)


def _cause(problem: Exception) -> str:
    """What went wrong, without the address: urllib3 writes the whole URL into some of its messages."""
    reason = getattr(problem, "reason", None) or problem
    text = str(reason.args[-1]) if getattr(reason, "args", None) else type(reason).__name__
    return f"{type(reason).__name__}: {_printable(text)}" if "?" not in text else type(reason).__name__


def _told(body: bytes) -> str:
    return _printable(body[: 4 * MAX_TOLD].decode("utf-8", "replace")) or "nothing"


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_TOLD]
