"""Register, poll, look up: each translates a request, calls one action, and translates its answer."""

import re
import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from enrollments import metrics
from enrollments.actions.attempts import Peer
from enrollments.actions.registration_answers import DeviceRequest, Outcome, RegistrationAnswer
from enrollments.actions.registrations import look_up_registration, poll_operation, register_device
from enrollments.device_api import declarations
from enrollments.device_api.authentication import presented_credential
from enrollments.device_api.errors import (
    NO_SUCH_ID_SCOPE,
    NO_SUCH_OPERATION,
    REFUSALS,
    UNAUTHORIZED,
)
from enrollments.device_api.messages import (
    DeviceRegistration,
    assigning,
    challenge,
    read_device_registration,
    registration_state,
)
from enrollments.device_api.messages import (
    operation_status as operation_status_message,
)
from enrollments.errors import Invalid, NotFound
from enrollments.models import ProvisioningService
from enrollments.models.services import Standing
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id
from enrollments.wire.errors import THROTTLED, ApiError, ErrorAnswer, error_response, json_response
from enrollments.wire.operations import declares
from enrollments.wire.requests import check_api_version

_OPERATIONS = {"PUT": "register", "GET": "poll", "POST": "look_up"}
_ID_SCOPE = re.compile(r"0ne[0-9A-Fa-f]{8}\Z", re.IGNORECASE | re.ASCII)


