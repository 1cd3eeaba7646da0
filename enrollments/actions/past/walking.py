"""Walking back through the history of a service: the rows that tell of what decides, newest first, and their undoing.

Rows about entries and settings of one service are written under its change lock, one after the other, so their numbers
are in the order of their commits, whether or not they are sealed yet. Clocks of nodes may differ: what counts as done
at a time is everything up to the last row that is stamped with it or before.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Self, TypeVar

from django.db.models import Max, Q
from django.db.models.functions import Lower
from django.utils import timezone

from enrollments.actions.past.entries import (
    KINDS,
    PastEntry,
    Subject,
    as_it_stands,
    before_change,
    before_deletion,
    certificates_told_of,
    contradiction,
)
from enrollments.actions.past.names import FREEING, rows_about
from enrollments.actions.past.proofs import EVENTS as PROOF_EVENTS
from enrollments.actions.past.proofs import Proofs, tells_of_proofs
from enrollments.actions.past.told import checked, columns_of
from enrollments.audit.events import Event
from enrollments.errors import Conflict, Invalid
from enrollments.models import (
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    clock,
)
from enrollments.models.enrollments import SECRETS
from enrollments.models.history import HistoryQuerySet
from enrollments.policy.facts import EntryKind
from enrollments.policy.names import registration_key

# How far clocks of nodes may be apart. A row that is stamped more wrongly is missed, and what it changed contradicts
# the rows before it then, which is noticed.
CLOCKS_APART = timedelta(days=1)
# Rows that are walked back over at a glance.
MOST_ROWS = 20_000
KEY_GROUPS = "symmetric_key_groups"
CHUNK = 500
ROUNDS = 4
T = TypeVar("T")


class TooMuch(Conflict):
    """More than is looked at for a page at a glance. Asked without limits, or with wider ones, it may be told."""

    code = "too_far_back"


class TooFarBack(TooMuch):
    """More happened since than is walked back over."""

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"More than {rows:,} changes of entries were made since then, too many to go back over here. Ask for a "
            "later time, or run manage.py as_of, which has no such limit."
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One row that tells of what decides. `at`: when it counts as made, which no later row contradicts."""

    event: HistoryEvent
    at: datetime

    @property
    def subject(self) -> Subject | None:
        """The entry that it is about; None for settings of the service, and for proofs of possession."""
        event = self.event
        return _subject(event.subject_kind, event.subject_id) if event.subject_kind in KINDS else None


@dataclass(frozen=True, slots=True)
class Since:
    """The changes after a time, newest first. Each walk over them reads the rows anew, since there may be a million.
    It raises NotTold at one that cannot be read.

    last: the number of the last row that counts as made at that time; 0 where none does.
    """

    at: datetime
    parts: tuple[HistoryQuerySet, ...]
    last: int

    def __iter__(self) -> Iterator[Change]:
        latest = datetime.max.replace(tzinfo=UTC)
        rows = [part.order_by("-pk").iterator(chunk_size=CHUNK) for part in self.parts]
        for row in checked(merge(*rows, key=lambda row: -row.pk)):
            latest = min(latest, row.at)
            yield Change(row, max(latest, self.at))

    @property
    def subjects(self) -> set[Subject]:
        columns = ("subject_kind", "subject_id")
        parts = (part.filter(subject_kind__in=KINDS) for part in self.parts)
        return {
            _subject(kind, pk) for part in parts for kind, pk in columns_of(part, *columns, distinct=True)
        }


def _subject(kind: str, pk: str) -> Subject:
    return KINDS[kind], int(pk)


def changes_since(
    service: ProvisioningService,
    at: datetime,
    most: int | None = MOST_ROWS,
    names: Collection[str] | None = None,
    held: str = "",
) -> Since:
    """A change at exactly `at` counts as made. names: of individual enrollments, only those of these registration keys.

    held: the registration key of which it is asked too who held it. Raises TooFarBack.
    """
    rows = _rows_that_decide(service)
    known = rows.filter(at__lte=at)
    near = known.filter(at__gt=at - CLOCKS_APART).aggregate(last=Max("pk"))["last"]
    last = near or known.order_by("-at", "-pk").values_list("pk", flat=True).first() or 0
    # By time too: asked for the numbers alone, SQLite walks through all of the service.
    parts = (rows,) if names is None else _parts_about(service, names)
    later = [part.filter(pk__gt=last, at__gt=at - CLOCKS_APART) for part in parts]
    if most is not None and sum(part[: most + 1].count() for part in later) > most:
        raise TooFarBack(most)
    if held:
        later.append(rows_about(service, {held}).filter(pk__gt=last, at__gt=at))
    # None that comes while this is walked over: what is compared with it is read once.
    newest = max(part.aggregate(last=Max("pk"))["last"] or 0 for part in later)
    return Since(at, tuple(part.filter(pk__lte=newest) for part in later), last)


