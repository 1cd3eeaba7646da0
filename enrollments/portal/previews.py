"""What pages and dialogs show of a preview: a line per effect, and the devices of one effect in pages."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict, StreamingHttpResponse
from django.urls import reverse
from django.utils import timezone

from enrollments.actions.history import note_export
from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    BelowAnother,
    Effect,
    Entry,
    Limits,
    Preview,
    ToCome,
    ref_of,
)
from enrollments.actions.preview.limits import turn_to_examine_all
from enrollments.actions.preview.table import csv_of_rows, examples, in_order, name_key, values
from enrollments.actions.preview.words import asides, from_when, of_so_many, will
from enrollments.audit.actor import Actor
from enrollments.errors import Conflict
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.words import counted
from enrollments.portal.paging import PAGE_SIZE
from enrollments.portal.preview_times import Later, Then

# More entries than this are named by their numbers: an address has a bound.
MAX_NAMED = 10
# Where names of entries are of interest: who is refused is refused by nobody, or by what is changed here.
_THROUGH = (Effect.STILL_ADMITTED, Effect.COMES_IN)


@dataclass(frozen=True, slots=True)
class Line:
    """So many devices of one effect. `through`: by which entries, where that is of interest. `url`: all of them.

    held: sentences about those that fail all the same, because another entry holds their names. out_until: see Preview.
    stays: see Coming. is_looked: see `will`.
    """

    effect: Effect
    count: int
    through: tuple[tuple[EntryRef | str, int], ...]
    examples: tuple[str, ...]
    url: str = ""
    held: tuple[str, ...] = ()
    out_until: datetime | None = None
    stays: bool = False
    is_looked: bool = True

    @property
    def words(self) -> str:
        return will(self.effect, self.count, self.out_until, stays=self.stays, is_looked=self.is_looked)

    @property
    def only(self) -> EntryRef | str | None:
        """The one entry through which all of them come in."""
        return self.through[0][0] if len(self.through) == 1 else None

    @property
    def unnamed(self) -> int:
        return self.count - len(self.examples)

    @property
    def through_in_words(self) -> list[tuple[str, int]]:
        return [(of_so_many(entry, count), count) for entry, count in self.through]


def lines_of(preview: Preview, url: str = "", *, stays: bool = False) -> list[Line]:
    """`url`: a page that shows all devices, to which the effect is added. stays: see Coming."""
    lines = []
    for effect in Effect:
        if count := preview.counts[effect]:
            through = preview.through(effect) if effect in _THROUGH else []
            lines.append(
                Line(
                    effect,
                    count,
                    tuple((entry, number) for entry, number in through if entry is not None),
                    tuple(examples(preview, effect)),
                    f"{url}&effect={effect}" if url else "",
                    tuple(asides(preview, effect)),
                    preview.out_until,
                    stays,
                )
            )
    return lines


def comings_shown(coming: ToCome | None, url: str = "", export: str = "") -> list[dict[str, Any]]:
    """Who comes in later, as templates show it: when, and how many through what.

    url, export: the page that shows all devices of the same change, and their export, to which the time is added.
    """
    shown = []
    for one in coming.comings if coming is not None else ():
        later = Later.of(one)
        address, taken = (f"{plain}&{urlencode(later.query)}" if plain else "" for plain in (url, export))
        shown.append(
            {
                "words": from_when(one),
                "lines": lines_of(one.preview, address, stays=one.stays),
                "preview": one.preview,
                "all_of_them": later.all_of_them,
                "query": urlencode(later.query),
                "later": later,
                "all_url": address,
                "everyone_url": of_everyone(address) if address else "",
                "export_url": taken,
            }
        )
    return shown


# --- Acts on entries that are named in the address ------------------------------------------------


def preview_query(act: Act, entries: Sequence[Entry], then: Then | Later | None = None) -> str:
    """The query of the page that shows what an act on these entries would do, now or then. It can be handed on."""
    if len(entries) <= MAX_NAMED:
        named = [("entry", f"{ref_of(one).kind}:{ref_of(one).name}") for one in entries]
    else:
        named = [(f"{ref_of(one).kind}s", str(one.pk)) for one in entries]
    return urlencode([("act", act.value), *named, *(then.query if then else [])])


def entries_named(service: ProvisioningService, query: QueryDict) -> list[Entry] | None:
    """The entries that an address names. None where one of them is not there."""
    wanted: list[tuple[str, str]] = []
    for text in dict.fromkeys(query.getlist("entry")):
        kind, _, name = text.partition(":")
        wanted.append((kind, registration_key(name)))
    found: list[Entry] = []
    for kind, key in wanted:
        one: Entry | None = None
        if kind == "individual":
            individuals = service.individualenrollments.without_secrets()
            one = individuals.filter(registration_key=key).first()
        elif kind == "group":
            one = service.enrollmentgroups.without_secrets().filter(group_key=key).first()
        if one is None:
            return None
        found.append(one)
    for rows, name in (
        (service.individualenrollments, "individuals"),
        (service.enrollmentgroups, "groups"),
    ):
        pks = {int(pk) for pk in query.getlist(name) if pk.isascii() and pk.isdigit() and len(pk) < 19}
        numbered: list[Entry] = list(rows.filter(pk__in=pks).without_secrets())
        if len(numbered) < len(set(query.getlist(name))):
            return None
        found += numbered
    return found


def preview_url(
    service: ProvisioningService, act: Act, entries: Sequence[Entry], then: Then | Later | None = None
) -> str:
    url = reverse("portal:preview", kwargs={"service_name": service.name})
    return f"{url}?{preview_query(act, entries, then)}"


def export_url(
    service: ProvisioningService, act: Act, entries: Sequence[Entry], then: Then | Later | None = None
) -> str:
    url = reverse("portal:preview-export", kwargs={"service_name": service.name})
    return f"{url}?{preview_query(act, entries, then)}"


# --- More than can be told at a glance -----------------------------------------------------------

EVERYONE = "everyone"


def of_everyone(url: str) -> str:
    """The address of the same preview, with all devices examined: it may take minutes."""
    return f"{url}{'&' if '?' in url and not url.endswith('?') else '' if url.endswith('?') else '?'}{EVERYONE}=1"


def asks_for_everyone(query: QueryDict) -> bool:
    return query.get(EVERYONE) == "1"


@contextmanager
def limits_asked(*, everyone: bool) -> Iterator[Limits | None]:
    """The limits of a preview that is worked out inside. Raises Conflict (see turn_to_examine)."""
    with turn_to_examine(everyone=everyone):
        yield NO_LIMITS if everyone else None


@contextmanager
def turn_to_examine(*, everyone: bool) -> Iterator[None]:
    """All devices are examined for one page at a time, be it of what a change would do or of the past.

    Raises Conflict where it is somebody else's turn.
    """
    if not everyone:
        yield
        return
    with turn_to_examine_all() as has_turn:
        if not has_turn:
            raise Conflict(
                "All devices are being examined for another page just now, and that is done for one at a time: load "
                "this page again when it is done."
            )
        yield


# --- The devices of one effect -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A device in the list.

    has_record: there is a page about it. held_through: the other entry that holds its name. otherwise: the one that
    admits it by something else that is known of it, where it is refused.
    """

    registration_id: str
    effect: Effect
    now: str
    now_by: str
    afterwards: str
    afterwards_by: str
    has_record: bool
    held_through: str
    otherwise: str


