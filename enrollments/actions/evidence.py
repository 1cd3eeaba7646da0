"""Classes of evidence: devices that differ in their leaf alone, and share all that lies above it."""

import hashlib

from enrollments.actions.judging import Judgement

UNSIGNED = "?"


def evidence_class(judgement: Judgement) -> str:
    """What decides about a chain above its leaf, as a digest; empty for devices without certificates.

    The key that signed the leaf (a signature that was verified when the device proved itself), what the leaf says of
    its issuer, and the certificates above that are kept. Two devices of one class meet the same keys and the same
    groups, whatever is enrolled.
    """
    if not judgement.chain:
        return ""
    leaf, *above = judgement.chain
    parts = [judgement.signer, leaf.issuer_sha256, leaf.authority_key_id or ""]
    parts += sorted(one.thumbprint_sha256 for one in above)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    # Nobody's signature under the leaf was verified: whether one will be, once its issuer is enrolled, differs.
    return digest if judgement.signer else f"{UNSIGNED}{digest[1:]}"


def is_signed(evidence: str) -> bool:
    """Whether the devices of this class share a verified signature under their leaf."""
    return not evidence.startswith(UNSIGNED)
