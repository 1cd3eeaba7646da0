"""gunicorn's threaded worker, changed so that no client can occupy a request thread by being slow or silent.

gunicorn 27.0.1's own gthread worker waits for the first byte, shakes hands, and reads head and body in a
request thread, and it closes connections on the poller's thread while it waits for the client to close first:
a few silent sockets, or one client that lingers, stop it. Here the poller does all of that without blocking.
A thread gets a connection only when a whole request has arrived, chunked ones included, and gives it back as
soon as the answer is written or buffered.

All listeners use this worker: with TLS if gunicorn is configured with a certificate, else plain. It leans on
names of gunicorn that are not public; tests/serving/test_gunicorn_internals.py tells when they change.
"""

import errno
import ipaddress
import math
import select
import socket
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # gunicorn has no types

from dpsportal.serving import departure
from dpsportal.serving.addresses import address_key
from dpsportal.serving.buffered_socket import BufferedSocket, WouldBlock
from dpsportal.serving.connection import Connection, Memory, Phase
from dpsportal.serving.limits import Limits
from dpsportal.serving.refusals import FAILED, InWords, answer, as_text, refusal_of
from dpsportal.serving.tls import TlsSocket, server_context

if TYPE_CHECKING:
    from gunicorn.http.message import Request  # type: ignore[import-untyped]  # as above
    from OpenSSL import SSL

