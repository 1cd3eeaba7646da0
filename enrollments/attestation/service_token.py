"""SAS tokens of back ends: signed with the key of a policy, for a host and what lies below a path (contract 6.1)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from enrollments.attestation.symmetric_key import SasToken, TokenExpired, check_signature
from enrollments.errors import AttestationError

HTTPS_PORT = 443
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)


class TokenForOtherPlace(AttestationError):
    code = "token_for_other_place"


@dataclass(frozen=True, slots=True)
class Host:
    """`port` is None where the text names none."""

    name: str
    port: int | None = None

    @classmethod
    def read(cls, text: str) -> "Host | None":
        """From a Host header, or the beginning of `sr`; None where it is no host. Case does not count."""
        match = _HOST.fullmatch(text.strip().lower()) if len(text) <= 300 else None
        if match is None:
            return None
        return cls(match["name"], int(match["port"]) if match["port"] else None)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request arrived: the host that was dialled, another name of the same service, and the path, decoded."""

    host: Host
    path: str
    service_host: str = ""


def check_service_token(token: SasToken, place: Place, *, keys: Iterable[bytes], now: float) -> None:
    """Prove a token: signed with one of the keys, for this place, not expired.

    The signature is checked first and over the literal text, as in contract 1.4. Raises TokenSignatureWrong,
    TokenForOtherPlace, TokenExpired.
    """
    check_signature(token, keys)
    resource = unquote(token.resource)
    if not _covers(resource, place):
        raise TokenForOtherPlace(
            f"The SAS token is for {resource[:200]!r}, and was sent to {place.host.name}."
        )
    if int(token.expiry) <= now:
        raise TokenExpired("The SAS token has expired; the clock of its maker may be slow.")


def _covers(resource: str, place: Place) -> bool:
    """A prefix by whole segments: `host/enrollments` covers `/enrollments/a` and not `/enrollmentGroups`."""
    # One client signs the whole address where it was given one.
    first, *segments = resource.lower().removeprefix("https://").rstrip("/").split("/")
    host = Host.read(first)
    if host is None or not resource.isascii():
        return False
    if host.name == place.host.name:
        # A token without a port is for the host, whatever port it is reached by; with one, for that alone.
        if host.port is not None and host.port != (place.host.port or HTTPS_PORT):
            return False
    elif host.name != place.service_host.lower():
        return False
    asked = [segment for segment in place.path.lower().split("/") if segment]
    return asked[: len(segments)] == segments
