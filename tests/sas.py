"""SAS tokens as clients make them, written from the contract and not with the server's code."""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote


def sas_token(
    id_scope: str,
    registration_id: str,
    key: str,
    *,
    resource: str = "",
    expiry: int | None = None,
    policy_name: str | None = "registration",
) -> str:
    resource = resource or quote(f"{id_scope}/registrations/{registration_id}", safe="")
    expiry = int(time.time()) + 3600 if expiry is None else expiry
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    token = f"SharedAccessSignature sr={resource}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}"
    return token if policy_name is None else f"{token}&skn={policy_name}"
