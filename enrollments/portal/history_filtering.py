"""Which rows of the history a person sees, and which of these a filter asks for (R17)."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F, Min, Q, Value
from django.db.models.functions import Coalesce, Lower

from enrollments.actions.import_rows import made_by
from enrollments.audit.events import Event, refused_on
from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService, UnsealedEvent
from enrollments.models.containing import containing
from enrollments.models.history import HistoryQuerySet, IsWholeNumber
from enrollments.models.history_reading import UNREADABLE, IfJson, of_a_row
from enrollments.models.history_shut_outs import CA_DELETED, ENTRY_CHANGED, SERVICE_CHANGED, ShutOutByChange
from enrollments.models.merging import MOST_RANGES
from enrollments.policy.names import is_registration_id, registration_key
from enrollments.portal.forms_history import LAST, NO_SERVICE, SHUTS_OUT, HistoryFilter
from enrollments.portal.history_words import ACTOR_KINDS, REFUSED_ON, SHUTTING_OUT

# Everything that is kept under a registration ID.
DEVICE_KINDS = (
    "IndividualEnrollment",
    "RegistrationRecord",
    "HubDevice",
    "QuietPeriod",
    refused_on("IndividualEnrollment"),
    refused_on("RegistrationRecord"),
)
# Of a device, so many rows are looked through for the device IDs that it had, and so many of these are followed.
ROWS_WITH_NAMES, MOST_NAMES = 200, 10
# A value that fewer rows have than these is rare: going through them all takes a few milliseconds.
FEW = 5000
# Columns of which no index is to be used, since that of another one tells more. To the database they are expressions.
_UNSEEN = {
    f"{column}_unseen": Coalesce(column, Value(""))
    for column in ("actor_name", "event", "subject_kind", "way")
} | {"subject_key_unseen": Lower("subject_name")}
# What was before and is after, where it is JSON: what is none, SQLite does not look into.
_TOLD = {f"{column}_told": IfJson(column) for column in ("before", "after")}


# As ShutOutByChange, for any row, and not by its index. What is no JSON may be one.
_SHUT_OUT_BY_CHANGE = Q(ShutOutByChange(F("before_told"), F("after_told"))) | (
    Q(event_unseen__in=[*ENTRY_CHANGED, SERVICE_CHANGED, CA_DELETED])
    & (Q(before__isnull=False, before_told__isnull=True) | Q(after__isnull=False, after_told__isnull=True))
)


@dataclass(frozen=True, slots=True)
class Search:
    """Rows that are asked for. `ranges`: if any, conditions that exclude each other, one of which has to hold.

    `among`: where a text is asked for, the rows that are looked through for it, which an index has in their order.
    seen_up_to: where what is new to a person is asked for, the place up to which they have looked.
    """

    rows: HistoryQuerySet
    ranges: tuple[Q, ...] = ()
    among: HistoryQuerySet | None = None
    seen_up_to: int = 0

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
    # What has no number cannot be told from other rows: the verifiers name it, and it holds up no page.
    events = events.filter(IsWholeNumber(F("id")))
    if sees_all:
        return events
    # Names can be given again: what a former person of this name did is not one's own.
    return events.filter(actor_kind="user", actor_name=user.get_username(), at__gte=user.date_joined)


def search(
    events: HistoryQuerySet,
    form: HistoryFilter,
    service: ProvisioningService | None,
    seen_up_to: int = 0,
    shut_out: Collection[int] = (),
) -> Search:
    """What a valid form asks for. `seen_up_to`: the place up to which the person has looked.

    shut_out: of one device of which is asked what shut it out, the rows that did, whatever they are about.
    """
    chosen = form.chosen
    exact, times, texts = _exact(chosen), _times(form), _texts(chosen)
    if chosen.get("since") == LAST:
        times &= _since(seen_up_to)
    if service is not None and "by_import" in chosen:
        within, its_own = made_by(service, chosen["by_import"])
        times, texts = times & within, texts & its_own
    of_then = events.alias(subject_key=Lower("subject_name"), **_UNSEEN, **_TOLD).filter(times)
    rows = of_then.filter(texts, _of_kind(chosen))
    if chosen.get("since") == LAST:
        rows = rows.filter(Q(seal__index__gt=seen_up_to) | Q(seal__isnull=True))
    ranges = [_services(chosen.get("service", ""))] if service is None else []
    device = []
    if service is not None and "device" in chosen:
        device = _of_device(service, chosen["device"])
        device += _among_others(chosen, chosen["device"], "IndividualEnrollment", "RegistrationRecord")
    lead = "" if device else _lead(rows, exact, service)
    led = {lead: exact[lead]} if lead else {}
    if device:
        ranges.append(device)
    if chosen.get("event") == SHUTS_OUT:
        can_shut_out = Q(event_unseen__in=sorted(SHUTTING_OUT)) | _SHUT_OUT_BY_CHANGE
        if device:
            ranges[-1] = _shutting_out(device, can_shut_out, shut_out)
        elif texts or _is_rare(rows, lead, exact, service):
            # Beside a text, of the few rows that have it.
            rows = rows.filter(can_shut_out)
        else:
            lead = ""
            ranges.append([*(Q(event=event) for event in sorted(SHUTTING_OUT)), Q(ShutOutByChange())])
    if "subject_key" in exact and "subject_kind" in exact:
        # Of one object, with what was refused on it, alone or among others.
        kind: str = exact.pop("subject_kind")
        own = Q(subject_key=exact.pop("subject_key"), subject_kind_unseen__in=[kind, refused_on(kind)])
        ranges.append([own, *_among_others(chosen, chosen["subject"][1:], kind)])
    for column, value in exact.items():
        rows = rows.filter(**{column if column == lead else f"{column}_unseen": value})
    # Of one device there are so few that all of them are looked through.
    among = _among(of_then, led, service, ranges) if texts and not device else None
    return _search(rows, ranges, among)


def _search(rows: HistoryQuerySet, ranges: list[list[Q]], among: HistoryQuerySet | None) -> Search:
    combined = [_all(parts) for parts in product(*ranges)]
    if len(combined) == 1:
        return Search(rows.filter(combined[0]), among=among)
    if len(combined) > MOST_RANGES:
        return Search(rows.filter(*(_any(each) for each in ranges)), among=among)
    return Search(rows, tuple(combined), among)


def _among(
    events: HistoryQuerySet, led: dict[str, Any], service: ProvisioningService | None, ranges: list[list[Q]]
) -> HistoryQuerySet:
    """More than what is looked through where no index has exactly that: all acts of a service, or of all services."""
    if service is not None:
        return events.filter(**led)
    of_services = ranges[0]
    return events.filter(of_services[0], **led) if len(of_services) == 1 else events


def _exact(chosen: dict[str, Any]) -> dict[str, Any]:
    """Columns that have to have one value, each of which an index holds; the most telling first."""
    exact: dict[str, Any] = {}
    if chosen.get("subject", "").startswith("="):
        exact["subject_key"] = Lower(Value(chosen["subject"][1:]))
    if (name := _exact_actor(chosen.get("actor", ""))) is not None:
        exact["actor_name"] = name[1]
    if chosen.get("event", SHUTS_OUT) != SHUTS_OUT:
        exact["event"] = chosen["event"]
    return exact | {
        column: chosen[name] for name, column in (("kind", "subject_kind"), ("way", "way")) if name in chosen
    }


def _times(form: HistoryFilter) -> Q:
    chosen, conditions = form.chosen, Q()
    if form.earliest:
        conditions &= Q(at__gte=form.earliest)
    if chosen.get("since", LAST) != LAST:
        conditions &= Q(at__gte=chosen["since"])
    if "until" in chosen:
        conditions &= Q(at__lte=chosen["until"])
    return conditions


def _texts(chosen: dict[str, Any]) -> Q:
    """What is looked for row by row: parts of texts, which no index holds."""
    conditions = Q()
    if "reason" in chosen:
        conditions &= containing("reason", chosen["reason"])
    if "subject" in chosen and not chosen["subject"].startswith("="):
        conditions &= containing("subject_name", chosen["subject"])
    if "actor" in chosen and _exact_actor(chosen["actor"]) is None:
        conditions &= containing("actor_name", chosen["actor"])
    return conditions


def _of_kind(chosen: dict[str, Any]) -> Q:
    exact = _exact_actor(chosen.get("actor", ""))
    return Q(actor_kind=exact[0]) if exact and exact[0] else Q()


def _exact_actor(text: str) -> tuple[str, str] | None:
    """Kind and name of `user:alice`; of `=alice`, of any kind. None where a part of a name is meant."""
    kind, colon, name = text.partition(":")
    if colon and kind in ACTOR_KINDS:
        return kind, name
    return ("", text[1:]) if text.startswith("=") else None


def _lead(rows: HistoryQuerySet, exact: dict[str, Any], service: ProvisioningService | None) -> str:
    """The column whose index is to be used. Databases guess, and guess wrong where one value is rare."""
    if len(exact) < 2:
        return next(iter(exact), "")
    rare = (column for column in exact if _is_rare(rows, column, exact, service))
    return next(rare, next(iter(exact), ""))


def _is_rare(
    rows: HistoryQuerySet, column: str, exact: dict[str, Any], service: ProvisioningService | None
) -> bool:
    if column == "subject_key":
        return True
    if column not in exact or service is None:
        return False
    of_service = HistoryEvent.objects.of_service(service.pk).filter(**{column: exact[column]})
    return not of_service.order_by("-at").values_list("at", flat=True)[FEW : FEW + 1]


def _since(index: int) -> Q:
    """What came after a place in the sequence is no older than that. Where a time cannot be read, all may be that."""
    try:
        oldest = oldest_after(index)
    except (*UNREADABLE, AttributeError, TypeError) as problem:
        of_a_row(problem)
        return Q()
    return Q(at__gte=oldest) if oldest else Q(pk__in=[])


def oldest_after(index: int) -> datetime | None:
    """The moment of the oldest row that came after a place in the sequence, or has none yet: no need to look beyond."""
    # Of an expression and not of the column: SQLite would go through all of its index, from the oldest row on.
    moment = Min(Coalesce("event__at", "event__at"))
    sealed = HistorySeal.objects.filter(index__gt=index).aggregate(at=moment)["at"]
    waiting = HistoryEvent.objects.filter(pk__in=UnsealedEvent.objects.values("event_id")).aggregate(
        at=Min("at")
    )["at"]
    return min((at for at in (sealed, waiting) if at is not None), default=None)


def _of_device(service: ProvisioningService, registration_id: str) -> list[Q]:
    """Everything under a registration ID, also of what was deleted and made anew, and of the device at its hub."""
    key = registration_key(registration_id)
    own = Q(subject_key=key, subject_kind_unseen__in=DEVICE_KINDS)
    names = sorted(_device_ids(service, key) - {key})[:MOST_NAMES]
    return [own, *(Q(subject_key=name, subject_kind_unseen="HubDevice") for name in names)]


def _among_others(chosen: dict[str, Any], name: str, *kinds: str) -> list[Q]:
    """Refused acts on several objects, of which this is one. No row is theirs alone, but an index has those of several.

    Each name stands in quotation marks there, and holds none itself.
    """
    kinds = tuple(kind for kind in kinds if kind in REFUSED_ON.values())
    if not kinds or not is_registration_id(name) or chosen.get("event", Event.REFUSED) != Event.REFUSED:
        return []
    return [Q(subject_kind="action", after_told__kind__in=kinds, after_told__names__icontains=f'"{name}"')]


def _shutting_out(device: list[Q], can_shut_out: Q, rows: Collection[int]) -> list[Q]:
    """Of one device: what did shut it out, and what else under its names can."""
    if not rows:
        return [own & can_shut_out for own in device]
    did = Q(pk__in=rows)
    return [did, *(own & can_shut_out & ~did for own in device)]


def _device_ids(service: ProvisioningService, key: str) -> set[str]:
    """The device IDs that a registration ID ever had, as far as they can be found: from its rows, which remain."""
    rows = HistoryEvent.objects.of_service(service.pk).alias(subject_key=Lower("subject_name"))
    told = rows.filter(subject_key=key).order_by("-at")[:ROWS_WITH_NAMES]
    try:
        pairs = list(told.values_list("before", "after"))
    except UNREADABLE as problem:
        of_a_row(problem)
        pairs = [(row.before, row.after) for row in told]
    found = [state.get("device_id") for pair in pairs for state in pair if state]
    return {registration_key(name) for name in found if isinstance(name, str) and name}


def _services(name: str) -> list[Q]:
    if name == NO_SERVICE:
        return [Q(service_id__isnull=True)]
    if name:
        pks = ProvisioningService.objects.filter(name=name).values_list("pk", flat=True)
        return [Q(service_id=pk) for pk in pks] or [Q(pk__in=[])]
    services = _services_in_the_history()
    of_services = [Q(service_id=pk) for pk in services if type(pk) is int]
    if len(of_services) < len(services):
        of_services.append(Q(service_id__isnull=False) & ~Q(IsWholeNumber(F("service_id"))))
    return [Q(service_id__isnull=True), *of_services]


def _services_in_the_history() -> list[Any]:
    """Each service that has a row, by one look into an index for each; the rows of a service outlive it."""
    table = HistoryEvent._meta.db_table
    # SQLite may hold texts there, of which not all are handed over.
    found = "CASE typeof(id) WHEN 'integer' THEN id ELSE '' END" if connection.vendor == "sqlite" else "id"
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE found(id) AS (SELECT MIN(service_id) FROM {table} UNION ALL "  # noqa: S608  # our own name
            f"SELECT (SELECT MIN(e.service_id) FROM {table} e WHERE e.service_id > found.id) FROM found "
            f"WHERE found.id IS NOT NULL) SELECT {found} FROM found WHERE id IS NOT NULL LIMIT {MOST_RANGES + 1}"
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
