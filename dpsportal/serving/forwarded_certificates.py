"""Certificates that a TLS-terminating proxy hands on in headers (RFC 9440), and every header that looks like one.

Nothing here decides whom to believe: `environment` does.
"""

import base64
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import http_sf

from enrollments.attestation.x509 import elements

CLIENT_CERT, CLIENT_CERT_CHAIN = "Client-Cert", "Client-Cert-Chain"

# In the order in which a request that carries several of them is counted. The first two are RFC 9440's, the others
# are what proxies and hosted platforms write in their place.
CERTIFICATE_HEADERS = (
    CLIENT_CERT,
    CLIENT_CERT_CHAIN,
    "X-Client-Cert",
    "X-SSL-Client-Cert",
    "SSL-Client-Cert",
    "X-ARR-ClientCert",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert",
)

# One header. The listener's own bound on the whole head is not far above it.
MAX_CHARACTERS = 60 * 1024

_SEQUENCE = 0x30
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/\n]+={0,2})\n-----END CERTIFICATE-----\n?", re.ASCII
)


class UnreadableCertificateHeader(Exception):
    """What a proxy wrote is no certificate. The text is one sentence for the answer."""


def take_certificate_headers(environ: dict[str, Any]) -> dict[str, str]:
    """Remove every header that could be taken for a certificate from the environment, and return what they said."""
    said = {}
    for header in CERTIFICATE_HEADERS:
        value = environ.pop("HTTP_" + header.upper().replace("-", "_"), None)
        if value is not None:
            said[header] = value
    return said


def read_forwarded(client_cert: str, client_cert_chain: str) -> tuple[bytes, ...]:
    """DER of the leaf, then of the certificates sent along with it; none for empty headers.

    Raises UnreadableCertificateHeader. That the DER is a certificate is left to those who judge certificates from
    a handshake; here it is only taken apart.
    """
    for header, value in ((CLIENT_CERT, client_cert), (CLIENT_CERT_CHAIN, client_cert_chain)):
        if len(value) > MAX_CHARACTERS:
            raise UnreadableCertificateHeader(f"{header} is longer than {MAX_CHARACTERS} characters.")
    leaf = _leaf(client_cert)
    others = _chain(client_cert_chain)
    if others and not leaf:
        raise UnreadableCertificateHeader(f"{CLIENT_CERT_CHAIN} came without {CLIENT_CERT}.")
    return (*leaf, *others)


def _leaf(value: str) -> tuple[bytes, ...]:
    if not value:
        return ()
    der = _from_escaped_pem(value) if value.startswith("-") else _byte_sequence(value)
    certificates = _certificates(der, CLIENT_CERT)
    if len(certificates) != 1:
        raise UnreadableCertificateHeader(f"{CLIENT_CERT} must hold exactly one certificate.")
    return certificates


def _byte_sequence(value: str) -> bytes:
    """The one item of RFC 9440, section 2.2. Headers that came twice were joined by a comma, which no item holds."""
    item = _structured(value, "item", CLIENT_CERT)
    return _bare_bytes(item, CLIENT_CERT)


def _chain(value: str) -> tuple[bytes, ...]:
    """RFC 9440, section 2.3: a list, in the order of the handshake, without the leaf.

    HAProxy can only write all of them one after the other in a single byte sequence, so each may hold several. The
    list may be spread over several headers, which makes no difference (RFC 9651, section 3.1).
    """
    if not value:
        return ()
    members = _structured(value, "list", CLIENT_CERT_CHAIN)
    return tuple(
        certificate
        for member in members
        for certificate in _certificates(_bare_bytes(member, CLIENT_CERT_CHAIN), CLIENT_CERT_CHAIN)
    )


def _structured(value: str, kind: str, header: str) -> Any:
    try:
        return http_sf.parse(value.encode("latin-1"), tltype=kind)
    except ValueError:
        raise UnreadableCertificateHeader(f"{header} is no structured field as RFC 9440 has it.") from None


def _bare_bytes(item: Any, header: str) -> bytes:
    value, parameters = item
    if not isinstance(value, bytes) or parameters:
        raise UnreadableCertificateHeader(f"{header} holds something else than byte sequences.")
    return value


def _from_escaped_pem(value: str) -> bytes:
    """nginx ($ssl_client_escaped_cert) and Envoy (%DOWNSTREAM_PEER_CERT%) can write nothing else."""
    try:
        match = _PEM.fullmatch(unquote_to_bytes(value.encode("latin-1")))
        if match is None:
            raise ValueError
        return base64.b64decode(match[1].replace(b"\n", b""), validate=True)
    except ValueError:
        raise UnreadableCertificateHeader(
            f"{CLIENT_CERT} is not one percent-encoded PEM certificate."
        ) from None


def _certificates(der: bytes, header: str) -> tuple[bytes, ...]:
    """One or several certificates that stand one after the other.

    An empty byte sequence is refused: HAProxy writes one where the chain was too long for its buffer.
    """
    try:
        found = tuple(elements(der))
    except ValueError:
        found = ()
    if not found or any(each[0] != _SEQUENCE for each in found):
        raise UnreadableCertificateHeader(f"{header} holds something that is no DER certificate.")
    return found
