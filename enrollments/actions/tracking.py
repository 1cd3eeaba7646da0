"""Tracking IDs: what a refused device is given, and how an administrator gets from it to the full cause (R3)."""

import hashlib
import hmac
import struct
import uuid
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from enrollments.models.fields import encryption_keys


@lru_cache(maxsize=4)
def _permutation(secret: str) -> Cipher[ECB]:
    # One block under one key is a keyed permutation of 128-bit numbers, which is all that is wanted here.
    key = hmac.digest(secret.encode(), b"dpsportal tracking id", hashlib.sha256)
    return Cipher(AES(key), ECB())  # noqa: S305  # a single block, each value at most once


def tracking_id(attempt: int, ordinal: int) -> str:
    """A name for the nth occurrence of an attempt row. It looks random: two of them tell a stranger nothing.

    Attempts are counted rather than stored one by one (R14), and still each answer has an ID of its own.
    """
    encryptor = _permutation(encryption_keys()[0]).encryptor()
    return str(uuid.UUID(bytes=encryptor.update(struct.pack(">QQ", attempt, ordinal)) + encryptor.finalize()))


def read_tracking_id(text: str) -> tuple[int, int] | None:
    """Attempt row and ordinal; None where the text is no UUID. Whether such a row exists is for the caller to see."""
    try:
        block = uuid.UUID(text.strip()).bytes
    except ValueError:
        return None
    for key in encryption_keys():
        decryptor = _permutation(key).decryptor()
        attempt, ordinal = struct.unpack(">QQ", decryptor.update(block) + decryptor.finalize())
        # Under another key than its own it is a random number, which is hardly ever so small.
        if attempt < 2**63 and ordinal < 2**31:
            return attempt, ordinal
    return None
