"""TPM attestation: public areas in, a key that only the TPM can open out.

Structures are named as in the TPM 2.0 Library specification, revision 1.59; comments cite part and section.
"""

from enrollments.attestation.tpm.public_area import (
    MAX_PUBLIC_BYTES,
    StorageKey,
    TpmKeyMalformed,
    read_endorsement_key,
    read_storage_root_key,
    unwrapped,
)
from enrollments.attestation.tpm.wrapping import HMAC_KEY_BYTES, new_hmac_key, wrap_hmac_key

__all__ = [
    "HMAC_KEY_BYTES",
    "MAX_PUBLIC_BYTES",
    "StorageKey",
    "TpmKeyMalformed",
    "new_hmac_key",
    "read_endorsement_key",
    "read_storage_root_key",
    "unwrapped",
    "wrap_hmac_key",
]
