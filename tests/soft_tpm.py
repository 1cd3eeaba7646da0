"""What a TPM does with the blob that it is sent, in Python: it opens it only if both of its keys fit (contract 3.3)."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256

from tests.certificates import rsa_key

EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


@dataclass(frozen=True)
class TpmKeys:
    """Public areas of endorsement and storage root key, each a TPM2B_PUBLIC."""

    endorsement_key: bytes
    storage_root_key: bytes

    def on_the_wire(self) -> dict[str, str]:
        return {
            "endorsementKey": base64.b64encode(self.endorsement_key).decode(),
            "storageRootKey": base64.b64encode(self.storage_root_key).decode(),
        }


class SoftTpm:
    """`number` tells TPMs apart: those of the same number have the same keys."""

    def __init__(self, number: int = 0) -> None:
        self._ek, self._srk = rsa_key(2048, 100 + 2 * number), rsa_key(2048, 101 + 2 * number)
        self.key = b""
        self.keys = TpmKeys(
            _public_area(self._ek, attributes=0x000300B2, policy=EK_POLICY),
            _public_area(self._srk, attributes=0x00030472, policy=b""),
        )

    def activate(self, blob: bytes) -> None:
        """Take the key in the blob in place of the one that is there. Asserts all that a TPM would."""
        items = _items(blob)
        id_object, credential_secret, duplicate, duplicate_secret, public, _data = items
        srk_name = _name(self.keys.storage_root_key[2:])
        credential_seed = _opened(self._ek, credential_secret, b"IDENTITY\0")
        (inner_key,) = _items(_unprotected(credential_seed, srk_name, id_object))
        assert len(inner_key) == 16, "clients take the inner cipher for AES-128"
        seed = _opened(self._srk, duplicate_secret, b"DUPLICATE\0")
        inner = _cfb(inner_key, _unprotected(seed, _name(public), duplicate))
        integrity, sensitive = _items(inner)
        assert (
            integrity
            == hashlib.sha256(len(sensitive).to_bytes(2, "big") + sensitive + _name(public)).digest()
        )
        assert sensitive[:2] == b"\x00\x08"
        _auth, seed_value, key = _items(sensitive[2:])
        assert public[-32:] == hashlib.sha256(seed_value + key).digest()
        self.key = key

    def sign(self, text: str) -> bytes:
        return hmac.digest(self.key, text.encode(), hashlib.sha256)


def _public_area(key, *, attributes: int, policy: bytes) -> bytes:
    modulus = key.public_key().public_numbers().n.to_bytes(256, "big")
    area = (
        bytes.fromhex("0001000b")
        + attributes.to_bytes(4, "big")
        + _sized(policy)
        + bytes.fromhex("000600800043" + "0010" + "0800" + "00000000")
        + _sized(modulus)
    )
    return _sized(area)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _items(data: bytes) -> list[bytes]:
    return list(_each(data))


def _each(data: bytes) -> Iterator[bytes]:
    while data:
        size = int.from_bytes(data[:2], "big")
        assert len(data) >= 2 + size, "cut off"
        yield data[2 : 2 + size]
        data = data[2 + size :]


def _name(area: bytes) -> bytes:
    return b"\x00\x0b" + hashlib.sha256(area).digest()


def _opened(key, secret: bytes, label: bytes) -> bytes:
    return key.decrypt(secret, OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=label))


def _unprotected(seed: bytes, name: bytes, data: bytes) -> bytes:
    integrity, encrypted = data[2:34], data[34:]
    assert integrity == hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 256), encrypted + name, hashlib.sha256)
    return _cfb(_kdfa(seed, b"STORAGE", name, 128), encrypted)


def _kdfa(seed: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    message = (1).to_bytes(4, "big") + label + b"\0" + context + bits.to_bytes(4, "big")
    return hmac.digest(seed, message, hashlib.sha256)[: bits // 8]


def _cfb(key: bytes, data: bytes) -> bytes:
    decryptor = Cipher(AES(key), CFB(bytes(16))).decryptor()
    return decryptor.update(data) + decryptor.finalize()
