"""One simulated device: registers over HTTPS, polls until the outcome is known, and measures both."""

import http.client
import json
import ssl
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from enrollments.simulator.credentials import CertificateFiles, Credential, SharedKey, sas_token

API_VERSION = "2021-06-01"
EXCHANGE_SECONDS = 15
MAX_ANSWER_BYTES = 256 * 1024
# Contract 1.5: what most clients wait without a Retry-After, and the longest one that any of them believes.
DEFAULT_WAIT, LONGEST_WAIT = 2, 300
# A device that is throttled, meets a failing service or no service at all tries this often.
TRIES = 3


class Outcome(StrEnum):
    ASSIGNED = "assigned"
    DISABLED = "disabled"
    UNAUTHORIZED = "unauthorized"
    FAILED = "failed"
    THROTTLED = "throttled"
    ERROR = "error"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Device:
    """A device and what it shows. A device without a credential shows nothing."""

    registration_id: str
    credential: Credential | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is reached. Without a CA file, the CAs that this machine trusts count."""

    host: str
    port: int
    id_scope: str
    ca_file: Path | None

    def __str__(self) -> str:
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """What a client of this service trusts. Raises OSError where the CA file cannot be used."""
        return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long devices wait, in seconds: each time at most, and for one registration in all."""

    longest_wait: float = LONGEST_WAIT
    patience: float = 120
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Result:
    """How a registration ended. `register_seconds` is the PUT alone. Without an answer there are no times."""

    registration_id: str
    outcome: Outcome
    detail: str = ""
    hub: str = ""
    device_id: str = ""
    tracking_id: str = ""
    register_seconds: float | None = None
    total_seconds: float | None = None


class Interrupted(Exception):
    """The fleet is told to stop."""


