"""A device certificate by itself: whether a pinned one may be used, and whose name it carries."""

from datetime import datetime

from enrollments.attestation.x509.certificate import ParsedCertificate
from enrollments.attestation.x509.errors import LeafRefused, NoSingleCommonName
from enrollments.attestation.x509.facts import CertificateFacts
from enrollments.attestation.x509.requirements import date_problem, device_problems


def check_leaf(certificate: ParsedCertificate, at: datetime) -> None:
    """R9 for a certificate that an individual enrollment pins: key, signature algorithm, dates, key usage.

    The handshake has proven its key and the thumbprint says which it is, so it may be self-signed and v1.
    """
    problem = date_problem(certificate, at) or next(device_problems(certificate), None)
    if problem is not None:
        raise LeafRefused(f"The device certificate {problem.message}.")


def registration_id_of(certificate: CertificateFacts) -> str:
    """The one common name of the subject (R3); whether it is a registration ID, R2 says."""
    if len(certificate.common_names) != 1:
        raise NoSingleCommonName(
            f"The subject of the certificate has {len(certificate.common_names)} common names (CN); "
            "it needs exactly one."
        )
    return certificate.common_names[0]
