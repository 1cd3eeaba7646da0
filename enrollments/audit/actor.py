"""Who acts, and by which way. There is always somebody."""

from dataclasses import dataclass
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
    """

    kind: str
    name: str
    way: Way
    address: str = ""
    request_id: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"
