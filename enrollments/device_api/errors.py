"""The one table from what happened to what a device is told: codes and bodies of contract 1.7."""

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


# R3: one answer for every cause.
UNAUTHORIZED = ErrorAnswer(401002, "Unauthorized")
NO_SUCH_ID_SCOPE = ErrorAnswer(404001, "The ID scope names no provisioning service.")
NO_SUCH_OPERATION = ErrorAnswer(404002, "There is no such operation.")
NO_SUCH_TPM = ErrorAnswer(404201, "Enrollment not found.")
THROTTLED = ErrorAnswer(429001, "Too many requests: wait as long as Retry-After says.")
# What the proxied listener refuses before anything is looked at; the message says more.
UNREADABLE_CERTIFICATE_HEADER = 400006
UNTRUSTED_PEER = 403001
NO_SUCH_PATH = ErrorAnswer(404000, "There is nothing at this path.")
UNREADABLE = ErrorAnswer(400000, "The request cannot be read.")
TOO_LARGE = 413001
INTERNAL = ErrorAnswer(500001, "The service failed. The tracking ID leads its administrators to the cause.")


# Who is unauthorized hears one answer, with the exception that the contract makes for TPMs (3.1).
REFUSALS: dict[Reason, ErrorAnswer] = {Reason.TPM_NOT_ENROLLED: NO_SUCH_TPM}


class ApiError(Exception):
    """An answer that is not a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.answer = ErrorAnswer(code, message)


# Admitted, and not assigned: errorCode and errorMessage of a registrationState with status `failed`.
FAILURES: dict[Reason, tuple[int, str]] = {
    Reason.NO_HUB: (400208, "No linked hub is eligible for this device."),
    Reason.NAME_HELD_BY_OTHER_ENTRY: (400210, "The registration ID is held through another enrollment."),
    Reason.DEVICE_ID_TAKEN: (400211, "The device ID is in use at the hub."),
    Reason.HUB_FAILED: (400209, "The hub did not register the device."),
    Reason.WEBHOOK_FAILED: (400207, "Custom allocation failed."),
}


# Some clients look for this very text.
CONTENT_TYPE = "application/json; charset=utf-8"


def json_response(body: dict[str, Any], status: int) -> JsonResponse:
    """With a length: small clients stumble over chunked answers."""
    response = JsonResponse(body, status=status, content_type=CONTENT_TYPE)
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
