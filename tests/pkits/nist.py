"""The NIST Public Key Interoperability Test Suite, as it lies in the package `cryptography-vectors`."""

import email
from datetime import UTC, datetime
from pathlib import Path

import cryptography_vectors

from enrollments.attestation.x509 import (
    ParsedCertificate,
    PathValidator,
    UnreadableCertificate,
    build_chain_graph,
    parse_der,
    read_presented,
)
from enrollments.attestation.x509.der import contents, elements
from enrollments.errors import AttestationError
from tests.certificates import Held

DATA = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
MESSAGES = DATA / "smime"
# Most certificates of the suite are valid from 2010 to 2030.
AT = datetime(2020, 6, 1, tzinfo=UTC)


def trust_anchor() -> ParsedCertificate:
    return parse_der((DATA / "certs" / "TrustAnchorRootCertificate.crt").read_bytes())


def all_messages() -> list[str]:
    """The suite brings a signed message for each of its tests, and in it the certificates of that test."""
    return [path.stem.removeprefix("Signed") for path in sorted(MESSAGES.glob("*.eml"))]


def certificates_of(name: str) -> list[bytes]:
    """DER of what the signed message carries: RFC 5652, section 5.1, without parsing the certificates."""
    message = email.message_from_bytes((MESSAGES / f"Signed{name}.eml").read_bytes())
    [signature] = [
        part for part in message.walk() if part.get_content_type() == "application/pkcs7-signature"
    ]
    _signed_data_oid, wrapped = elements(contents(signature.get_payload(decode=True)))
    [certificates] = [part for part in elements(contents(contents(wrapped))) if part[0] == 0xA0]
    return list(elements(contents(certificates)))


def judge(name: str) -> tuple[str, str]:
    """`admitted` or `refused`, and the cause; certificates sent as a device would, the NIST root enrolled."""
    anchor = trust_anchor()
    try:
        graph = build_chain_graph(read_presented(leaf_first(certificates_of(name))), Held(anchor))
        PathValidator(graph, AT).shortest_valid_path(anchor)
    except AttestationError as error:
        return "refused", error.message
    return "admitted", ""


def leaf_first(ders: list[bytes]) -> list[bytes]:
    """The messages carry their certificates in the order of their encoding, so the leaf has to be found."""
    try:
        parsed = [parse_der(der) for der in ders]
    except UnreadableCertificate:
        return ders
    ends = [
        one
        for one in parsed
        if not any(other.issuer_sha256 == one.subject_sha256 for other in parsed if other != one)
    ]
    # Where names do not chain, or a second CA only signs revocation lists, there are several ends.
    [leaf] = ends if len(ends) == 1 else [one for one in ends if "EE Cert" in one.subject]
    return [leaf.der, *ders]
