"""One client's connection and what it is waiting for. Nothing here blocks; the worker's poller drives it."""

import enum
import time
from collections.abc import Callable

from gunicorn import http  # type: ignore[import-untyped]  # gunicorn has no types
from gunicorn.config import Config  # type: ignore[import-untyped]  # as above
from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped]  # as above

from dpsportal.serving.buffered_socket import WAIT_TO_READ, BufferedSocket, WouldBlock
from dpsportal.serving.framing import Framing, UnclearLength, read_framing
from dpsportal.serving.limits import Limits
from dpsportal.serving.refusals import InWords, Refusal, answer

# Longer than a request is on its way.
PARTING_SECONDS = 1.0
NOTHING_FRAMED = Framing(head_length=0, body_length=0, chunked=None, expects_continue=False)


class Phase(enum.Enum):
    HANDSHAKE = "handshake"
    HEAD = "head"
    BODY = "body"
    REQUEST = "request"  # a whole request is there: it belongs to a request thread
    SENDING = "sending"
    IDLE = "idle"  # kept alive, nothing received of the next request
    CLOSING = "closing"  # said all we have to say; the client may still be talking
    ENDED = "ended"


class Memory:
    """How much all connections of a worker hold at the moment. For the poller's thread only."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def change(self, difference: int) -> bool:
        """Take `difference` bytes, or give back a negative number; False and nothing taken when too much."""
        if difference > self._free:
            return False
        self._free -= difference
        return True


class Connection(TConn):  # type: ignore[misc]  # as above
    """Extends what gunicorn's request threads expect by the phases that come before and after them."""

    def __init__(
        self,
        cfg: Config,
        sock: BufferedSocket,
        client: object,
        server: object,
        limits: Limits,
        memory: Memory,
        in_words: InWords,
    ) -> None:
        super().__init__(cfg, sock, client, server)
        self.sock: BufferedSocket = sock
        # gunicorn would wait for the first bytes in a request thread; they are always there already.
        self.data_ready = True
        self.initialized: bool = False
        self._limits = limits
        self._memory = memory
        self._in_words = in_words
        self._held = 0
        self._framing = NOTHING_FRAMED
        self._keep_alive = False
        self._seconds = {
            Phase.HANDSHAKE: limits.handshake_seconds,
            Phase.HEAD: limits.head_seconds,
            Phase.BODY: limits.body_seconds,
            Phase.SENDING: limits.sending_seconds,
            Phase.IDLE: limits.idle_seconds,
            Phase.CLOSING: limits.closing_seconds,
        }
        self._steps: dict[Phase, Callable[[], None]] = {
            Phase.HANDSHAKE: self._shake_hands,
            Phase.IDLE: self._await_next,
            Phase.HEAD: self._collect_head,
            Phase.BODY: self._collect_body,
            Phase.SENDING: self._send,
            Phase.CLOSING: self._close_gently,
        }
        self.phase = Phase.HANDSHAKE
        self._enter(Phase.HANDSHAKE)

    def init(self) -> None:
        """gunicorn's preparation in the request thread; TLS is up already, so only the parser is missing."""
        if not self.initialized:
            self.initialized = True
            self.parser = http.get_parser(self.cfg, self.sock, self.client)

    def advance(self) -> None:
        """Go as far as possible, to Phase.REQUEST or Phase.ENDED; WouldBlock where that has to wait."""
        while (step := self._steps.get(self.phase)) is not None:
            step()

    def answered(self, *, keep_alive: bool) -> None:
        """A request thread is done with the request."""
        self._keep_alive = keep_alive
        self._enter(Phase.SENDING)
        if not self._hold(len(self.sock.unsent)):
            raise ConnectionAbortedError("too much is waiting to be sent")

    def part(self) -> None:
        """An idle connection is kept no longer; a request that has arrived by now is still answered.

        One that is on its way meets an open connection on which nothing more is said, and no reset: the client sees
        that it was not answered, and may send it again (RFC 9110, section 9.2.2).
        """
        try:
            self._await_next()
        except WouldBlock:
            self._enter(Phase.CLOSING)
            self.timeout = time.monotonic() + min(PARTING_SECONDS, self._seconds[Phase.CLOSING])
            self.sock.finish_writing()

    def end(self) -> None:
        self._hold(0)
        self.phase = Phase.ENDED
        self.sock.abandon()

    def close(self, graceful: bool = False) -> None:
        """gunicorn's name for it. Never graceful: that would stall the whole worker (see Phase.CLOSING)."""
        self.end()

    # --- steps, each until it has to wait or the phase changes

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.timeout = time.monotonic() + self._seconds.get(phase, 0.0)

    def _shake_hands(self) -> None:
        self.sock.handshake()
        self._enter(Phase.HEAD)

    def _await_next(self) -> None:
        if not self.sock.received:
            self._receive()
        if self.sock.received:
            self._enter(Phase.HEAD)

    def _collect_head(self) -> None:
        try:
            framing = read_framing(self.sock.received)
        except UnclearLength:
            self._refuse(400, "The length of the request is unclear.")
            return
        head_length = framing.head_length if framing else len(self.sock.received)
        if head_length > self._limits.head_bytes:
            self._refuse(431, "The header is too large.")
        elif framing is None:
            self._receive()
        else:
            self._begin_body(framing)

    def _begin_body(self, framing: Framing) -> None:
        if framing.body_length > self._limits.body_bytes:
            self._refuse_body()
            return
        announced = self._limits.body_bytes if framing.chunked else framing.body_length
        if not self._hold(announced):
            self._refuse(503, "Too many large requests at once.")
            return
        self._framing = framing
        self._enter(Phase.BODY)
        if framing.expects_continue and framing.end(self.sock.received) is None:
            self.sock.send_continue()

    def _collect_body(self) -> None:
        # Only 100 Continue can be unsent here; a client too busy to take 25 bytes has to wait for itself.
        self.sock.flush()
        try:
            end = self._framing.end(self.sock.received)
        except UnclearLength:
            self._refuse(400, "The chunks of the body cannot be read.")
            return
        arrived = (len(self.sock.received) if end is None else end) - self._framing.head_length
        if arrived > self._limits.body_bytes:
            self._refuse_body()
        elif end is not None:
            self.sock.take_request(end)
            self._framing = NOTHING_FRAMED
            self._enter(Phase.REQUEST)
        else:
            self._receive()

    def _send(self) -> None:
        self.sock.flush()
        self._hold(0)
        self._enter(Phase.IDLE if self._keep_alive else Phase.CLOSING)
        if self.phase is Phase.CLOSING:
            self.sock.finish_writing()

    def _close_gently(self) -> None:
        # RFC 9112, section 9.6: closing at once while the client still talks would reset the connection and
        # take our last answer with it.
        self.sock.discard()
        if self.sock.at_end:
            self.end()
        else:
            # One helping per turn: a client that pours must not keep the others waiting.
            raise WouldBlock(WAIT_TO_READ)

    def _receive(self) -> None:
        self.sock.receive()
        if self.sock.at_end:
            self.end()

    def _refuse(self, status: int, sentence: str, limit: int = 0) -> None:
        self.sock.unsent += answer(Refusal(status, sentence, limit), self._in_words, self.client)
        self.sock.received.clear()
        self._framing = NOTHING_FRAMED
        self.answered(keep_alive=False)

    def _refuse_body(self) -> None:
        limit = self._limits.body_bytes
        self._refuse(413, f"The body is larger than {limit} bytes.", limit)

    def _hold(self, size: int) -> bool:
        """Account for `size` bytes in place of what was held before."""
        if not self._memory.change(size - self._held):
            return False
        self._held = size
        return True
