"""Column types and database functions of our own: text that is encrypted at rest, lower case of names."""

import hashlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models
from django.db.models.functions import Lower

from enrollments.errors import SecretUnreadable


@lru_cache(maxsize=4)
def _split(keys: str) -> tuple[str, ...]:
    return tuple(keys.replace(",", " ").split())


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encryption_keys() -> tuple[str, ...]:
    """The newest first: it encrypts. Those behind it are being given up, and are understood until they are gone."""
    return _split(settings.DPS_ENCRYPTION_KEY)


def cipher() -> MultiFernet:
    return _cipher(encryption_keys())


def renewed(token: str) -> str | None:
    """The same secret, encrypted with the newest key; None where it is so already. Raises SecretUnreadable."""
    try:
        _cipher(encryption_keys()[:1]).decrypt(token.encode())
    except InvalidToken:
        try:
            return cipher().rotate(token.encode()).decode()
        except InvalidToken:
            raise SecretUnreadable from None
    return None


def fingerprint(secret: str) -> str:
    """What tells secrets apart without telling them: useless without the key of the installation.

    It begins with what names that key, the newest, so that fingerprints by another one are not taken for other secrets.
    """
    key = encryption_keys()[0].encode()
    return f"{current_key_name()}{hmac.digest(key, secret.encode(), hashlib.sha256).hex()}"


def current_key_name() -> str:
    return hashlib.sha256(b"name\n" + encryption_keys()[0].encode()).hexdigest()[:8] + ":"


if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField


class EncryptedTextField(_TextField):
    """Text that the database holds only as a Fernet token (AES-128-CBC with HMAC-SHA256).

    Raises SecretUnreadable where the key of the installation does not fit: never an empty or a wrong value.
    Cannot be searched, by design.
    """

    def get_prep_value(self, value: Any) -> Any:
        if value is None or value == "":
            return value
        return cipher().encrypt(str(value).encode()).decode()

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        if value is None or value == "":
            return value
        try:
            return cipher().decrypt(value.encode()).decode()
        except InvalidToken:
            raise SecretUnreadable from None

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name in ("isnull", "exact") else None


class AsciiLower(Lower):
    """`registration_key` of policy/names.py, computed by the database: for names, which are ASCII (R2).

    SQLite knows no other letters. What PostgreSQL does depends on the collation: of an I, Turkish ones make no i.
    """

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = '%(function)s(%(expressions)s COLLATE "C")'
        return self.as_sql(compiler, connection, template=template, **context)
