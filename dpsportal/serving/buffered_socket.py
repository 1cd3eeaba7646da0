"""A connection's bytes: collected by the poller without waiting, handed to gunicorn one request at a time."""

import errno
import io
import select
import selectors
import socket
import time

READ_BYTES = 16 * 1024
# One TLS record; smaller pieces of a response are put together first.
WRITE_BYTES = 16 * 1024


class WouldBlock(Exception):
    """Nothing can be done before the descriptor becomes readable or writable."""

    def __init__(self, events: int) -> None:
        super().__init__(events)
        self.events = events


WAIT_TO_READ = selectors.EVENT_READ
WAIT_TO_WRITE = selectors.EVENT_WRITE


class BufferedSocket:
    """What gunicorn takes for the client's socket.

    The descriptor never blocks. The poller calls `handshake`, `receive`, `flush` and `discard`, which raise
    WouldBlock instead of waiting. A request thread reads only the request that the poller has collected, so
    no client can make it wait for bytes; it waits at most for a client that does not take a large response.

    Every failure of the connection is an OSError of a kind that gunicorn treats as ordinary.
    """

    def __init__(self, raw: socket.socket, *, unsent_bytes: int, sending_seconds: float) -> None:
        raw.setblocking(False)
        self._raw = raw
        self._unsent_bytes = unsent_bytes
        self._sending_seconds = sending_seconds
        self._request = io.BytesIO()
        self._timeout: float | None = None
        self._continue_sent = False
        self.received = bytearray()
        self.unsent = bytearray()
        self.at_end = False
        self.closed = False

    # --- the poller's side

    def handshake(self) -> None:
        """Nothing to agree on without TLS."""

    def peer_certificates(self) -> tuple[bytes, ...]:
        """Nobody proves anything without TLS."""
        return ()

    def receive(self) -> None:
        """Append what has arrived to `received`, or set `at_end`."""
        data = self._read()
        self.received += data
        self.at_end = not data

    def flush(self) -> None:
        """Send what is unsent."""
        while self.unsent:
            del self.unsent[: self._write(bytes(self.unsent[:WRITE_BYTES]))]

    def send_continue(self) -> None:
        """Ask for the body that the client holds back (RFC 9110, section 10.1.1)."""
        self.unsent += b"HTTP/1.1 100 Continue\r\n\r\n"
        self._continue_sent = True

    def take_request(self, length: int) -> None:
        """Make the first `length` bytes the request that gunicorn reads."""
        self._request = io.BytesIO(bytes(self.received[:length]))
        del self.received[:length]

    def finish_writing(self) -> None:
        """Tell the client that nothing more follows."""
        self._raw.shutdown(socket.SHUT_WR)

    def discard(self) -> None:
        """Throw away what still arrives, straight from the descriptor; sets `at_end`."""
        try:
            self.at_end = not self._raw.recv(4 * READ_BYTES)
        except BlockingIOError:
            raise WouldBlock(WAIT_TO_READ) from None

    def _read(self) -> bytes:
        try:
            return self._raw.recv(READ_BYTES)
        except BlockingIOError:
            raise WouldBlock(WAIT_TO_READ) from None

    def _write(self, data: bytes) -> int:
        try:
            return self._raw.send(data)
        except BlockingIOError:
            raise WouldBlock(WAIT_TO_WRITE) from None

    # --- gunicorn's side, in a request thread

    def recv(self, size: int) -> bytes:
        """The next bytes of this request; none when it has been read, as at the end of a connection."""
        return self._request.read(size)

    def sendall(self, data: bytes) -> None:
        self.unsent += data
        if len(self.unsent) >= WRITE_BYTES:
            self._flush_down_to(self._unsent_bytes)

    def send(self, data: bytes) -> int:
        """gunicorn's way of saying 100 Continue, which the poller has said already."""
        if not self._continue_sent:
            self.sendall(data)
        self._continue_sent = False
        return len(data)

    def _flush_down_to(self, allowed: int) -> None:
        deadline = time.monotonic() + self._sending_seconds
        while True:
            try:
                return self.flush()
            except WouldBlock as blocked:
                if len(self.unsent) <= allowed:
                    return None
                self._wait(blocked.events, deadline)

    def _wait(self, events: int, deadline: float) -> None:
        # Not select.select: it fails for descriptors above 1023.
        poll = select.poll()
        poll.register(self._raw, select.POLLIN if events == WAIT_TO_READ else select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise ConnectionResetError(errno.ECONNRESET, "the client does not take the response")

    def settimeout(self, timeout: float | None) -> None:
        """Remembered for those who ask; the limits of the listener are what counts."""
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        return self._timeout

    def setblocking(self, blocking: bool) -> None:
        self._timeout = None if blocking else 0.0

    def shutdown(self, how: int) -> None:
        """Ignored: gunicorn would cut off what is unsent. The poller closes when everything is sent."""

    def fileno(self) -> int:
        return self._raw.fileno()

    def getpeername(self) -> object:
        return self._raw.getpeername()

    def getsockname(self) -> object:
        return self._raw.getsockname()

    def close(self) -> None:
        """Ignored for the reason given at `shutdown`; the poller ends a connection with `abandon`."""

    def abandon(self) -> None:
        """Give the descriptor back, whatever is unsent."""
        self.closed = True
        self._raw.close()
