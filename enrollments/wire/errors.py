"""Error bodies of the contract (1.7), and the codes that devices and back ends hear alike."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.http import HttpRequest, JsonResponse

from enrollments.policy.reasons import Reason


class ErrorAnswer(NamedTuple):
    """`code` begins with the HTTP status, as the contract's codes do."""

    code: int
    message: str

    @property
    def status(self) -> int:
        return self.code // 1000


class ApiError(Exception):
    """An answer that is not a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.answer = ErrorAnswer(code, message)


TOO_LARGE = 413001
NOT_ACCEPTED = 400104
THROTTLED = ErrorAnswer(429001, "Too many requests: wait as long as Retry-After says.")
INTERNAL = ErrorAnswer(500001, "The service failed. The tracking ID leads its administrators to the cause.")

# Admitted, and not assigned: errorCode and errorMessage of a registrationState with status `failed`.
FAILURES: dict[str, tuple[int, str]] = {
    Reason.NO_HUB: (400208, "No linked hub is eligible for this device."),
    Reason.NAME_HELD_BY_OTHER_ENTRY: (400210, "The registration ID is held through another enrollment."),
    Reason.DEVICE_ID_TAKEN: (400211, "The device ID is in use at the hub."),
    Reason.HUB_FAILED: (400209, "The hub did not register the device."),
    Reason.WEBHOOK_FAILED: (400207, "Custom allocation failed."),
}


def failure_of(reason: str) -> tuple[int, str]:
    """Of a record that failed. A device that was refused while it was being assigned has none of these causes.

    Nor has what a version kept that knows others.
    """
    return FAILURES.get(reason, FAILURES[Reason.HUB_FAILED])


# Some clients look for this very text.
CONTENT_TYPE = "application/json; charset=utf-8"


def json_response(body: dict[str, Any] | list[Any], status: int) -> JsonResponse:
    """With a length: small clients stumble over chunked answers."""
    response = JsonResponse(body, status=status, safe=False, content_type=CONTENT_TYPE)
    response["Content-Length"] = str(len(response.content))
    return response


def error_response(request: HttpRequest, error: ErrorAnswer, tracking_id: str = "") -> JsonResponse:
    tracking_id = tracking_id or getattr(request, "request_id", "") or str(uuid.uuid4())
    response = json_response(_error_body(error, tracking_id), error.status)
    for name, value in _error_fields(error, tracking_id).items():
        response[name] = value
    return response


def refused_by_listener(status: int, message: str, tracking_id: str) -> tuple[dict[str, str], bytes]:
    """Header fields and body where no request came about: too large, or not to be read."""
    error = ErrorAnswer(TOO_LARGE if status == TOO_LARGE // 1000 else status * 1000, message)
    body = json.dumps(_error_body(error, tracking_id)).encode()
    return {"Content-Type": CONTENT_TYPE, **_error_fields(error, tracking_id)}, body


def _error_body(error: ErrorAnswer, tracking_id: str) -> dict[str, Any]:
    """Both `message` and `errorCode` are always there: the Edge client insists on them."""
    return {
        "errorCode": error.code,
        "trackingId": tracking_id,
        "message": error.message,
        "timestampUtc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def _error_fields(error: ErrorAnswer, tracking_id: str) -> dict[str, str]:
    return {"x-ms-error-code": str(error.code), "x-ms-request-id": tracking_id}
