"""Blobs as a provisioning service makes them for a TPM, built step by step and sharing no code with their reader.

Each step can be told to go wrong, so that a test can have a blob with one fault and everything around it in order.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

SIZES = (52, 256, 142, 256, 48, 0)
ITEMS = ("id object", "credential seed", "duplicate", "duplicate seed", "public area", "unused")


def b2(octets: bytes) -> bytes:
    return len(octets).to_bytes(2, "big") + octets


def kdfa(key: bytes, label: str, context: bytes, bits: int) -> bytes:
    """For at most 256 bits, which one block of HMAC-SHA256 gives."""
    message = b"\0\0\0\1" + label.encode() + b"\0" + context + bits.to_bytes(4, "big")
    return hmac.new(key, message, hashlib.sha256).digest()[: bits // 8]


def cfb(key: bytes, octets: bytes) -> bytes:
    encryptor = Cipher(AES(key), CFB(bytes(16))).encryptor()
    return encryptor.update(octets) + encryptor.finalize()


def public_key(tpm2b_public: bytes) -> rsa.RSAPublicKey:
    """The RSA key of a storage key: its modulus is the end of the structure."""
    return rsa.RSAPublicNumbers(65537, int.from_bytes(tpm2b_public[-256:], "big")).public_key()


def oaep(tpm2b_public: bytes, seed: bytes, label: bytes) -> bytes:
    sha256 = hashes.SHA256()
    return public_key(tpm2b_public).encrypt(seed, padding.OAEP(padding.MGF1(sha256), sha256, label))


def name(public_area: bytes) -> bytes:
    return b"\0\x0b" + hashlib.sha256(public_area).digest()


@dataclass(frozen=True, kw_only=True)
class Blob:
    """What goes into a blob. Everything has the value that makes it right."""

    endorsement_key: bytes
    storage_root_key: bytes
    key: bytes = field(default_factory=lambda: os.urandom(32))
    inner: bytes = field(default_factory=lambda: os.urandom(16))
    wrapped_with: bytes = b""  # instead of `inner`
    seed_1: bytes = field(default_factory=lambda: os.urandom(32))
    seed_2: bytes = field(default_factory=lambda: os.urandom(32))
    obfuscation: bytes = field(default_factory=lambda: os.urandom(32))
    credential_for: bytes = b""  # the Name of another object than the SRK
    credential: bytes = b""  # octets instead of a TPM2B_DIGEST
    label_1: bytes = b"IDENTITY\0"
    label_2: bytes = b"DUPLICATE\0"
    unique: bytes = b""
    attributes: int = 0x00040440
    policy: bytes = b""
    scheme: bytes = b"\0\5\0\x0b"
    kind: bytes = b"\0\x08"
    authorization: bytes = b""
    sensitive_kind: bytes = b"\0\x08"
    after_sensitive: bytes = b""  # inside of the TPM2B_SENSITIVE
    after_tpm2b_sensitive: bytes = b""
    after_unique: bytes = b""
    digest: bytes = b""  # of the inner wrapper
    unused: bytes = b""

    @property
    def public_area(self) -> bytes:
        unique = self.unique or hashlib.sha256(self.obfuscation + self.key).digest()
        head = self.kind + b"\0\x0b" + self.attributes.to_bytes(4, "big")
        return head + b2(self.policy) + self.scheme + b2(unique) + self.after_unique

    def items(self) -> list[bytes]:
        """The six items without their sizes."""
        n1 = self.credential_for or name(self.storage_root_key[2:])
        encrypted = cfb(kdfa(self.seed_1, "STORAGE", n1, 128), self.credential or b2(self.inner))
        mac = hmac.new(kdfa(self.seed_1, "INTEGRITY", b"", 256), encrypted + n1, hashlib.sha256).digest()

        n2 = name(self.public_area)
        fields = b2(self.authorization) + b2(self.obfuscation) + b2(self.key) + self.after_sensitive
        sensitive = b2(self.sensitive_kind + fields) + self.after_tpm2b_sensitive
        digest = self.digest or hashlib.sha256(sensitive + n2).digest()
        inner = cfb(self.wrapped_with or self.inner, b2(digest) + sensitive)
        outer = cfb(kdfa(self.seed_2, "STORAGE", n2, 128), inner)
        mac_2 = hmac.new(kdfa(self.seed_2, "INTEGRITY", b"", 256), outer + n2, hashlib.sha256).digest()
        return [
            b2(mac) + encrypted,
            oaep(self.endorsement_key, self.seed_1, self.label_1),
            b2(mac_2) + outer,
            oaep(self.storage_root_key, self.seed_2, self.label_2),
            self.public_area,
            self.unused,
        ]

    def octets(self) -> bytes:
        return b"".join(map(b2, self.items()))


def blob_for(tpm, **wrong) -> Blob:
    return Blob(endorsement_key=tpm.endorsement_key, storage_root_key=tpm.storage_root_key, **wrong)