@dataclass(frozen=True, slots=True)
class DevicePage:
    """`previous` and `next`: the device before which, or after which, that page stands; empty where there is none."""

    rows: tuple[Row, ...]
    first: int
    total: int
    previous: str
    next: str

    @property
    def summary(self) -> str:
        if not self.rows:
            return "No devices"
        return f"{self.first:,} to {self.first + len(self.rows) - 1:,} of {counted(self.total, 'device')}"


def page_of(
    service: ProvisioningService,
    preview: Preview,
    effect: Effect | None,
    query: QueryDict,
    size: int = PAGE_SIZE,
) -> DevicePage:
    """The page that `after` or `before` asks for: devices that come and go meanwhile do not move it."""
    devices = in_order(preview, effect)
    if "before" in query:
        end = bisect_left(devices, registration_key(query.get("before", "")), key=name_key)
        start = max(0, end - size)
    else:
        start = bisect_right(devices, registration_key(query.get("after", "")), key=name_key)
    return page_with(service, list(map(values, devices[start : start + size])), start, len(devices))


def page_with(
    service: ProvisioningService, rows: Sequence[Sequence[str]], start: int, total: int
) -> DevicePage:
    """Of rows as `values` makes them, before which `start` others stand."""
    keys = [registration_key(row[0]) for row in rows]
    records = service.registrations.filter(registration_key__in=keys)
    known = set(records.values_list("registration_key", flat=True))
    return DevicePage(
        tuple(_row(row, key in known) for key, row in zip(keys, rows, strict=True)),
        first=start + 1,
        total=total,
        previous=keys[0] if start and keys else "",
        next=keys[-1] if keys and start + len(keys) < total else "",
    )


def _row(row: Sequence[str], has_record: bool) -> Row:
    name, effect, now, now_by, afterwards, afterwards_by, held_through, otherwise = row
    by = now_by, afterwards, afterwards_by
    return Row(name, Effect(effect), now, *by, has_record, held_through, otherwise)


def effect_named(text: str) -> Effect | None:
    return Effect(text) if text in set(Effect) else None


def export(
    service: ProvisioningService,
    preview: Preview,
    effect: Effect | None,
    what: str,
    *,
    actor: Actor,
    later: Later | None = None,
) -> StreamingHttpResponse:
    """The devices as CSV, after a row of the history about it (R17). later: of which time to come the preview is."""
    rows = map(values, in_order(preview, effect))
    if later is not None:
        what = f"{what}; {later.words[:-1]}"
    return export_rows(service, rows, effect, what, actor=actor, sides=later.sides if later else None)


def export_rows(
    service: ProvisioningService,
    rows: Iterable[Sequence[str]],
    effect: Effect | None,
    what: str,
    *,
    actor: Actor,
    sides: tuple[str, str] | None = None,
) -> StreamingHttpResponse:
    """The same, of rows as `values` makes them. sides: see csv_of_rows."""
    filters = {"change": what, **({"effect": effect.value} if effect else {})}
    note_export("preview as CSV", filters, actor=actor, service=service)
    name = f"preview-{service.name}-{timezone.now():%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        csv_of_rows(rows, sides),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def in_words(act: Act, entries: Sequence[Entry]) -> str:
    """The act and what it is about: "disable enrollment group plant-7"."""
    if len(entries) == 1:
        return f"{act.value} {ref_of(entries[0])}"
    if all(isinstance(one, IndividualEnrollment) for one in entries):
        return f"{act.value} {len(entries)} individual enrollments"
    if all(isinstance(one, EnrollmentGroup) for one in entries):
        return f"{act.value} {len(entries)} enrollment groups"
    return f"{act.value} {len(entries)} entries"


def worth_telling(act: Act, below: Iterable[BelowAnother]) -> list[BelowAnother]:
    """Of what stands above groups: who bars them still; and where they go, through which others devices come in."""
    if act is Act.DISABLE:
        return []
    return [one for one in below if one.barred_by or one.uncertain or (act is Act.DELETE and one.through)]
