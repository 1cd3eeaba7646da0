"""Certificates for simulated devices: made on the fly and kept in a folder, or read from given PEM files."""

import base64
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from enrollments.errors import DpsError
from enrollments.simulator.credentials import CertificateFiles
from enrollments.simulator.files import write_whole

CA_LIFE = timedelta(days=3650)
DEVICE_LIFE = timedelta(days=397)
PROOF_LIFE = timedelta(days=1)
RENEW_BEFORE = timedelta(days=1)
CLOCK_SKEW = timedelta(hours=1)
# RFC 5280, appendix A.1: ub-common-name.
MAX_COMMON_NAME = 64

# The kinds that R9 admits.
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class PkiProblem(DpsError):
    """A given file is not what it should be."""

    code = "pki"


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can issue. `sent_above` is what a device sends above its leaf: every issuer but the root."""

    certificate: x509.Certificate
    key: Key
    sent_above: tuple[x509.Certificate, ...] = ()


class PkiFolder:
    """Authorities, devices and symmetric keys in files. What is there is used again, what is missing is made.

    `NAME.pem` holds a certificate, for a device followed by the intermediates to be sent; `NAME.key` its key.
    `prefix` holds what the registration IDs of the fleet begin with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.devices = path / "devices"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.devices.mkdir(mode=0o700, exist_ok=True)

    @property
    def prefix(self) -> str:
        """That of the fleet which was made here last; empty in a new folder."""
        path = self.path / "prefix"
        return path.read_text().strip() if path.exists() else ""

    def keep_prefix(self, prefix: str) -> None:
        write_whole(self.path / "prefix", f"{prefix}\n".encode(), mode=0o644)

    def root(self, stem: str, common_name: str, *, path_length: int = 1) -> Authority:
        return self._authority(
            stem, lambda key: _certificate(key, common_name, life=CA_LIFE, path_length=path_length)
        )

    def intermediate(self, stem: str, common_name: str, issuer: Authority) -> Authority:
        return self._authority(
            stem,
            lambda key: _certificate(key, common_name, issuer=issuer, life=CA_LIFE, path_length=0),
            issuer=issuer,
        )

    def device(self, issuer: Authority, registration_id: str, *, stem: str = "") -> CertificateFiles:
        """A device below an authority; one whose certificate runs out is given a new one."""
        return self._device(
            stem or registration_id,
            lambda key: _certificate(key, registration_id, issuer=issuer, life=DEVICE_LIFE),
            issuer.sent_above,
        )

    def self_signed_device(self, registration_id: str) -> CertificateFiles:
        """A device that nobody vouches for. It lives long: an enrollment pins this very certificate."""
        return self._device(
            registration_id, lambda key: _certificate(key, registration_id, life=CA_LIFE), sent_above=()
        )

    def given_device(self, files: CertificateFiles, chain: Path | None) -> CertificateFiles:
        """A device from files of the user's, with the chain to be sent in one file."""
        certificates = read_certificates(files.chain) + (read_certificates(chain) if chain else [])
        key = read_key(files.key, certificates[0])
        given = CertificateFiles(self.path / "given.pem", self.path / "given.key")
        write_whole(given.key, _pem_of_key(key), mode=0o600)
        write_whole(given.chain, _pem(certificates), mode=0o644)
        return given

    def symmetric_key(self, registration_id: str) -> str:
        """A symmetric key of a device, base64 as enrollments hold it."""
        path = self.devices / f"{registration_id}.symmetric-key"
        if not path.exists():
            write_whole(path, base64.b64encode(secrets.token_bytes(64)) + b"\n", mode=0o600)
        return path.read_text().strip()

    def _authority(
        self,
        stem: str,
        make: Callable[[ec.EllipticCurvePrivateKey], x509.Certificate],
        issuer: Authority | None = None,
    ) -> Authority:
        path, key_path = self.path / f"{stem}.pem", self.path / f"{stem}.key"
        if not (path.exists() and key_path.exists()):
            key = ec.generate_private_key(ec.SECP256R1())
            write_whole(key_path, _pem_of_key(key), mode=0o600)
            write_whole(path, _pem([make(key)]), mode=0o644)
        certificate = read_certificates(path)[0]
        if issuer is not None and not _is_issued_by(certificate, issuer.certificate):
            raise PkiProblem(f"{path} was not issued by the CA it is to stand under: use another folder.")
        sent_above = (certificate, *issuer.sent_above) if issuer else ()
        return Authority(certificate, read_key(key_path, certificate), sent_above)

    def _device(
        self,
        stem: str,
        make: Callable[[ec.EllipticCurvePrivateKey], x509.Certificate],
        sent_above: tuple[x509.Certificate, ...],
    ) -> CertificateFiles:
        path, key_path = self.devices / f"{stem}.pem", self.devices / f"{stem}.key"
        if not (path.exists() and key_path.exists() and _lives(path) and _is_below(path, sent_above)):
            key = ec.generate_private_key(ec.SECP256R1())
            write_whole(key_path, _pem_of_key(key), mode=0o600)
            write_whole(path, _pem([make(key), *sent_above]), mode=0o644)
        return CertificateFiles(path, key_path)


