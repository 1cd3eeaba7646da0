"""Endorsement and storage root keys: TPM2B_PUBLIC as a device sends it or an administrator pastes it."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric import rsa

from enrollments.errors import AttestationError

# An RSA 2048 public area has 316 bytes at most; whatever is much longer is something else.
MAX_PUBLIC_BYTES = 1024

# TPM_ALG_ID (Part 2, 6.3)
ALG_RSA, ALG_AES, ALG_KEYEDHASH, ALG_SHA256 = 0x0001, 0x0006, 0x0008, 0x000B
ALG_NULL, ALG_CFB = 0x0010, 0x0043
ALG_HMAC = 0x0005

# TPMA_OBJECT (Part 2, 8.3)
FIXED_TPM, FIXED_PARENT = 1 << 1, 1 << 4
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18
_STORAGE = FIXED_TPM | FIXED_PARENT | RESTRICTED | DECRYPT

KEY_BITS = 2048
DEFAULT_EXPONENT = 65537


class TpmKeyMalformed(AttestationError):
    """What was given is not the public area of a key that can be used here."""

    code = "tpm_key_malformed"


@dataclass(frozen=True)
class StorageKey:
    """A restricted RSA 2048 decryption key of a TPM: an endorsement key or a storage root key.

    `encoded` is the whole TPM2B_PUBLIC (Part 2, 12.2.5), size included: what is stored and compared.
    """

    encoded: bytes
    modulus: int
    exponent: int

    @property
    def area(self) -> bytes:
        """The TPMT_PUBLIC (Part 2, 12.2.4) without its size."""
        return self.encoded[2:]

    @cached_property
    def name(self) -> bytes:
        """The Name of the object (Part 1, 16): nameAlg, then the digest of its public area."""
        return ALG_SHA256.to_bytes(2, "big") + hashlib.sha256(self.area).digest()

    @cached_property
    def public_key(self) -> rsa.RSAPublicKey:
        return rsa.RSAPublicNumbers(self.exponent, self.modulus).public_key()

    @property
    def default_registration_id(self) -> str:
        """What clients register a TPM as that was given no name (contract 2.1): base32 of the digest, lower case."""
        return base64.b32encode(hashlib.sha256(self.encoded).digest()).decode().rstrip("=").lower()

    @property
    def digest(self) -> str:
        """SHA-256 of the TPM2B_PUBLIC, the form in which people compare such keys."""
        return hashlib.sha256(self.encoded).hexdigest()


def read_endorsement_key(data: bytes | str) -> StorageKey:
    """The endorsement key (EK) from a TPM2B_PUBLIC: bytes, or base64 text. Raises TpmKeyMalformed."""
    return _read(data, "endorsement key")


def read_storage_root_key(data: bytes | str) -> StorageKey:
    """The storage root key (SRK), in the same forms. Raises TpmKeyMalformed."""
    return _read(data, "storage root key")


def unwrapped(data: bytes | str, what: str) -> bytes:
    """The bytes of a TPM2B_PUBLIC, out of base64 where it is text. Nothing in it is looked at yet."""
    if isinstance(data, bytes) and not _is_text(data):
        encoded = data
    else:
        text = data if isinstance(data, str) else data.decode("ascii")
        encoded = _from_text(text, what)
    if not encoded:
        raise TpmKeyMalformed(f"The {what} is missing.")
    if len(encoded) > MAX_PUBLIC_BYTES:
        raise TpmKeyMalformed(
            f"The {what} is {len(encoded)} bytes long; at most {MAX_PUBLIC_BYTES} are read."
        )
    return encoded


def _is_text(data: bytes) -> bool:
    # A TPM2B_PUBLIC begins with its size, 0x01 for the keys that are taken here; text has no such character.
    return all(byte in b"\t\r\n" or 0x20 <= byte < 0x7F for byte in data)


def _from_text(text: str, what: str) -> bytes:
    if len(text) > 4 * MAX_PUBLIC_BYTES:
        raise TpmKeyMalformed(
            f"The {what} is {len(text)} characters long: that is no TPM2B_PUBLIC in base64."
        )
    if "PRIVATE KEY-----" in text:
        raise TpmKeyMalformed(
            f"This is a private key, which nobody should be given, and not the {what} of a TPM: expected is base64 of "
            "the TPM2B_PUBLIC (tpm2_readpublic -f tss)."
        )
    if "-----BEGIN" in text:
        raise TpmKeyMalformed(
            f"The {what} was given as PEM; expected is base64 of the TPM2B_PUBLIC, which also says what the "
            "key may be used for (tpm2_readpublic -f tss)."
        )
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise TpmKeyMalformed(f"The {what} is not base64: expected is base64 of the TPM2B_PUBLIC.") from None


class _Reader:
    """Takes big-endian fields off a public area, and says which one is missing where it ends too early."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._what, self._position = data, what, 0

    def take(self, length: int, field: str) -> bytes:
        end = self._position + length
        if end > len(self._data):
            raise TpmKeyMalformed(f"The {self._what} is cut off: its {field} is missing or incomplete.")
        part, self._position = self._data[self._position : end], end
        return part

    def number(self, length: int, field: str) -> int:
        return int.from_bytes(self.take(length, field), "big")

    def sized(self, field: str) -> bytes:
        """A TPM2B: two bytes of size, then as many bytes."""
        return self.take(self.number(2, f"size of the {field}"), field)

    @property
    def rest(self) -> int:
        return len(self._data) - self._position


