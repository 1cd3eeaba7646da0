"""Telling how far something is: one line that changes on a terminal, plain lines now and then elsewhere."""

import time
from typing import TextIO

PLAIN_SECONDS = 5
TERMINAL_SECONDS = 0.1


class Progress:
    """Goes to standard error, so that what a script reads stays clean."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._interval = TERMINAL_SECONDS if self._is_terminal else PLAIN_SECONDS
        self._told_at = time.monotonic()
        self._width = 0

    def tell(self, text: str) -> None:
        now = time.monotonic()
        if now - self._told_at < self._interval:
            return
        self._told_at = now
        if self._is_terminal:
            self._stream.write(f"\r{text.ljust(self._width)}")
            self._width = len(text)
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Take the changing line away; what follows begins on a fresh one."""
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()
            self._width = 0
