"""How a listener that stops for good parts from its clients: those that have reached it are served, others never do.

A connection is made by the system before any process of ours accepts it, and whoever closes a listening socket resets
all that wait there. So the door is closed to new clients first (`close_door`), what stands inside is let through for a
moment by the workers (`ListenerWorker`), and only then is the socket closed. A reload does none of this: its new
workers serve the same socket.
"""

import ctypes
import mmap
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any

# Until then every client that the system had begun to connect has got through, over slow lines too.
SECONDS_FOR_THOSE_INSIDE = 1.0

SO_ATTACH_FILTER = 26
TCP_FLAGS, SYN, ACK = 13, 0x02, 0x10
# Berkeley packet filter, over the TCP header of what arrives: code, jump if true, jump if false, operand.
DROP_WHO_KNOCKS = (
    (0x30, 0, 0, TCP_FLAGS),  # load the byte of the flags
    (0x54, 0, 0, SYN | ACK),  # keep these two
    (0x15, 0, 1, SYN),  # alone: it is the first packet of a client
    (0x06, 0, 0, 0),  # dropped; the client knocks again after a second
    (0x06, 0, 0, 0xFFFFFFFF),  # anything else is let in
)

# One byte that all processes forked from this one share: 1 from when the listener stops for good.
_begun = mmap.mmap(-1, 1)


def has_begun() -> bool:
    return _begun[0] == 1


def prepare(arbiter: Any) -> None:
    """gunicorn's hook `when_ready`, in the process that owns the sockets: parting precedes its `stop`."""
    stop = arbiter.stop

    def part_and_stop(graceful: bool = True) -> None:
        if graceful:
            close_door(listener.sock for listener in arbiter.LISTENERS)
            _begun[0] = 1
        stop(graceful)

    arbiter.stop = part_and_stop


def close_door(listening: Iterable[socket.socket]) -> None:
    """From now on no new client is connected, and none is turned away who is already.

    Where the system cannot do that, those are lost who connect in the instant in which the socket is closed.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_WHO_KNOCKS))
    program = struct.pack("HP", len(DROP_WHO_KNOCKS), ctypes.addressof(code))
    for sock in listening:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        except OSError as error:
            sys.stderr.write(f"New clients are not held back while the listener stops: {error.strerror}.\n")