# Deadlines are looked at this often: they may be late by as much.
SWEEP_SECONDS = 0.25
# How long to leave new clients waiting when the system has no descriptor or memory for them.
PAUSE_AFTER_SHORTAGE_SECONDS = 0.5
# A stopping worker still answers a request that a kept-alive client was about to send.
IDLE_SECONDS_WHEN_STOPPING = 0.5
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ListenerWorker(ThreadWorker):  # type: ignore[misc]  # as above
    """Serves one listener. `limits` and `in_words` are set by the listener's gunicorn settings, in `post_fork`."""

    limits = Limits()
    in_words: InWords = staticmethod(as_text)

    # --- starting

    def init_process(self) -> None:
        self._waiting: dict[Connection, int] = {}
        self._per_address: Counter[str] = Counter()
        self._memory = Memory(self.limits.held_bytes)
        self._next_sweep = 0.0
        self._accept_again_at = 0.0
        self._stop_deadline = math.inf
        self._door_closes_at = math.inf
        # Files are written through the socket's buffer like everything else.
        self.cfg.set("sendfile", False)
        # After the fork, so that a reload picks up a renewed certificate.
        self._tls_context: SSL.Context | None = None
        if self.cfg.is_ssl:
            self._tls_context = server_context(Path(self.cfg.certfile), Path(self.cfg.keyfile))
        super().init_process()

    def run(self) -> None:
        # A signal that came before this process listened to signals is lost.
        if departure.has_begun():
            self.alive = False
        super().run()

    # --- stopping at once

    def handle_quit(self, sig: int, frame: object) -> None:
        """Ctrl-C. gunicorn's own takes the lock of the thread pool, which the code that the signal interrupts may hold
        as it hands a request over: the worker would hang until it is killed. So the loop itself ends, without grace.
        """
        self.cfg.set("graceful_timeout", 0)
        self.handle_exit(sig, frame)

    # --- accepting

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled and time.monotonic() >= self._accept_again_at)

    def accept(self, listener: socket.socket) -> None:
        try:
            raw, client = listener.accept()
        except OSError as error:
            # accept() also reports what went wrong with the connection before we saw it; that one is lost.
            if error.errno in SHORTAGES:
                self._pause_accepting(error)
            return
        address = address_key(client)
        if self._per_address[address] >= self.limits.connections_per_address and not self._is_proxy(client):
            raw.close()
            return
        self.nr_conns += 1
        self._per_address[address] += 1
        if self.nr_conns >= self.worker_connections:
            self._drop_longest_idle()
        self._advance(self._connection(raw, client, listener.getsockname()))

    def _connection(self, raw: socket.socket, client: object, server: object) -> Connection:
        limits = self.limits
        sock: BufferedSocket
        if self._tls_context is not None:
            sock = TlsSocket(
                raw,
                self._tls_context,
                unsent_bytes=limits.unsent_bytes,
                sending_seconds=limits.sending_seconds,
            )
        else:
            sock = BufferedSocket(
                raw, unsent_bytes=limits.unsent_bytes, sending_seconds=limits.sending_seconds
            )
        return Connection(self.cfg, sock, client, server, limits, self._memory, self.in_words)

    def _pause_accepting(self, error: OSError) -> None:
        self.log.warning("New clients have to wait: %s", error.strerror)
        self._accept_again_at = time.monotonic() + PAUSE_AFTER_SHORTAGE_SECONDS
        self.set_accept_enabled(False)
        self._drop_longest_idle()

    def _drop_longest_idle(self) -> None:
        """Kept-alive connections are a courtesy: they give way to new ones."""
        idle = (connection for connection in self._waiting if connection.phase is Phase.IDLE)
        if (longest_idle := min(idle, key=lambda connection: connection.timeout, default=None)) is not None:
            self._drop(longest_idle)

    def _is_proxy(self, client: object) -> bool:
        """All clients of a believed proxy share its address."""
        if not isinstance(client, tuple):
            return True
        address = ipaddress.ip_address(client[0].partition("%")[0])
        return any(address in network for network in self.cfg.forwarded_allow_networks())

    # --- the poller's thread: everything but answering

    def _advance(self, connection: Connection) -> None:
        """Let a connection that is not waiting go on, and see to what it needs next."""
        try:
            connection.advance()
        except WouldBlock as blocked:
            self._wait_for(connection, blocked.events)
        except OSError as error:
            self.log.debug("Connection lost in phase %s: %s", connection.phase.value, error)
            self._forget(connection)
        else:
            if connection.phase is Phase.REQUEST:
                self.enqueue_req(connection)
            else:
                self._forget(connection)

    def _wait_for(self, connection: Connection, events: int) -> None:
        if not self.alive:
            self._cap(connection)
        self._waiting[connection] = events
        self.poller.register(connection.sock, events, partial(self._woken, connection))

    def _woken(self, connection: Connection, _: object) -> None:
        # Another event of the same round may have dropped it.
        if self._stop_waiting(connection):
            self._advance(connection)

    def _stop_waiting(self, connection: Connection) -> bool:
        if self._waiting.pop(connection, None) is None:
            return False
        self.poller.unregister(connection.sock)
        return True

    def _drop(self, connection: Connection) -> None:
        self._stop_waiting(connection)
        if connection.phase is Phase.IDLE:
            with suppress(OSError):
                connection.sock.finish_writing()
        self._forget(connection)

    def _let_go(self, connection: Connection) -> None:
        """Its time is over. Who is idle may be sending a request just now, and that must not meet a reset."""
        if connection.phase is not Phase.IDLE:
            self._drop(connection)
            return
        self._stop_waiting(connection)
        try:
            connection.part()
        except OSError:
            self._forget(connection)
        else:
            self._advance(connection)

    def _forget(self, connection: Connection) -> None:
        connection.end()
        self.nr_conns -= 1
        address = address_key(connection.client)
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    def finish_request(self, conn: Connection, fs: "Future[bool]") -> None:
        """Called on the poller's thread when a request thread is done."""
        try:
            # A connection that was still queued when the worker stopped has no answer. One that was promised to be kept
            # is kept, for as long as `_cap` says: the client may be sending its next request.
            conn.answered(keep_alive=not fs.cancelled() and fs.result())
        except OSError:
            self._forget(conn)
            return
        self._advance(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, SWEEP_SECONDS) if self.nr_conns else timeout)

    def murder_pending(self) -> None:
        """Called by gunicorn's loop after every round of events: drop who has had its time."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_SECONDS
        for connection in [each for each in self._waiting if each.timeout <= now]:
            self._let_go(connection)
        if now >= self._door_closes_at:
            self._close_door()

    # --- stopping

    def _cap_keepalive(self, deadline: float) -> None:
        """Called by gunicorn when the worker begins to stop: nobody's request is awaited after `deadline`."""
        self._stop_deadline = deadline
        for connection in self._waiting:
            self._cap(connection)
        if departure.has_begun():
            # Counted as a connection, so that gunicorn's loop goes on until the door is closed.
            self.nr_conns += 1
            self._door_closes_at = time.monotonic() + departure.SECONDS_FOR_THOSE_INSIDE
            self.set_accept_enabled(True)

    def _close_door(self) -> None:
        """Let in who still waits at the socket, and close it: who comes now is refused by the system at once."""
        self._door_closes_at = math.inf
        for listener in self.sockets:
            waiting = select.poll()
            waiting.register(listener, select.POLLIN)
            while time.monotonic() >= self._accept_again_at and waiting.poll(0):
                self.accept(listener)
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()
        self.nr_conns -= 1

    def _cap(self, connection: Connection) -> None:
        """While the worker stops: what a client still has to say is awaited briefly, its answer is sent."""
        if connection.phase is Phase.IDLE:
            until = time.monotonic() + IDLE_SECONDS_WHEN_STOPPING
            connection.timeout = min(connection.timeout, self._stop_deadline, until)
        elif connection.phase is not Phase.SENDING:
            connection.timeout = min(connection.timeout, self._stop_deadline)

    # --- a request thread: answering

    def handle(self, conn: Connection) -> bool:
        try:
            keep_alive = super().handle(conn)
        except SystemExit:
            # Raised by the application; on the poller's thread it would end the worker and all its requests.
            self.log.exception("The application asked to exit; its request has no answer.")
            return False
        with suppress(WouldBlock):  # then the poller sends the rest
            conn.sock.flush()
        return bool(keep_alive)

    def handle_error(
        self, req: "Request | None", client: BufferedSocket, addr: object, exc: BaseException
    ) -> None:
        """Called by gunicorn where it could not read the request or the application failed; nothing is sent yet."""
        refusal = refusal_of(exc)
        if refusal is FAILED:
            # Without the query, as in every line of the log.
            self.log.exception("Error handling request %s", req.path if req is not None else "(not read)")
        else:
            self.log.debug("Invalid request: %s", exc)
        client.sendall(answer(refusal, self.in_words, addr))

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Whether the next request can be read. A body that nobody read is in memory: no deadline."""
        if not keepalive or not conn.parser.finish_body():
            return False
        # The parser was given one request. Bytes left over mean that it saw the end of it elsewhere.
        return not conn.parser.unreader.take_buffered()
