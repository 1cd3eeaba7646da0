"""Rows of the history as people read them: a sentence each, what changed field by field, and where everything is."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.core.validators import slug_re
from django.db.models import QuerySet, Value
from django.urls import reverse

from enrollments.actions.past.entries import due
from enrollments.actions.past.told import is_number
from enrollments.actions.past.walking import may_change_who_comes_in
from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService
from enrollments.models.history import LAST
from enrollments.models.history_shut_outs import is_shut_out_by_change
from enrollments.policy.words import counted
from enrollments.portal.history_difference import Differences, differences
from enrollments.portal.history_imports import ByImport, by_imports
from enrollments.portal.history_words import ACTOR_KINDS, REFUSED_ON, SHUTTING_OUT, SUBJECT_KINDS, words_of


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One row as a sentence: who did what to what. `url` leads to the object where it is still there.

    `actor_url`, `subject_url`: what else that actor did, and what else was done to that object. `own_url`: the page of
    the row alone, if it can have one. by_import: the import of which it is, if any. shut_it_out: it is known to have
    shut out the device that the page is about.
    """

    event: HistoryEvent
    words: str
    subject_kind: str
    url: str
    actor_url: str
    subject_url: str
    own_url: str
    differences: Differences
    shuts_out: bool
    by_import: ByImport | None = None
    shut_it_out: bool = False

    @property
    def _after(self) -> dict[str, Any]:
        return self.event.after or {}

    @property
    def can_be_read(self) -> bool:
        """Whether each column holds something that a row of this service can."""
        return not self.event.unreadable

    @property
    def past_name(self) -> str:
        """The service whose past can be asked for at the time of the row; empty where it names none, or no time."""
        has_time = self.event.at is not None and MINYEAR < self.event.at.year < MAXYEAR
        return self.event.service_name if has_time and _is_slug(self.event.service_name) else ""

    @property
    def scheduled(self) -> str:
        """Of an act on a switch: until when, or at what time. «until» of other rows is a field among others."""
        after = self._after
        if not after.get("until") or "status" not in after:
            return ""
        return f"{'at' if self.event.event in _DISABLING_SCHEDULED else 'until'} {after['until']}"

    @property
    def how_often(self) -> str:
        """Of a row that stands for several: how many, and which of them another row has told already."""
        after = self._after
        times, failures = after.get("times"), after.get("failures")
        if self.event.event == Event.REFUSED.value and isinstance(times, int):
            return f"{counted(times, 'time')} more"
        if self.event.event not in _FAILURES or not isinstance(failures, int) or failures < 2:
            return ""
        told_before = after.get("told_before")
        if isinstance(told_before, int):
            have = "has" if told_before == 1 else "have"
            return f"{counted(failures, 'time')} in all, {told_before:,} of which {have} a row already"
        held_off = after.get("while_held_off")
        if isinstance(held_off, int):
            # Of a version that did not tell: a person's hold-off has a row, unless all were tried after that was told.
            has_row = bool(self.event.subject_id) and failures > held_off
            return f"{counted(failures, 'time')}{' in all' if has_row else ''}"
        return f"{counted(failures, 'time')}{', and was held off' if after.get('held_off') else ''}"

    @property
    def role_in_service(self) -> str:
        """Of a person who was kept out, let in or removed: what that means where they have a role."""
        role = (self.event.before or {}).get("role")
        means = _MEANS_FOR_ROLES.get(self.event.event)
        return f"which {means} their role of {role}" if means and self.event.service_name and role else ""

    @property
    def outcome(self) -> str:
        """Of a check of the history, what it found; of a refused act on an object, which one it was."""
        after = self._after
        if self.event.subject_kind in REFUSED_ON and isinstance(after.get("tried"), str):
            return f": {after['tried']}"
        if self.event.event != Event.HISTORY_CHECKED.value or "problem" not in after:
            return ""
        if after["problem"]:
            return ", which is not as it was sealed"
        rows = after.get("rows")
        return f", {counted(rows, 'row')}: as sealed" if isinstance(rows, int) else ""

    @property
    def found_wrong(self) -> bool:
        """Of a check of the history: whether something is not as it was sealed."""
        return self.event.event == Event.HISTORY_CHECKED.value and bool(self._after.get("problem"))

    @property
    def is_from_several(self) -> bool:
        """Whether what it stands for came from several addresses, of which it tells some."""
        return not self.event.address and "addresses" in self._after

    @property
    def may_change_who_comes_in(self) -> bool:
        """Whether it is worth a look which devices it let in or shut out."""
        return may_change_who_comes_in(self.event)

    @property
    def just_before(self) -> datetime:
        """The last moment at which it had not happened. Of a switch that turned by itself, that is when it was due.

        Ask only where there is a `past_name`."""
        at = self.event.at
        if self.event.way == Way.SCHEDULE.value:
            at = min(at, _due(self.event) or at)
        return at - timedelta(microseconds=1)

    @property
    def seal(self) -> HistorySeal | None:
        """Its place in the sequence; None where it waits for one. Ask only for rows that were read with their seals."""
        return getattr(self.event, "seal", None)

    @property
    def about_themselves(self) -> bool:
        """Whether actor and object are one, which is then named once."""
        same_kind = (self.event.actor_kind, self.event.subject_kind) in _THE_SAME
        return same_kind and self.event.actor_name == self.event.subject_name


