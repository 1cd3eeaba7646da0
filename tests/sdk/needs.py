"""What `make test-sdk` needs of a machine, said in one sentence where it is missing."""

import shutil
import socket
import sys

# The SDK can be told a host and no port.
DEVICE_PORT = 443
PROGRAMS = {"node": "Node.js", "npm": "npm, which comes with Node.js", "swtpm": "swtpm, a TPM in software"}


def what_is_missing() -> str:
    for program, words in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"make test-sdk needs {words}: no program `{program}` was found."
    try:
        socket.create_server(("127.0.0.1", DEVICE_PORT)).close()
    except OSError as error:
        return (
            f"make test-sdk needs to listen on 127.0.0.1:{DEVICE_PORT}, as root or with CAP_NET_BIND_SERVICE, "
            f"since the SDK dials no other port: {error.strerror}."
        )
    return ""


if __name__ == "__main__":
    sys.exit(what_is_missing() or None)
