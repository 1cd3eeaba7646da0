"""Tracking IDs: what a refused device is given, and how an administrator gets from it to the full cause (R3)."""

import hashlib
import hmac
import struct
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from enrollments.models.fields import encryption_keys

# Rows that are there have smaller IDs.
_TO_COME = 2**63
_LEADING_DIGITS = 15
# Since 1970; what comes out of another key may be more than there is of time.
_MOST_HOURS = 10_000_000


@lru_cache(maxsize=4)
def _permutation(secret: str) -> Cipher[ECB]:
    # One block under one key is a keyed permutation of 128-bit numbers, which is all that is wanted here.
    key = hmac.digest(secret.encode(), b"dpsportal tracking id", hashlib.sha256)
    return Cipher(AES(key), ECB())  # noqa: S305  # a single block


def tracking_id(attempt: int, ordinal: int) -> str:
    """A name for the nth occurrence of an attempt row. It looks random: two of them tell a stranger nothing.

    Attempts are counted rather than stored one by one (R14), and still each answer has an ID of its own.
    """
    encryptor = _permutation(encryption_keys()[0]).encryptor()
    return str(uuid.UUID(bytes=encryptor.update(struct.pack(">QQ", attempt, ordinal)) + encryptor.finalize()))


def tracking_id_of_row_to_come(source: str, hour: datetime) -> str:
    """The same for each occurrence of a row that is written later. `source`: ends in a digest that leads to it."""
    return tracking_id(_TO_COME + int(source[-_LEADING_DIGITS:], 16), int(hour.timestamp()) // 3600)


def read_tracking_id(text: str) -> tuple[int, int] | None:
    """Attempt row and ordinal; None where the text is no UUID. Whether such a row exists is for the caller to see."""
    found = _read(text)
    return found if found is not None and found[0] < _TO_COME else None


def read_tracking_id_of_row_to_come(text: str) -> tuple[str, datetime] | None:
    """What the row's source ends in, and its hour; None of tracking IDs of the other kind."""
    found = _read(text)
    if found is None or found[0] < _TO_COME or found[1] > _MOST_HOURS:
        return None
    digits, hour = f"{found[0] - _TO_COME:0{_LEADING_DIGITS}x}", found[1]
    return digits, datetime.fromtimestamp(0, tz=UTC) + timedelta(hours=hour)


def _read(text: str) -> tuple[int, int] | None:
    try:
        block = uuid.UUID(text.strip()).bytes
    except ValueError:
        return None
    for key in encryption_keys():
        decryptor = _permutation(key).decryptor()
        first, second = struct.unpack(">QQ", decryptor.update(block) + decryptor.finalize())
        # Under another key than its own it is a random number, which is hardly ever so small.
        if second < 2**31 and first < _TO_COME + 16**_LEADING_DIGITS:
            return first, second
    return None
