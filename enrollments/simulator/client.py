"""One simulated device: registers over HTTPS, polls until the outcome is known, and measures both."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from enrollments.simulator.credentials import TpmKeys
from enrollments.simulator.exchanges import (
    Answer,
    ChallengeWrong,
    Conversation,
    Device,
    Endpoint,
    Unreachable,
    key_blob,
    why_not_ready,
)
from enrollments.simulator.profiles import LONGEST_WAIT, Trouble
from enrollments.simulator.tpm_structures import TpmRefusal

__all__ = ["Device", "Endpoint", "Interrupted", "Outcome", "Pace", "Result", "provision", "why_not_ready"]

# A device that tries again when it is throttled, or meets a failing service or none at all, does so this often.
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
class Pace:
    """How long devices wait, in seconds: each time at most, and for one registration in all."""

    longest_wait: float = LONGEST_WAIT
    patience: float = 120
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Result:
    """How a registration ended. `register_seconds` is the PUT alone. Without an answer there are no times.

    `hub_key_used`: a TPM has activated the key for its hub, and signed with it.
    """

    registration_id: str
    outcome: Outcome
    detail: str = ""
    hub: str = ""
    device_id: str = ""
    tracking_id: str = ""
    register_seconds: float | None = None
    total_seconds: float | None = None
    profile: str = "plain"
    hub_key_used: bool = False


class Interrupted(Exception):
    """The fleet is told to stop."""


class _Ended(Exception):
    """A registration that leads nowhere."""

    def __init__(self, outcome: Outcome, detail: str, tracking_id: str = "") -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail
        self.tracking_id = tracking_id


def provision(device: Device, endpoint: Endpoint, pace: Pace) -> Result:
    """Register one device and follow it to its outcome. Raises Interrupted when the fleet stops."""
    return _Registration(device, endpoint, pace).run()


class _Registration:
    def __init__(self, device: Device, endpoint: Endpoint, pace: Pace) -> None:
        self._device = device
        self._profile = device.profile
        self._pace = pace
        self._conversation = Conversation(device, endpoint)
        self._started = time.monotonic()
        self._register_seconds: float | None = None

    def run(self) -> Result:
        try:
            answer = self._accepted()
            operation_id = answer.body["operationId"]
            if not isinstance(operation_id, str):
                raise self._complaint("the operationId is no text")
            return self._told(self._outcome_of(operation_id, answer))
        except _Ended as end:
            return self._ended(end.outcome, end.detail, tracking_id=end.tracking_id)
        except (ChallengeWrong, TpmRefusal) as problem:
            return self._ended(Outcome.ERROR, problem.message)
        except Unreachable as problem:
            return Result(
                self._device.registration_id,
                Outcome.UNREACHABLE,
                str(problem),
                profile=self._profile.name,
            )

    def _accepted(self) -> Answer:
        answer = self._register()
        if self._conversation.awaits_challenge:
            if answer.status != 401 and answer.status not in self._profile.accepts_on_register:
                raise self._refusal(answer)
            self._conversation.take_challenge(answer)
            answer = self._register()
        self._register_seconds = answer.seconds
        self._check(answer, answer.status in self._profile.accepts_on_register)
        self._insist_on(self._profile.needs.accepted, answer.body, "the answer to the registration")
        return answer

    def _register(self) -> Answer:
        return self._through_trouble(self._conversation.register, self._profile.trouble_on_register)

    def _outcome_of(self, operation_id: str, answer: Answer) -> dict[str, Any]:
        """Poll until the service says more than that it is assigning."""
        while self._has_patience():
            self._wait(self._profile.waiting.seconds(answer.retry_after))
            answer = self._through_trouble(
                lambda: self._conversation.poll(operation_id), self._profile.trouble_on_poll
            )
            self._check(answer, answer.status in self._profile.accepts_on_poll)
            if answer.body.get("status") != "assigning":
                return answer.body
            self._insist_on(self._profile.needs.assigning, answer.body, "the answer to a poll")
            self._insist_on_state(answer.body)
        raise self._out_of_patience()

    def _told(self, body: dict[str, Any]) -> Result:
        """The final answer: a status and what belongs to it (contract 1.3, 1.7)."""
        state, needs = _state(body), self._profile.needs
        self._insist_on_state(body)
        match body.get("status"):
            case "assigned":
                self._insist_on(needs.assigned, body, "the answer assigned")
                return self._ended(
                    Outcome.ASSIGNED,
                    hub=str(state.get("assignedHub", "")),
                    device_id=str(state.get("deviceId", "")),
                    hub_key_used=self._use_hub_key(state),
                )
            case "disabled":
                return self._ended(Outcome.DISABLED, self._profile.disabled)
            case "failed":
                self._insist_on(needs.failed, body, "the answer failed")
                return self._ended(
                    Outcome.FAILED, f"{state.get('errorCode')}: {state.get('errorMessage', '')}"
                )
            case other:
                raise self._complaint(f"the status {other!r} is none that a device knows")

    def _use_hub_key(self, state: dict[str, Any]) -> bool:
        """A TPM takes the key for its hub in place of the one it registered with, and signs once."""
        credential = self._device.credential
        if not isinstance(credential, TpmKeys):
            return False
        tpm = state.get("tpm")
        credential.tpm.activate(key_blob(tpm.get("authenticationKey") if isinstance(tpm, dict) else None))
        credential.tpm.sign(f"{state.get('assignedHub')}/devices/{state.get('deviceId')}".encode())
        return True

    def _check(self, answer: Answer, accepted: bool) -> None:
        """Raises _Ended for an answer that this client does not read on."""
        if not accepted:
            raise self._refusal(answer)
        if self._profile.needs_json_type and "application/json" not in answer.content_type:
            raise self._complaint(f"the content type {answer.content_type!r} is not JSON")

    def _refusal(self, answer: Answer) -> _Ended:
        if answer.status < 300:
            return self._complaint(f"the status code {answer.status} is none that it takes here")
        self._insist_on(self._profile.needs.refused, answer.body, f"the answer {answer.status}")
        outcome = {401: Outcome.UNAUTHORIZED, 429: Outcome.THROTTLED}.get(answer.status, Outcome.ERROR)
        code, message = answer.body.get("errorCode", answer.status), answer.body.get("message", "")
        return _Ended(outcome, f"{code}: {message}", str(answer.body.get("trackingId", "")))

    def _insist_on(self, members: tuple[str, ...], body: dict[str, Any], where: str) -> None:
        for member in members:
            if not any(_has(body, one) for one in member.split("|")):
                raise self._complaint(f"{where} has no {member}")

    def _insist_on_state(self, body: dict[str, Any]) -> None:
        if "registrationState" in body:
            self._insist_on(self._profile.needs.every_state, _state(body), "the registrationState")

    def _complaint(self, sentence: str) -> _Ended:
        complaint = self._profile.complaint
        return _Ended(Outcome.ERROR, f"{complaint}: {sentence}" if complaint else sentence)

    def _through_trouble(self, exchange: Callable[[], Answer], trouble: Trouble) -> Answer:
        """One exchange, tried again where this client would. Raises Unreachable."""
        tries = 0
        while True:
            tries += 1
            is_last = trouble is Trouble.FAILS or tries >= TRIES
            try:
                answer = exchange()
            except Unreachable:
                if is_last:
                    raise
                self._wait(self._profile.waiting.seconds(None))
                continue
            if not answer.is_trouble or (is_last and trouble is not Trouble.POLLS_ON):
                return answer
            if not self._has_patience():
                raise self._out_of_patience()
            self._wait(self._profile.waiting.seconds(answer.retry_after))

    def _has_patience(self) -> bool:
        return time.monotonic() - self._started < self._pace.patience

    def _out_of_patience(self) -> _Ended:
        return _Ended(Outcome.ERROR, f"still assigning after {self._pace.patience:.0f} s")

    def _wait(self, seconds: float) -> None:
        if self._pace.stop.wait(min(seconds, self._pace.longest_wait)):
            raise Interrupted

    def _ended(
        self,
        outcome: Outcome,
        detail: str = "",
        *,
        hub: str = "",
        device_id: str = "",
        tracking_id: str = "",
        hub_key_used: bool = False,
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
            self._profile.name,
            hub_key_used,
        )


def _state(body: dict[str, Any]) -> dict[str, Any]:
    state = body.get("registrationState")
    return state if isinstance(state, dict) else {}


def _has(body: dict[str, Any], path: str) -> bool:
    """Whether a member is there and holds something; a code of an error must be a number."""
    value: Any = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if path.rpartition(".")[2] in ("errorCode", "code"):
        return isinstance(value, int)
    return value is not None and value != ""