def _rows_that_decide(service: ProvisioningService) -> HistoryQuerySet:
    about_entries = Q(event__startswith="enrollment.") | Q(event__startswith="group.")
    entries = Q(subject_kind__in=KINDS) & about_entries
    others = Q(event__in=_OF_NO_ENTRY)
    return HistoryEvent.objects.of_service(service.pk).filter(entries | others)


def may_change_who_comes_in(event: HistoryEvent) -> bool:
    """Whether a row can have let a device in or shut one out: it tells of what decides, or frees a name (R11)."""
    about_entry = event.subject_kind in KINDS and event.event.startswith(("enrollment.", "group."))
    of_service = tells_of_proofs(event) or KEY_GROUPS in (event.before or {})
    return about_entry or of_service or event.event in FREEING


def _parts_about(service: ProvisioningService, names: Collection[str]) -> tuple[HistoryQuerySet, ...]:
    """Of the rows that decide those that are not about other individual enrollments. Each part has an index."""
    rows = HistoryEvent.objects.of_service(service.pk)
    named = rows.alias(subject_key=Lower("subject_name"))
    own = Q(subject_kind=_NAMES[EntryKind.INDIVIDUAL], event__startswith="enrollment.")
    return (
        *(named.filter(own, subject_key=name) for name in sorted(names)),
        rows.filter(subject_kind=_NAMES[EntryKind.GROUP], event__startswith="group."),
        *(rows.filter(event=event) for event in _OF_NO_ENTRY),
    )


_NAMES = {kind: name for name, kind in KINDS.items()}
_OF_NO_ENTRY = [Event.SERVICE_CHANGED.value, *PROOF_EVENTS]


def begins_at(service: ProvisioningService) -> datetime | None:
    """The time of the first row; None where there is none. Raises NotTold where that cannot be read."""
    rows = HistoryEvent.objects.of_service(service.pk).order_by("at", "pk")
    first = next(checked(rows[:1]), None)
    return first.at if first is not None else None


def check_time(service: ProvisioningService, field_name: str, at: datetime) -> None:
    """Raises Invalid for a time of which the history says nothing."""
    begun = begins_at(service)
    if at > timezone.now():
        raise Invalid({field_name: ["That time is still to come: ask Explain, which takes a time ahead."]})
    if begun is None or at < begun:
        # To the second, and not before the first row: asked about once more, this time is answered.
        asked = begun and (begun + timedelta(microseconds=999_999)).replace(microsecond=0)
        since = f"begins at {asked:%Y-%m-%d %H:%M:%S} UTC" if asked else "is empty"
        raise Invalid(
            {field_name: [f"The history of service {service} {since}: nothing is known from before."]}
        )


class _Moved(Exception):
    """The service was changed while its past was being looked at: what was read does not fit together."""


def check_unmoved(service: ProvisioningService, epoch: int) -> None:
    """Inside a rehearsal, or at the end. Whoever asks does so inside `undisturbed`."""
    if ProvisioningService.epoch_of(service.pk) != epoch:
        raise _Moved


def undisturbed(service: ProvisioningService, look: Callable[[], T], rounds: int = ROUNDS) -> T:
    """Look again where something was changed meanwhile. Raises Conflict where that happens all the time."""
    for _ in range(rounds):
        try:
            return look()
        except _Moved:
            continue
    raise Conflict(
        f"Service {service} was changed {rounds} times while its past was being looked at. Ask once more."
    )


