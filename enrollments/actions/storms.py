"""Storms: who is refused most, how often it comes, and when it may try again (R14). Looks, and changes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, QuerySet, Sum, Window
from django.db.models.functions import RowNumber

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.kept_attempts import tracking_id_of_latest
from enrollments.actions.quiet_periods import REFUSED, caller_of, standing_quiet_periods
from enrollments.models import ProvisioningService, QuietPeriod, RegistrationAttempt
from enrollments.policy.back_off import FREE_REFUSALS
from enrollments.throttling import BackOff, limiter

MOST_SHOWN = 50
# Whom rates and back-off take for one.
_CALLER = ("registration_key", "outcome", "credential")


@dataclass(frozen=True, slots=True)
class Storm:
    """One caller that is refused. `latest`: its latest attempt, whose cause and client are shown.

    times: with tries that were not judged since. in_a_row and next_try are what this node remembers; next_try is None
    where it may try at once.
    """

    latest: RegistrationAttempt
    times: int
    first_at: datetime
    last_at: datetime
    in_a_row: int | None
    next_try: datetime | None
    quiet: QuietPeriod | None
    can_be_quieted: bool

    @property
    def per_minute(self) -> float:
        """Over the time in which it came, and no less than a minute."""
        return self.times / max(1.0, (self.last_at - self.first_at).total_seconds() / 60)

    @property
    def tracking_id(self) -> str:
        return tracking_id_of_latest(self.latest)

    @property
    def stands_for_many(self) -> bool:
        return self.latest.claimed_registration_id == OVERFLOW_NAME


@dataclass(frozen=True, slots=True)
class Storms:
    """Most refused first. `callers`: how many there are in all, shown or not."""

    shown: tuple[Storm, ...]
    callers: int
    quiet: tuple[QuietPeriod, ...]


def storms(service: ProvisioningService, *, window: timedelta, at: datetime) -> Storms:
    """Callers that were refused within the window, by how often. Attempts are counted by the hour, and come whole."""
    since = at - window
    # Tries that are held back are counted in the row of a refusal before them.
    refused_since = since - timedelta(seconds=service.longest_retry_after_seconds)
    refused = service.attempts.filter(
        # The hour is what the index knows; the time is what was asked for.
        hour__gte=refused_since.replace(minute=0, second=0, microsecond=0),
        outcome__in=REFUSED,
        last_at__gte=since,
    )
    by_caller = refused.values(*_CALLER).order_by()
    rows = list(
        by_caller.annotate(times=Sum("count"), first=Min("first_at"), last=Max("last_at")).order_by(
            "-times", "-last", *_CALLER
        )[:MOST_SHOWN]
    )
    callers = len(rows)
    if callers == MOST_SHOWN:
        callers = by_caller.annotate(rows=Count("pk")).count()
    latest = _latest_of(refused, (row["registration_key"] for row in rows))
    quiet = tuple(standing_quiet_periods(at).filter(service=service).order_by("until", "pk"))
    by_whom = {(one.registration_key, one.credential, one.is_proven): one for one in quiet}
    shown = []
    for row in rows:
        attempt = latest.get(_caller(row))
        if attempt is None:
            continue  # forgotten meanwhile
        caller = caller_of(attempt)
        back_off = limiter().back_off_of(caller) if caller else None
        shown.append(
            Storm(
                attempt,
                row["times"] + (back_off.unjudged if back_off else 0),
                row["first"],
                row["last"],
                back_off.in_a_row if back_off else None,
                _next_try(service, back_off, at),
                by_whom.get((caller.registration_key, caller.credential, caller.is_proven))
                if caller
                else None,
                can_be_quieted=caller is not None,
            )
        )
    return Storms(tuple(shown), callers, quiet)


def _latest_of(
    refused: QuerySet[RegistrationAttempt], names: Iterable[str]
) -> dict[tuple[str, ...], RegistrationAttempt]:
    """The latest attempt of each caller with one of these names."""
    place = Window(RowNumber(), partition_by=_CALLER, order_by=["-last_at", "-pk"])
    latest = refused.filter(registration_key__in=set(names)).annotate(place=place).filter(place=1)
    return {_caller(vars(one)): one for one in latest}


def _caller(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in _CALLER)


def _next_try(service: ProvisioningService, back_off: BackOff | None, at: datetime) -> datetime | None:
    """When it is judged again. A change of the service lets it try at once, and so do its first refusals."""
    if back_off is None or back_off.epoch != service.epoch:
        return None
    if back_off.in_a_row < FREE_REFUSALS and not back_off.is_quiet:
        return None
    next_try = datetime.fromtimestamp(back_off.next_try, tz=UTC)
    return next_try if next_try > at else None
