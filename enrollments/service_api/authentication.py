"""Who is calling, which service is meant, and whether the route's right was given (contract 6.1)."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from enrollments.actions.service_access import (
    READING,
    Knock,
    LacksRight,
    NotAuthenticated,
    let_in,
    note_lacking_right,
    note_unknown,
    service_at,
)
from enrollments.attestation.service_token import Host, Place
from enrollments.errors import DpsError
from enrollments.models import ProvisioningService
from enrollments.policy.access import AccessRight
from enrollments.service_api.dry_run import check_rehearsal, is_rehearsal
from enrollments.service_api.errors import (
    EXAMINING_FOR_OTHERS,
    NO_SUCH_SERVICE,
    SECONDS_OF_A_TURN,
    UNAUTHORIZED,
    WRONG_METHOD,
    answer_to,
)
from enrollments.service_api.refused_acts import tried
from enrollments.wire.errors import THROTTLED, ApiError, ErrorAnswer, error_response
from enrollments.wire.requests import check_api_version

Handler = Callable[..., HttpResponse]


def needs(right: AccessRight) -> Callable[[Handler], Handler]:
    def decorate(handler: Handler) -> Handler:
        handler.needed_right = right  # type: ignore[attr-defined]  # read by `route`, and by a test of every route
        return handler

    return decorate


def route(**handlers: Handler) -> Callable[..., HttpResponse]:
    """One view for a path: each method has a handler with a right of its own. Errors get their bodies here."""

    def view(request: HttpRequest, **names: Any) -> HttpResponse:
        try:
            return _answered(request, handlers, names)
        except ApiError as error:
            response = error_response(request, error.answer)
            if error.answer == EXAMINING_FOR_OTHERS:
                response["Retry-After"] = str(SECONDS_OF_A_TURN)
            return response
        except DpsError as problem:
            if (answer := answer_to(problem)) is None:
                raise
            _log(request, refused=problem.code)
            return _unauthorized(request) if answer is UNAUTHORIZED else error_response(request, answer)

    view.handlers = handlers  # type: ignore[attr-defined]  # a test goes through them
    return view


def _answered(request: HttpRequest, handlers: dict[str, Handler], names: dict[str, Any]) -> HttpResponse:
    handler = handlers.get(request.method or "")
    if handler is None:
        refusal = error_response(
            request, ErrorAnswer(WRONG_METHOD, f"This path takes {', '.join(handlers)}.")
        )
        refusal["Allow"] = ", ".join(handlers)
        return refusal
    right: AccessRight = handler.needed_right  # type: ignore[attr-defined]  # set by `needs`
    check_api_version(request)
    host = Host.read(request.META.get("HTTP_HOST", ""))
    service = service_at(host)
    if service is None or host is None:
        raise ApiError(*NO_SUCH_SERVICE)
    knock = Knock(
        authorization=request.META.get("HTTP_AUTHORIZATION", ""),
        place=Place(host, request.path_info),
        address=request.META.get("REMOTE_ADDR", ""),
        request_id=getattr(request, "request_id", ""),
        client=request.META.get("HTTP_USER_AGENT", ""),
    )
    try:
        caller = let_in(service, knock)
    except NotAuthenticated as problem:
        return _unknown(request, service, knock, problem)
    _log(request, caller=f"{caller.kind}:{caller.name}", **({"token": caller.token} if caller.token else {}))
    rehearses = is_rehearsal(request, handler.operation)  # type: ignore[attr-defined]  # set by `declares`
    only_tells = rehearses or right in READING
    try:
        caller.require(right)
        check_rehearsal(request, handler.operation)  # type: ignore[attr-defined]  # the same
        response = handler(request, caller, **names)
        if only_tells:
            # R12: nothing is handed out to whoever was shut out while this was being answered.
            try:
                caller.require_still(right)
            except NotAuthenticated as problem:
                return _unknown(request, service, knock, problem)
    except LacksRight as refused:
        # Which of them was asked for: a list of devices needs another one than the act that it is about.
        lacks = refused.right or right
        what = tried(request, names, reads=lacks in READING, rehearses=rehearses)
        note_lacking_right(what, caller, looks=rehearses or lacks in READING)
        raise
    if not only_tells:
        # The same. What was done is in the history as such, and was not refused.
        caller.require_still(right)
    return response


def _unknown(
    request: HttpRequest, service: ProvisioningService, knock: Knock, problem: NotAuthenticated
) -> HttpResponse:
    """One answer for every cause (R3). Without Retry-After, unless it has become too much: SDKs would try again."""
    wait, too_often = note_unknown(service, knock, problem, timezone.now())
    _log(request, refused=problem.code)
    if too_often:
        response = error_response(request, THROTTLED)
        response["Retry-After"] = str(wait)
        return response
    return _unauthorized(request)


def _unauthorized(request: HttpRequest) -> HttpResponse:
    response = error_response(request, UNAUTHORIZED)
    response["WWW-Authenticate"] = "SharedAccessSignature, Bearer"
    return response


def _log(request: HttpRequest, **fields: str) -> None:
    """Fields for the request's log line."""
    request.log_fields = {**getattr(request, "log_fields", {}), **fields}  # type: ignore[attr-defined]  # read by RequestLogMiddleware
