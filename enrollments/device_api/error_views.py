"""Answers where no view of the device listener was reached: still with the contract's error body."""

from django.http import HttpRequest, HttpResponse

from enrollments.device_api.errors import NO_SUCH_PATH, UNREADABLE
from enrollments.wire.errors import INTERNAL, error_response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_response(request, UNREADABLE)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_response(request, NO_SUCH_PATH)


def server_error(request: HttpRequest) -> HttpResponse:
    return error_response(request, INTERNAL)