def given_authority(files: CertificateFiles, chain: Path | None) -> Authority:
    """A CA from files of the user's, to make devices below it."""
    certificates = read_certificates(files.chain) + (read_certificates(chain) if chain else [])
    authority = certificates[0]
    if not _is_ca(authority):
        raise PkiProblem(f"{files.chain} is not a CA certificate, so no devices can be made below it.")
    sent_above = tuple(one for one in certificates if one.subject != one.issuer)
    return Authority(authority, read_key(files.key, authority), sent_above)


def verification_certificate(authority: Authority, code: str) -> x509.Certificate:
    """What answers a verification code. Its own key serves for nothing, and is not kept."""
    return _certificate(ec.generate_private_key(ec.SECP256R1()), code, issuer=authority, life=PROOF_LIFE)


def read_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise PkiProblem(f"{path} cannot be read as certificates in PEM form: {_brief(problem)}.") from None


def read_key(path: Path, certificate: x509.Certificate) -> Key:
    """The private key of a certificate. Raises PkiProblem where it is another's."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise PkiProblem(
            f"{path} cannot be read as an unencrypted private key in PEM form: {_brief(problem)}."
        ) from None
    if not isinstance(key, Key):
        raise PkiProblem(f"{path} holds a key that is neither RSA, EC nor Ed25519.")
    if key.public_key() != certificate.public_key():
        raise PkiProblem(f"{path} is not the key of the certificate {certificate.subject.rfc4514_string()}.")
    return key


def common_name(certificate: x509.Certificate) -> str:
    """The one common name of a device certificate, which is the registration ID. Raises PkiProblem."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise PkiProblem("The device certificate does not have exactly one common name.")
    return str(names[0].value)


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    subject: str,
    *,
    issuer: Authority | None = None,
    life: timedelta,
    path_length: int | None = None,
) -> x509.Certificate:
    """A CA certificate if it has a path length, else a device's; signed by itself without an issuer."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    signing_key = issuer.key if issuer else key
    is_ca, now = path_length is not None, datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
        .add_extension(_key_usage(is_ca=is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(_authority_key_id(issuer), critical=False)
    if not is_ca:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
    pure = isinstance(signing_key, ed25519.Ed25519PrivateKey)
    return builder.sign(signing_key, None if pure else hashes.SHA256())


def _authority_key_id(issuer: Authority) -> x509.AuthorityKeyIdentifier:
    """The identifier that the issuer gives itself, which it need not have computed as we would."""
    try:
        own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_below(path: Path, sent_above: tuple[x509.Certificate, ...]) -> bool:
    kept = read_certificates(path)
    return kept[1:] == list(sent_above) and (not sent_above or _is_issued_by(kept[0], sent_above[0]))


def _lives(path: Path) -> bool:
    return read_certificates(path)[0].not_valid_after_utc > datetime.now(UTC) + RENEW_BEFORE


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _pem_of_key(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _brief(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return (str(problem).splitlines() or [type(problem).__name__])[0].rstrip(".")