def _read(data: bytes | str, what: str) -> StorageKey:
    encoded = unwrapped(data, what)
    size = int.from_bytes(encoded[:2], "big")
    if len(encoded) < 2 or size != len(encoded) - 2:
        if encoded[:2] == b"\x30\x82":
            raise TpmKeyMalformed(
                f"The {what} was given as DER, as certificates and plain keys are; expected is the TPM2B_PUBLIC, which "
                "also says what the key may be used for (tpm2_readpublic -f tss)."
            )
        if encoded[:4] == b"\x00\x01\x00\x0b":
            raise TpmKeyMalformed(
                f"The {what} is a TPMT_PUBLIC: give the whole TPM2B_PUBLIC, with the two bytes of size before it."
            )
        if 0 < len(encoded) - 2 < size <= MAX_PUBLIC_BYTES:
            raise TpmKeyMalformed(
                f"The {what} is cut off: its first two bytes announce {size} bytes, and {len(encoded) - 2} follow."
            )
        raise TpmKeyMalformed(
            f"The {what} is no TPM2B_PUBLIC: its first two bytes announce {size} bytes, and "
            f"{max(len(encoded) - 2, 0)} follow."
        )
    modulus, exponent = _rsa_storage_key(_Reader(encoded[2:], what), what)
    return StorageKey(encoded, modulus, exponent)


def _rsa_storage_key(area: _Reader, what: str) -> tuple[int, int]:
    """TPMT_PUBLIC (Part 2, 12.2.4) of a storage key (Part 1, 23.1): modulus and exponent."""
    if (kind := area.number(2, "type")) != ALG_RSA:
        raise TpmKeyMalformed(
            f"The {what} is not an RSA key (type 0x{kind:04x}): expected is RSA {KEY_BITS}."
        )
    if (name_alg := area.number(2, "nameAlg")) != ALG_SHA256:
        raise TpmKeyMalformed(f"The nameAlg of the {what} is 0x{name_alg:04x}: expected is SHA-256 (0x000b).")
    attributes = area.number(4, "objectAttributes")
    if attributes & _STORAGE != _STORAGE or attributes & SIGN:
        raise TpmKeyMalformed(
            f"The attributes of the {what} are 0x{attributes:08x}: expected is a restricted decryption key that "
            "is fixed to its TPM (fixedTPM, fixedParent, restricted, decrypt, and not sign)."
        )
    area.sized("authPolicy")
    # TPMS_RSA_PARMS (Part 2, 12.2.3.5); the blob is wrapped with what the key's own symmetric says.
    symmetric = (area.number(2, "symmetric"), area.number(2, "keyBits"), area.number(2, "mode"))
    if symmetric != (ALG_AES, 128, ALG_CFB):
        raise TpmKeyMalformed(
            f"The symmetric algorithm of the {what} is not AES-128 in CFB mode, which its wrapping needs."
        )
    if area.number(2, "scheme") != ALG_NULL:
        raise TpmKeyMalformed(f"The {what} has a signing or encryption scheme; a storage key has none.")
    if (bits := area.number(2, "keyBits")) != KEY_BITS:
        raise TpmKeyMalformed(f"The {what} has {bits} bits: expected are {KEY_BITS}.")
    exponent = area.number(4, "exponent") or DEFAULT_EXPONENT
    if exponent != DEFAULT_EXPONENT:
        raise TpmKeyMalformed(f"The exponent of the {what} is {exponent}: expected is {DEFAULT_EXPONENT}.")
    modulus = int.from_bytes(area.sized("modulus"), "big")
    if modulus.bit_length() != KEY_BITS or modulus % 2 == 0:
        raise TpmKeyMalformed(f"The modulus of the {what} is not an odd number of {KEY_BITS} bits.")
    if area.rest:
        raise TpmKeyMalformed(f"{area.rest} bytes follow the {what} inside of its TPM2B_PUBLIC.")
    return modulus, exponent
