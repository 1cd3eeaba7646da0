"""Certificates for the clients under test, minted while the tests run."""

import datetime
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
ONE_DAY = datetime.timedelta(days=1)


def issue(name, *, issuer=None, key=None, not_after=NOW + ONE_DAY):
    """A certificate and its key; self-signed without an issuer."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_certificate, issuer_key = issuer or (None, key)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_certificate.subject if issuer_certificate else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_after - 2 * ONE_DAY)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate, key


def write_chain(path: Path, leaf, *others) -> Path:
    """A PEM file with the leaf, its key and further certificates in the given order."""
    certificate, key = leaf
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for each in (certificate, *(other for other, _ in others)):
        pem += each.public_bytes(serialization.Encoding.PEM)
    path.write_bytes(pem)
    return path


def digest(issued) -> str:
    return hashlib.sha256(issued[0].public_bytes(serialization.Encoding.DER)).hexdigest()
