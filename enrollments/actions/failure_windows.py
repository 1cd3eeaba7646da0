"""What the counts of failed sign-ins, and of failed authentications at the service API, have in common (R15)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings

from enrollments.audit.actor import Actor, Way
from enrollments.models import SignInFailures

# Where a name failed from more addresses than this, they share a row of the history.
MOST_ADDRESSES = 10
# In place of an address, where there are too many.
MANY = ""


def window() -> timedelta:
    return timedelta(minutes=settings.DPS_SIGN_IN_LOCKOUT_MINUTES)


def stranger(address: str, way: Way) -> Actor:
    """Whoever fails to prove themselves is nobody in particular, whatever name they give."""
    return Actor("stranger", "somebody", way, address)


def as_told(rows: Sequence[SignInFailures], *, many: str | None = None) -> tuple[str, dict[str, Any]]:
    """The address, if it is one, and the numbers for a row of the history about all of these.

    many: what stands in the place of the address of a row that is of any number of them.
    """
    addresses = sorted({row.address for row in rows} - {many})
    told: dict[str, Any] = {
        "failures": sum(row.count for row in rows),
        "since": min(row.window_started_at for row in rows).isoformat(),
    }
    has_more = many is not None and any(row.address == many for row in rows)
    if len(addresses) == 1 and not has_more:
        return addresses[0], told
    told |= {"addresses": len(addresses), "some_addresses": addresses[:MOST_ADDRESSES]}
    if has_more:
        told["further_addresses"] = True
    return "", told
