"""What one person is refused again and again: the first leaves its row, the others are added up (R14, R15).

Invented addresses cost nothing, and whoever is refused may send forms without end; the history is kept for ever.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from enrollments.actions.refusals import ADDRESS, Tried, note_refusal
from enrollments.audit.actor import Actor, Way
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import ProvisioningService, RefusedAgain
from enrollments.models.locks import in_line
from enrollments.policy.unknown import known

ADDED_UP_FOR = timedelta(hours=1)
# So many different things of one person have rows of their own in that time; all others share one.
MOST_APART = 100
# So many windows are taken out of the table at a time.
SWEEP = 500


@dataclass(frozen=True, slots=True)
class Repeated:
    """What counts as the same: `what`, by the name of its route. It may name a service that there is not."""

    what: str


OTHERS = Repeated(f"more than {MOST_APART} different addresses")


def note_refused_again(
    tried: Tried, same: Repeated, *, actor: Actor, service: ProvisioningService | None
) -> None:
    """The first within an hour leaves the row of a refusal; the others are counted, and told when the hour is over.

    In one transaction each. The same is done whatever there is of it.
    """
    now = timezone.now()
    with in_line(), transaction.atomic():
        if _is_added_up(same, actor, service, now):
            return
        theirs = RefusedAgain.objects.filter(
            actor_kind=actor.kind,
            actor_name=actor.name[:150],
            way=actor.way.value,
            started_at__gt=now - ADDED_UP_FOR,
        )
        if theirs.count() >= MOST_APART:
            same, service, tried = OTHERS, None, Tried(OTHERS.what)
            if _is_added_up(same, actor, service, now):
                return
        if _begin(same, actor, service, now):
            note_refusal(tried, actor=actor, service=service)


def has_refused_again(*, ended_before: datetime) -> bool:
    """Whether there is any whose hour was over by then: to look costs no turn at writing."""
    return RefusedAgain.objects.filter(started_at__lte=ended_before - ADDED_UP_FOR).exists()


def record_refused_again(*, ended_before: datetime) -> int:
    """A row for each that went on after the first, where the hour was over by then; how many windows there were."""
    with in_line(), transaction.atomic():
        ended = RefusedAgain.objects.filter(started_at__lte=ended_before - ADDED_UP_FOR)
        rows = list(
            ended.select_related("service")
            .select_for_update(skip_locked=True, of=("self",))
            .order_by("pk")[:SWEEP]
        )
        for row in rows:
            _record(row)
        RefusedAgain.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def _is_added_up(same: Repeated, actor: Actor, service: ProvisioningService | None, now: datetime) -> bool:
    row = RefusedAgain.objects.select_for_update().filter(key=_key(same, actor, service)).first()
    if row is None:
        return False
    if row.started_at <= now - ADDED_UP_FOR:
        _record(row)
        row.delete()
        return False
    _count(row, actor, now)
    return True


def _begin(same: Repeated, actor: Actor, service: ProvisioningService | None, now: datetime) -> bool:
    """Whether it is the first; of two at a time, one is, and the other counts on from what was counted."""
    row, is_new = RefusedAgain.objects.select_for_update().get_or_create(
        key=_key(same, actor, service),
        defaults={
            "service": service,
            "actor_kind": actor.kind,
            "actor_name": actor.name[:150],
            "way": actor.way.value,
            "address": actor.address[:45],
            "what": same.what[:200],
            "started_at": now,
            "last_at": now,
        },
    )
    if not is_new:
        _count(row, actor, now)
    return is_new


def _count(row: RefusedAgain, actor: Actor, now: datetime) -> None:
    row.count, row.last_at, row.address = row.count + 1, now, actor.address[:45]
    row.save(update_fields=["count", "last_at", "address"])


def _record(row: RefusedAgain) -> None:
    if not row.count:
        return
    record(
        Event.REFUSED,
        subject=Subject(ADDRESS, row.what),
        actor=Actor(row.actor_kind, row.actor_name, known(Way, row.way), row.address),
        service=row.service,
        after={"times": row.count, "since": row.started_at.isoformat(), "last": row.last_at.isoformat()},
    )


def _key(same: Repeated, actor: Actor, service: ProvisioningService | None) -> str:
    parts = [actor.kind, actor.name, actor.way.value, str(service.pk if service else ""), same.what]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
