"""What a certificate says, as plain values: all that is kept of it, and all that finds it again."""

from binascii import b2a_base64
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """Two are equal when their bytes are.

    Names are compared by the digest of their DER encoding, byte by byte as the library's verifier does and
    not by the folding of RFC 5280, section 7.1: one text in two string types is two names.
    """

    der: bytes
    subject: str = field(compare=False)
    issuer: str = field(compare=False)
    subject_sha256: str = field(compare=False)
    issuer_sha256: str = field(compare=False)
    common_names: tuple[str, ...] = field(compare=False)
    serial_number: str = field(compare=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    thumbprint_sha1: str = field(compare=False)
    thumbprint_sha256: str = field(compare=False)
    spki_sha256: str = field(compare=False)
    subject_key_id: str | None = field(compare=False)
    authority_key_id: str | None = field(compare=False)
    is_ca: bool = field(compare=False)
    path_length: int | None = field(compare=False)
    key_description: str = field(compare=False)
    signature_description: str = field(compare=False)
    version: int = field(compare=False)
    """1 or 3, as people count; a field on the wire says one less."""

    @property
    def is_self_issued(self) -> bool:
        return self.subject_sha256 == self.issuer_sha256

    @property
    def pem(self) -> str:
        body = b2a_base64(self.der, newline=False).decode("ascii")
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
