"""Delivering an HMAC key to one TPM: only the TPM that holds both keys, EK and SRK, can open and load it.

The blob is what clients call `authenticationKey` (contract 3.3): the arguments of TPM2_ActivateCredential, then
those of TPM2_Import. Whoever sends a storage root key that is not of the same TPM gains nothing: the inner wrapper
hangs on the credential, and the endorsement key's TPM releases it for the named object alone.
"""

import hashlib
import hmac
import secrets

from cryptography.hazmat.decrepit.ciphers.modes import CFB  # what the TPM specification prescribes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256

from enrollments.attestation.tpm.public_area import ALG_HMAC, ALG_KEYEDHASH, ALG_SHA256, SIGN, StorageKey

HMAC_KEY_BYTES = 32
DIGEST_BYTES = 32
# Clients derive the size of the inner cipher from the length of the credential: AES-128.
INNER_KEY_BYTES = 16
SYMMETRIC_BITS = 128

# TPMA_OBJECT (Part 2, 8.3)
USER_WITH_AUTH, NO_DA = 1 << 6, 1 << 10


def new_hmac_key() -> bytes:
    return secrets.token_bytes(HMAC_KEY_BYTES)


def wrap_hmac_key(endorsement_key: StorageKey, storage_root_key: StorageKey, key: bytes) -> bytes:
    """Six TPM2B structures in a row, which together hold `key` for the TPM of these two keys."""
    inner_key = secrets.token_bytes(INNER_KEY_BYTES)
    id_object, credential_secret = _make_credential(endorsement_key, storage_root_key.name, inner_key)
    public, sensitive = _hmac_object(key)
    duplicate, duplicate_secret = _duplicate(storage_root_key, public, sensitive, inner_key)
    # The last, TPM2B_DATA, is for something that no client reads.
    return b"".join([id_object, credential_secret, duplicate, duplicate_secret, _sized(public), _sized(b"")])


def _make_credential(endorsement_key: StorageKey, name: bytes, credential: bytes) -> tuple[bytes, bytes]:
    """TPM2B_ID_OBJECT (Part 2, 12.4.3) and TPM2B_ENCRYPTED_SECRET (11.4.3): credential protection (Part 1, 24)."""
    seed = secrets.token_bytes(DIGEST_BYTES)
    identity = _protected(seed, name, _sized(credential))
    return _sized(identity), _shared(endorsement_key, seed, b"IDENTITY\0")


def _hmac_object(key: bytes) -> tuple[bytes, bytes]:
    """TPMT_PUBLIC (Part 2, 12.2.4) and TPM2B_SENSITIVE (12.3.3) of a keyed-hash object that signs with HMAC."""
    seed_value = secrets.token_bytes(DIGEST_BYTES)
    # Part 1, 27.5.3: what binds the public area of a keyed-hash object to its sensitive area.
    unique = hashlib.sha256(seed_value + key).digest()
    public = (
        _u16(ALG_KEYEDHASH)
        + _u16(ALG_SHA256)
        + (USER_WITH_AUTH | NO_DA | SIGN).to_bytes(4, "big")
        + _sized(b"")  # authPolicy
        + _u16(ALG_HMAC)
        + _u16(ALG_SHA256)
        + _sized(unique)
    )
    # TPMT_SENSITIVE (Part 2, 12.3.2.4): sensitiveType, authValue, seedValue, sensitive
    sensitive = _u16(ALG_KEYEDHASH) + _sized(b"") + _sized(seed_value) + _sized(key)
    return public, _sized(sensitive)


def _duplicate(parent: StorageKey, public: bytes, sensitive: bytes, inner_key: bytes) -> tuple[bytes, bytes]:
    """TPM2B_PRIVATE (Part 2, 12.3.7) and its secret: inner and outer duplication wrapper (Part 1, 23.3.2)."""
    name = _u16(ALG_SHA256) + hashlib.sha256(public).digest()
    integrity = _sized(hashlib.sha256(sensitive + name).digest())
    inner = _aes_cfb(inner_key, integrity + sensitive)
    seed = secrets.token_bytes(DIGEST_BYTES)
    return _sized(_protected(seed, name, inner)), _shared(parent, seed, b"DUPLICATE\0")


def _protected(seed: bytes, name: bytes, data: bytes) -> bytes:
    """Encrypt, then authenticate together with the Name (Part 1, 24.4 and 24.5; the outer wrapper in 23.3.2.3)."""
    encrypted = _aes_cfb(_kdfa(seed, b"STORAGE", name, SYMMETRIC_BITS), data)
    integrity_key = _kdfa(seed, b"INTEGRITY", b"", 8 * DIGEST_BYTES)
    return _sized(hmac.digest(integrity_key, encrypted + name, hashlib.sha256)) + encrypted


def _shared(key: StorageKey, seed: bytes, label: bytes) -> bytes:
    """A seed for the holder of an RSA key: OAEP whose label ends in a zero byte (Part 1, B.4 and B.10)."""
    padding = OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=label)
    return _sized(key.public_key.encrypt(seed, padding))


def _kdfa(key: bytes, label: bytes, context_u: bytes, bits: int) -> bytes:
    """KDFa (Part 1, 11.4.10.2) for results of at most one digest, and without contextV."""
    message = (1).to_bytes(4, "big") + label + b"\0" + context_u + bits.to_bytes(4, "big")
    return hmac.digest(key, message, hashlib.sha256)[: bits // 8]


def _aes_cfb(key: bytes, data: bytes) -> bytes:
    """Each key is used once, so the IV is zero (Part 1, 22.4 and 23.3.2)."""
    encryptor = Cipher(AES(key), CFB(bytes(16))).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _sized(data: bytes) -> bytes:
    """A TPM2B: two bytes of size, then the data."""
    return _u16(len(data)) + data