def device_view(method: str) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """What each call has in common: method, api-version, ID scope, form of the registration ID, error bodies."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def wrapped(request: HttpRequest, id_scope: str, registration_id: str, **rest: str) -> HttpResponse:
            started = time.perf_counter()
            try:
                if request.method != method:
                    refusal = error_response(request, ErrorAnswer(405001, f"This path takes {method}."))
                    refusal["Allow"] = method
                    return refusal
                check_api_version(request)
                if not is_registration_id(registration_id):
                    raise ApiError(400002, f"A registration ID has {FORM_IN_WORDS}.")
                service, standing = _service(id_scope)
                message = read_device_registration(request, registration_id)
                device = _device_request(request, registration_id, message, standing)
                response = view(request, service, device, **rest)
                _count(request, service, device, _OPERATIONS[method], time.perf_counter() - started)
                return response
            except ApiError as error:
                return error_response(request, error.answer)

        wrapped.methods = {method: view}  # type: ignore[attr-defined]  # read by `enrollments.openapi`
        return wrapped

    return decorate


@device_view("PUT")
@declares(declarations.REGISTER)
def register(request: HttpRequest, service: ProvisioningService, device: DeviceRequest) -> HttpResponse:
    try:
        answer = register_device(service, device)
    except Invalid as problem:
        raise ApiError(400005, problem.message) from None
    if answer.outcome is Outcome.CHALLENGE:
        return _json(request, challenge(answer), 401, answer)
    if (refusal := _refusal(request, answer)) is not None:
        return refusal
    # 202 whatever the outcome: clients take nothing else here, and learn the rest from the poll (contract 1.3).
    response = _json(request, assigning(answer), 202, answer)
    # Relative: the host name that the device dialled is its own affair, and is not repeated unchecked.
    response["Location"] = quote(request.path)
    return response


@device_view("GET")
@declares(declarations.OPERATION_STATUS)
def operation_status(
    request: HttpRequest, service: ProvisioningService, device: DeviceRequest, operation_id: str
) -> HttpResponse:
    try:
        answer = poll_operation(service, operation_id, device)
    except NotFound:
        raise ApiError(*NO_SUCH_OPERATION) from None
    if (refusal := _refusal(request, answer)) is not None:
        return refusal
    status = 202 if answer.outcome is Outcome.ASSIGNING else 200
    return _json(request, operation_status_message(answer), status, answer)


@device_view("POST")
@declares(declarations.LOOK_UP)
def registration_look_up(
    request: HttpRequest, service: ProvisioningService, device: DeviceRequest
) -> HttpResponse:
    answer = look_up_registration(service, device)
    if (refusal := _refusal(request, answer)) is not None:
        return refusal
    return _json(request, registration_state(answer), 200, answer)


def _service(id_scope: str) -> tuple[ProvisioningService, Standing]:
    # Hexadecimal digits mean the same in either case; some clients lower-case all that they were given.
    if not _ID_SCOPE.match(id_scope):
        raise ApiError(*NO_SUCH_ID_SCOPE)
    try:
        return ProvisioningService.by_id_scope(f"0ne{id_scope[3:].upper()}")
    except ProvisioningService.DoesNotExist:
        raise ApiError(*NO_SUCH_ID_SCOPE) from None


def _device_request(
    request: HttpRequest, registration_id: str, message: DeviceRegistration, standing: Standing
) -> DeviceRequest:
    return DeviceRequest(
        claimed_registration_id=registration_id,
        credential=presented_credential(request, message.claimed_tpm),
        payload=message.payload,
        peer=Peer(
            address=request.META.get("REMOTE_ADDR", ""),
            client=request.META.get("HTTP_USER_AGENT", request.META.get("HTTP_USERAGENT", "")),
        ),
        arrived_at=timezone.now(),
        standing=standing,
    )


def _refusal(request: HttpRequest, answer: RegistrationAnswer) -> HttpResponse | None:
    """The answer to who is not heard, now or at all; None for everybody else."""
    if answer.outcome is Outcome.THROTTLED:
        error = THROTTLED
    elif answer.outcome is Outcome.UNAUTHORIZED:
        error = REFUSALS.get(answer.reason, UNAUTHORIZED)
    else:
        return None
    _log(request, answer)
    response = error_response(request, error, answer.tracking_id)
    response["Retry-After"] = str(answer.retry_after)
    return response


def _json(
    request: HttpRequest, body: dict[str, Any], status: int, answer: RegistrationAnswer
) -> HttpResponse:
    _log(request, answer)
    response = json_response(body, status)
    response["Retry-After"] = str(answer.retry_after)
    return response


def _log(request: HttpRequest, answer: RegistrationAnswer) -> None:
    """Fields for the request's log line; and the answer, to be counted."""
    request.device_answer = answer  # type: ignore[attr-defined]  # read by _count
    request.log_fields = {  # type: ignore[attr-defined]  # read by RequestLogMiddleware
        "outcome": answer.outcome.value,
        "reason": answer.reason.value,
        **({"tracking_id": answer.tracking_id} if answer.tracking_id else {}),
    }


def _count(
    request: HttpRequest, service: ProvisioningService, device: DeviceRequest, operation: str, seconds: float
) -> None:
    answer: RegistrationAnswer = request.device_answer  # type: ignore[attr-defined]  # set by _log
    transport = "proxied" if request.META.get("dps.listener_name") == "proxied" else "https"
    metrics.device_answered(
        service=service.name,
        operation=operation,
        outcome=answer.outcome.value,
        mechanism=_mechanism(device, answer),
        transport=transport,
        seconds=seconds,
    )
    if operation == "register" and answer.outcome is not Outcome.CHALLENGE:
        assigned = answer.outcome is Outcome.ASSIGNED and answer.record is not None
        metrics.registration_attempted(
            service=service.name,
            hub=answer.record.hub.host_name if assigned and answer.record and answer.record.hub else "",
            outcome=answer.outcome.value,
            proven=answer.outcome not in (Outcome.UNAUTHORIZED, Outcome.THROTTLED),
            protocol=transport,
        )


def _mechanism(device: DeviceRequest, answer: RegistrationAnswer) -> str:
    """Of the device where it is known by now, else what it showed."""
    if answer.record is not None:
        return answer.record.mechanism
    if device.credential.claimed_tpm is not None:
        return "tpm"
    if device.credential.authorization:
        return "token"
    return "x509" if device.credential.certificates else "none"
