"""Between certificates as rows and certificates as parsed values."""

import ssl
from functools import lru_cache

from enrollments.attestation.x509 import ParsedCertificate, parse_der


@lru_cache(maxsize=4096)
def parsed(pem: str) -> ParsedCertificate:
    """A stored certificate, parsed. Kept in memory by its own text, which never changes: R12 is not touched."""
    return parsed_once(pem)


def parsed_once(pem: str) -> ParsedCertificate:
    """The same, not kept in memory: for whoever goes through those of a hundred thousand devices."""
    return parse_der(ssl.PEM_cert_to_DER_cert(pem))
