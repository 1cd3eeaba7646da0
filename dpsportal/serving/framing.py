"""Where a request ends: as much of RFC 9112 as is needed to collect one whole before a thread is spent on it.

gunicorn's parser still judges every byte of what is collected. Whatever is ambiguous about the length of a
request is refused here, so that the two can never disagree about where the next one begins.
"""

import re
from dataclasses import dataclass

END_OF_HEAD = b"\r\n\r\n"
LINE_END = b"\r\n"
LONGEST_CHUNK_LINE = 1024

_DIGITS = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class UnclearLength(Exception):
    """The head does not say beyond doubt where the body ends."""


class ChunkedBody:
    """Follows the chunks of a body while it arrives; each is looked at once, however they arrive."""

    def __init__(self, start: int) -> None:
        self._position = start
        self._in_trailers = False

    def end(self, received: bytearray) -> int | None:
        """The offset behind the body, or None while there is more to come."""
        while not self._in_trailers:
            line_end = received.find(LINE_END, self._position)
            if line_end < 0:
                if len(received) - self._position > LONGEST_CHUNK_LINE:
                    raise UnclearLength
                return None
            size = self._size(bytes(received[self._position : line_end]))
            data_start = line_end + len(LINE_END)
            if size == 0:
                self._position, self._in_trailers = data_start, True
                break
            following = data_start + size + len(LINE_END)
            if following > len(received):
                return None
            self._position = following
        return self._end_of_trailers(received)

    @staticmethod
    def _size(line: bytes) -> int:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise UnclearLength
        return int(match[1], 16)

    def _end_of_trailers(self, received: bytearray) -> int | None:
        if received.startswith(LINE_END, self._position):
            return self._position + len(LINE_END)
        found = received.find(END_OF_HEAD, self._position)
        return found + len(END_OF_HEAD) if found >= 0 else None


@dataclass(frozen=True, slots=True)
class Framing:
    """The length of a request, as its head announces it."""

    head_length: int
    body_length: int
    chunked: ChunkedBody | None
    expects_continue: bool

    def end(self, received: bytearray) -> int | None:
        """The offset behind the request, or None while there is more to come."""
        if self.chunked is not None:
            return self.chunked.end(received)
        end = self.head_length + self.body_length
        return end if len(received) >= end else None


def read_framing(received: bytearray) -> Framing | None:
    """The framing of the first request in `received`, or None while its head is incomplete.

    Raises UnclearLength for a repeated, malformed or contradictory length (RFC 9112, section 6.3).
    """
    found = received.find(END_OF_HEAD)
    if found < 0:
        return None
    head_length = found + len(END_OF_HEAD)
    request_line, *field_lines = bytes(received[:found]).lstrip(LINE_END).split(LINE_END)
    fields: dict[bytes, list[bytes]] = {}
    for line in field_lines:
        name, _, value = line.partition(b":")
        fields.setdefault(name.strip().lower(), []).append(value.strip(b" \t"))

    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if len(lengths) + len(codings) > 1:
        raise UnclearLength
    if codings and codings[0].lower() != b"chunked":
        raise UnclearLength
    if lengths and not _DIGITS.fullmatch(lengths[0]):
        raise UnclearLength

    expectation = b"".join(fields.get(b"expect", [])).lower()
    return Framing(
        head_length=head_length,
        body_length=int(lengths[0]) if lengths else 0,
        chunked=ChunkedBody(head_length) if codings else None,
        # RFC 9110, section 10.1.1: an HTTP/1.0 client cannot be told to continue.
        expects_continue=expectation == b"100-continue" and request_line.endswith(b"HTTP/1.1"),
    )
