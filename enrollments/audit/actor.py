"""Who acts, and by which way. There is always somebody."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

from enrollments.policy.unknown import Unknown


class Way(StrEnum):
    """The door through which an act came in (R15)."""

    PORTAL = "portal"
    SERVICE_API = "service API"
    COMMAND_LINE = "command line"
    DEVICE = "device"
    SCHEDULE = "schedule"


MAX_CLIENT = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """`kind` is user, service, device, cli, or schedule where a switch turned that `name` had set a time for.

    The name is frozen into each history row. request_id: what the rows of one act have in common. It is made up where
    no request has one: nobody must be able to guess a row that is shown by its hash only. client: what the program that
    was used calls itself, which is a claim and no proof.

    still_may: for whoever may have been shut out since they were let in. It is asked in the transaction of the act, and
    raises where that is so (R12).
    """

    kind: str
    name: str
    way: Way | Unknown
    address: str = ""
    request_id: str = field(default_factory=lambda: str(uuid4()), compare=False)
    client: str = ""
    still_may: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def clean_client(client: str) -> str:
    """What a program calls itself, as it is kept: without control characters, and bounded."""
    return "".join(c for c in client[: 4 * MAX_CLIENT] if c.isprintable())[:MAX_CLIENT]
