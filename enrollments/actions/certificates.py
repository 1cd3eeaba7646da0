"""Between certificates as rows and certificates as parsed values."""

import ssl
from functools import lru_cache

from enrollments.attestation.x509 import ParsedCertificate, parse_der


@lru_cache(maxsize=4096)
def parsed(pem: str) -> ParsedCertificate:
    """A stored certificate, parsed. Kept in memory by its own text, which never changes: R12 is not touched."""
    return parse_der(ssl.PEM_cert_to_DER_cert(pem))
