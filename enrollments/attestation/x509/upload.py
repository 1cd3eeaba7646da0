"""What administrators upload or paste: certificates in every usual wrapping, and what is wrong with them."""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from enrollments.attestation.x509.certificate import ParsedCertificate, parse_der
from enrollments.attestation.x509.der import contents, elements
from enrollments.attestation.x509.device import (
    DeviceCertificate,
    UnparsedCertificate,
    blocks_barring,
    problems_of_device,
)
from enrollments.attestation.x509.errors import (
    EmptyUpload,
    NotACertificate,
    PrivateKeyInUpload,
    UnreadableCertificate,
    UploadTooLarge,
)
from enrollments.attestation.x509.requirements import (
    Problem,
    ca_problems,
    date_problem,
    form_problem,
)

MAX_UPLOAD_BYTES = 64 * 1024

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
PEM_BLOCK = re.compile(
    r"-----BEGIN (?P<label>[A-Z0-9 ]{1,64})-----(?P<body>[^-]*)-----END (?P=label)-----", re.IGNORECASE
)
PEM_BEGIN = re.compile(r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----", re.IGNORECASE)
# Also where dashes are lost or the block is cut off: what is said to be a private key is treated as one.
PRIVATE_KEY_TEXT = re.compile(
    r"BEGIN [A-Z0-9 ]{0,64}PRIVATE KEY|PuTTY-User-Key-File|Private-Lines:", re.IGNORECASE
)
PRIVATE_KEY_WORDS = ("private", "putty")
CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"})
OTHER_LABELS = {
    "CERTIFICATE REQUEST": "a certificate signing request",
    "NEW CERTIFICATE REQUEST": "a certificate signing request",
    "PUBLIC KEY": "a public key",
    "RSA PUBLIC KEY": "a public key",
    "X509 CRL": "a certificate revocation list",
    "PKCS7": "a PKCS #7 bundle",
    "CMS": "a PKCS #7 bundle",
}
LOADERS = (
    ("a certificate signing request", x509.load_der_x509_csr),
    ("a certificate revocation list", x509.load_der_x509_crl),
    ("a public key", load_der_public_key),
)

SEQUENCE, INTEGER, OCTET_STRING, OBJECT_ID = 0x30, 0x02, 0x04, 0x06
PRIVATE_KEY_VERSIONS = (b"\x00", b"\x01")
PKCS12_VERSION = b"\x03"
SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
# What an editor leaves behind the last certificate.
MAX_LINE_ENDS = 16


def read_upload(data: bytes | str) -> tuple[ParsedCertificate, ...]:
    """Certificates in the order in which they came, each once.

    PEM, DER, or either in base64; text before, between and after PEM blocks does not matter. Raises
    EmptyUpload, UploadTooLarge, PrivateKeyInUpload, NotACertificate or UnreadableCertificate.
    """
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if len(raw) > MAX_UPLOAD_BYTES:
        raise UploadTooLarge(f"The upload has {len(raw)} bytes; at most {MAX_UPLOAD_BYTES} are accepted.")
    text = _as_text(raw)
    if not text.strip("\ufeff\x00 \t\r\n\v\f"):
        raise EmptyUpload("Nothing was uploaded; choose a file, or paste a certificate as PEM text.")
    ders = list(_ders_of_upload(raw, text))
    # All of it is looked at for private keys before any of it is parsed; if there is one, nothing is kept.
    for der in ders:
        _refuse_private_key(der)
    return tuple(_read_certificate(der) for der in dict.fromkeys(ders))


def refuse_private_keys(data: bytes | str) -> None:
    """Raises PrivateKeyInUpload where there is one in it; whatever else is wrong is not looked at.

    For what is kept before it is read.
    """
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if len(raw) > MAX_UPLOAD_BYTES:
        return
    try:
        for der in _ders_of_upload(raw, _as_text(raw)) if raw else ():
            _refuse_private_key(der)
    except (NotACertificate, UnreadableCertificate):
        return


def _as_text(raw: bytes) -> str:
    encoding = "utf-16" if raw.startswith(UTF_16_MARKS) else "utf-8"
    return raw.decode(encoding, "replace")


def _ders_of_upload(raw: bytes, text: str) -> Iterator[bytes]:
    _refuse_private_key_text(text)
    if PEM_BLOCK.search(text) or PEM_BEGIN.search(text):
        return _ders_of_pem(text)
    if raw[0] == SEQUENCE:
        return _elements_of_der(raw)
    decoded = _decode_base64(text.strip("\ufeff\x00"))
    if decoded is None or not decoded:
        raise NotACertificate(
            "This is no certificate; expected is PEM text (-----BEGIN CERTIFICATE-----) or DER."
        )
    inner = _as_text(decoded)
    _refuse_private_key_text(inner)
    if PEM_BLOCK.search(inner) or PEM_BEGIN.search(inner):
        return _ders_of_pem(inner)
    return _elements_of_der(decoded)


def _ders_of_pem(text: str) -> Iterator[bytes]:
    found = 0
    others: list[str] = []
    for block in PEM_BLOCK.finditer(text):
        label = " ".join(block["label"].upper().split())
        der = _decode_base64(block["body"])
        if label not in CERTIFICATE_LABELS:
            _refuse_private_key(der or b"")
            others.append(label)
            continue
        found += 1
        if not der:
            raise UnreadableCertificate(
                "The text between BEGIN CERTIFICATE and END CERTIFICATE is not base64."
            )
        # A "trusted certificate" is followed by what OpenSSL thinks of it, which is none of our business.
        yield next(_elements_of_der(der)) if label == "TRUSTED CERTIFICATE" else der
    if found < len(PEM_BEGIN.findall(text)):
        raise UnreadableCertificate("A certificate is cut off: its END CERTIFICATE line is missing.")
    if found:
        return
    what = OTHER_LABELS.get(others[0], "something else")
    raise NotACertificate(f"This is {what}, not a certificate.")


def _elements_of_der(der: bytes) -> Iterator[bytes]:
    """DER certificates one after the other; a line end behind the last one is the work of an editor."""
    try:
        yield from _elements_before_line_end(der)
    except ValueError:
        if _first_part_is_private(der):
            _refuse_as_private_key()
        raise NotACertificate(
            "This is no certificate; expected is PEM text (-----BEGIN CERTIFICATE-----) or DER."
        ) from None


def _elements_before_line_end(der: bytes) -> list[bytes]:
    """The last octet of a signature or a key may look like a line end, so lengths decide where one begins."""
    found: list[bytes] = []
    position = 0
    for element in elements(der):
        found.append(element)
        position += len(element)
        if len(der) - position <= MAX_LINE_ENDS and not der[position:].strip(b"\r\n"):
            break
    return found


def _decode_base64(text: str) -> bytes | None:
    """None if it is anything else; PEM headers, as in old encrypted keys, do not occur in certificates."""
    try:
        return base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None


def _refuse_private_key_text(text: str) -> None:
    # Text in UTF-16 that does not say so has a zero byte beside each letter.
    text = text.replace("\x00", "")
    # In ASCII, where case is simple, looking for a word of each comes to the same in a thirtieth of the time.
    if text.isascii():
        lowered = text.lower()
        if not any(word in lowered for word in PRIVATE_KEY_WORDS):
            return
    if PRIVATE_KEY_TEXT.search(text):
        _refuse_as_private_key()


def _refuse_private_key(der: bytes) -> None:
    if _is_private_key(der):
        _refuse_as_private_key()


def _refuse_as_private_key() -> NoReturn:
    raise PrivateKeyInUpload(
        "This contains a private key, which was not stored; upload the certificate only, and treat the key "
        "as exposed if anybody else could see it."
    ) from None


def _is_private_key(der: bytes) -> bool:
    """Told by structure, so that a key that is damaged or encrypted is known as well.

    PKCS #1, PKCS #8, SEC 1 and DSA keys begin with version 0 or 1, PKCS #12 with 3; an encrypted PKCS #8 key
    is an algorithm and an octet string. A certificate begins with a sequence and has three parts.
    """
    if not der or der[0] != SEQUENCE:
        return False
    try:
        parts = elements(contents(der))
        first = next(parts)
        if first[0] == INTEGER:
            return contents(first) in (*PRIVATE_KEY_VERSIONS, PKCS12_VERSION)
        # Of a certificate the second part is a sequence too: nothing behind it needs to be read.
        return first[0] == SEQUENCE and next(parts)[0] == OCTET_STRING and next(parts, None) is None
    except (ValueError, StopIteration):
        return _first_part_is_private(der)


def _first_part_is_private(der: bytes) -> bool:
    """Whether a damaged encoding starts as private keys do: a sequence with a small version first."""
    return (
        re.match(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x80)\x02\x01[\x00\x01\x03]", der, re.DOTALL)
        is not None
    )


def _read_certificate(der: bytes) -> ParsedCertificate:
    try:
        return parse_der(der)
    except UnreadableCertificate:
        what = _identified(der)
        if what is None:
            raise
        raise NotACertificate(f"This is {what}, not a certificate.") from None


def _identified(der: bytes) -> str | None:
    for what, load in LOADERS:
        try:
            load(der)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return what
    return _identified_by_structure(der)


def _identified_by_structure(der: bytes) -> str | None:
    try:
        first = next(elements(contents(der)), b"")
        if first and first[0] == OBJECT_ID and contents(first) == SIGNED_DATA:
            return "a PKCS #7 bundle"
    except ValueError:
        return None
    return None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an administrator should know before a certificate is saved.

    An `error` means that it would never admit anybody. It may still be saved to bar its key, in an entry that
    is disabled, unless `blocks_barring`: then the key cannot even be recognised.
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    blocks_barring: bool = False


def findings_for_ca(certificate: ParsedCertificate, now: datetime) -> tuple[Finding, ...]:
    """For the CA certificate of a group."""
    problems = list(ca_problems(certificate))
    if not problems and (problem := form_problem(certificate)):
        problems = [problem]
    return tuple(_findings(certificate, problems, now))


def findings_for_device(
    certificate: ParsedCertificate | DeviceCertificate, now: datetime
) -> tuple[Finding, ...]:
    """For the certificate of an individual enrollment."""
    findings = list(_findings(certificate, problems_of_device(certificate), now))
    if certificate.is_ca:
        findings.append(
            Finding(
                "ca_as_device",
                "warning",
                "The certificate is a CA certificate. That is usual for self-signed device certificates; to "
                "admit devices below a CA, add an enrollment group instead.",
            )
        )
    return tuple(findings)


def findings_of_unparsed(certificate: UnparsedCertificate) -> tuple[Finding, ...]:
    """For one of either kind that is held, and cannot be looked at any more."""
    return tuple(_findings(certificate, certificate.problems, None))


def _findings(
    certificate: ParsedCertificate | DeviceCertificate, problems: Iterable[Problem], now: datetime | None
) -> Iterator[Finding]:
    for problem in problems:
        yield Finding(
            problem.code,
            "error",
            f"The certificate {problem.message}.",
            blocks_barring=blocks_barring(certificate),
        )
    if now is not None and (problem_of_dates := date_problem(certificate, now)) is not None:
        yield Finding(problem_of_dates.code, "warning", f"The certificate {problem_of_dates.message}.")
