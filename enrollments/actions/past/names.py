"""Whose a registration ID was at a time that has passed (R11): by the rows about its record, and about groups.

Only groups are in the way of anybody: while an individual enrollment has the name, it alone decides (R5), and it may
always take it. Who holds a name is a question of the order of rows, which have their numbers under the locks that both
admissions and changes take.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from django.db.models.functions import Lower

from enrollments.actions.past.entries import Subject
from enrollments.actions.past.told import columns_of
from enrollments.actions.preview.touched import in_portions
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.history import HistoryQuerySet
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.ownership import may_take_name

# Those about a record that may tell who holds its name.
EVENTS = (
    Event.DEVICE_ASSIGNED.value,
    Event.DEVICE_ASSIGNED_ANEW.value,
    Event.DEVICE_DEPROVISIONED.value,
    Event.REGISTRATION_DELETED.value,
    Event.REGISTRATION_RELEASED.value,
)
NOT_TOLD = "by which entry its name is held is not what the history made of it, and no row says why"
PREDECESSOR_NOT_TOLD = "no row tells which group that one followed then"
_ASSIGNED = (Event.DEVICE_ASSIGNED.value, Event.DEVICE_ASSIGNED_ANEW.value)
# That a device comes through another entry, which has the name then, lets nobody in and shuts nobody out.
FREEING = tuple(event for event in EVENTS if event not in _ASSIGNED)
_OF_DEVICES = (*_ASSIGNED, Event.DEVICE_DEPROVISIONED.value)
_GROUP = EntryRef(EntryKind.GROUP, 0, "")


class NameNotTold(Exception):
    """It is not known whose the name was; says why."""


def rows_about(service: ProvisioningService, keys: Collection[str]) -> HistoryQuerySet:
    """Of these registration keys. There is an index."""
    rows = HistoryEvent.objects.of_service(service.pk).alias(subject_key=Lower("subject_name"))
    return rows.filter(subject_key__in=keys, subject_kind="RegistrationRecord", event__in=EVENTS)


def told_of_as_devices(service: ProvisioningService, keys: Collection[str]) -> set[str]:
    """Of these registration keys those of which the history knows an assignment, or that one was ended."""
    rows = rows_about(service, keys).filter(event__in=_OF_DEVICES)
    return {registration_key(name) for name in rows.values_list("subject_name", flat=True)}


def deletions(service: ProvisioningService) -> HistoryQuerySet:
    """Rows about groups that were deleted."""
    return HistoryEvent.objects.of_service(service.pk).filter(event=Event.GROUP_DELETED.value)


@dataclass(frozen=True, slots=True)
class By:
    """What counts as made at a time: rows up to that number, and those about names that are stamped with it or before.

    at: None where all such rows have been walked over.
    """

    row: int
    at: datetime | None = None

    def has(self, row: int, at: datetime) -> bool:
        return row <= self.row or (self.at is not None and at <= self.at)


# Whatever happened.
BY_NOW = By(2**63 - 1)


@dataclass(frozen=True, slots=True)
class _Held:
    """From the row with that number on the name was held by a group of that name; "": by none."""

    since: int
    at: datetime
    group: str


@dataclass(slots=True)
class Groups:
    """Which groups had which name: deletions in order, by group key, and who is there now."""

    service: ProvisioningService
    deleted: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    now: dict[str, int] = field(default_factory=dict)
    followed: dict[int, list[tuple[int, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, service: ProvisioningService) -> Self:
        rows = deletions(service)
        deleted: dict[str, list[tuple[int, int]]] = {}
        columns = ("pk", "subject_name", "subject_id")
        for pk, name, subject in columns_of(rows.order_by("pk"), *columns):
            deleted.setdefault(registration_key(name), []).append((pk, int(subject)))
        now = dict(service.enrollmentgroups.values_list("group_key", "pk"))
        return cls(service, deleted, now)

    def named(self, name: str, since: int, by: int) -> EntryRef | None:
        """The group that had that name when that row was written; None: it was deleted by the row with number `by`."""
        key = registration_key(name)
        rows = self.deleted.get(key, [])
        place = bisect_right(rows, (since, BY_NOW.row))
        if place < len(rows):
            gone, pk = rows[place]
            return EntryRef(EntryKind.GROUP, pk, name) if gone > by else None
        if key not in self.now:
            raise NameNotTold(NOT_TOLD)
        return EntryRef(EntryKind.GROUP, self.now[key], name)

    def predecessor(self, taker: EntryRef, by: int) -> int | None:
        """The group that this one named as the one that it follows."""
        told = self._followed(taker)
        place = bisect_right(told, (by, "\U0010ffff"))
        if place == 0:
            raise NameNotTold(PREDECESSOR_NOT_TOLD)
        since, name = told[place - 1]
        group = self.named(name, since, by) if name else None
        return group.pk if group is not None else None

    def _followed(self, taker: EntryRef) -> list[tuple[int, str]]:
        if taker.pk not in self.followed:
            rows = HistoryEvent.objects.of_service(self.service.pk).alias(subject_key=Lower("subject_name"))
            rows = rows.filter(
                subject_key=registration_key(taker.name),
                subject_kind="EnrollmentGroup",
                subject_id=str(taker.pk),
                event__startswith="group.",
            )
            self.followed[taker.pk] = [
                (pk, str(after["predecessor"] or ""))
                for pk, after in columns_of(rows.order_by("pk"), "pk", "after")
                if after is not None and "predecessor" in after
            ]
        return self.followed[taker.pk]


@dataclass(slots=True)
class Names:
    """Of some registration keys who held them when. doubtful: those of which that is not known.

    unchanged: by whom all others are held all the time that is asked about. asked: False where that was too much.
    """

    groups: Groups
    held: dict[str, list[_Held]] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    unchanged: dict[str, EntryRef] = field(default_factory=dict)
    asked: bool = True

    @classmethod
    def of(cls, service: ProvisioningService, keys: Collection[str]) -> Self:
        names = cls(Groups.of(service))
        for some in in_portions(sorted(keys)):
            rows = rows_about(service, some).order_by("pk")
            columns = ("pk", "at", "event", "subject_name", "before", "after")
            for row in columns_of(rows, *columns):
                pk, at, event, name, before, after = row
                if (group := _group_told_by(event, before or {}, after or {})) is not None:
                    names.held.setdefault(registration_key(name), []).append(_Held(pk, at, group))
            owners = service.registrations.filter(registration_key__in=some)
            names._check(some, dict(owners.values_list("registration_key", "owner_group")))
        return names

    @classmethod
    def of_all(cls, service: ProvisioningService, since: int, earliest: datetime, most: int | None) -> Self:
        """Of a whole service, since the row of that number: whose name no row is about since is held as it was.

        earliest: no later row is stamped with a time before that.
        """
        rows = HistoryEvent.objects.of_service(service.pk).filter(
            event__in=EVENTS, pk__gt=since, at__gt=earliest
        )
        if most is not None and rows[most : most + 1]:
            return cls(Groups(service), asked=False)
        changed = {registration_key(name) for (name,) in columns_of(rows, "subject_name")}
        records = service.registrations.order_by()
        if deletions(service).filter(pk__gt=since).exists():
            # Who is held by none now may have been held by one of these.
            nobodys = records.filter(owner_group=None, owner_individual=None)
            changed.update(nobodys.values_list("registration_key", flat=True))
        names = cls.of(service, changed)
        groups = {
            pk: EntryRef(EntryKind.GROUP, pk, name)
            for pk, name in service.enrollmentgroups.values_list("pk", "group_id")
        }
        owned = records.filter(owner_group__isnull=False).values_list("registration_key", "owner_group")
        names.unchanged = {
            key: groups[pk]
            for key, pk in owned.iterator(chunk_size=5000)
            if pk in groups and key not in changed
        }
        return names

    def _check(self, keys: Iterable[str], owners: Mapping[str, int | None]) -> None:
        """Whether the name is held now by whom it is held as the history has it."""
        for key in keys:
            try:
                holder = self.holder(key, BY_NOW)
            except NameNotTold:
                self.doubtful.add(key)
            else:
                if (holder.pk if holder is not None else None) != owners.get(key):
                    self.doubtful.add(key)

    def holder(self, key: str, by: By) -> EntryRef | None:
        """The group that held the name then. Raises NameNotTold."""
        if key in self.unchanged:
            return self.unchanged[key]
        held = [one for one in self.held.get(key, ()) if by.has(one.since, one.at)]
        if not held or not held[-1].group:
            return None
        return self.groups.named(held[-1].group, held[-1].since, by.row)

    def in_the_way(
        self, key: str, taker: EntryRef | None, groups_proven: Collection[int], by: By
    ) -> EntryRef | None:
        """The group that held the name, where this entry might not take it (R11). Raises NameNotTold."""
        if taker is None or taker.kind is not EntryKind.GROUP or not self.asked:
            return None
        holder = self.holder(key, by)
        if may_take_name(holder, taker, groups_proven=groups_proven):
            return None
        predecessor = self.groups.predecessor(taker, by.row)
        if may_take_name(holder, taker, predecessor=predecessor):
            return None
        if key in self.doubtful:
            raise NameNotTold(NOT_TOLD)
        return holder

    @property
    def holders(self) -> set[Subject]:
        """Groups that ever held one of these names."""
        found: set[Subject] = set()
        for some in self.held.values():
            for one in some:
                if one.group:
                    key = registration_key(one.group)
                    found |= {(EntryKind.GROUP, pk) for _, pk in self.groups.deleted.get(key, ())}
                    if key in self.groups.now:
                        found.add((EntryKind.GROUP, self.groups.now[key]))
        return found


def _group_told_by(event: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The ID of the group that holds the name from this row on; "": none does. None: the row does not tell."""
    if event == Event.REGISTRATION_DELETED:
        return ""
    member = "entry" if event in _ASSIGNED else "held_by"
    if member not in before and member not in after:
        return None
    holder, prefix = str(after.get(member) or ""), str(_GROUP)
    return holder.removeprefix(prefix) if holder.startswith(prefix) else ""


def held_by(holder: EntryRef) -> str:
    """Why a device fails that another entry would have admitted."""
    return f"its name was held through {holder}"
