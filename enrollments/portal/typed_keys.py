"""Symmetric keys that somebody typed, on their way through a page that nobody can read them in."""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta

from cryptography.fernet import InvalidToken

from enrollments.actions.entry_specs import Kind
from enrollments.errors import Invalid
from enrollments.models.fields import cipher

FIELD = "typed_keys"
NAMES = ("primary_key", "secondary_key")
# From when they were typed, however many pages they go through.
MAX_AGE = timedelta(minutes=30)
# Twice what two keys of 64 bytes come to.
MAX_CHARACTERS = 1000
# Whatever else the key of the installation has encrypted, such as a column of the database, is no field of a form.
_PURPOSE = "dpsportal.typed-keys"
REFUSED = (
    "What this page kept of the keys that were typed cannot be used: it holds for "
    f"{MAX_AGE.seconds // 60} minutes, for whoever typed them and for that form alone. Type the keys again."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Who typed them, and into which form: of which service, and of which entry where one is changed."""

    person: int | None
    service: int
    kind: Kind
    entry: int | None


def sealed(keys: Mapping[str, str], place: Place, at: datetime) -> str:
    """As a hidden field carries them, encrypted as secrets in the database are. Empty where they are too long for keys.

    Whoever has the page has nothing without the key of the installation, and nothing that another person, form or
    service would take.
    """
    content = json.dumps([_PURPOSE, *astuple(place), dict(keys)], separators=(",", ":"))
    token = cipher().encrypt_at_time(content.encode(), int(at.timestamp())).decode()
    return token if len(token) <= MAX_CHARACTERS else ""


def opened(token: str, place: Place, at: datetime) -> tuple[dict[str, str], datetime]:
    """The keys by name, and since when they are kept. Raises Invalid: one sentence, whatever is wrong with it.

    What a key of the installation has encrypted is understood for as long as it is listed (R16).
    """
    refused = Invalid({"": [REFUSED]})
    if len(token) > MAX_CHARACTERS:
        raise refused
    try:
        text = cipher().decrypt_at_time(token.encode(), int(MAX_AGE.total_seconds()), int(at.timestamp()))
        content = json.loads(text)
    except (InvalidToken, ValueError):
        raise refused from None
    if not isinstance(content, list) or content[:-1] != [_PURPOSE, *astuple(place)]:
        raise refused
    return content[-1], datetime.fromtimestamp(cipher().extract_timestamp(token), UTC)
