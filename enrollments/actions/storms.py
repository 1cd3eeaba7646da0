"""Storms: who comes in vain most, how often, and when it may try again (R14). Looks, and changes nothing.

Whoever is refused, and whoever is admitted and fails, as a fleet does whose names another entry holds (R11).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, QuerySet, Sum, Window
from django.db.models.functions import RowNumber

from enrollments.actions.attempt_entries import Opening, deciding_entries, openings
from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.kept_attempts import tracking_id_of_latest
from enrollments.actions.name_holders import holder_of
from enrollments.actions.quiet_periods import REFUSED, caller_of, standing_quiet_periods
from enrollments.models import (
    AttemptOutcome,
    IndividualEnrollment,
    ProvisioningService,
    QuietPeriod,
    RegistrationAttempt,
)
from enrollments.models.enrollments import secrets_of
from enrollments.policy.back_off import FREE_REFUSALS
from enrollments.policy.names import is_registration_id, registration_key
from enrollments.policy.reasons import Reason
from enrollments.throttling import BackOff, Caller, limiter

MOST_SHOWN = 50
IN_VAIN = (*REFUSED, AttemptOutcome.FAILED)
# Whom rates and back-off take for one.
_CALLER = ("registration_key", "outcome", "credential")


@dataclass(frozen=True, slots=True)
class Storm:
    """One caller that is refused, or fails. `latest`: its latest attempt, whose cause and client are shown.

    times: with tries that were not judged since. in_a_row and next_try are what this node remembers; next_try is None
    where it may try at once. Whoever fails is held back by its rate alone: it has no refusals in a row.
    disabled: the individual enrollment of that name, where it is disabled now. is_denied: until further notice, so that
    nothing is left to deny. opening: of the group that kept the latest out, where it is disabled until a time.
    releasable: the registration ID, where another entry than the one that admits this caller holds it still (R11).
    """

    latest: RegistrationAttempt
    times: int
    first_at: datetime
    last_at: datetime
    in_a_row: int | None
    next_try: datetime | None
    quiet: QuietPeriod | None
    can_be_quieted: bool
    disabled: IndividualEnrollment | None
    opening: Opening | None
    releasable: str

    @property
    def per_minute(self) -> float:
        """Over the time in which it came, and no less than a minute."""
        return self.times / max(1.0, (self.last_at - self.first_at).total_seconds() / 60)

    @property
    def tracking_id(self) -> str:
        return tracking_id_of_latest(self.latest)

    @property
    def fails(self) -> bool:
        return self.latest.outcome == AttemptOutcome.FAILED

    @property
    def is_denied(self) -> bool:
        return self.disabled is not None and self.disabled.disabled_until is None

    @property
    def can_be_denied(self) -> bool:
        """Nobody is ever admitted under a name that is no registration ID, nor can it be barred (R2)."""
        return not self.is_denied and is_registration_id(self.latest.claimed_registration_id)

    @property
    def stands_for_many(self) -> bool:
        return self.latest.claimed_registration_id == OVERFLOW_NAME


@dataclass(frozen=True, slots=True)
class Storms:
    """Who came most often first. `callers`: how many there are in all, shown or not."""

    shown: tuple[Storm, ...]
    callers: int
    quiet: tuple[QuietPeriod, ...]


def storms(service: ProvisioningService, *, window: timedelta, at: datetime) -> Storms:
    """Who was refused or failed within the window, by how often. Attempts are counted by the hour, and come whole."""
    since = at - window
    # Tries that are held back are counted in the row of a refusal before them.
    refused_since = since - timedelta(seconds=service.longest_retry_after_seconds)
    in_vain = service.attempts.filter(
        # The hour is what the index knows; the time is what was asked for.
        hour__gte=refused_since.replace(minute=0, second=0, microsecond=0),
        outcome__in=IN_VAIN,
        last_at__gte=since,
    )
    by_caller = in_vain.values(*_CALLER).order_by()
    rows = list(
        by_caller.annotate(times=Sum("count"), first=Min("first_at"), last=Max("last_at")).order_by(
            "-times", "-last", *_CALLER
        )[:MOST_SHOWN]
    )
    callers = len(rows)
    if callers == MOST_SHOWN:
        callers = by_caller.annotate(rows=Count("pk")).count()
    latest = _latest_of(in_vain, (row["registration_key"] for row in rows))
    disabled = _disabled(service, latest.values())
    opening = _openings(service, latest.values())
    releasable = _releasable(service, latest.values())
    quiet = tuple(standing_quiet_periods(at).filter(service=service).order_by("until", "pk"))
    by_whom = {(one.registration_key, one.credential, one.is_proven): one for one in quiet}
    shown = []
    for row in rows:
        attempt = latest.get(_caller(row))
        if attempt is None:
            continue  # forgotten meanwhile
        fails = attempt.outcome == AttemptOutcome.FAILED
        caller = caller_of(attempt)
        refused = None if fails else caller
        back_off = limiter().back_off_of(refused) if refused else None
        shown.append(
            Storm(
                attempt,
                row["times"] + (back_off.unjudged if back_off else 0),
                row["first"],
                row["last"],
                back_off.in_a_row if back_off else None,
                _next_of_failed(service, caller, at) if fails else _next_try(service, back_off, at),
                by_whom.get((refused.registration_key, refused.credential, refused.is_proven))
                if refused
                else None,
                can_be_quieted=refused is not None,
                disabled=disabled.get(attempt.registration_key),
                opening=opening.get(attempt.pk),
                releasable=releasable.get(attempt.pk, ""),
            )
        )
    return Storms(tuple(shown), callers, quiet)


def _latest_of(
    in_vain: QuerySet[RegistrationAttempt], names: Iterable[str]
) -> dict[tuple[str, ...], RegistrationAttempt]:
    """The latest attempt of each caller with one of these names."""
    place = Window(RowNumber(), partition_by=_CALLER, order_by=["-last_at", "-pk"])
    latest = in_vain.filter(registration_key__in=set(names)).annotate(place=place).filter(place=1)
    return {_caller(vars(one)): one for one in latest}


def _disabled(
    service: ProvisioningService, attempts: Iterable[RegistrationAttempt]
) -> dict[str, IndividualEnrollment]:
    """The individual enrollments of these names that keep out now, by name. No switch is turned for it."""
    names = {one.registration_key for one in attempts}
    if not names:
        return {}
    as_of = ProvisioningService.what_decisions_read(service.pk).as_of_now(recorded_only=True)
    entries = service.individualenrollments.without_secrets().filter(as_of.where(enabled=False))
    return {one.registration_key: one for one in entries.filter(registration_key__in=names)}


def _openings(service: ProvisioningService, attempts: Iterable[RegistrationAttempt]) -> dict[int, Opening]:
    """Of the groups that kept these out, where they are disabled until a time, by attempt. Two queries."""
    kept_out = [one for one in attempts if one.reason == Reason.GROUP_DISABLED]
    deciding = deciding_entries(service, kept_out) if kept_out else []
    groups = {one.pk: then.entry for one, then in zip(kept_out, deciding, strict=True) if then.entry}
    opening = openings(service, groups.values())
    return {pk: opening[ref] for pk, ref in groups.items() if ref in opening}


def _releasable(service: ProvisioningService, attempts: Iterable[RegistrationAttempt]) -> dict[int, str]:
    """The names that these attempts failed to get and that another entry holds still, by attempt. One query."""
    contested = [one for one in attempts if one.reason == Reason.NAME_HELD_BY_OTHER_ENTRY]
    if not contested:
        return {}
    owners = ("owner_individual", "owner_group")
    names = {one.registration_key for one in contested}
    records = service.registrations.select_related(*owners).defer(*secrets_of(*owners))
    held = {one.registration_key: one for one in records.filter(registration_key__in=names)}
    releasable = {}
    for attempt in contested:
        record = held.get(attempt.registration_key)
        holder = holder_of(record) if record else None
        if record is None or holder is None:
            continue
        admits = (attempt.entry_kind, registration_key(attempt.entry_name))
        # Once released, the name is of whoever wanted it, who must not lose it again.
        if (holder.kind.value, registration_key(holder.name)) != admits:
            releasable[attempt.pk] = record.registration_id
    return releasable


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


def _next_of_failed(service: ProvisioningService, caller: Caller | None, at: datetime) -> datetime | None:
    """When its rate lets it register again. It was admitted, so no back-off holds it back."""
    if caller is None:
        return None
    next_try = limiter().next_registration(
        caller, at.timestamp(), per_minute=service.device_registrations_per_minute
    )
    return datetime.fromtimestamp(next_try, tz=UTC) if next_try else None
