"""Which rows of the history a person sees, and which of these a filter asks for (R17)."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Min, Q, Value
from django.db.models.functions import Coalesce, Lower

from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService, UnsealedEvent
from enrollments.models.history import HistoryQuerySet
from enrollments.models.merging import MOST_RANGES
from enrollments.policy.names import registration_key
from enrollments.portal.forms_history import LAST, NO_SERVICE, SHUTS_OUT, HistoryFilter
from enrollments.portal.history_words import ACTOR_KINDS, SHUTTING_OUT

# Everything that is kept under a registration ID.
DEVICE_KINDS = ("IndividualEnrollment", "RegistrationRecord", "HubDevice", "QuietPeriod")
# Of a device, so many rows are looked through for the device IDs that it had, and so many of these are followed.
ROWS_WITH_NAMES, MOST_NAMES = 200, 10


@dataclass(frozen=True, slots=True)
class Search:
    """Rows that are asked for. `ranges`: if any, conditions that exclude each other, one of which has to hold."""

    rows: HistoryQuerySet
    ranges: tuple[Q, ...] = ()

    @property
    def plain(self) -> HistoryQuerySet:
        """All in one condition, for what looks at every row anyway."""
        return self.rows.filter(_any(self.ranges)) if self.ranges else self.rows


def visible(user: User, service: ProvisioningService | None, *, sees_all: bool) -> HistoryQuerySet:
    """R17: everything for those who may see the history, what one did oneself for everybody else.

    Of a service, only its own rows; without one, those of all services and of none: ask for people who have a role in
    the whole installation.
    """
    events = HistoryEvent.objects.of_service(service.pk) if service else HistoryEvent.objects.all()
    if sees_all:
        return events
    # Names can be given again: what a former person of this name did is not one's own.
    return events.filter(actor_kind="user", actor_name=user.get_username(), at__gte=user.date_joined)


def search(
    events: HistoryQuerySet, form: HistoryFilter, service: ProvisioningService | None, seen_up_to: int = 0
) -> Search:
    """What a valid form asks for. `seen_up_to`: the place up to which the person has looked."""
    conditions, ranges = Q(), [[Q()]]
    if form.earliest:
        conditions &= Q(at__gte=form.earliest)
    for name, value in form.chosen.items():
        match name:
            case "since" if value == LAST:
                conditions &= newer_than(seen_up_to)
            case "since":
                conditions &= Q(at__gte=value)
            case "until":
                conditions &= Q(at__lte=value)
            case "event" if value == SHUTS_OUT:
                ranges.append([Q(event=event) for event in sorted(SHUTTING_OUT)])
            case "event" | "way":
                conditions &= Q(**{name: value})
            case "kind":
                conditions &= Q(subject_kind=value)
            case "actor":
                conditions &= _by(value)
            case "subject":
                conditions &= _about(value)
            case "reason":
                conditions &= Q(reason__icontains=value)
            case "device" if service is not None:
                ranges.append(_of_device(service, value))
    if service is None:
        ranges.append(_services(form.cleaned_data.get("service", "")))
    rows = events.alias(subject_key=Lower("subject_name")).filter(conditions)
    combined = [_all(parts) for parts in product(*ranges)]
    if len(combined) == 1:
        return Search(rows.filter(combined[0]))
    if len(combined) > MOST_RANGES:
        return Search(rows.filter(*(_any(each) for each in ranges)))
    return Search(rows, tuple(combined))


def newer_than(index: int) -> Q:
    """What came after a place in the sequence, or has none yet. The moment bounds how far back has to be looked."""
    # Of an expression and not of the column: SQLite would go through all of its index, from the oldest row on.
    moment = Min(Coalesce("event__at", "event__at"))
    sealed = HistorySeal.objects.filter(index__gt=index).aggregate(at=moment)["at"]
    waiting = HistoryEvent.objects.filter(pk__in=UnsealedEvent.objects.values("event_id")).aggregate(
        at=Min("at")
    )["at"]
    oldest = min((at for at in (sealed, waiting) if at is not None), default=None)
    if oldest is None:
        return Q(pk__in=[])
    return Q(at__gte=oldest) & (Q(seal__index__gt=index) | Q(seal__isnull=True))


def _by(text: str) -> Q:
    """`user:alice` and `=alice` are exact, and found by an index; anything else is a part of the name."""
    kind, colon, name = text.partition(":")
    if colon and kind in ACTOR_KINDS:
        return Q(actor_kind=kind, actor_name=name)
    if text.startswith("="):
        return Q(actor_name=text[1:])
    return Q(actor_name__icontains=text)


def _about(text: str) -> Q:
    """`=pump-042` is exact but for case, which does not count in IDs; anything else is a part of the name."""
    if text.startswith("="):
        return Q(subject_key=Lower(Value(text[1:])))
    return Q(subject_name__icontains=text)


def _of_device(service: ProvisioningService, registration_id: str) -> list[Q]:
    """Everything under a registration ID, also of what was deleted and made anew, and of the device at its hub."""
    key = registration_key(registration_id)
    own = Q(subject_key=key, subject_kind__in=DEVICE_KINDS)
    names = sorted(_device_ids(service, key) - {key})[:MOST_NAMES]
    return [own, *(Q(subject_key=name, subject_kind="HubDevice") for name in names)]


def _device_ids(service: ProvisioningService, key: str) -> set[str]:
    """The device IDs that a registration ID ever had, as far as they can be found: from its rows, which remain."""
    rows = HistoryEvent.objects.of_service(service.pk).alias(subject_key=Lower("subject_name"))
    told = rows.filter(subject_key=key).order_by("-at").values_list("before", "after")[:ROWS_WITH_NAMES]
    found = {state.get("device_id") for pair in told for state in pair if isinstance(state, dict)}
    return {registration_key(name) for name in found if isinstance(name, str) and name}


def _services(name: str) -> list[Q]:
    if name == NO_SERVICE:
        return [Q(service_id__isnull=True)]
    if name:
        return [
            Q(service_id=pk)
            for pk in ProvisioningService.objects.filter(name=name).values_list("pk", flat=True)
        ]
    return [Q(service_id__isnull=True), *(Q(service_id=pk) for pk in _services_in_the_history())]


def _services_in_the_history() -> list[int]:
    """Each service that has a row, by one look into an index for each; the rows of a service outlive it."""
    table = HistoryEvent._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE found(id) AS (SELECT MIN(service_id) FROM {table} UNION ALL "  # noqa: S608  # our own name
            f"SELECT (SELECT MIN(e.service_id) FROM {table} e WHERE e.service_id > found.id) FROM found "
            f"WHERE found.id IS NOT NULL) SELECT id FROM found WHERE id IS NOT NULL LIMIT {MOST_RANGES + 1}"
        )
        return [pk for (pk,) in cursor.fetchall()]


def _any(conditions: Iterable[Q]) -> Q:
    found = Q()
    for one in conditions:
        found |= one
    return found


def _all(conditions: Iterable[Q]) -> Q:
    found = Q()
    for one in conditions:
        found &= one
    return found
