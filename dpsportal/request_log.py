"""One structured line per request, and the form of every log line. No query strings, no headers, no bodies."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse

from enrollments import metrics

logger = logging.getLogger("dpsportal.requests")

# Of the request that is being answered, for whatever is logged meanwhile.
_request_id: ContextVar[str] = ContextVar("request_id", default="")


class JsonLineFormatter(logging.Formatter):
    """A log record as one JSON object on one line, whatever its message contains."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := _request_id.get():
            line["request_id"] = request_id
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


class RequestLogMiddleware:
    """Gives each request an id, and writes who asked for what, how it ended and how long it took.

    The path is logged without its query string: a registration's credentials travel in headers and in the TLS
    handshake, and what people type into search fields is nobody else's business.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        request.request_id = request_id = str(uuid.uuid4())  # type: ignore[attr-defined]  # read by views, see docs/architecture.md
        token = _request_id.set(request_id)
        try:
            return self._answered(request, request_id, started)
        finally:
            _request_id.reset(token)

    def _answered(self, request: HttpRequest, request_id: str, started: float) -> HttpResponse:
        response = self.get_response(request)
        seconds = time.perf_counter() - started
        metrics.request_answered(
            listener=request.META.get("dps.listener_name", "portal"),
            method=request.method or "",
            status=response.status_code,
            seconds=seconds,
        )
        response.headers.setdefault(
            "x-ms-request-id" if self._is_device(request) else "X-Request-ID", request_id
        )
        user = getattr(request, "user", None)
        ignored = list(request.META.get("dps.ignored_certificate_headers", ()))
        logger.info(
            "request",
            extra={
                "fields": {
                    "request_id": request_id,
                    "method": request.method,
                    "path": request.path[:300],
                    "status": response.status_code,
                    "ms": round(seconds * 1000, 1),
                    "peer": request.META.get("REMOTE_ADDR", ""),
                    **({"user": user.get_username()} if user is not None and user.is_authenticated else {}),
                    **({"ignored_certificate_headers": ignored} if ignored else {}),
                    **getattr(request, "log_fields", {}),
                }
            },
        )
        return response

    @staticmethod
    def _is_device(request: HttpRequest) -> bool:
        return request.META.get("dps.listener") == "device"
