"""One certificate, read once and completely: what it says, and the digests by which it is found again."""

import hashlib
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from enrollments.attestation.x509.der import RawFields, contents, elements
from enrollments.attestation.x509.errors import UnreadableCertificate
from enrollments.attestation.x509.facts import CertificateFacts
from enrollments.attestation.x509.remembered import Remembered

MAX_CERTIFICATE_BYTES = 16 * 1024
# What we keep of a certificate has a bounded size. RFC 5280 allows 20 octets for a serial number (4.1.2.2),
# and key identifiers are digests of at most 64.
MAX_SERIAL_NUMBER_BYTES = 40
MAX_KEY_ID_BYTES = 64
MAX_RSA_BITS, MAX_DSA_BITS = 8192, 3072
MAX_PATH_LENGTH = 2**31 - 1
MAX_DESCRIPTION = 40

Extension = TypeVar("Extension", bound=x509.ExtensionType)

PURE_SIGNATURES = {SignatureAlgorithmOID.ED25519: "Ed25519", SignatureAlgorithmOID.ED448: "Ed448"}
ANSI_ECDSA, PKCS_1 = "1.2.840.10045.4.", "1.2.840.113549.1.1."
CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

# What the library raises on certificates that it loads but cannot make sense of: it parses lazily, so each
# part is touched here once, and nothing is left that could fail later in the middle of a decision.
READING_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class ParsedCertificate(CertificateFacts):
    """A certificate with nothing left to parse. Two are equal when their bytes are."""

    certificate: x509.Certificate = field(compare=False, repr=False)
    public_key: CertificatePublicKeyTypes | None = field(compare=False, repr=False)
    """None if the library does not know the kind of key; such a key can neither sign nor prove anything."""


# A device that registers and then polls shows the same chain twice, and an intermediate is that of many devices.
_PARSED = Remembered(most=1024)
_ISSUERS = Remembered(most=256)


def parse_der(der: bytes) -> ParsedCertificate:
    """Read one certificate from exactly these bytes, or raise UnreadableCertificate."""
    return _PARSED.get(der, lambda: _read(der))


def _read(der: bytes) -> ParsedCertificate:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise UnreadableCertificate(
            f"The certificate has {len(der)} bytes; at most {MAX_CERTIFICATE_BYTES} are accepted."
        )
    try:
        return _parse(der)
    except READING_ERRORS as error:
        raise UnreadableCertificate(f"The certificate cannot be read: {_in_brief(error)}.") from error


