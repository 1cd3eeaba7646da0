"""What the pages about the past show: spells as a bar and a table, and the devices of a service at two times."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import Prefetch, prefetch_related_objects
from django.http import QueryDict
from django.urls import reverse

from enrollments.actions.past import Comparison, LookBack, Spell
from enrollments.actions.past.words import EFFECTS, values, verdict_of
from enrollments.actions.preview import Effect
from enrollments.audit.events import Event
from enrollments.models import HistoryEvent, HistorySeal, ProvisioningService
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.unknown import known
from enrollments.portal.entry_links import entry_url
from enrollments.portal.history_rows import row_url
from enrollments.portal.paging import PAGE_SIZE

# The bar is so many units wide; a spell is never narrower than can be seen.
WIDTH, NARROWEST = 1000.0, 4.0
# The latest so many are shown.
MOST_SPELLS = 200
_KINDS = {"not known": "unknown", "admitted": "admitted"}


@dataclass(frozen=True, slots=True)
class ShownSpell:
    """`left` and `width` on the bar. kind: admitted, refused or unknown.

    before_event: what is to be said before the row, where that is not of this moment. row_url: the row on its own page.
    """

    spell: Spell
    kind: str
    state: str
    entry: str
    entry_url: str
    cause: str
    event: HistoryEvent | None
    before_event: str = ""
    row_url: str = ""
    left: str = "0"
    width: str = "0"


def shown_spells(service: ProvisioningService, look: LookBack) -> list[ShownSpell]:
    """In order. The last ones, where there are very many."""
    spells = look.spells[-MOST_SPELLS:]
    rows = [one.began_by.told_by for one in spells]
    seals = Prefetch("seal", HistorySeal.objects.all())
    prefetch_related_objects([row for row in rows if row is not None], seals)
    whole = (spells[-1].ends - spells[0].begins).total_seconds() or 1.0
    # What is widened to be seen is taken from the others by scaling.
    widths = [max(NARROWEST, WIDTH * (one.ends - one.begins).total_seconds() / whole) for one in spells]
    scale = WIDTH / sum(widths)
    shown, left = [], 0.0
    for spell, width in zip(spells, widths, strict=True):
        shown.append(_shown(service, look, spell, left, width * scale))
        left += width * scale
    return shown


def _shown(
    service: ProvisioningService, look: LookBack, spell: Spell, left: float, width: float
) -> ShownSpell:
    cause = spell.began_by
    event = cause.told_by
    state = verdict_of(spell)
    return ShownSpell(
        spell,
        _KINDS.get(state, "refused"),
        state,
        str(spell.entry) if spell.entry is not None else "",
        url_of(service, spell.entry, look.gone) if spell.entry is not None else "",
        known(Event, event.event).in_words if event is not None else cause.words,
        event,
        cause.words if cause.event is None and event is not None else "",
        row_url(event.pk, service) if event is not None else "",
        f"{left:.2f}",
        f"{width:.2f}",
    )


def url_of(service: ProvisioningService, ref: EntryRef, gone: Iterable[EntryRef]) -> str:
    return "" if ref in gone else entry_url(service, ref)


# --- All devices of a service -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """A tab of the list: devices of one effect, or all."""

    label: str
    count: int
    url: str
    active: bool
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A device in the list."""

    registration_id: str
    then: str
    then_by: str
    later: str
    later_by: str
    why: str
    otherwise: str
    url: str


@dataclass(frozen=True, slots=True)
class FleetPage:
    rows: tuple[Row, ...]
    summary: str
    previous_url: str
    next_url: str


def past_url(service: ProvisioningService, **query: str) -> str:
    url = reverse("portal:past", kwargs={"service_name": service.name})
    return f"{url}?{urlencode({name: value for name, value in query.items() if value})}"


def choices(
    service: ProvisioningService, said: Comparison, effect: Effect | None, asked: dict[str, str]
) -> list[Choice]:
    counts = said.counts
    return [
        Choice("All", said.preview.known, past_url(service, **asked), effect is None),
        *(
            Choice(
                words.capitalize(),
                counts[one],
                past_url(service, **asked, effect=one.value),
                one is effect,
                one,
            )
            for one, words in EFFECTS.items()
            if counts[one]
        ),
    ]


def page_of(
    service: ProvisioningService,
    said: Comparison,
    effect: Effect | None,
    query: QueryDict,
    asked: dict[str, str],
    size: int = PAGE_SIZE,
) -> FleetPage:
    """The page that `after` or `before` asks for, by registration ID."""
    devices = said.in_order(effect)
    keys = [registration_key(one.registration_id) for one in devices]
    if "before" in query:
        start = max(0, bisect_left(keys, registration_key(query.get("before", ""))) - size)
    else:
        start = bisect_right(keys, registration_key(query.get("after", "")))
    shown = devices[start : start + size]
    here = {**asked, "effect": effect.value if effect else ""}
    # Of one device all is told anyway.
    times = {name: asked[name] for name in ("at", "until") if name in asked}
    end = start + len(shown)
    summary = f"{start + 1:,} to {end:,} of {len(devices):,} devices" if shown else "No devices"
    rows = []
    for device in shown:
        name, _, then, then_by, later, later_by, why, otherwise, _ = values(said, device)
        url = past_url(service, **times, registration_id=name)
        rows.append(Row(name, then, then_by, later, later_by, why, otherwise, url))
    return FleetPage(
        tuple(rows),
        summary,
        past_url(service, **here, before=keys[start]) if start and shown else "",
        past_url(service, **here, after=keys[end - 1]) if shown and end < len(devices) else "",
    )
