"""Certificates minted while tests run: roots, intermediates, leaves, and the odd ones somebody will send."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from enrollments.attestation.x509 import ParsedCertificate, parse_der
from enrollments.attestation.x509.der import contents, elements

NOW = datetime.now(UTC).replace(microsecond=0)
YESTERDAY = NOW - timedelta(days=1)
NEXT_YEAR = NOW + timedelta(days=365)
EXPIRED = {"not_before": NOW - timedelta(days=30), "not_after": NOW - timedelta(days=1)}
NOT_YET_VALID = {"not_before": NOW + timedelta(days=1), "not_after": NOW + timedelta(days=30)}

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH

Key = CertificateIssuerPrivateKeyTypes


def new_key(kind: str = "P-256") -> Key:
    """`P-256`, `P-384`, `P-521`, `secp256k1`, `Ed25519`, or `RSA 2048`: RSA keys take long and are shared."""
    curves = {
        "P-256": ec.SECP256R1,
        "P-384": ec.SECP384R1,
        "P-521": ec.SECP521R1,
        "secp256k1": ec.SECP256K1,
        "brainpool": ec.BrainpoolP256R1,
    }
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa_key(int(kind.removeprefix("RSA ")))


@functools.cache
def rsa_key(bits: int, number: int = 0) -> rsa.RSAPrivateKey:
    """The same key for the same bits and number, all through one run."""
    return rsa.generate_private_key(65537, bits)


def name(*common_names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common_names])


@dataclass(frozen=True)
class Minted:
    """A certificate with its private key, and the one that issued it (None if it signed itself)."""

    certificate: x509.Certificate
    key: Key
    issuer: "Minted | None" = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @functools.cached_property
    def parsed(self) -> ParsedCertificate:
        return parse_der(self.der)

    @property
    def chain(self) -> "list[Minted]":
        """This and its issuers, without the one that signed itself: what a device sends."""
        return [self, *(self.issuer.chain if self.issuer and self.issuer.issuer else [])]

    def chain_pem(self, *more: "Minted") -> str:
        return "".join(one.pem for one in [*self.chain, *more])

    def write(self, folder: Path, stem: str = "device") -> tuple[Path, Path]:
        """Files for a TLS client: the chain, and the key."""
        certificates, key = folder / f"{stem}.crt", folder / f"{stem}.key"
        certificates.write_text(self.chain_pem())
        key.write_text(self.key_pem)
        return certificates, key

    def intermediate(self, common_name: str, **options: object) -> "Minted":
        return mint(common_name, issuer=self, ca=True, **options)

    def leaf(self, *common_names: str, **options: object) -> "Minted":
        return mint(*common_names, issuer=self, **options)

    def reissued(self, common_name: str | None = None, **options: object) -> "Minted":
        """Another certificate for the same key and, unless one is given, the same name."""
        subject = name(common_name) if common_name else self.certificate.subject
        return mint(subject=subject, key=self.key, issuer=self.issuer, ca=self.parsed.is_ca, **options)

    def cross_signed_by(self, other: "Minted", **options: object) -> "Minted":
        """The same name and key, issued by another CA."""
        return mint(subject=self.certificate.subject, key=self.key, issuer=other, ca=True, **options)


def root(common_name: str, **options: object) -> Minted:
    return mint(common_name, ca=True, **options)


def self_signed(*common_names: str, **options: object) -> Minted:
    """A device certificate that nobody issued."""
    return mint(*common_names, **options)


def mint(
    *common_names: str,
    subject: x509.Name | None = None,
    key: Key | str = "P-256",
    issuer: Minted | None = None,
    issuer_name: x509.Name | None = None,
    ca: bool = False,
    path_length: int | None = None,
    basic_constraints: bool = True,
    key_cert_sign: bool | None = True,
    usages: Sequence[x509.ObjectIdentifier] | None = None,
    dns_names: Iterable[str] = (),
    subject_key_id: bytes | bool = True,
    authority_key_id: bytes | bool = True,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    not_before: datetime = YESTERDAY,
    not_after: datetime = NEXT_YEAR,
    digest: hashes.HashAlgorithm | None = None,
    rsa_padding: padding.PSS | None = None,
    serial_number: int | None = None,
) -> Minted:
    """One certificate. What an option leaves out is made as an ordinary CA would make it."""
    own_key = new_key(key) if isinstance(key, str) else key
    subject = name(*common_names) if subject is None else subject
    signing_key = issuer.key if issuer else own_key
    if issuer_name is None:
        issuer_name = issuer.certificate.subject if issuer else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(own_key.public_key())
        .serial_number(serial_number if serial_number is not None else x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if ca and basic_constraints:
        builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    if ca and key_cert_sign is not None:
        builder = builder.add_extension(_ca_key_usage(key_cert_sign), critical=True)
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if dns_names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in dns_names]), critical=False
        )
    if subject_key_id:
        identifier = (
            x509.SubjectKeyIdentifier(subject_key_id)
            if isinstance(subject_key_id, bytes)
            else x509.SubjectKeyIdentifier.from_public_key(own_key.public_key())
        )
        builder = builder.add_extension(identifier, critical=False)
    if authority_key_id and issuer:
        key_id = authority_key_id if isinstance(authority_key_id, bytes) else _key_id_of(issuer)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    has_digest = not isinstance(signing_key, ed25519.Ed25519PrivateKey)
    digest = (digest or hashes.SHA256()) if has_digest else None
    return Minted(builder.sign(signing_key, digest, rsa_padding=rsa_padding), own_key, issuer)


def _ca_key_usage(key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _key_id_of(issuer: Minted) -> bytes:
    declared = issuer.parsed.subject_key_id
    if declared:
        return bytes.fromhex(declared)
    return x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key()).digest


ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_WITH_SHA1 = bytes.fromhex("300906072a8648ce3d0401")


def with_edited_tbs(minted: Minted, edit: Callable[[bytes], bytes], *, sha1: bool = False) -> bytes:
    """DER of the certificate with its signed part edited, and signed again (issuers with an EC key only)."""
    tbs = edit(minted.certificate.tbs_certificate_bytes)
    signing_key = minted.issuer.key if minted.issuer else minted.key
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
    signature = signing_key.sign(tbs, ec.ECDSA(hashes.SHA1() if sha1 else hashes.SHA256()))
    algorithm = ECDSA_WITH_SHA1 if sha1 else ECDSA_WITH_SHA256
    return der_element(0x30, tbs + algorithm + der_element(0x03, b"\x00" + signature))


def signed_with_sha1(minted: Minted) -> Minted:
    """The same certificate signed with ECDSA and SHA-1, which the library no longer makes."""

    def edit(tbs: bytes) -> bytes:
        fields = [ECDSA_WITH_SHA1 if one == ECDSA_WITH_SHA256 else one for one in elements(contents(tbs))]
        return der_element(0x30, b"".join(fields))

    der = with_edited_tbs(minted, edit, sha1=True)
    return Minted(x509.load_der_x509_certificate(der), minted.key, minted.issuer)


def as_v1(minted: Minted) -> Minted:
    """The same certificate without version field and extensions."""

    def edit(tbs: bytes) -> bytes:
        return der_element(
            0x30, b"".join(one for one in elements(contents(tbs)) if one[0] not in (0xA0, 0xA3))
        )

    der = with_edited_tbs(minted, edit)
    return Minted(x509.load_der_x509_certificate(der), minted.key, minted.issuer)


def with_key_encoding(minted: Minted, spki: bytes) -> Minted:
    """The same certificate with its public key written in another way."""

    def edit(tbs: bytes) -> bytes:
        fields = list(elements(contents(tbs)))
        fields[6] = spki
        return der_element(0x30, b"".join(fields))

    der = with_edited_tbs(minted, edit)
    return Minted(x509.load_der_x509_certificate(der), minted.key, minted.issuer)


def der_element(tag: int, body: bytes) -> bytes:
    length = len(body)
    if length < 0x80:
        return bytes([tag, length]) + body
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def spki_with_compressed_point(key: Key) -> bytes:
    """The public key of an EC key with its point in compressed form."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm, _bits = elements(contents(spki))
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return der_element(0x30, algorithm + der_element(0x03, b"\x00" + point))


class Held:
    """Certificates that a service holds, in memory, answering as the database does and counting questions."""

    def __init__(self, *held: Minted | ParsedCertificate, same_key_included: bool = False) -> None:
        self.held = [one.parsed if isinstance(one, Minted) else one for one in held]
        self.same_key_included = same_key_included
        self.calls = 0
        self.asked: list[str] = []

    def __call__(
        self, *, subjects: frozenset[str], key_ids: frozenset[str], spkis: frozenset[str]
    ) -> list[ParsedCertificate]:
        self.calls += 1
        self.asked += [*subjects, *key_ids, *spkis]
        found = [
            one
            for one in self.held
            if one.subject_sha256 in subjects or one.subject_key_id in key_ids or one.spki_sha256 in spkis
        ]
        if self.same_key_included:
            keys = {one.spki_sha256 for one in found}
            found = [one for one in self.held if one.spki_sha256 in keys]
        return found
