"""A TPM for a client that finds no /dev/tpm0 and then dials the resource manager's old port on this machine.

Its framing: a request is the number 8, three octets (locality and two flags), the command's length and the command;
an answer is the length, the response and a zero.
"""

import socket
import struct
import subprocess
import threading
from pathlib import Path

ADDRESS = ("127.0.0.1", 2323)
SEND_COMMAND = 8
HEADER = struct.Struct(">IxxxI")


class TrmProxy:
    """Each connection meets the same TPM, freshly switched on: what a client leaves loaded is nobody's burden."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._listener = socket.create_server(ADDRESS)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a client
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _peer = self._listener.accept()
            except OSError:  # closed
                return
            with client:
                self._serve_client(client)

    def _serve_client(self, client: socket.socket) -> None:
        ours, tpms = socket.socketpair()
        with ours, tpms:
            command = [
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={self._state}",
                "--fd",
                str(tpms.fileno()),
            ]
            command += ["--flags", "not-need-init,startup-clear"]
            tpm = subprocess.Popen(command, pass_fds=[tpms.fileno()])
            tpms.close()
            while request := client.recv(HEADER.size, socket.MSG_WAITALL):
                kind, length = HEADER.unpack(request)
                if kind != SEND_COMMAND:
                    break
                ours.sendall(_exactly(client, length))
                response = _response(ours)
                client.sendall(struct.pack(">I", len(response)) + response + bytes(4))
        tpm.wait(10)


def _response(tpm: socket.socket) -> bytes:
    """Its length stands behind the two octets of its tag."""
    head = _exactly(tpm, 6)
    return head + _exactly(tpm, int.from_bytes(head[2:], "big") - len(head))


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = connection.recv(length, socket.MSG_WAITALL)
    if len(received) != length:
        raise ConnectionError(f"{len(received)} octets came of {length}.")
    return received
