"""Which rows of the history shut one device out: each at which what would be decided about it turned from admitted.

Worked out as Back in time does, so that it is the decision that says so, and not the kind of act: a group that was
disabled shuts out, and so does an enabled individual enrollment that asks for another credential (R5), or a setting.
"""

from dataclasses import dataclass

from enrollments.actions.past.device import Limits, look_back
from enrollments.actions.past.spells import LookBack, ShutOut
from enrollments.actions.past.walking import begins_at
from enrollments.models import ProvisioningService


@dataclass(frozen=True, slots=True)
class ShutOuts:
    """`turns`: when a device was shut out, oldest first. rows: of the history, by primary key."""

    look: LookBack
    turns: tuple[ShutOut, ...]

    @property
    def rows(self) -> frozenset[int]:
        return frozenset(row.pk for turn in self.turns for row in turn.began_by.rows)

    @property
    def by_time(self) -> tuple[ShutOut, ...]:
        """Those that nobody did at that moment: dates of certificates, and switches that fell due."""
        return tuple(turn for turn in self.turns if turn.began_by.event is None)


def what_shut_out(service: ProvisioningService, registration_id: str, *, limits: Limits) -> ShutOuts | None:
    """Since the history of the service begins; None where it is empty. Raises what look_back raises."""
    begun = begins_at(service)
    if begun is None:
        return None
    look = look_back(service, registration_id, begun, limits=limits)
    return ShutOuts(look, look.shut_outs)
