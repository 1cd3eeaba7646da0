"""X.509: certificates as evidence. What may be imported from outside stands here."""

from enrollments.attestation.x509.certificate import MAX_CERTIFICATE_BYTES, ParsedCertificate, parse_der
from enrollments.attestation.x509.der import elements
from enrollments.attestation.x509.device import FORM, DeviceCertificate, as_values, from_values, own_key_id
from enrollments.attestation.x509.errors import (
    EmptyUpload,
    InvalidPath,
    LeafRefused,
    NoCertificate,
    NoSingleCommonName,
    NotACertificate,
    NotOneCertificate,
    PossessionNotProven,
    PrivateKeyInUpload,
    SearchExhausted,
    TooManyCertificates,
    UnreadableCertificate,
    UploadTooLarge,
)
from enrollments.attestation.x509.facts import CertificateFacts
from enrollments.attestation.x509.leaf import check_leaf, registration_id_of
from enrollments.attestation.x509.path import PathValidator
from enrollments.attestation.x509.possession import check_possession, read_one
from enrollments.attestation.x509.requirements import (
    Problem,
    ca_problems,
    device_problems,
    has_name_constraints,
    leaf_problems,
)
from enrollments.attestation.x509.search import (
    MAX_DEPTH,
    MAX_HELD,
    MAX_SENT,
    MAX_SIGNATURE_CHECKS,
    ChainGraph,
    IssuerLookup,
    PresentedChain,
    build_chain_graph,
    computed_key_ids,
    read_presented,
)
from enrollments.attestation.x509.upload import (
    MAX_UPLOAD_BYTES,
    Finding,
    findings_for_ca,
    findings_for_device,
    read_upload,
    refuse_private_keys,
)

__all__ = [
    "FORM",
    "MAX_CERTIFICATE_BYTES",
    "MAX_DEPTH",
    "MAX_HELD",
    "MAX_SENT",
    "MAX_SIGNATURE_CHECKS",
    "MAX_UPLOAD_BYTES",
    "CertificateFacts",
    "ChainGraph",
    "DeviceCertificate",
    "EmptyUpload",
    "Finding",
    "InvalidPath",
    "IssuerLookup",
    "LeafRefused",
    "NoCertificate",
    "NoSingleCommonName",
    "NotACertificate",
    "NotOneCertificate",
    "ParsedCertificate",
    "PathValidator",
    "PossessionNotProven",
    "PresentedChain",
    "PrivateKeyInUpload",
    "Problem",
    "SearchExhausted",
    "TooManyCertificates",
    "UnreadableCertificate",
    "UploadTooLarge",
    "as_values",
    "build_chain_graph",
    "ca_problems",
    "check_leaf",
    "check_possession",
    "computed_key_ids",
    "device_problems",
    "elements",
    "findings_for_ca",
    "findings_for_device",
    "from_values",
    "has_name_constraints",
    "leaf_problems",
    "own_key_id",
    "parse_der",
    "read_one",
    "read_presented",
    "read_upload",
    "refuse_private_keys",
    "registration_id_of",
]
