"""The times to come at which decisions change though nobody touches anything: switches turn, certificates begin."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import QuerySet

from enrollments.models import HeldCertificate, ProvisioningService
from enrollments.models.services import Standing

# So many registration IDs are named in one query.
_NAMED = 500


@dataclass(frozen=True, slots=True)
class TimesToCome:
    """Each in its order.

    opening: when entries are to be enabled. shutting: when some are to be disabled; of_these: of the entries that were
    asked about, when they are. beginning: when certificates become valid that groups hold, or those entries.
    """

    opening: tuple[datetime, ...] = ()
    shutting: tuple[datetime, ...] = ()
    of_these: tuple[datetime, ...] = ()
    beginning: tuple[datetime, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.every)

    @property
    def letting_in(self) -> list[datetime]:
        """When somebody may come in who is shut out before."""
        return sorted({*self.opening, *self.beginning})

    @property
    def every(self) -> list[datetime]:
        return sorted({*self.opening, *self.shutting, *self.beginning})

    def joined(self, other: "TimesToCome") -> "TimesToCome":
        return TimesToCome(
            _ordered([*self.opening, *other.opening]),
            _ordered([*self.shutting, *other.shutting]),
            _ordered([*self.of_these, *other.of_these]),
            _ordered([*self.beginning, *other.beginning]),
        )


NO_TIMES = TimesToCome()


def times_to_come(
    service: ProvisioningService,
    standing: Standing,
    keys: Collection[str] = (),
    groups: Collection[int] = (),
    *,
    after: datetime | None = None,
) -> TimesToCome:
    """Those after a time, which is now unless it is said. Where no switch turns by itself, none is asked for.

    keys, groups: which entries are asked about, individual enrollments by registration key and groups by number.
    """
    after = after or standing.now
    beginning = _ordered(_beginning(service, keys, after))
    if standing.next_switch is None:
        return TimesToCome(beginning=beginning)
    opening: list[datetime] = []
    shutting: list[datetime] = []
    for entries in (service.individualenrollments, service.enrollmentgroups):
        turning = entries.filter(switches_at__gt=after)
        opening += _moments(turning.filter(enabled=False))
        shutting += _moments(turning.filter(enabled=True))
    of_these = _moments(
        service.enrollmentgroups.filter(pk__in=groups, enabled=True, switches_at__gt=after)
    ) + [
        at
        for some in _portions(keys)
        for at in _moments(
            service.individualenrollments.filter(
                registration_key__in=some, enabled=True, switches_at__gt=after
            )
        )
    ]
    return TimesToCome(_ordered(opening), _ordered(shutting), _ordered(of_these), beginning)


def _beginning(service: ProvisioningService, keys: Collection[str], after: datetime) -> Iterator[datetime]:
    """By way of their holders: whatever other individual enrollments hold, those alone decide about it (R5)."""
    to_begin = HeldCertificate.objects.filter(certificate__not_before__gt=after).order_by()
    yield from _dates(to_begin.filter(group__in=service.enrollmentgroups.values("pk")))
    for some in _portions(keys):
        individuals = service.individualenrollments.filter(registration_key__in=some)
        yield from _dates(to_begin.filter(individual__in=individuals.values("pk")))


def _dates(held: "QuerySet[HeldCertificate]") -> "QuerySet[Any, datetime]":
    return held.values_list("certificate__not_before", flat=True).distinct()


def _moments(entries: "QuerySet[Any]") -> list[datetime]:
    return list(entries.order_by().values_list("switches_at", flat=True).distinct())


def _ordered(times: Iterable[datetime]) -> tuple[datetime, ...]:
    return tuple(sorted(set(times)))


def _portions(keys: Collection[str]) -> Iterator[list[str]]:
    every = iter(keys)
    while some := list(islice(every, _NAMED)):
        yield some
