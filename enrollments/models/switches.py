"""Which way the switch of an entry stands at a time, where it may be about to turn by itself (R5 to R7)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from django.db.models import Q

from enrollments.models import clock

# No time that ever comes: whatever is to be enabled some day is enabled, and what is to be disabled is not yet. A
# switch that turns on never shuts out, and one that turns off never lets in; so whoever is admitted at any time to
# come, by what is scheduled, is admitted then.
ALL_OPEN = datetime.max.replace(tzinfo=UTC)
# Nor does this: whatever is to be disabled some day is disabled, and what is to be enabled is not yet. Whoever is
# admitted then is so at any time to come.
ALL_SHUT = datetime.min.replace(tzinfo=UTC)
NO_TIME = (ALL_OPEN, ALL_SHUT)


class Switch(Protocol):
    """What is stored of the switch of an entry: which way it stands, and when it turns by itself."""

    @property
    def enabled(self) -> bool: ...

    @property
    def switches_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class AsOf:
    """The time for which entries are asked whether they are enabled.

    any_due: whether some switch of the service is due by then; if none is, all stand as they are stored.
    recorded_only: an entry that is due to be enabled stays shut until that stands in the history (R15). One that is
    due to be disabled is shut in any case (R16).
    """

    at: datetime
    any_due: bool
    recorded_only: bool = False

    def enabled(self, switch: Switch) -> bool:
        if self.recorded_only and not switch.enabled:
            return False
        if self.at == ALL_OPEN:
            return switch.enabled or switch.switches_at is not None
        if self.at == ALL_SHUT:
            return switch.enabled and switch.switches_at is None
        is_due = switch.switches_at is not None and switch.switches_at <= self.at
        return switch.enabled != is_due

    def where(self, *, enabled: bool, prefix: str = "") -> Q:
        """The same as a condition on rows. `prefix` leads to the entry: `individual__`."""
        stands = Q(**{f"{prefix}enabled": enabled})
        if self.at == ALL_OPEN:
            is_scheduled = Q(**{f"{prefix}switches_at__isnull": False})
            return stands | is_scheduled if enabled else stands & ~is_scheduled
        if self.at == ALL_SHUT:
            is_scheduled = Q(**{f"{prefix}switches_at__isnull": False})
            return stands & ~is_scheduled if enabled else stands | is_scheduled
        if not self.any_due:
            return stands
        due = Q(**{f"{prefix}switches_at__lte": self.at})
        not_due = Q(**{f"{prefix}switches_at__isnull": True}) | Q(**{f"{prefix}switches_at__gt": self.at})
        if self.recorded_only:
            return stands & not_due if enabled else stands | due
        return (stands & not_due) | (Q(**{f"{prefix}enabled": not enabled}) & due)


def disabled_by_now() -> Q:
    """The entries of several services that keep out now, whether or not the history says so yet."""
    return Q(enabled=False) | Q(switches_at__lte=clock.database_now())
