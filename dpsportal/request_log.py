"""One structured line per request, and the form of every log line. No query strings, no headers, no bodies."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("dpsportal.requests")


class JsonLineFormatter(logging.Formatter):
    """A log record as one JSON object on one line, whatever its message contains."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
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
        response = self.get_response(request)
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
                    "ms": round((time.perf_counter() - started) * 1000, 1),
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
