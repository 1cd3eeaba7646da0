"""Structures of TPM 2.0 as bytes, as far as provisioning sends them: sizes, public areas, names, and the blob.

Written from the Trusted Platform Module Library Specification, family 2.0, revision 01.59: "Part 1" is its
architecture, "Part 2" its structures, "Part 3" its commands. It must not share code with the service, which writes
what is read here: two readings of one specification are worth more than one.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Protocol

from enrollments.errors import DpsError

# Part 2, 6.3: TPM_ALG_ID.
ALG_RSA, ALG_AES, ALG_KEYEDHASH, ALG_SHA256 = 0x0001, 0x0006, 0x0008, 0x000B
ALG_HMAC, ALG_NULL, ALG_CFB = 0x0005, 0x0010, 0x0043

# Part 2, 8.3: TPMA_OBJECT, bit by bit.
FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
USER_WITH_AUTH, ADMIN_WITH_POLICY, NO_DA = 1 << 6, 1 << 7, 1 << 10
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18

EK_ATTRIBUTES = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT
SRK_ATTRIBUTES = (
    FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED | DECRYPT
)
HMAC_KEY_ATTRIBUTES = USER_WITH_AUTH | NO_DA | SIGN

# PolicySecret(TPM_RH_ENDORSEMENT): the policy of the EK in the TCG EK Credential Profile, template L-1.
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")

RSA_BYTES, DIGEST_BYTES, AES_KEY_BYTES = 256, 32, 16
# A key of HMAC is at most one block of its hash.
MAX_HMAC_KEY_BYTES = 64


class TpmRefusal(DpsError):
    """A TPM does not do what it is told. Each cause has a class of its own."""

    code = "tpm"


class BlobMalformed(TpmRefusal):
    """The blob is not six sized items, or one of them has not the size it must have."""

    code = "tpm_blob_malformed"


class PublicAreaUnsuitable(TpmRefusal):
    """The public area in the blob does not describe an HMAC key that may be imported."""

    code = "tpm_public_area_unsuitable"


class Tpm(Protocol):
    """A TPM as a provisioning client uses it. Its keys are TPM2B_PUBLIC structures, as they go over the wire."""

    @property
    def endorsement_key(self) -> bytes: ...

    @property
    def storage_root_key(self) -> bytes: ...

    def activate(self, blob: bytes) -> None:
        """Take the HMAC key out of a blob of the service's; it replaces an earlier one. Raises TpmRefusal."""
        ...

    def sign(self, text: bytes) -> bytes:
        """HMAC-SHA256 with the key that was activated last. Raises TpmRefusal."""
        ...


def u16(number: int) -> bytes:
    return struct.pack(">H", number)


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def sized(content: bytes) -> bytes:
    """A TPM2B: its size in two octets, then itself (Part 2, 10.4)."""
    return u16(len(content)) + content


class Reader:
    """Takes structures off the front of octets. Running out of them raises the given refusal."""

    def __init__(self, octets: bytes, what: str, refusal: type[TpmRefusal]) -> None:
        self._rest = octets
        self._what = what
        self._refusal = refusal

    def take(self, count: int) -> bytes:
        if len(self._rest) < count:
            raise self._refusal(f"{self._what} ends {count - len(self._rest)} octets too early.")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def sized(self, *allowed: int) -> bytes:
        """What a TPM2B holds. With `allowed`, it has one of these sizes."""
        size = self.u16()
        if allowed and size not in allowed:
            raise self._refusal(f"{self._what} holds an item of {size} octets instead of {allowed[0]}.")
        return self.take(size)

    def rest(self) -> bytes:
        return self.take(len(self._rest))

    def done(self) -> None:
        if self._rest:
            raise self._refusal(f"{self._what} goes on for {len(self._rest)} octets after its end.")


