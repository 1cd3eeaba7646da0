"""SAS tokens: reading them, and proving them against an enrollment's keys."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from enrollments.errors import AttestationError

MAX_TOKEN_CHARACTERS = 1024
MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 64
_SCHEME = "SharedAccessSignature"


class TokenMalformed(AttestationError):
    code = "token_malformed"


class TokenExpired(AttestationError):
    code = "token_expired"


class TokenForOtherDevice(AttestationError):
    code = "token_for_other_device"


class TokenSignatureWrong(AttestationError):
    code = "token_signature_wrong"


class KeyMalformed(AttestationError):
    code = "key_malformed"


@dataclass(frozen=True, slots=True)
class SasToken:
    """`resource` and `expiry` are the literal texts of the token: what was signed is what was sent.

    key_name: what `skn` says, decoded; whose key it is, where there are several (contract 6.1).
    """

    resource: str
    expiry: str
    signature: bytes
    key_name: str = ""

    def __repr__(self) -> str:
        return f"SasToken({self.resource!r}, expiry {self.expiry})"


def read_token(authorization: str) -> SasToken:
    """Read `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`, fields in any order. Raises TokenMalformed.

    Clients spell `sr` raw, with %2F, with %2f or lower-cased, and sign exactly what they spell.
    """
    scheme, _, rest = authorization.partition(" ")
    if len(authorization) > MAX_TOKEN_CHARACTERS or scheme.lower() != _SCHEME.lower():
        raise TokenMalformed(
            f"The Authorization header is not a {_SCHEME} of at most {MAX_TOKEN_CHARACTERS} characters."
        )
    fields: dict[str, str] = {}
    for part in rest.strip().split("&"):
        name, equals, value = part.partition("=")
        if not equals or name in fields:
            raise TokenMalformed("The SAS token has a field without a value, or one field twice.")
        fields[name] = value
    missing = [name for name in ("sr", "sig", "se") if not fields.get(name)]
    if missing:
        raise TokenMalformed(f"The SAS token lacks {missing[0]}.")
    # Digits are ASCII digits, and few: int() would take other scripts, underscores and a mile of zeros.
    if not re.fullmatch(r"[0-9]{1,12}", fields["se"]):
        raise TokenMalformed("The field se of the SAS token is not a time in seconds since 1970.")
    key_name = unquote(fields.get("skn", ""))
    return SasToken(fields["sr"], fields["se"], _signature(fields["sig"]), key_name)


def _signature(text: str) -> bytes:
    try:
        # unquote, not unquote_plus: a plus sign here is base64's plus.
        return base64.b64decode(unquote(text, errors="strict"), validate=True)
    except (binascii.Error, ValueError):
        raise TokenMalformed("The field sig of the SAS token is not base64.") from None


def check_token(
    token: SasToken, *, id_scope: str, registration_id: str, keys: Iterable[bytes], now: float
) -> int:
    """Prove a token: made for this device, not expired, signed with one of the keys (contract 1.4).

    Returns the position of the key. The signature is checked first and every key is tried, in constant time each,
    so that neither the answer nor its time says more than that. Raises TokenSignatureWrong, TokenForOtherDevice,
    TokenExpired.
    """
    fitting = check_signature(token, keys)
    check_claims(token, id_scope=id_scope, registration_id=registration_id, now=now)
    return fitting


def check_signature(token: SasToken, keys: Iterable[bytes]) -> int:
    """The position of the key that signed it. Raises TokenSignatureWrong."""
    fitting = fitting_keys(token, keys)
    if not fitting:
        raise TokenSignatureWrong(
            "The signature of the SAS token fits neither the primary nor the secondary key."
        )
    return fitting[-1]


def fitting_keys(token: SasToken, keys: Iterable[bytes]) -> list[int]:
    """The positions of the keys that signed the token. Every key is tried, in constant time each."""
    signed = f"{token.resource}\n{token.expiry}".encode("utf-8", "surrogatepass")
    return [
        position
        for position, key in enumerate(keys)
        if hmac.compare_digest(hmac.digest(key, signed, hashlib.sha256), token.signature)
    ]


def check_claims(token: SasToken, *, id_scope: str, registration_id: str, now: float) -> None:
    """For whom and until when a token holds whose signature is known to be right. Raises as `check_token`."""
    # Case does not count (the IoT Edge client lower-cases all of it); ASCII only, as in R2. Decoded twice: the client
    # for C# encodes what stands encoded in its path once more, and no ID has a percent sign that could be meant.
    audience = unquote(unquote(token.resource))
    expected = f"{id_scope}/registrations/{registration_id}"
    if not audience.isascii() or audience.lower() != expected.lower():
        raise TokenForOtherDevice(f"The SAS token is for {audience[:200]!r}, not for {expected}.")
    if int(token.expiry) <= now:
        raise TokenExpired("The SAS token has expired; the device's clock may be slow.")


def key_bytes(text: str) -> bytes:
    """A symmetric key as it is typed and stored: base64 of 16 to 64 bytes. Raises KeyMalformed."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyMalformed("A symmetric key is base64 text; this is not.") from None
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise KeyMalformed(
            f"A symmetric key is base64 of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; this holds {len(key)}."
        )
    return key


def make_token(id_scope: str, registration_id: str, key: bytes, expiry: int) -> str:
    """The token that a device with this key would send, to ask what would be answered to it."""
    resource = f"{id_scope}/registrations/{registration_id}"
    signature = hmac.digest(key, f"{resource}\n{expiry}".encode(), hashlib.sha256)
    return f"{_SCHEME} sr={resource}&sig={quote(base64.b64encode(signature), safe='')}&se={expiry}"


def derive_device_key(group_key: bytes, registration_id: str) -> bytes:
    """The key of one device of a symmetric-key group (contract 2.2), over the ID as the device spells it."""
    return hmac.digest(group_key, registration_id.encode(), hashlib.sha256)