_DISABLING_SCHEDULED = (Event.ENROLLMENT_DISABLING_SCHEDULED.value, Event.GROUP_DISABLING_SCHEDULED.value)
_FAILURES = frozenset(one.value for one in (Event.SIGN_IN_FAILED, Event.POLICY_FAILED, Event.TOKEN_FAILED))
_MEANS_FOR_ROLES = {
    Event.PERSON_DEACTIVATED.value: "suspends",
    Event.PERSON_ACTIVATED.value: "gives back",
    Event.PERSON_REMOVED.value: "ends",
}
_THE_SAME = frozenset({("user", "User"), ("device", "RegistrationRecord")})


def _is_slug(name: str) -> bool:
    return slug_re.fullmatch(name) is not None


def _due(event: HistoryEvent) -> datetime | None:
    try:
        return due((event.before or {}).get("until"))
    except ValueError:
        return None


def history_url(service: ProvisioningService | None, query: dict[str, str] | None = None) -> str:
    view = "portal:history-list" if service else "portal:installation-history"
    url = reverse(view, kwargs={"service_name": service.name} if service else {})
    return f"{url}?{urlencode(query)}" if query else url


def row_url(event_id: Any, service: ProvisioningService | None) -> str:
    """Of one row, to be sent to others: in the history of a service, or in that of the installation. Empty where
    somebody put in a row of an ID that there cannot be."""
    if type(event_id) is not int or not 1 <= event_id <= LAST:
        return ""
    if service:
        return reverse("portal:history-row", args=[service.name, event_id])
    return reverse("portal:installation-history-row", args=[event_id])


def rows_of(
    events: Iterable[HistoryEvent], service: ProvisioningService | None, shut_out: Collection[int] = ()
) -> list[HistoryRow]:
    """shut_out: rows that are known to have shut the device out that the page is about."""
    events = list(events)
    urls = _urls(events, service) if service else {}
    imports = by_imports(events, service)
    return [
        HistoryRow(
            event=event,
            words=words_of(event),
            subject_kind=SUBJECT_KINDS.get(event.subject_kind, event.subject_kind),
            url=urls.get((event.subject_kind, event.subject_id), ""),
            actor_url=_actor_url(event, service),
            subject_url=_subject_url(event, service),
            own_url=row_url(event.pk, service),
            differences=differences(event.before, event.after),
            shuts_out=event.pk in shut_out or event.event in SHUTTING_OUT or is_shut_out_by_change(event),
            by_import=imports.get(event.pk),
            shut_it_out=event.pk in shut_out,
        )
        for event in events
    ]


def _actor_url(event: HistoryEvent, service: ProvisioningService | None) -> str:
    return "" if "actor_name" in event.unreadable else history_url(service, {"actor": _named(event)})


def _named(event: HistoryEvent) -> str:
    """As the filter takes an exact actor; of a kind that a later version brought, by the name alone."""
    kind = event.actor_kind
    return f"{kind}:{event.actor_name}" if kind in ACTOR_KINDS else f"={event.actor_name}"


def _subject_url(event: HistoryEvent, service: ProvisioningService | None) -> str:
    """The rows of this object. What was exported or refused is no object that has a history."""
    if "subject_name" in event.unreadable:
        return ""
    if event.subject_kind not in SUBJECT_KINDS or event.subject_kind in ("export", "history", "action"):
        return ""
    kind = REFUSED_ON.get(event.subject_kind, event.subject_kind)
    return history_url(service, {"kind": kind, "subject": f"={event.subject_name}"})


def _urls(events: list[HistoryEvent], service: ProvisioningService) -> dict[tuple[str, str], str]:
    """Where the objects of these rows are, if they are still there: all kinds in one query."""
    asked: dict[str, set[int]] = {}
    for event in events:
        if is_number(event.subject_id):
            asked.setdefault(event.subject_kind, set()).add(int(event.subject_id))
    kinds: tuple[tuple[str, QuerySet[Any], str], ...] = (
        ("IndividualEnrollment", service.individualenrollments.all(), "registration_id"),
        ("EnrollmentGroup", service.enrollmentgroups.all(), "group_id"),
        ("RegistrationRecord", service.registrations.all(), "registration_id"),
        ("CaCertificate", service.ca_certificates.all(), "name"),
    )
    parts = [
        rows.filter(pk__in=asked[kind]).order_by().values_list(Value(kind), "pk", name)
        for kind, rows, name in kinds
        if kind in asked
    ]
    if not parts:
        return {}
    return {
        (kind, str(pk)): reverse(_PAGES[kind], args=[service.name, name])
        for kind, pk, name in parts[0].union(*parts[1:], all=True)
    }


_PAGES = {
    "IndividualEnrollment": "portal:enrollment-edit",
    "EnrollmentGroup": "portal:group-edit",
    "RegistrationRecord": "portal:registration-detail",
    "CaCertificate": "portal:ca-detail",
}
