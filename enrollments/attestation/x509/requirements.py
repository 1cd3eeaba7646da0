"""What R9 asks of one certificate by itself: its key, its signature, its dates, its extensions.

Each rule answers with a Problem or None, so that an upload hears what a registration would be refused for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from enrollments.attestation.x509.certificate import (
    ParsedCertificate,
    extension_of,
    is_costly,
    key_is_encoded_canonically,
    signature_algorithm_encoding,
    signature_hash,
    signature_parameters,
)
from enrollments.attestation.x509.facts import CertificateFacts

MINIMUM_RSA_BITS = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
SHA_2 = frozenset({"sha224", "sha256", "sha384", "sha512"})
# The library's verifier knows these and no other digest of the family.
SHA_2_ON_PATHS = frozenset({"sha256", "sha384", "sha512"})
# It knows RSA-PSS in exactly three encodings: digest, MGF1 with the same digest, salt as long as the digest.
PSS_ON_PATHS = frozenset(
    bytes.fromhex(
        "304106092a864886f70d01010a3034"
        f"a00f300d06096086480165030402{digest}0500"
        f"a11c301a06092a864886f70d010108300d06096086480165030402{digest}0500"
        f"a2030201{salt}"
    )
    for digest, salt in (("01", "20"), ("02", "30"), ("03", "40"))
)
# What the library's verifier takes account of. Certificate policies are not among them: we process none, so a
# critical one refuses the path, as RFC 5280, section 4.2, demands of an extension that is not processed.
PROCESSED_EXTENSIONS = frozenset(
    {
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
    }
)
# The library compares these with the subject alternative names. Mail addresses it compares there only, though
# one may stand in the subject too (RFC 5280, 4.2.1.10), so they count as a kind that cannot be checked.
CHECKED_CONSTRAINTS = (x509.DNSName, x509.IPAddress)
CLIENT_USAGES = frozenset(
    {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE},
)


@dataclass(frozen=True, slots=True)
class Problem:
    code: str
    message: str
    """The end of a sentence that begins with the name of the certificate: `has an RSA 1024 key; ...`."""


def device_problems(certificate: ParsedCertificate) -> Iterator[Problem]:
    """What keeps a device certificate out for good, pinned or on a path."""
    yield from filter(
        None, (key_problem(certificate), signature_problem(certificate), usage_problem(certificate))
    )


def leaf_problems(certificate: ParsedCertificate) -> Iterator[Problem]:
    """What keeps a device certificate from standing at the lower end of a path."""
    yield from filter(
        None,
        (
            key_problem(certificate),
            path_signature_problem(certificate),
            version_problem(certificate),
            usage_problem(certificate),
            leaf_is_ca_problem(certificate),
            critical_extension_problem(certificate),
            name_constraint_problem(certificate),
        ),
    )


def ca_problems(certificate: ParsedCertificate) -> Iterator[Problem]:
    """What keeps a CA certificate from standing on a path, in the middle or at its upper end.

    Extended key usages of a CA are not looked at: RFC 5280 gives them no meaning for the certificates below.
    """
    yield from filter(
        None,
        (
            key_problem(certificate) or issuing_key_problem(certificate),
            path_signature_problem(certificate),
            version_problem(certificate),
            ca_flag_problem(certificate) or key_usage_problem(certificate),
            critical_extension_problem(certificate),
            name_constraint_problem(certificate),
        ),
    )


def key_problem(certificate: ParsedCertificate) -> Problem | None:
    if is_costly(certificate.public_key):
        return Problem("costly_key", "has a key whose signatures take too long to check (size or exponent)")
    match certificate.public_key:
        case rsa.RSAPublicKey() as key if key.key_size >= MINIMUM_RSA_BITS:
            return None
        case rsa.RSAPublicKey():
            return Problem(
                "weak_key", f"has an {certificate.key_description} key; RSA keys need at least 2048 bits"
            )
        case ec.EllipticCurvePublicKey() as key if isinstance(key.curve, CURVES):
            return None
        case ed25519.Ed25519PublicKey():
            return None
        case None:
            return Problem("unreadable_key", "has a public key of a kind that cannot be read")
        case _:
            return Problem(
                "unsupported_key",
                f"has a key of the kind {certificate.key_description}; RSA, P-256, P-384, P-521 "
                "and (for devices) Ed25519 are accepted",
            )


def issuing_key_problem(certificate: ParsedCertificate) -> Problem | None:
    """The library validates no signature made by an Ed25519 key, and no key in an odd encoding."""
    if isinstance(certificate.public_key, ed25519.Ed25519PublicKey):
        return Problem("unsupported_key", "is a CA with an Ed25519 key, whose signatures cannot be validated")
    if not key_is_encoded_canonically(certificate):
        return Problem("unsupported_key", "encodes the algorithm of its public key in an unusual way")
    return None


def signature_problem(certificate: ParsedCertificate) -> Problem | None:
    """For a pinned certificate: the signature is not checked, its algorithm is (R9)."""
    digest = signature_hash(certificate.certificate)
    if certificate.certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519:
        return None
    if digest is not None and digest.name in SHA_2:
        return None
    return Problem(
        "weak_signature", f"is signed with {certificate.signature_description}; signatures need SHA-2"
    )


def path_signature_problem(certificate: ParsedCertificate) -> Problem | None:
    """For a certificate on a path, the anchor's own signature included (R9 makes no difference)."""
    digest = signature_hash(certificate.certificate)
    if digest is None or digest.name not in SHA_2_ON_PATHS:
        return Problem(
            "weak_signature",
            f"is signed with {certificate.signature_description}; on a path signatures need SHA-256, "
            "SHA-384 or SHA-512 with RSA or ECDSA",
        )
    is_pss = isinstance(signature_parameters(certificate.certificate), padding.PSS)
    if is_pss and signature_algorithm_encoding(certificate) not in PSS_ON_PATHS:
        return Problem(
            "unsupported_signature",
            "is signed with RSA-PSS in a form that cannot be validated; salt and MGF1 must match the digest",
        )
    return None


