"""Reading device certificates in a process of its own: texts come in, a line for each portion, and values go out.

It knows no database and no key, answers what it is asked, and ends with its input: with whoever started it.
"""

import json
import sys
from typing import Any

from enrollments.attestation.x509.device import DeviceCertificate, as_values
from enrollments.attestation.x509.upload import read_upload
from enrollments.errors import AttestationError


def read(text: str) -> tuple[str, list[Any]] | None:
    """The certificate in hexadecimal, and its values; None for what is not one certificate: the other side says why."""
    try:
        parsed = read_upload(text)
    except AttestationError:
        return None
    if len(parsed) != 1:
        return None
    return parsed[0].der.hex(), as_values(DeviceCertificate.of(parsed[0]))


def main() -> None:
    for line in sys.stdin.buffer:
        answer = json.dumps([read(text) for text in json.loads(line)])
        sys.stdout.buffer.write(answer.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
