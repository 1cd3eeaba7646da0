"""A virtual TPM: what one device's TPM does while it is provisioned, in Python and in memory."""

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from enrollments.simulator.files import write_whole
from enrollments.simulator.tpm_protection import check_binding, open_credential, open_duplicate
from enrollments.simulator.tpm_structures import (
    RSA_BYTES,
    TpmRefusal,
    ek_public_area,
    name_of,
    read_blob,
    read_hmac_public_area,
    sized,
    srk_public_area,
)

# The persistent handle at which clients keep the key that the service gave them.
IDENTITY_HANDLE = 0x81000100


class NoKeyYet(TpmRefusal):
    """Nothing was activated, so there is nothing to sign with."""

    code = "tpm_no_key_yet"


class TpmStateUnusable(TpmRefusal):
    """The files that a TPM is kept in cannot be used."""

    code = "tpm_state_unusable"


@dataclass(slots=True, eq=False)
class VirtualTpm:
    """A TPM with its two storage keys, and what it keeps at persistent handles."""

    ek: rsa.RSAPrivateKey = field(repr=False)
    srk: rsa.RSAPrivateKey = field(repr=False)
    _persistent: dict[int, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def new(cls) -> "VirtualTpm":
        """TPM2_CreatePrimary (Part 3, 24.1), once in each hierarchy."""
        return cls(_rsa_key(), _rsa_key())

    @classmethod
    def kept_in(cls, folder: Path, stem: str) -> "VirtualTpm":
        """The same storage keys whenever it is asked for: a device is known by its endorsement key."""
        return cls(_kept_key(folder / f"{stem}.tpm-ek.key"), _kept_key(folder / f"{stem}.tpm-srk.key"))

    @property
    def endorsement_key(self) -> bytes:
        return sized(ek_public_area(_modulus(self.ek)))

    @property
    def storage_root_key(self) -> bytes:
        return sized(self._srk_public_area())

    def activate(self, blob: bytes) -> None:
        """ActivateCredential, Import, Load and EvictControl. On any refusal the earlier key stays."""
        parts = read_blob(blob)
        public = read_hmac_public_area(parts.public_area)
        credential = open_credential(
            self.ek, name_of(self._srk_public_area()), parts.id_object, parts.credential_seed
        )
        sensitive = open_duplicate(self.srk, credential, public, parts.duplicate, parts.duplicate_seed)
        check_binding(sensitive, public)
        self._persistent[IDENTITY_HANDLE] = sensitive.key

    def sign(self, text: bytes) -> bytes:
        """TPM2_HMAC with SHA-256."""
        if IDENTITY_HANDLE not in self._persistent:
            raise NoKeyYet(f"There is no key at {IDENTITY_HANDLE:#010x} to sign with.")
        return hmac.digest(self._persistent[IDENTITY_HANDLE], text, hashlib.sha256)

    def _srk_public_area(self) -> bytes:
        return srk_public_area(_modulus(self.srk))


def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=8 * RSA_BYTES)


def _modulus(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_numbers().n.to_bytes(RSA_BYTES, "big")


def _kept_key(path: Path) -> rsa.RSAPrivateKey:
    if not path.exists():
        pem = _rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_whole(path, pem, mode=0o600)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as problem:
        raise TpmStateUnusable(f"{path} cannot be read as a private key: {problem}.") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != 8 * RSA_BYTES:
        raise TpmStateUnusable(f"{path} is not the RSA key of {8 * RSA_BYTES} bits that a TPM has.")
    return key
