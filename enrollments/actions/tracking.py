"""Tracking IDs: what a refused device is given, and how an administrator gets from it to the full cause (R3)."""

import hashlib
import hmac
import struct
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from enrollments.models.fields import encryption_keys

# Rows that are there have smaller IDs.
_TO_COME = 2**63
_LEADING_DIGITS = 15
_HOUR_BITS, _OTHERS_BITS = 24, 20
# Since 1970; what comes out of another key may be more than there is of time.
_MOST_HOURS = 2**21


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


class RowToCome(NamedTuple):
    """What leads to a row that is written later: what its source ends in, its hour, and a digest of its others."""

    source_ends: str
    hour: datetime
    others_digest: int

    def may_be_in(self, service: int, others: str) -> bool:
        """Whether it is counted in this row of many, if it has none of its own."""
        return self.others_digest == _digest_of_others(service, others)


def tracking_id_of_row_to_come(service: int, source: str, others: str, hour: datetime) -> str:
    """The same for each occurrence of a row that is written later. `source`: ends in a digest that leads to it.

    others: the source of the row that counts it together with many, if there is no room for it by then.
    """
    second = _digest_of_others(service, others) << _HOUR_BITS | int(hour.timestamp()) // 3600
    return tracking_id(_TO_COME + int(source[-_LEADING_DIGITS:], 16), second)


@lru_cache(maxsize=1024)
def _digest_of_others(service: int, others: str) -> int:
    """Of the service too, or it would lead to the many of another one (R1)."""
    digest = hashlib.blake2b(f"{service}\n{others}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - _OTHERS_BITS)


def read_tracking_id(text: str) -> tuple[int, int] | None:
    """Attempt row and ordinal; None where the text is no UUID. Whether such a row exists is for the caller to see."""
    found = _read(text)
    return found if found is not None and found[0] < _TO_COME else None


def read_tracking_id_of_row_to_come(text: str) -> RowToCome | None:
    """None of tracking IDs of the other kind."""
    found = _read(text)
    if found is None or found[0] < _TO_COME:
        return None
    digits, others, hour = found[0] - _TO_COME, found[1] >> _HOUR_BITS, found[1] % 2**_HOUR_BITS
    since_1970 = timedelta(hours=hour)
    return RowToCome(f"{digits:0{_LEADING_DIGITS}x}", datetime.fromtimestamp(0, tz=UTC) + since_1970, others)


def as_written(text: str) -> str:
    """The tracking ID in this text in the form in which it was given."""
    return str(uuid.UUID(text.strip()))


def _read(text: str) -> tuple[int, int] | None:
    try:
        block = uuid.UUID(text.strip()).bytes
    except ValueError:
        return None
    for key in encryption_keys():
        decryptor = _permutation(key).decryptor()
        first, second = struct.unpack(">QQ", decryptor.update(block) + decryptor.finalize())
        # Under another key than its own it is a random number, which is hardly ever so small.
        if first < _TO_COME and second < 2**31:
            return first, second
        is_to_come = _TO_COME <= first < _TO_COME + 16**_LEADING_DIGITS
        if is_to_come and second < 2 ** (_OTHERS_BITS + _HOUR_BITS) and second % 2**_HOUR_BITS < _MOST_HOURS:
            return first, second
    return None