def version_problem(certificate: ParsedCertificate) -> Problem | None:
    if certificate.version != 3:
        return Problem("old_version", f"is an X.509 v{certificate.version} certificate; a path needs v3")
    return None


def date_problem(certificate: CertificateFacts, at: datetime) -> Problem | None:
    if at < certificate.not_before:
        return Problem("not_yet_valid", f"is not valid before {certificate.not_before:%Y-%m-%d %H:%M:%S} UTC")
    if at > certificate.not_after:
        return Problem("expired", f"expired on {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC")
    return None


def usage_problem(certificate: ParsedCertificate) -> Problem | None:
    usages = extension_of(certificate, x509.ExtendedKeyUsage)
    if usages is None or CLIENT_USAGES.intersection(usages):
        return None
    return Problem(
        "not_for_clients", "has an extended key usage that allows neither client authentication nor any use"
    )


def leaf_is_ca_problem(certificate: ParsedCertificate) -> Problem | None:
    """A CA that registers as a device of a group would be the key of many devices posing as one."""
    if certificate.is_ca:
        return Problem("leaf_is_ca", "is a CA certificate, which cannot register as a device of a group")
    return None


def ca_flag_problem(certificate: ParsedCertificate) -> Problem | None:
    if certificate.is_ca:
        return None
    return Problem("not_a_ca", "is not a CA certificate (its basic constraints do not say CA)")


def key_usage_problem(certificate: ParsedCertificate) -> Problem | None:
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None or usage.key_cert_sign:
        return None
    return Problem("no_cert_sign", "has a key usage that does not allow it to sign certificates")


def critical_extension_problem(certificate: ParsedCertificate) -> Problem | None:
    for extension in certificate.certificate.extensions:
        if extension.critical and extension.oid not in PROCESSED_EXTENSIONS:
            oid = extension.oid.dotted_string[:64]
            return Problem(
                "unknown_critical_extension", f"has a critical extension that is not processed here ({oid})"
            )
    return None


def name_constraint_problem(certificate: ParsedCertificate) -> Problem | None:
    """R9: a kind of constraint that cannot be checked refuses the path, critical or not."""
    constraints = extension_of(certificate, x509.NameConstraints)
    if constraints is None:
        return None
    for name in [*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())]:
        if not isinstance(name, CHECKED_CONSTRAINTS):
            return Problem(
                "unchecked_name_constraint",
                f"has a name constraint of a kind that cannot be checked ({type(name).__name__}); "
                "only DNS names and IP addresses can",
            )
    return None


def _must_sign_certificates(
    _policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None
) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("keyCertSign is not asserted")


# The library's own defaults are made for web servers: they would demand a subject alternative name of a
# device and a key identifier of each CA. They are replaced explicitly by what R9 asks.
CA_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _must_sign_certificates)
)
DEVICE_POLICY = ExtensionPolicy.permit_all()


def form_problem(certificate: ParsedCertificate) -> Problem | None:
    """What the library's verifier has against this one certificate: serial number, form of dates, and such.

    A certificate that is its own anchor is looked at and found, without any signature.
    """
    verifier = (
        PolicyBuilder()
        .store(Store([certificate.certificate]))
        .time(certificate.not_before)
        .extension_policies(ca_policy=CA_POLICY, ee_policy=DEVICE_POLICY)
        .build_client_verifier()
    )
    try:
        verifier.verify(certificate.certificate, [])
    except VerificationError as error:
        return Problem("unsupported_form", f"is refused by path validation: {verifier_words(error)}")
    return None


def verifier_words(error: VerificationError) -> str:
    """The library's reason without its wrapping, on one line and of bounded length."""
    words = str(error).split(" (encountered processing")[0].removeprefix("validation failed: ")
    words = words.removeprefix("candidates exhausted: ")
    return "".join(character for character in words if character.isprintable())[:200]


def has_name_constraints(certificate: ParsedCertificate) -> bool:
    """Whether a CA says which names may stand below it (RFC 5280, 4.2.1.10)."""
    return extension_of(certificate, x509.NameConstraints) is not None
