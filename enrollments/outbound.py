"""Calling somebody else's server: HTTPS with verified certificates, no redirects, bounded in time and size."""

import socket
import threading
from contextlib import suppress
from typing import Self, cast
from urllib.parse import urlsplit

import urllib3
from django.conf import settings

from enrollments.errors import DpsError

MAX_ANSWER_BYTES = 64 * 1024
MAX_TOLD = 200


class CallFailed(DpsError):
    """A server gave no usable answer. The sentence says what it did instead; it never holds the address's query."""

    code = "call_failed"


def post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The body of a 2xx answer. Raises CallFailed. Never to be called inside a transaction."""
    seconds = settings.DPS_WEBHOOK_SECONDS
    with _Watch(seconds) as watch:
        try:
            return _posted(url, body, headers, seconds, watch)
        except urllib3.exceptions.NewConnectionError as problem:
            raise CallFailed(f"it could not be reached: {_cause(problem)}") from None
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            if watch.has_ended_it or isinstance(problem, urllib3.exceptions.TimeoutError):
                raise CallFailed(f"it did not answer within {seconds} s") from None
            raise CallFailed(f"it could not be reached: {_cause(problem)}") from None


def _posted(url: str, body: bytes, headers: dict[str, str], seconds: int, watch: "_Watch") -> bytes:
    """A connection of its own for each call, so that the watch knows which one to end."""
    parts = urlsplit(url)
    pool = urllib3.HTTPSConnectionPool(
        parts.hostname or "",
        parts.port or 443,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(settings.DPS_WEBHOOK_CA) if settings.DPS_WEBHOOK_CA else None,
        retries=False,
    )
    pool.ConnectionCls = watch.connection_class()
    try:
        response = pool.request(
            "POST",
            f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}",
            body=body,
            headers={"Accept-Encoding": "identity", "User-Agent": "dpsportal", **headers},
            timeout=urllib3.Timeout(total=seconds),
            # Nobody has said that wherever it would lead to may be called.
            redirect=False,
            preload_content=False,
        )
        answer = _bounded(cast("urllib3.HTTPResponse", response))
    finally:
        pool.close()
    if watch.has_ended_it:
        raise CallFailed(f"its answer was not complete within {seconds} s")
    if not 200 <= response.status < 300:
        raise CallFailed(f"it answered {response.status}: {told(answer)}")
    return answer


class _Watch:
    """Ends a call when its time is over, whatever it waits for: the time-out of a socket begins anew at each byte."""

    def __init__(self, seconds: float) -> None:
        self.has_ended_it = False
        self._connections: list[urllib3.connection.HTTPSConnection] = []
        # Kept beside the connection, which lets go of it as soon as it knows that the answer is the last one.
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def connection_class(self) -> type[urllib3.connection.HTTPSConnection]:
        connections, sockets = self._connections, self._sockets

        class Watched(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                connections.append(self)
                super().connect()
                if self.sock is not None:
                    sockets.append(self.sock)

        return Watched

    def _end(self) -> None:
        self.has_ended_it = True
        in_handshake = [one.sock for one in self._connections if one.sock is not None]
        for sock in [*self._sockets, *in_handshake]:
            with suppress(OSError):  # it has ended by itself
                sock.shutdown(socket.SHUT_RDWR)


def _bounded(response: urllib3.HTTPResponse) -> bytes:
    body = b""
    while chunk := response.read1(4096):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise CallFailed(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
    return body


def _cause(problem: Exception) -> str:
    """What went wrong, without the address: urllib3 writes the whole URL into some of its messages."""
    reason = getattr(problem, "reason", None) or problem
    text = str(reason.args[-1]) if getattr(reason, "args", None) else type(reason).__name__
    return f"{type(reason).__name__}: {_printable(text)}" if "?" not in text else type(reason).__name__


def told(body: bytes) -> str:
    """The beginning of an answer, as it can be told to people."""
    return _printable(body[: 4 * MAX_TOLD].decode("utf-8", "replace")) or "nothing"


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_TOLD]