def rsa_public_area(attributes: int, policy: bytes, modulus: bytes) -> bytes:
    """TPMT_PUBLIC of a storage key (Part 2, 12.2.4): RSA 2048, AES-128-CFB, exponent 65537 written as 0."""
    symmetric = u16(ALG_AES) + u16(128) + u16(ALG_CFB)
    parameters = symmetric + u16(ALG_NULL) + u16(8 * RSA_BYTES) + u32(0)
    return u16(ALG_RSA) + u16(ALG_SHA256) + u32(attributes) + sized(policy) + parameters + sized(modulus)


def ek_public_area(modulus: bytes) -> bytes:
    """The endorsement key: it decrypts only after PolicySecret with the authorization of its hierarchy."""
    return rsa_public_area(EK_ATTRIBUTES, EK_POLICY, modulus)


def srk_public_area(modulus: bytes) -> bytes:
    """The storage root key, parent of everything that is imported."""
    return rsa_public_area(SRK_ATTRIBUTES, b"", modulus)


def name_of(public_area: bytes) -> bytes:
    """The Name of an object (Part 1, 16): its nameAlg, then the digest of its TPMT_PUBLIC."""
    return u16(ALG_SHA256) + hashlib.sha256(public_area).digest()


@dataclass(frozen=True, slots=True)
class HmacPublicArea:
    """TPMT_PUBLIC of a KEYEDHASH object that signs. `unique` binds it to its sensitive area."""

    octets: bytes
    unique: bytes

    @property
    def name(self) -> bytes:
        return name_of(self.octets)


def read_hmac_public_area(octets: bytes) -> HmacPublicArea:
    """Raises PublicAreaUnsuitable for all but a signing key that may come from elsewhere (Part 3, 13.3)."""
    reader = Reader(octets, "The public area", PublicAreaUnsuitable)
    kind, name_alg, attributes = reader.u16(), reader.u16(), reader.u32()
    policy = reader.sized()
    scheme = reader.u16()
    scheme_hash = reader.u16() if scheme == ALG_HMAC else None
    unique = reader.sized(DIGEST_BYTES)
    reader.done()
    if (kind, name_alg) != (ALG_KEYEDHASH, ALG_SHA256):
        raise PublicAreaUnsuitable("The public area is not that of a KEYEDHASH object named with SHA-256.")
    if attributes != HMAC_KEY_ATTRIBUTES or policy:
        raise PublicAreaUnsuitable(
            f"The key has the attributes {attributes:#010x} and {'a' if policy else 'no'} policy, instead of "
            f"{HMAC_KEY_ATTRIBUTES:#010x} and no policy."
        )
    if scheme_hash != ALG_SHA256:
        raise PublicAreaUnsuitable("The scheme of the key is not HMAC with SHA-256.")
    return HmacPublicArea(octets, unique)


@dataclass(frozen=True, slots=True)
class ActivationBlob:
    """What a service sends as `authenticationKey`: six TPM2B structures in a row, without their sizes."""

    id_object: bytes  # TPMS_ID_OBJECT, in a TPM2B_ID_OBJECT (Part 2, 12.4)
    credential_seed: bytes  # TPM2B_ENCRYPTED_SECRET, to the EK
    duplicate: bytes = field(repr=False)  # TPM2B_PRIVATE
    duplicate_seed: bytes  # TPM2B_ENCRYPTED_SECRET, to the SRK
    public_area: bytes  # TPMT_PUBLIC, in a TPM2B_PUBLIC (Part 2, 12.2.5)
    unused: bytes  # TPM2B_DATA that no client looks at


def read_blob(octets: bytes) -> ActivationBlob:
    """Raises BlobMalformed unless these are six items with nothing after them.

    The sizes of the two secrets follow from the RSA keys. Those of the others are left to who looks inside.
    """
    reader = Reader(octets, "The blob", BlobMalformed)
    blob = ActivationBlob(
        id_object=reader.sized(),
        credential_seed=reader.sized(RSA_BYTES),
        duplicate=reader.sized(),
        duplicate_seed=reader.sized(RSA_BYTES),
        public_area=reader.sized(),
        unused=reader.sized(),
    )
    reader.done()
    return blob
