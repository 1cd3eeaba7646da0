"""If-Match in every spelling that clients have for it (contract 6.3)."""

from dataclasses import dataclass

from django.http import HttpRequest

from enrollments.errors import ChangedMeanwhile
from enrollments.service_api.errors import WRONG_CONDITION
from enrollments.wire.errors import ApiError

ANY = "*"


@dataclass(frozen=True, slots=True)
class Condition:
    """What must be there for a write to happen. Without `etags` whatever is there will do."""

    etags: tuple[str, ...] = ()

    def check(self, etag: str, what: str) -> None:
        """Raises ChangedMeanwhile."""
        if self.etags and etag not in self.etags:
            raise ChangedMeanwhile(what)


def condition_of(request: HttpRequest) -> Condition | None:
    """None where the request has none. An empty one is a client that lost its etag: it is not taken for "any"."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    etags = tuple(_bare(part) for part in header.split(","))
    if not all(etags):
        raise ApiError(
            WRONG_CONDITION, "If-Match is empty: give the etag of the version that is meant, or *."
        )
    return Condition() if ANY in etags else Condition(etags)


def condition_of_etag(etag: str | None) -> Condition | None:
    """The same from the member `etag` of an entry in a bulk operation."""
    bare = _bare(etag or "")
    if not bare:
        return None
    return Condition() if bare == ANY else Condition((bare,))


def _bare(text: str) -> str:
    """An etag is base64 of a quoted text, so quotation marks around it are HTTP's and no part of it."""
    return text.strip().removeprefix("W/").removeprefix('"').removesuffix('"')
