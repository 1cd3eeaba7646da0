"""What `make test-sdk` needs of a machine, said in one sentence where it is missing."""

import os
import shutil
import socket
import sys

from tests.sdk.trm_proxy import ADDRESS

# The SDK can be told a host and no port.
DEVICE_PORT = 443
PROGRAMS = {"node": "Node.js", "npm": "npm, which comes with Node.js", "swtpm": "swtpm, a TPM in software"}
PORTS = {
    DEVICE_PORT: "the SDK dials no other port (below 1024 root or CAP_NET_BIND_SERVICE is needed)",
    ADDRESS[1]: "the SDK looks for a TPM there",
}


def what_is_missing() -> str:
    for program, words in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"make test-sdk needs {words}: no program `{program}` was found."
    for port, why in PORTS.items():
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            return (
                f"make test-sdk needs to listen on 127.0.0.1:{port}, since {why}: {os.strerror(error.errno)}."
            )
    return ""


if __name__ == "__main__":
    sys.exit(what_is_missing() or None)
