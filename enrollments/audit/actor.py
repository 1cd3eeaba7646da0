"""Who acts, and by which way. There is always somebody."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Way(StrEnum):
    """The door through which an act came in (R15)."""

    PORTAL = "portal"
    SERVICE_API = "service API"
    COMMAND_LINE = "command line"
    DEVICE = "device"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class Actor:
    """`kind` is user, service, device, cli, or schedule where a switch turned that `name` had set a time for.

    The name is frozen into each history row.
    still_may: for whoever may have been shut out since they were let in. It is asked in the transaction of the act, and
    raises where that is so (R12).
    """

    kind: str
    name: str
    way: Way
    address: str = ""
    request_id: str = ""
    still_may: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"
