"""The simulator's virtual TPM, with keys that are made once in a run: RSA keys take long to make."""

import base64
from dataclasses import dataclass, field

from enrollments.simulator.virtual_tpm import IDENTITY_HANDLE, VirtualTpm
from tests.certificates import rsa_key


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


@dataclass
class SoftTpm:
    """`number` tells TPMs apart: those of the same number have the same keys."""

    number: int = 0
    tpm: VirtualTpm = field(init=False)
    keys: TpmKeys = field(init=False)

    def __post_init__(self) -> None:
        self.tpm = VirtualTpm(rsa_key(2048, 100 + 2 * self.number), rsa_key(2048, 101 + 2 * self.number))
        # Whatever the TPM signs with before it was given a key, nobody gave it.
        self.tpm._persistent[IDENTITY_HANDLE] = b""
        self.keys = TpmKeys(self.tpm.endorsement_key, self.tpm.storage_root_key)

    def activate(self, blob: bytes) -> None:
        """Take the key in the blob in place of the one that is there. Raises what a TPM would refuse."""
        self.tpm.activate(blob)

    def sign(self, text: str) -> bytes:
        return self.tpm.sign(text.encode())

    @property
    def key(self) -> bytes:
        """What the TPM itself never tells: the key that it signs with."""
        return self.tpm._persistent[IDENTITY_HANDLE]