def _parse(der: bytes) -> ParsedCertificate:
    certificate = x509.load_der_x509_certificate(der)
    extensions = certificate.extensions
    raw = RawFields.of(certificate.tbs_certificate_bytes)
    public_key = _public_key(certificate)
    constraints = _extension(extensions, x509.BasicConstraints)
    path_length = constraints.path_length if constraints else None
    if path_length is not None and path_length > MAX_PATH_LENGTH:
        raise ValueError("its path length is out of range")
    return ParsedCertificate(
        der=der,
        certificate=certificate,
        public_key=public_key,
        subject=certificate.subject.rfc4514_string(),
        issuer=_issuer_text(certificate, raw.issuer),
        subject_sha256=hashlib.sha256(raw.subject).hexdigest(),
        issuer_sha256=hashlib.sha256(raw.issuer).hexdigest(),
        common_names=tuple(
            str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ),
        serial_number=_serial_number(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        thumbprint_sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        thumbprint_sha256=hashlib.sha256(der).hexdigest(),
        spki_sha256=_spki_sha256(public_key, raw.subject_public_key_info),
        subject_key_id=_subject_key_id(extensions),
        authority_key_id=_authority_key_id(extensions),
        is_ca=bool(constraints and constraints.ca),
        path_length=path_length,
        key_description=_key_description(certificate, public_key),
        signature_description=_signature_description(certificate),
        version=certificate.version.value + 1,
    )


def _issuer_text(certificate: x509.Certificate, encoded: bytes) -> str:
    """By its encoding: many devices have few issuers, and a fifth of reading a certificate is naming its own."""
    return _ISSUERS.get(encoded, certificate.issuer.rfc4514_string)


def is_costly(key: CertificatePublicKeyTypes | None) -> bool:
    """Whether one signature check with this key takes ten times what it takes with an ordinary one, or more.

    Anybody can send such keys before proving anything; nobody's CA has one.
    """
    match key:
        case rsa.RSAPublicKey():
            return key.key_size > MAX_RSA_BITS or key.public_numbers().e >= 2**32
        case dsa.DSAPublicKey():
            return key.key_size > MAX_DSA_BITS
    return False


def _public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes | None:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _spki_sha256(public_key: CertificatePublicKeyTypes | None, raw: bytes) -> str:
    """Digest of the key's one canonical encoding.

    A key can be written in several ways (compressed and hybrid points, explicit curve parameters, RSA with or
    without NULL, or under the PSS identifier). Hashing what was sent would let a barred key come back in
    other clothes (R6, R7), so the key is encoded anew. Only a key that cannot be read is taken as sent.
    """
    if public_key is not None:
        raw = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(raw).hexdigest()


def key_is_encoded_canonically(certificate: ParsedCertificate) -> bool:
    """Whether the algorithm of the key is written the way everybody writes it."""
    if certificate.public_key is None:
        return False
    sent = RawFields.of(certificate.certificate.tbs_certificate_bytes).subject_public_key_info
    canonical = certificate.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return next(elements(contents(sent))) == next(elements(contents(canonical)))


def _extension(extensions: x509.Extensions, kind: type[Extension]) -> Extension | None:
    for extension in extensions:
        if isinstance(extension.value, kind):
            return extension.value
    return None


def extension_of(certificate: ParsedCertificate, kind: type[Extension]) -> Extension | None:
    return _extension(certificate.certificate.extensions, kind)


def signature_algorithm_encoding(certificate: ParsedCertificate) -> bytes:
    """The signature algorithm with its parameters, as it was sent."""
    _tbs, algorithm, _signature = elements(contents(certificate.der))
    return algorithm


def _serial_number(certificate: x509.Certificate) -> str:
    number = certificate.serial_number
    if number.bit_length() > MAX_SERIAL_NUMBER_BYTES * 8:
        raise ValueError("its serial number is too long")
    return f"{number:X}"


def _subject_key_id(extensions: x509.Extensions) -> str | None:
    extension = _extension(extensions, x509.SubjectKeyIdentifier)
    return _key_id(extension.digest if extension else None)


def _authority_key_id(extensions: x509.Extensions) -> str | None:
    extension = _extension(extensions, x509.AuthorityKeyIdentifier)
    return _key_id(extension.key_identifier if extension else None)


def _key_id(identifier: bytes | None) -> str | None:
    if identifier is None:
        return None
    if len(identifier) > MAX_KEY_ID_BYTES:
        raise ValueError("one of its key identifiers is too long")
    # An empty identifier identifies nothing.
    return identifier.hex() or None


def _key_description(certificate: x509.Certificate, key: CertificatePublicKeyTypes | None) -> str:
    match key:
        case ec.EllipticCurvePublicKey():
            description = f"EC {CURVE_NAMES.get(key.curve.name, key.curve.name)}"
        case rsa.RSAPublicKey():
            description = f"RSA {key.key_size}"
        case dsa.DSAPublicKey():
            description = f"DSA {key.key_size}"
        case ed25519.Ed25519PublicKey():
            description = "Ed25519"
        case ed448.Ed448PublicKey():
            description = "Ed448"
        case _:
            description = f"unknown ({certificate.public_key_algorithm_oid.dotted_string})"
    return description[:MAX_DESCRIPTION]


def _signature_description(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    digest = signature_hash(certificate)
    if oid in PURE_SIGNATURES:
        return PURE_SIGNATURES[oid]
    if digest is None:
        return f"unknown ({oid.dotted_string})"[:MAX_DESCRIPTION]
    match signature_parameters(certificate):
        case ec.ECDSA():
            scheme = "ECDSA"
        case padding.PSS():
            scheme = "RSA-PSS"
        case padding.PKCS1v15():
            scheme = "RSA"
        case _:
            # The library reads old algorithms without telling their parameters.
            arcs = oid.dotted_string
            scheme = "ECDSA" if arcs.startswith(ANSI_ECDSA) else "RSA" if arcs.startswith(PKCS_1) else "DSA"
    return f"{scheme} with {digest_name(digest)}"


def signature_hash(certificate: x509.Certificate) -> hashes.HashAlgorithm | None:
    """None for an algorithm that has none, or that the library does not know."""
    try:
        return certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None


def signature_parameters(
    certificate: x509.Certificate,
) -> padding.PSS | padding.PKCS1v15 | ec.ECDSA | None:
    """None for an algorithm that has none, or that the library does not know."""
    try:
        return certificate.signature_algorithm_parameters
    except (ValueError, UnsupportedAlgorithm):
        return None


def digest_name(digest: hashes.HashAlgorithm) -> str:
    """`sha256` becomes `SHA-256`, `sha3-256` becomes `SHA3-256`."""
    name = digest.name.upper()
    return name if "-" in name or not name.startswith("SHA") else f"SHA-{name[3:]}"


def _in_brief(error: Exception) -> str:
    """The library's own words on one line, of bounded length and without what a peer may have put in."""
    if not str(error) or "ASN.1" in str(error) or "asn1" in str(error):
        return "it is not encoded as a certificate must be"
    first = str(error).splitlines()[0]
    return "".join(character for character in first if character.isprintable())[:120].rstrip(".")
