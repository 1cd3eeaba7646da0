"""The few steps into DER that the library does not offer: parts of a certificate as they were sent."""

from collections.abc import Iterator
from dataclasses import dataclass

LONG_FORM = 0x80
EXPLICIT_VERSION = 0xA0


@dataclass(frozen=True, slots=True)
class RawFields:
    """Names and key of a certificate byte for byte, which re-encoding what was parsed need not give."""

    issuer: bytes
    subject: bytes
    subject_public_key_info: bytes

    @classmethod
    def of(cls, tbs_certificate: bytes) -> "RawFields":
        """Expects what the library has already accepted as a TBSCertificate (RFC 5280, section 4.1)."""
        fields = list(elements(contents(tbs_certificate)))
        if fields[0][0] == EXPLICIT_VERSION:
            del fields[0]
        _serial, _signature, issuer, _validity, subject, key = fields[:6]
        return cls(issuer, subject, key)


def contents(element: bytes) -> bytes:
    """What is inside of one element."""
    start, length = _bounds(element, 0)
    return element[start : start + length]


def elements(data: bytes) -> Iterator[bytes]:
    """One element after the other, each with its tag and length."""
    position = 0
    while position < len(data):
        start, length = _bounds(data, position)
        yield data[position : start + length]
        position = start + length


def _bounds(data: bytes, position: int) -> tuple[int, int]:
    """Where the contents of the element at `position` start, and how long they are, or ValueError."""
    if position + 2 > len(data):
        raise ValueError("the encoding is cut off")
    length = data[position + 1]
    start = position + 2
    if length & LONG_FORM:
        octets = length & ~LONG_FORM
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    if start + length > len(data):
        raise ValueError("the encoding is cut off")
    return start, length
