"""Identifiers of symmetric keys: the same key has the same one for ever, and it tells nothing about the key.

The history and registration records name keys by them, so that it can be said later whether an entry held the key that
a device proved, also when the entry was deleted or its key replaced since (R15: the key itself never enters a row).
"""

import hashlib
import hmac
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from enrollments.attestation.symmetric_key import derive_device_key, key_bytes
from enrollments.errors import SecretUnreadable
from enrollments.models import KeyIdentifierSecret

logger = logging.getLogger(__name__)
_read_before: ContextVar[bytes] = ContextVar("secret for identifiers", default=b"")

DIGITS = 32
# Before the identifier of a key from which the device derived its own: holding the one is not holding the other.
OF_GROUP = "group:"


def key_identifier(key: str) -> str:
    """Of a key in base64, as it is enrolled. Empty where it cannot be made: a key is enrolled all the same (R16)."""
    return _identifier(key_bytes(key))


def endorsement_identifier(endorsement_key: bytes) -> str:
    """What a TPM is known by: its key is public, so that is the digest that snapshots have."""
    return hashlib.sha256(endorsement_key).hexdigest()


def identifier_of_group_key(group_key: bytes) -> str:
    """As records have it of a device whose own key is derived from that one; empty where it cannot be made."""
    known = _identifier(group_key)
    return f"{OF_GROUP}{known}" if known else ""


def identifier_of_derived(group_key: bytes, registration_id: str) -> str:
    """Of the key that a device of this name has from a group with this key."""
    return _identifier(derive_device_key(group_key, registration_id))


def identifiers_of_derived(group_key: str, group_key_id: str, registration_id: str) -> frozenset[str]:
    """Of a device of a group with symmetric keys: of its own key, and of the one that it is derived from."""
    own = identifier_of_derived(key_bytes(group_key), registration_id)
    return frozenset(filter(None, (own, f"{OF_GROUP}{group_key_id}" if group_key_id else "")))


@contextmanager
def secret_read_once() -> Iterator[None]:
    """For whoever makes many identifiers in one transaction: the secret is read before the first of them alone.

    No longer than that: a secret that was made in a transaction which is taken back is none.
    """
    token = _read_before.set(_secret())
    try:
        yield
    finally:
        _read_before.reset(token)


def _identifier(key: bytes) -> str:
    secret = _read_before.get() or _secret()
    return hmac.digest(secret, key, hashlib.sha256).hex()[:DIGITS] if secret else ""


def _secret() -> bytes:
    """Empty where it cannot be decrypted."""
    try:
        secret, _ = KeyIdentifierSecret.objects.get_or_create(pk=1)
    except SecretUnreadable:
        logger.warning("Keys get no identifier, because the secret for identifiers cannot be decrypted")
        return b""
    return secret.secret.encode()
