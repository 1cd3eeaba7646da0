"""What certificates are found by, and by what those are found that issued them: no signature is checked for it."""

from typing import NamedTuple

from enrollments.attestation.x509 import ParsedCertificate


class Issuer(NamedTuple):
    """Of one certificate."""

    subject: str
    key_id: str
    spki: str
    issuer: str
    authority_key_id: str

    @classmethod
    def of(cls, one: ParsedCertificate) -> "Issuer":
        authority = one.authority_key_id or ""
        return cls(
            one.subject_sha256, one.subject_key_id or "", one.spki_sha256, one.issuer_sha256, authority
        )


# The same, of one that is held.
HELD = (
    "subject_sha256",
    "subject_key_id",
    "spki_sha256",
    "certificate__issuer_sha256",
    "certificate__authority_key_id",
)
