"""What people are shown of themselves: their roles and API tokens, and who came and went under their name (R17)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, F, Q, Value
from django.db.models.functions import Coalesce, Lower

from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.history import IsWholeNumber
from enrollments.models.merging import MOST_RANGES, first_ids
from enrollments.policy.roles import Right, Role
from enrollments.policy.unknown import known
from enrollments.portal.history_rows import HistoryRow, rows_of

Roles = Mapping[ProvisioningService, Role]


@dataclass(frozen=True, slots=True)
class OwnPlace:
    """service: None for the whole installation. counts: the higher of the role given here and the one everywhere."""

    service: ProvisioningService | None
    counts: Role
    given: Role | None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class OwnRow:
    """One row as a sentence, and from where that was done, as far as the person may know.

    addresses: of a row that stands for several, some of them. since: when the first of several happened.
    """

    row: HistoryRow
    tells_from_where: bool
    addresses: tuple[str, ...]
    further_addresses: bool
    since: datetime | None

    @property
    def place(self) -> str:
        """In words, where it has no service: most such rows need none."""
        if self.row.event.event == Event.ROLE_CHANGED.value and self.row.event.service_id is None:
            return "in the whole installation"
        return ""

    @property
    def is_from_this_machine(self) -> bool:
        return not self.addresses and self.row.event.way == Way.COMMAND_LINE.value


def own_places(user: User, roles: Roles, everywhere: Role | None) -> list[OwnPlace]:
    """Where they have a role or an API token of their own. roles: of all services that they see."""
    given = {
        membership.service_id: role
        for membership in user.memberships.all()
        if isinstance(role := known(Role, membership.role), Role)
    }
    tokens = dict(user.api_tokens.values_list("service").annotate(count=Count("pk")).order_by())
    return [
        *([OwnPlace(None, everywhere, everywhere)] if everywhere else []),
        *(
            OwnPlace(service, counts, given.get(service.pk), tokens.get(service.pk, 0))
            for service, counts in roles.items()
            if service.pk in given or service.pk in tokens
        ),
    ]


def newest_about(user: User, services: Iterable[int], number: int) -> list[HistoryEvent]:
    """The newest rows about a person, of these services and of none.

    Signing in and out is about oneself, and failing to is about whose name was given. Names can be given again: what
    a former person of this name did is not one's own.
    """
    about = HistoryEvent.objects.alias(
        subject_key=Lower("subject_name"),
        # Not the column itself: the index of kinds holds everybody's rows, the one of names only these.
        kind=Coalesce("subject_kind", Value("")),
    ).filter(
        IsWholeNumber(F("id")),
        subject_key=Lower(Value(user.get_username())),
        kind="User",
        at__gte=user.date_joined,
    )
    places = [Q(service_id__isnull=True), *(Q(service_id=pk) for pk in services)]
    ids: list[int] = []
    for start in range(0, len(places), MOST_RANGES):
        some = places[start : start + MOST_RANGES]
        ids += first_ids(about, some, "at", descending=True, limit=number)
    return list(HistoryEvent.objects.filter(pk__in=ids).order_by("-at", "-pk")[:number])


def own_rows(
    user: User, events: Iterable[HistoryEvent], roles: Roles, everywhere: Role | None
) -> list[OwnRow]:
    """Without their reasons. From where others acted is told to those who may see the history that has the row."""
    sees_all = _may_see_history(everywhere)
    seen = {service.pk for service, role in roles.items() if _may_see_history(role)}
    return [
        _own_row(
            row if sees_all else _without_links(row),
            tells_from_where=sees_all or row.event.service_id in seen or _is_by_nobody_else(row.event, user),
        )
        for row in rows_of(events, None)
    ]


def _may_see_history(role: Role | None) -> bool:
    return role is not None and Right.SEE_HISTORY in role.rights


def _is_by_nobody_else(event: HistoryEvent, user: User) -> bool:
    """Who failed to sign in is nobody in particular."""
    is_own = event.actor_kind == "user" and event.actor_name == user.get_username()
    return is_own or event.actor_kind == "stranger"


def _without_links(row: HistoryRow) -> HistoryRow:
    """They lead into the history of the installation."""
    return replace(row, actor_url="", subject_url="", own_url="")


def _own_row(row: HistoryRow, *, tells_from_where: bool) -> OwnRow:
    event = row.event
    if event.event != Event.SIGN_IN_FAILED.value:
        address = event.address if tells_from_where else ""
        return OwnRow(row, tells_from_where, (address,) if address else (), False, None)
    told: dict[str, Any] = event.after or {}
    some = told.get("some_addresses")
    several = tuple(one for one in some if isinstance(one, str)) if isinstance(some, list) else ()
    addresses = (event.address,) if event.address else several
    number = told.get("addresses")
    has_more = bool(told.get("further_addresses")) or (isinstance(number, int) and number > len(addresses))
    return OwnRow(row, tells_from_where, addresses, has_more, _moment(told.get("since")))


def _moment(text: object) -> datetime | None:
    """What somebody put into the column may be anything."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
