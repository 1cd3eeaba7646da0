"""Asking a webhook which hub a device is to be assigned to (contract 7.3)."""

import json
import threading
from collections import Counter
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

# Webhooks that hang must not take all of the threads that answer devices: so many calls at once in one process, and
# to one host, so that the webhook of one service does not fail the devices of another.
CALLS_AT_ONCE, CALLS_TO_A_HOST = 6, 3
PATIENCE_FOR_A_TURN = 1.0
_under_way: Counter[str] = Counter()
_turns = threading.Condition()


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
    with _turn(host_and_port(url)[0]):
        return _read_answer(_posted(url, api_version, question))


def has_room(url: str) -> bool:
    """Whether this webhook could be asked now. A device that comes while it could not is told to come again."""
    with _turns:
        return _is_free(host_and_port(url)[0])


def _is_free(host: str) -> bool:
    return _under_way[host] < CALLS_TO_A_HOST and _under_way.total() < CALLS_AT_ONCE


@contextmanager
def _turn(host: str) -> Iterator[None]:
    with _turns:
        if not _turns.wait_for(lambda: _is_free(host), timeout=PATIENCE_FOR_A_TURN):
            raise WebhookFailed("it was not asked: as many calls as are allowed were under way already")
        _under_way[host] += 1
    try:
        yield
    finally:
        with _turns:
            _under_way[host] -= 1
            if not _under_way[host]:
                del _under_way[host]
            _turns.notify_all()


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
