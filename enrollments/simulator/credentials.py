"""What a simulated device proves itself with."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from enrollments.attestation.symmetric_key import key_bytes
from enrollments.simulator.tpm_structures import Tpm

HOUR = 3600


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """`chain`: the leaf and what is sent above it, PEM; `key`: the leaf's private key."""

    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A symmetric key, base64: the device's own, or derived from the key of its group."""

    key: str = field(repr=False)

    def sign(self, text: bytes) -> bytes:
        return hmac.digest(key_bytes(self.key), text, hashlib.sha256)


@dataclass(frozen=True, slots=True)
class TpmKeys:
    """The storage keys of a TPM. What it signs with comes from the service, while the device registers."""

    tpm: Tpm = field(repr=False)


Credential = CertificateFiles | SharedKey | TpmKeys


def derived_key(group_key: str, registration_id: str) -> SharedKey:
    """The key of one device of a symmetric-key group (contract 2.2), over the ID as the device spells it."""
    digest = hmac.digest(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256)
    return SharedKey(base64.b64encode(digest).decode())


class Spelling(Enum):
    """How a client spells the resource in a token. It signs exactly what it spells (contract 1.4)."""

    RAW = "raw"
    UPPER_HEX = "%2F"
    LOWER_HEX = "%2f"
    LOWERED = "lower case, then %2F"

    def of(self, resource: str) -> str:
        match self:
            case Spelling.RAW:
                return resource
            case Spelling.UPPER_HEX:
                return quote(resource, safe="")
            case Spelling.LOWER_HEX:
                return "".join(
                    one if one.isalnum() or one in "-._" else f"%{ord(one):02x}" for one in resource
                )
            case Spelling.LOWERED:
                return quote(resource.lower(), safe="")


@dataclass(frozen=True, slots=True)
class TokenForm:
    """How a client writes a token. `skn`, the name of the key, stands in it only where `fields` has it."""

    spelling: Spelling
    fields: tuple[str, ...]
    skn: str = "registration"
    seconds: int = HOUR


# As the Python client writes it.
PLAIN_TOKEN = TokenForm(Spelling.UPPER_HEX, ("sr", "sig", "se"))


def signed_token(
    id_scope: str,
    registration_id: str,
    sign: Callable[[bytes], bytes],
    form: TokenForm = PLAIN_TOKEN,
    *,
    now: datetime | None = None,
) -> str:
    """An Authorization header, signed by whatever holds the key."""
    resource = form.spelling.of(f"{id_scope}/registrations/{registration_id}")
    expiry = str(int(now.timestamp() if now else time.time()) + form.seconds)
    signature = base64.b64encode(sign(f"{resource}\n{expiry}".encode()))
    values = {"sr": resource, "sig": quote(signature, safe=""), "se": expiry, "skn": form.skn}
    return "SharedAccessSignature " + "&".join(f"{name}={values[name]}" for name in form.fields)


def sas_token(id_scope: str, registration_id: str, key: str, *, now: datetime | None = None) -> str:
    """An Authorization header with a symmetric key (base64), spelled as the Python client spells it."""
    return signed_token(id_scope, registration_id, SharedKey(key).sign, now=now)
