"""Bodies of the device API: reading requests, writing results. Names are the wire's (contract 1.3)."""

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest

from enrollments.actions.registrations import Outcome, RegistrationAnswer
from enrollments.device_api.errors import FAILURES, NO_SUCH_TPM, ApiError
from enrollments.policy.documents import DocumentProblem, parse_json
from enrollments.policy.names import same_registration_id

MAX_MESSAGE_BYTES = 96 * 1024


def check_device_registration(request: HttpRequest, registration_id: str) -> None:
    """Refuse a body that is no DeviceRegistration of this device. An empty body is one without wishes."""
    raw = _bounded_body(request)
    if not raw.strip():
        return
    try:
        message = parse_json(raw, max_bytes=MAX_MESSAGE_BYTES)
    except DocumentProblem as problem:
        raise ApiError(400001, str(problem)) from None
    if not isinstance(message, dict):
        raise ApiError(400001, "The body must be a JSON object.")
    named = message.get("registrationId")
    if named is not None and not isinstance(named, str):
        raise ApiError(400002, "registrationId must be a string.")
    if named is not None and not same_registration_id(named, registration_id):
        raise ApiError(400002, "registrationId in the body differs from the one in the path.")
    if message.get("csr") is not None:
        raise ApiError(400003, "Issuing certificates is not offered by this service; leave csr out.")
    if message.get("tpm") is not None:
        # R3: whatever the cause. Here it is that no TPM entry can exist, since none can be created.
        raise ApiError(*NO_SUCH_TPM)


def _bounded_body(request: HttpRequest) -> bytes:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isascii() and length.isdigit() and int(length) > MAX_MESSAGE_BYTES:
        raise ApiError(413001, f"The body is longer than {MAX_MESSAGE_BYTES} bytes.")
    raw: bytes = request.read(MAX_MESSAGE_BYTES + 1)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ApiError(413001, f"The body is longer than {MAX_MESSAGE_BYTES} bytes.")
    return raw


def assigning(answer: RegistrationAnswer) -> dict[str, Any]:
    return {"operationId": answer.operation_id, "status": "assigning"}


def operation_status(answer: RegistrationAnswer) -> dict[str, Any]:
    return {
        "operationId": answer.operation_id,
        "status": answer.outcome.value,
        "registrationState": registration_state(answer),
    }


def registration_state(answer: RegistrationAnswer) -> dict[str, Any]:
    """DeviceRegistrationResult. What is not known is left out; registrationId and status never are."""
    record = answer.record
    state: dict[str, Any] = {
        "registrationId": record.registration_id if record else answer.registration_id,
        "status": answer.outcome.value,
    }
    if record is not None:
        state["createdDateTimeUtc"] = utc(record.created_at)
        state["lastUpdatedDateTimeUtc"] = utc(record.updated_at)
        state["etag"] = record.etag
    if answer.outcome is Outcome.ASSIGNED and record is not None and record.hub is not None:
        state["assignedHub"] = record.hub.host_name
        state["deviceId"] = record.device_id
        state["substatus"] = record.substatus
        if record.mechanism == "x509":
            state["x509"] = {}
    if answer.outcome is Outcome.FAILED:
        state["errorCode"], state["errorMessage"] = FAILURES[answer.reason]
    return state


def utc(at: datetime) -> str:
    """ISO 8601 with `Z` and up to seven digits of fraction, trailing zeros trimmed."""
    text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"