class _Unreachable(Exception):
    """No answer came back."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_after: float
    body: dict[str, Any]
    seconds: float


def provision(device: Device, endpoint: Endpoint, pace: Pace) -> Result:
    """Register one device and follow it to its outcome. Raises Interrupted when the fleet stops."""
    return _Registration(device, endpoint, pace).run()


def why_not_ready(endpoint: Endpoint) -> str:
    """Why a listener cannot serve yet; empty when it can."""
    try:
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=EXCHANGE_SECONDS, context=endpoint.context()
        )
        with closing(connection):
            connection.request("GET", "/readyz")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as problem:
        return str(problem) or type(problem).__name__
    return "" if status == 200 else f"it answers {status}"


class _Registration:
    def __init__(self, device: Device, endpoint: Endpoint, pace: Pace) -> None:
        self._device = device
        self._endpoint = endpoint
        self._pace = pace
        self._context = endpoint.context()
        self._headers = {"User-Agent": "dpsportal-simulator", "Accept": "application/json"}
        if isinstance(device.credential, CertificateFiles):
            self._context.load_cert_chain(device.credential.chain, device.credential.key)
        elif isinstance(device.credential, SharedKey):
            self._headers["Authorization"] = sas_token(
                endpoint.id_scope, device.registration_id, device.credential.key
            )
        self._started = time.monotonic()
        self._register_seconds: float | None = None

    def run(self) -> Result:
        try:
            answer = self._insist("PUT", "register", {"registrationId": self._device.registration_id})
            self._register_seconds = answer.seconds
            if answer.status != 202:
                return self._refused(answer)
            operation_id = answer.body.get("operationId")
            if not isinstance(operation_id, str) or not operation_id:
                return self._ended(Outcome.ERROR, "the answer to the registration has no operationId")
            return self._poll(operation_id, answer.retry_after)
        except _Unreachable as problem:
            return Result(self._device.registration_id, Outcome.UNREACHABLE, str(problem))

    def _poll(self, operation_id: str, first_wait: float) -> Result:
        wait = first_wait
        while time.monotonic() - self._started < self._pace.patience:
            self._wait(wait)
            answer = self._insist("GET", f"operations/{quote(operation_id, safe='')}")
            if answer.status not in (200, 202):
                return self._refused(answer)
            if answer.body.get("status") != "assigning":
                return self._told(answer.body)
            wait = answer.retry_after
        return self._ended(Outcome.ERROR, f"still assigning after {self._pace.patience:.0f} s")

    def _told(self, body: dict[str, Any]) -> Result:
        """The final answer: a status and what belongs to it (contract 1.3, 1.7)."""
        state = body.get("registrationState")
        state = state if isinstance(state, dict) else {}
        match body.get("status"):
            case "assigned":
                hub, device_id = str(state.get("assignedHub", "")), str(state.get("deviceId", ""))
                return self._ended(Outcome.ASSIGNED, hub=hub, device_id=device_id)
            case "disabled":
                return self._ended(Outcome.DISABLED)
            case "failed":
                return self._ended(
                    Outcome.FAILED, f"{state.get('errorCode')}: {state.get('errorMessage', '')}"
                )
            case other:
                return self._ended(Outcome.ERROR, f"the status {other!r} is none that a device knows")

    def _refused(self, answer: _Answer) -> Result:
        outcome = {401: Outcome.UNAUTHORIZED, 429: Outcome.THROTTLED}.get(answer.status, Outcome.ERROR)
        code, message = answer.body.get("errorCode", answer.status), answer.body.get("message", "")
        return self._ended(outcome, f"{code}: {message}", tracking_id=str(answer.body.get("trackingId", "")))

    def _ended(
        self, outcome: Outcome, detail: str = "", *, hub: str = "", device_id: str = "", tracking_id: str = ""
    ) -> Result:
        return Result(
            self._device.registration_id,
            outcome,
            detail,
            hub,
            device_id,
            tracking_id,
            self._register_seconds,
            time.monotonic() - self._started,
        )

    def _insist(self, method: str, action: str, body: dict[str, Any] | None = None) -> _Answer:
        """One exchange, tried again where trying again is what a device should do. Raises _Unreachable."""
        for tries_left in reversed(range(TRIES)):
            try:
                answer = self._exchange(method, action, body)
            except _Unreachable:
                if not tries_left:
                    raise
                self._wait(DEFAULT_WAIT)
                continue
            if not tries_left or (answer.status != 429 and answer.status < 500):
                return answer
            self._wait(answer.retry_after)
        raise AssertionError("the last try returns or raises")

    def _exchange(self, method: str, action: str, body: dict[str, Any] | None) -> _Answer:
        """A connection of its own: a device does not hold one while it waits."""
        endpoint, started = self._endpoint, time.monotonic()
        registration = f"/{endpoint.id_scope}/registrations/{quote(self._device.registration_id, safe='')}"
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json; charset=utf-8"
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=EXCHANGE_SECONDS, context=self._context
        )
        try:
            connection.request(
                method,
                f"{registration}/{action}?api-version={API_VERSION}",
                body=json.dumps(body).encode() if body is not None else None,
                headers=headers,
            )
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as problem:
            raise _Unreachable(f"{endpoint}: {problem or type(problem).__name__}") from problem
        finally:
            connection.close()
        return _Answer(
            response.status,
            _retry_after(response.headers.get("Retry-After", "")),
            _json_object(raw),
            time.monotonic() - started,
        )

    def _wait(self, seconds: float) -> None:
        if self._pace.stop.wait(min(seconds, self._pace.longest_wait)):
            raise Interrupted


def _retry_after(text: str) -> float:
    """Whole seconds; anything else is no number of seconds to a device."""
    if not (text.isascii() and text.isdigit()):
        return DEFAULT_WAIT
    return min(max(int(text), 1), LONGEST_WAIT)


def _json_object(raw: bytes) -> dict[str, Any]:
    """The body, or nothing where it is no JSON object: what is missing in it is then said by name."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