@dataclass(slots=True)
class Walk:
    """Entries, settings and proofs as they stood at the place that the walk has reached, beginning at now.

    Only entries that a change is about are here: all others are as they are now.
    """

    entries: dict[Subject, PastEntry | None]
    key_groups_admit: bool
    proofs: Proofs
    now: dict[Subject, PastEntry | None] = field(default_factory=dict)

    @classmethod
    def from_now(cls, service: ProvisioningService, changes: Since) -> Self:
        # What is due, and stands in no row yet, is due now, and may not have been due then.
        subjects = changes.subjects | _due(service)
        there = dict.fromkeys(subjects) | read_entries(service, subjects)
        admit = ProvisioningService.what_decisions_read(service.pk).groups_with_keys_admit
        return cls(dict(there), admit, Proofs.of_now(service), there)

    def undo(self, change: Change) -> None:
        """Take one change back, the newest that is not taken back yet."""
        subject, event = change.subject, change.event
        if subject is None:
            if KEY_GROUPS in (event.before or {}):
                self.key_groups_admit = bool((event.before or {})[KEY_GROUPS])
            self.proofs = self.proofs.before(event)
            return
        current = self.entries.get(subject)
        problem = contradiction(current, event)
        if event.before is None:
            if event.after is not None:
                self.entries[subject] = None
            return
        if event.after is None:
            self.entries[subject] = before_deletion(event)
            return
        if current is None:
            # It was changed, and is gone, and no row says that it was deleted.
            kind, pk = subject
            current = PastEntry(kind, pk, event.subject_name, False, "")
        entry = before_change(current, event)
        if problem and not entry.doubt:
            why = f"after row ID {event.pk} of the history {problem}, and no row says why"
            entry = replace(entry, doubt=why, may_hold=_may_have_held(event, self.now.get(subject)))
        self.entries[subject] = entry

    def standing(self, at: datetime) -> dict[Subject, PastEntry | None]:
        """The entries with their switches as they stood at a time, and nothing scheduled any more."""
        return {
            subject: entry and replace(entry, enabled=entry.is_enabled(at), switches_at=None)
            for subject, entry in self.entries.items()
        }


def _may_have_held(event: HistoryEvent, now: PastEntry | None) -> frozenset[str] | None:
    """What the entry that this row is about held at any time that is told of. None: that is not all.

    What is not stored any more could be anybody's.
    """
    assert event.service_id is not None  # it is one of a service
    rows = HistoryEvent.objects.of_service(event.service_id).alias(subject_key=Lower("subject_name"))
    about = rows.filter(
        subject_key=registration_key(event.subject_name),
        subject_kind=event.subject_kind,
        subject_id=event.subject_id,
    )
    told = certificates_told_of(checked(about.order_by("pk")))
    if told is None:
        return None
    every = told if now is None else told | now.named
    stored = Certificate.objects.filter(thumbprint_sha256__in=every).count()
    return every if stored == len(every) else None


def _due(service: ProvisioningService) -> set[Subject]:
    due = Q(switches_at__lte=clock.database_now())
    return {
        (kind, pk)
        for kind, rows in (
            (EntryKind.INDIVIDUAL, service.individualenrollments),
            (EntryKind.GROUP, service.enrollmentgroups),
        )
        for pk in rows.filter(due).values_list("pk", flat=True)
    }


def read_entries(
    service: ProvisioningService, subjects: Iterable[Subject]
) -> dict[Subject, PastEntry | None]:
    """Those of these entries that are there now, as they stand."""
    wanted = list(subjects)
    found: dict[Subject, PastEntry | None] = {}
    for kind, rows, place in (
        (EntryKind.INDIVIDUAL, service.individualenrollments, "individual"),
        (EntryKind.GROUP, service.enrollmentgroups, "group"),
    ):
        pks = [pk for one, pk in wanted if one is kind]
        for some in _chunks(pks):
            held: dict[int, list[HeldCertificate]] = {}
            for one in HeldCertificate.objects.filter(**{f"{place}__in": some}).select_related("certificate"):
                held.setdefault(getattr(one, f"{place}_id"), []).append(one)
            row: IndividualEnrollment | EnrollmentGroup
            for row in rows.filter(pk__in=some).defer(*SECRETS):
                found[kind, row.pk] = as_it_stands(row, held.get(row.pk, ()))
    return found


def _chunks(pks: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(pks), CHUNK):
        yield pks[start : start + CHUNK]
