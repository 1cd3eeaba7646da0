"""Quiet periods: a device that is refused all the time is told to wait, and not refused once more (R14).

A quiet period is about a refusal and never about an admission. It counts after a device was judged and refused, for
the very caller that it was started for. The limiter of the node remembers it then, as it remembers back-off: for the
leaf's key before judging, for as long as the longest Retry-After, and on that epoch alone. So a device that would be
admitted by now is judged as soon as after any other refusal.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Replace
from django.utils import timezone

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.kept_attempts import is_proven
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import AttemptOutcome, ProvisioningService, QuietPeriod, RegistrationAttempt
from enrollments.throttling import Caller

SHORTEST, LONGEST = timedelta(minutes=5), timedelta(days=7)
MAX_QUIET_PERIODS = 1000
REFUSED = (AttemptOutcome.REFUSED, AttemptOutcome.DISABLED)


class NotADevice(Conflict):
    """An attempt that stands for nobody who could be told to wait."""

    code = "not_a_device"


def caller_of(attempt: RegistrationAttempt) -> Caller | None:
    """Who made the latest of these attempts, as rates and back-off know them. None for a row that counts many."""
    if attempt.claimed_registration_id == OVERFLOW_NAME or not attempt.credential:
        return None
    return Caller(
        attempt.service_id, attempt.registration_key, attempt.credential, is_proven=is_proven(attempt)
    )


def standing_quiet_periods(at: datetime) -> QuerySet[QuietPeriod]:
    """Those that still count: their time is not over, and whom they are for was not admitted since."""
    return QuietPeriod.objects.exclude(_is_over(at))


def quiet_period_of(caller: Caller, at: datetime) -> QuietPeriod | None:
    """The quiet period that stands for this caller, who has just been refused."""
    return (
        standing_quiet_periods(at)
        .filter(
            service=caller.service,
            registration_key=caller.registration_key,
            credential=caller.credential,
            is_proven=caller.is_proven,
        )
        .first()
    )


def _is_over(at: datetime) -> Q:
    """One admission ends it, as it ends back-off: of the device, or of whoever had proven nothing when it was started.

    That one is known again by the key of its certificate, or comes with a token from where it came before. Whether
    somebody else is admitted under the same name is another matter.
    """
    admitted = RegistrationAttempt.objects.filter(
        service=OuterRef("service"),
        registration_key=OuterRef("registration_key"),
        outcome=AttemptOutcome.ASSIGNED,
        last_at__gt=OuterRef("started_at"),
    )
    by_token = admitted.filter(leaf_thumbprint="")
    is_same = (
        Q(is_proven=True) & Q(Exists(admitted))
        | Q(Exists(admitted.filter(credential=OuterRef("credential"))))
        | Q(Exists(by_token.filter(peer_address=OuterRef("credential"))))
        | _is_within_network(by_token)
    )
    return Q(until__lte=at) | is_same


def _is_within_network(admitted: "QuerySet[RegistrationAttempt]") -> Q:
    """Whether one of these came from the IPv6 network that the period is for: as source_of and RFC 5952 write it.

    Groups of the network that are zero are left out where they come last, and in an address where two at least do.
    """
    network = Q()
    for zeros in range(3):
        written = Q(credential__regex=rf"^[0-9a-f]+(:[0-9a-f]+){{{3 - zeros}}}::/64$")
        for behind in ("::", f"{':0' * zeros}:"):
            begins = Replace(OuterRef("credential"), Value("::/64"), Value(behind))
            network |= written & Q(Exists(admitted.filter(peer_address__startswith=begins)))
    return network


def start_quiet_period(
    service: ProvisioningService,
    attempt: RegistrationAttempt,
    duration: timedelta,
    *,
    actor: Actor,
    reason: str = "",
) -> QuietPeriod:
    """Tell the device of a refused attempt to wait for so long, while it is refused. A second replaces the first.

    Raises NotADevice for an attempt that was not refused or stands for many, Invalid for a length out of bounds, and
    Conflict where there are as many quiet periods as are kept.
    """
    reason = clean_reason(reason)
    if not SHORTEST <= duration <= LONGEST:
        raise Invalid({"duration": ["A quiet period lasts 5 minutes at least, and 7 days at most."]})
    if attempt.outcome not in REFUSED:
        raise NotADevice("This attempt was not refused, and a quiet period is for devices that are.")
    caller = caller_of(attempt)
    if caller is None:
        raise NotADevice("This attempt stands for no one device any more, so nobody can be told to wait.")
    now = timezone.now()
    with transaction.atomic():
        service.quiet_periods.filter(_is_over(now)).delete()
        same: dict[str, Any] = {
            "registration_key": caller.registration_key,
            "credential": caller.credential,
            "is_proven": caller.is_proven,
        }
        former = service.quiet_periods.filter(**same).first()
        if former is None and service.quiet_periods.count() >= MAX_QUIET_PERIODS:
            raise Conflict(
                f"There are {MAX_QUIET_PERIODS} quiet periods, which is as many as are kept. End some first."
            )
        quiet, _ = service.quiet_periods.update_or_create(
            **same,
            defaults={
                "registration_id": attempt.claimed_registration_id,
                "started_at": now,
                "until": now + duration,
                "actor": str(actor.name)[:150],
                "reason": reason,
            },
        )
        record(
            Event.QUIET_STARTED,
            subject=quiet,
            actor=actor,
            service=service,
            reason=reason,
            before={"until": former.until.isoformat()} if former else None,
            after={"until": quiet.until.isoformat(), "of": quiet.in_words},
        )
    return quiet


def end_quiet_period(
    service: ProvisioningService, quiet_pk: int, *, actor: Actor, reason: str = ""
) -> QuietPeriod:
    """End one before its time: the device is judged and refused again. Raises NotFound."""
    reason = clean_reason(reason)
    with transaction.atomic():
        standing = standing_quiet_periods(timezone.now()).filter(service=service)
        quiet = standing.select_for_update().filter(pk=quiet_pk).first()
        if quiet is None:
            raise NotFound("There is no such quiet period: it has ended, or somebody ended it.")
        record(
            Event.QUIET_ENDED,
            subject=quiet,
            actor=actor,
            service=service,
            reason=reason,
            before={"until": quiet.until.isoformat()},
        )
        quiet.delete()
    return quiet


def forget_ended_quiet_periods(service: ProvisioningService) -> int:
    """Delete those that are over; how many. Before admissions are forgotten, which end them."""
    deleted, _ = service.quiet_periods.filter(_is_over(timezone.now())).delete()
    return deleted
