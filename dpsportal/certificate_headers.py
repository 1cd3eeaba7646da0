"""What becomes of requests with certificates in headers: counted where they are ignored, refused where they are wrong.

`serving/environment.py` decides, and has removed the headers by then.
"""

import logging
from collections.abc import Callable

from django.db import Error
from django.http import HttpRequest, HttpResponse

from enrollments.actions.notices import count_ignored_certificate_header
from enrollments.device_api.errors import UNREADABLE_CERTIFICATE_HEADER, UNTRUSTED_PEER
from enrollments.wire.errors import ErrorAnswer, error_response

logger = logging.getLogger("dpsportal.certificate_headers")

CODES = {"untrusted peer": UNTRUSTED_PEER, "unreadable certificate": UNREADABLE_CERTIFICATE_HEADER}
# Whoever watches a process need not be one of its proxies.
HEALTH = frozenset({"/healthz", "/readyz"})


class IgnoredCertificateHeadersMiddleware:
    """Counts. Where that fails the request goes on: it is a notice to administrators, not part of the history."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if ignored := request.META.get("dps.ignored_certificate_headers"):
            listener, address = request.META["dps.listener_name"], request.META["REMOTE_ADDR"]
            try:
                # A request counts once, however many such headers it has.
                count_ignored_certificate_header(listener, ignored[0], address)
            except Error:
                logger.exception("A request with %s could not be counted.", ", ".join(ignored))
        return self.get_response(request)


class RefusalMiddleware:
    """Answers in place of every view but those of health where the proxied listener says so."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        refusal = request.META.get("dps.refusal")
        if refusal is None or request.path_info in HEALTH:
            return self.get_response(request)
        request.log_fields = {"refused": refusal.sentence}  # type: ignore[attr-defined]  # read by RequestLogMiddleware
        return error_response(request, ErrorAnswer(CODES[refusal.cause], refusal.sentence))
