"""Opening what is protected for a TPM: credentials and duplicates (TPM 2.0 Part 1, 23 and 24).

Integrity is checked before anything is decrypted, and each way in which a blob can be wrong has a class of its own.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256

from enrollments.simulator.tpm_structures import (
    AES_KEY_BYTES,
    ALG_KEYEDHASH,
    DIGEST_BYTES,
    MAX_HMAC_KEY_BYTES,
    HmacPublicArea,
    Reader,
    TpmRefusal,
    u32,
)

# Labels are null-terminated strings, and the terminating zero is part of them (Part 1, annex B and 11.4.10.2).
IDENTITY, DUPLICATE = b"IDENTITY\0", b"DUPLICATE\0"
STORAGE, INTEGRITY = b"STORAGE\0", b"INTEGRITY\0"


class CredentialSeedUnreadable(TpmRefusal):
    """The seed of the credential was not encrypted to this endorsement key."""

    code = "tpm_credential_seed_unreadable"


class CredentialIntegrityWrong(TpmRefusal):
    """The credential was damaged, or made for another storage root key."""

    code = "tpm_credential_integrity_wrong"


class CredentialMalformed(TpmRefusal):
    """The credential is intact, and not what a credential is."""

    code = "tpm_credential_malformed"


class DuplicateSeedUnreadable(TpmRefusal):
    """The seed of the duplicate was not encrypted to this storage root key."""

    code = "tpm_duplicate_seed_unreadable"


class OuterIntegrityWrong(TpmRefusal):
    """The duplicate was damaged, or belongs to another public area."""

    code = "tpm_outer_integrity_wrong"


class InnerIntegrityWrong(TpmRefusal):
    """The duplicate was wrapped with another key than the one in the credential."""

    code = "tpm_inner_integrity_wrong"


class SensitiveMalformed(TpmRefusal):
    """What the duplicate protects is not the sensitive area of an HMAC key."""

    code = "tpm_sensitive_malformed"


class BindingWrong(TpmRefusal):
    """Sensitive and public area do not belong together."""

    code = "tpm_binding_wrong"


@dataclass(frozen=True, slots=True)
class Sensitive:
    """TPMT_SENSITIVE of a KEYEDHASH object (Part 2, 12.3.2.4), without its authorization value, which is empty."""

    seed: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def unique(self) -> bytes:
        """What the public area must hold: the digest over seedValue and key (Part 1, 27.5.3.2)."""
        return hashlib.sha256(self.seed + self.key).digest()


def kdf_a(key: bytes, label: bytes, context_u: bytes, context_v: bytes, bits: int) -> bytes:
    """KDFa with SHA-256 (Part 1, 11.4.10.2), which is SP 800-108 in counter mode. `label` ends in its zero."""
    count = -(-bits // (8 * DIGEST_BYTES))
    blocks = [
        hmac.digest(key, u32(counter) + label + context_u + context_v + u32(bits), hashlib.sha256)
        for counter in range(1, count + 1)
    ]
    return b"".join(blocks)[: bits // 8]


def aes_cfb_decrypt(key: bytes, octets: bytes) -> bytes:
    """AES-128 in CFB mode with an initial vector of zeros, as everywhere in protected storage."""
    decryptor = Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor()
    return decryptor.update(octets) + decryptor.finalize()


def oaep_decrypt(
    key: rsa.RSAPrivateKey, label: bytes, secret: bytes, what: str, refusal: type[TpmRefusal]
) -> bytes:
    """A seed that was encrypted to a storage key (Part 1, annex B): as long as the digest of its nameAlg."""
    oaep = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=label)
    try:
        seed = key.decrypt(secret, oaep)
    except ValueError:
        raise refusal(f"{what} is not readable with the key of this TPM.") from None
    if len(seed) != DIGEST_BYTES:
        raise refusal(f"{what} has {len(seed)} octets instead of {DIGEST_BYTES}.")
    return seed


def open_credential(ek: rsa.RSAPrivateKey, activated: bytes, id_object: bytes, secret: bytes) -> bytes:
    """TPM2_ActivateCredential (Part 3, 12.5; Part 1, 24): the credential, which is for the object `activated`."""
    seed = oaep_decrypt(ek, IDENTITY, secret, "The seed of the credential", CredentialSeedUnreadable)
    outside = Reader(id_object, "The TPM2B_ID_OBJECT", CredentialMalformed)
    integrity, encrypted = outside.sized(DIGEST_BYTES), outside.rest()
    if not _is_intact(seed, integrity, encrypted + activated):
        raise CredentialIntegrityWrong(
            "The credential was damaged, or it is for another storage root key than that of this TPM."
        )
    storage_key = kdf_a(seed, STORAGE, activated, b"", 8 * AES_KEY_BYTES)
    inside = Reader(aes_cfb_decrypt(storage_key, encrypted), "The credential", CredentialMalformed)
    credential = inside.sized()
    inside.done()
    if len(credential) > DIGEST_BYTES:
        raise CredentialMalformed(
            f"The credential has {len(credential)} octets; at most {DIGEST_BYTES} are allowed."
        )
    return credential


def open_duplicate(
    srk: rsa.RSAPrivateKey, wrapping_key: bytes, public: HmacPublicArea, duplicate: bytes, secret: bytes
) -> Sensitive:
    """TPM2_Import (Part 3, 13.3): undo the outer and the inner wrapper (Part 1, 23.3.2) of an HMAC key."""
    if len(wrapping_key) != AES_KEY_BYTES:
        raise CredentialMalformed(
            f"The credential has {len(wrapping_key)} octets; the inner wrapper of AES-128 needs {AES_KEY_BYTES}."
        )
    seed = oaep_decrypt(srk, DUPLICATE, secret, "The seed of the duplicate", DuplicateSeedUnreadable)
    inner = aes_cfb_decrypt(wrapping_key, _without_outer_wrapper(seed, public.name, duplicate))
    sensitive = _without_inner_wrapper(inner, public.name)
    return _read_sensitive(sensitive)


def _without_outer_wrapper(seed: bytes, name: bytes, duplicate: bytes) -> bytes:
    outside = Reader(duplicate, "The duplicate", OuterIntegrityWrong)
    integrity, encrypted = outside.sized(DIGEST_BYTES), outside.rest()
    if not _is_intact(seed, integrity, encrypted + name):
        raise OuterIntegrityWrong("The duplicate was damaged, or it belongs to another public area.")
    return aes_cfb_decrypt(kdf_a(seed, STORAGE, name, b"", 8 * AES_KEY_BYTES), encrypted)


def _without_inner_wrapper(inner: bytes, name: bytes) -> bytes:
    """The TPM2B_SENSITIVE, size included: the digest in front of it goes over both and the Name."""
    reader = Reader(inner, "The duplicate without its outer wrapper", InnerIntegrityWrong)
    digest, sensitive = reader.sized(DIGEST_BYTES), reader.rest()
    if not hmac.compare_digest(digest, hashlib.sha256(sensitive + name).digest()):
        raise InnerIntegrityWrong("The duplicate was wrapped with another key than that of the credential.")
    return sensitive


def _read_sensitive(octets: bytes) -> Sensitive:
    outside = Reader(octets, "The TPM2B_SENSITIVE", SensitiveMalformed)
    inside = Reader(outside.sized(), "The TPMT_SENSITIVE", SensitiveMalformed)
    outside.done()
    if inside.u16() != ALG_KEYEDHASH:
        raise SensitiveMalformed("The sensitive area is not that of a KEYEDHASH object.")
    authorization, seed, key = inside.sized(), inside.sized(), inside.sized()
    inside.done()
    # Zeros at the end do not count in authorization values (Part 1, 19), and some TPMs fill up with them.
    if authorization.rstrip(b"\0") or len(authorization) > DIGEST_BYTES:
        raise SensitiveMalformed("The key has an authorization value, which no client could give.")
    if len(seed) != DIGEST_BYTES or not 0 < len(key) <= MAX_HMAC_KEY_BYTES:
        raise SensitiveMalformed(
            f"The sensitive area has a seed of {len(seed)} and a key of {len(key)} octets, instead of "
            f"{DIGEST_BYTES} and 1 to {MAX_HMAC_KEY_BYTES}."
        )
    return Sensitive(seed, key)


def check_binding(sensitive: Sensitive, public: HmacPublicArea) -> None:
    """What TPM2_Import and TPM2_Load check last (Part 3, 12.2): the one area fits the other."""
    if not hmac.compare_digest(sensitive.unique, public.unique):
        raise BindingWrong("The field unique of the public area is not the digest of seed and key.")


def _is_intact(seed: bytes, integrity: bytes, protected: bytes) -> bool:
    key = kdf_a(seed, INTEGRITY, b"", b"", 8 * DIGEST_BYTES)
    return hmac.compare_digest(integrity, hmac.digest(key, protected, hashlib.sha256))
