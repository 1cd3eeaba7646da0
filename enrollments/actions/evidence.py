"""Classes of evidence: devices that differ in their leaf alone, and share all that lies above it."""

import hashlib

from enrollments.actions.judging import Judgement
from enrollments.attestation.x509 import can_end_a_path

# What stands in the first place of a class: nobody's signature under the leaf was verified; the leaf can be on no path.
UNSIGNED = "?"
UNFIT = "!"


def evidence_class(judgement: Judgement) -> str:
    """What decides about a chain above its leaf, as a digest; empty for devices without certificates.

    The key that signed the leaf (a signature that was verified when the device proved itself), what the leaf says of
    its issuer, the certificates above that are kept, and whether the leaf can stand on a path at all. Two devices of
    one class meet the same keys and the same groups, and have valid paths to the same ones, whatever is enrolled.
    """
    if not judgement.chain:
        return ""
    leaf, *above = judgement.chain
    parts = [judgement.signer, leaf.issuer_sha256, leaf.authority_key_id or ""]
    if not judgement.signer and not above:
        # Whether a signature will be verified, once the issuer is enrolled, differs from one leaf to the next.
        return f"{UNSIGNED}{_digest(*parts)[1:]}"
    parts += sorted(one.thumbprint_sha256 for one in above)
    if not judgement.signer or any(one.spki_sha256 == leaf.spki_sha256 for one in above):
        # What lies above is there by other certificates of its own key: it is a class by itself.
        parts.append(leaf.thumbprint_sha256)
    digest = _digest(*parts)
    is_fit = bool(judgement.on_valid_paths) or can_end_a_path(leaf)
    return digest if is_fit else f"{UNFIT}{digest[1:]}"


def is_signed(evidence: str) -> bool:
    """Whether the devices of this class share a verified signature under their leaf."""
    return not evidence.startswith(UNSIGNED)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
