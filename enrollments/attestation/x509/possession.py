"""Proof of possession: whoever holds the key of a CA signs a certificate that carries a code of ours."""

import hmac
from datetime import datetime

from enrollments.attestation.x509.certificate import ParsedCertificate
from enrollments.attestation.x509.errors import NotOneCertificate, PossessionNotProven
from enrollments.attestation.x509.requirements import (
    Problem,
    date_problem,
    key_problem,
    path_signature_problem,
)
from enrollments.attestation.x509.search import is_signed_by
from enrollments.attestation.x509.upload import read_upload


def read_one(data: bytes | str) -> ParsedCertificate:
    """The one certificate of an upload. Raises NotOneCertificate, and what read_upload raises."""
    certificates = read_upload(data)
    if len(certificates) != 1:
        raise NotOneCertificate(
            f"This holds {len(certificates)} certificates, and one is taken: give the one that is meant by itself."
        )
    return certificates[0]


def check_possession(proof: ParsedCertificate, ca: ParsedCertificate, code: str, at: datetime) -> None:
    """Whether `proof` shows that somebody with the key of `ca` knew the code. Raises PossessionNotProven.

    Nobody but the holder of the key can sign it, and nobody could sign it before the code was made. It is no device:
    it may be of version 1, as plain tools make it, and nothing is asked of its extensions but that it is no CA.
    """
    if not code:
        # Nothing to check is a failure: an empty common name proves nothing.
        raise PossessionNotProven("There is no verification code to answer.")
    problem = _problem(proof, at)
    if problem is not None:
        raise PossessionNotProven(f"The verification certificate {problem.message}.")
    if len(proof.common_names) != 1:
        raise PossessionNotProven(
            f"The subject of the verification certificate has {len(proof.common_names)} common names (CN); "
            "it needs exactly one, the verification code."
        )
    if not hmac.compare_digest(proof.common_names[0].encode("utf-8", "surrogatepass"), code.encode()):
        raise PossessionNotProven(
            "The common name (CN) of the verification certificate is not the verification code that stands now."
        )
    if proof.issuer_sha256 != ca.subject_sha256:
        raise PossessionNotProven(
            f"The verification certificate names {proof.issuer or 'nobody'} as its issuer, and not {ca.subject}."
        )
    if not is_signed_by(proof, ca.public_key):
        raise PossessionNotProven(
            f"The verification certificate is not signed with the key of {ca.subject}, although it names it as its "
            "issuer."
        )


def _problem(proof: ParsedCertificate, at: datetime) -> Problem | None:
    return (
        key_problem(proof) or path_signature_problem(proof) or _ca_problem(proof) or date_problem(proof, at)
    )


def _ca_problem(proof: ParsedCertificate) -> Problem | None:
    """A CA named like the code would be one more CA below the one that is proven, for nothing."""
    if not proof.is_ca:
        return None
    return Problem("proof_is_ca", "is a CA certificate; sign one whose basic constraints do not say CA")
