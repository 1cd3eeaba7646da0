"""Asking a webhook which hub a device is to be assigned to (contract 7.3)."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from enrollments import outbound
from enrollments.errors import DpsError
from enrollments.outbound import MAX_ANSWER_BYTES
from enrollments.policy.addresses import host_and_port, problem_of_https_url
from enrollments.policy.documents import DocumentProblem, check_initial_twin, parse_json

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
    if problem := problem_of_https_url(url):
        return f"A webhook's URL {problem}."
    host, port = host_and_port(url)
    if not {host, f"{host}:{port}"} & {name.lower() for name in settings.DPS_WEBHOOK_HOSTS}:
        return f"{host} is not among the hosts that webhooks may be at: DPS_WEBHOOK_HOSTS lists them."
    return ""


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


def _posted(url: str, api_version: str, question: dict[str, Any]) -> bytes:
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Accept": "application/json",
        "x-ms-api-version": api_version,
    }
    try:
        return outbound.post(url, json.dumps(question).encode(), headers)
    except outbound.CallFailed as failure:
        raise WebhookFailed(failure.message) from None


def _read_answer(body: bytes) -> WebhookAnswer:
    try:
        answer = parse_json(body, max_bytes=MAX_ANSWER_BYTES)
    except DocumentProblem as problem:
        raise WebhookFailed(f"its answer cannot be read: {problem} It began: {outbound.told(body)}") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("iotHubHostName"), str):
        raise WebhookFailed(f"its answer names no iotHubHostName: {outbound.told(body)}")
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
