"""What a simulated device proves itself with."""

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from enrollments.attestation.symmetric_key import key_bytes

TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """`chain`: the leaf and what is sent above it, PEM; `key`: the leaf's private key."""

    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A symmetric key, base64."""

    key: str = field(repr=False)


Credential = CertificateFiles | SharedKey


def sas_token(id_scope: str, registration_id: str, key: str) -> str:
    """An Authorization header, spelled as the Python client spells it (contract 1.4)."""
    resource = quote(f"{id_scope}/registrations/{registration_id}", safe="")
    expiry = int(time.time()) + TOKEN_SECONDS
    signature = base64.b64encode(
        hmac.digest(key_bytes(key), f"{resource}\n{expiry}".encode(), hashlib.sha256)
    )
    return f"SharedAccessSignature sr={resource}&sig={quote(signature, safe='')}&se={expiry}"
