"""One table of the history for every page that shows it: of a service, an object, a person, the installation."""

from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Value
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse

from enrollments.actions.ended_windows import record_ended_windows_if_possible
from enrollments.actions.history_views import last_look, last_look_and_size, views_of
from enrollments.actions.schedule import settle_if_possible
from enrollments.audit.excerpt import rows_with_seals
from enrollments.audit.upkeep import seal_for_a_page
from enrollments.errors import HistoryDisagrees
from enrollments.models import HistoryEvent, HistorySeal, LastLook, ProvisioningService, UnsealedEvent
from enrollments.models.history import HistoryQuerySet
from enrollments.models.history_reading import UNREADABLE, of_a_row
from enrollments.policy.roles import Right
from enrollments.portal.access import note_not_ones_own, person, rights_of
from enrollments.portal.forms_history import LAST, NO_SERVICE, SHUTS_OUT, HistoryFilter, SaveViewForm
from enrollments.portal.history_filtering import Search, search, visible
from enrollments.portal.history_imports import whole_import
from enrollments.portal.history_rows import history_url, rows_of
from enrollments.portal.history_shut_outs import ShutOutsTold, what_shut_out_the_device
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import Page, Reach, paged
from enrollments.portal.previews import EVERYONE, asks_for_everyone

FORMATS = (("xlsx", "Excel (XLSX)"), ("csv", "CSV, in a ZIP with the checkpoint"), ("jsonl", "JSON Lines"))
# So many of the newest rows are looked at to say how many are new.
COUNTED = 1000
# For a text, a page looks through so many rows, or for so long, and says so if there are others.
LOOKED_THROUGH, LOOKING_SECONDS = 100_000, 0.03


@dataclass(frozen=True, slots=True)
class Place:
    """A page with rows of the history. `fixed`: the part of the filter that the page itself stands for."""

    service: ProvisioningService | None
    title: str
    url: str
    subtitle: str = ""
    fixed: dict[str, str] = field(default_factory=dict)
    tabs: list[dict[str, Any]] = field(default_factory=list)
    crumb: tuple[str, str] = ("", "")

    @property
    def is_whole(self) -> bool:
        """Whether it is a history itself, and not the part of one that is about something."""
        return not self.fixed


@dataclass(frozen=True, slots=True)
class News:
    """How many rows came since a person looked last. `more`: others were not counted."""

    look: LastLook | None
    count: int
    more: bool
    up_to: int


def place_of(service: ProvisioningService | None) -> Place:
    if service:
        told = "Who did what to what, when, why and from where. Nothing here can be changed or deleted."
        return Place(service, "Revocation history", history_url(service), told)
    told = "All services, and what belongs to none: sign-ins, people, roles and passwords."
    return Place(None, "History of the installation", history_url(None), told)


def filter_of(request: HttpRequest, place: Place) -> HistoryFilter:
    names = (
        None if place.service else ProvisioningService.objects.order_by("name").values_list("name", flat=True)
    )
    return HistoryFilter(request.GET, services=names, fixed=place.fixed)


def _with_its_seal(rows: HistoryQuerySet, pk: int) -> tuple[HistoryEvent | None, bool]:
    """The row, and whether it is what was sealed in its place, or waits for its seal.

    Another process may seal it after it was read, so one that has no seal and waits for none is read once more.
    """
    event = rows.select_related("seal").filter(pk=pk).first()
    if event is None:
        return None, False
    if not _has_seal(event):
        if UnsealedEvent.objects.filter(event_id=pk).exists():
            return event, True
        event = rows.select_related("seal").get(pk=pk)
    return event, _has_seal(event) and _is_as_sealed(event)


def _has_seal(event: HistoryEvent) -> bool:
    return getattr(event, "seal", None) is not None


def _is_as_sealed(event: HistoryEvent) -> bool:
    try:
        rows_with_seals([event.pk])
    except HistoryDisagrees:
        return False
    return True


def _check_url(request: HttpRequest, service: ProvisioningService | None) -> str:
    """Of the page that verifies the history, for who may see it."""
    if Right.SEE_HISTORY not in rights_of(request, service):
        return ""
    return reverse(_proof_view(service), kwargs={"service_name": service.name} if service else {})


def seen_by(request: HttpRequest, service: ProvisioningService | None) -> HistoryQuerySet:
    """The rows that the person may see."""
    return visible(person(request), service, sees_all=Right.SEE_HISTORY in rights_of(request, service))


def found_by(
    request: HttpRequest,
    form: HistoryFilter,
    service: ProvisioningService | None,
    told: ShutOutsTold | None = None,
) -> Search:
    """What a valid filter finds among what the person may see. told: what shut out the device that it is about."""
    look = last_look(person(request), service) if form.is_since_last else None
    seen_up_to, shut_out = look.index if look else 0, told.rows if told else ()
    found = replace(
        search(seen_by(request, service), form, service, seen_up_to, shut_out), seen_up_to=seen_up_to
    )
    if Right.SEE_HISTORY in rights_of(request, service):
        return found
    return replace(found, among=None)  # what one did oneself, an index has, and it is little


def history_page(request: HttpRequest, place: Place) -> HttpResponse:
    service = place.service
    form = filter_of(request, place)
    if service is not None:
        settle_if_possible(service)  # what has happened by itself belongs in here, although nobody asked yet
    if place.is_whole:
        record_ended_windows_if_possible()  # the same of failures that nobody came back to
    seal_for_a_page()
    # Before the rows are read: one that is sealed in between must not count as seen.
    news = _news(request, service) if place.is_whole else None
    rights = rights_of(request, service)
    valid = form.is_valid()
    told = what_shut_out_the_device(request, service, form) if valid else None
    found = found_by(request, form, service, told) if valid else Search(HistoryEvent.objects.none())
    is_unreadable = False
    try:
        page = _page(request, found)
    except UNREADABLE as problem:
        of_a_row(problem)
        # Of what SQLite looks into for the filter; no other row stands in the way of a page.
        is_unreadable, page = True, _page(request, Search(HistoryEvent.objects.none()))
    names = {"service_name": service.name} if service else {}
    prefix = "portal:history" if service else "portal:installation-history"
    context: dict[str, Any] = {
        "service": service,
        "place": place,
        "form": form,
        "page": page,
        "rows": rows_of(page.rows, service, told.rows if told else ()),
        "is_unreadable": is_unreadable,
        "shut_outs": told,
        "filtered": form.is_filtered,
        "sees_all": Right.SEE_HISTORY in rights,
        "list_url": place.url,
        "may_export": valid and Right.EXPORT in rights,
        "exports": _exports(reverse(f"{prefix}-export", kwargs=names), request, form) if valid else [],
        "quick": _quick(request, place),
        "checkpoint_url": reverse(_proof_view(service), kwargs=names) if Right.SEE_HISTORY in rights else "",
    }
    if place.is_whole:
        context |= {
            "news": news,
            "seen_url": reverse(f"{prefix}-seen", kwargs=names),
            "views": views_of(person(request), service),
            "views_url": reverse(f"{prefix}-views", kwargs=names),
            "save_url": reverse(f"{prefix}-view-save", kwargs=names),
            "save_form": SaveViewForm(initial={"query": form.query}) if valid and form.is_filtered else None,
        }
    status = 409 if is_unreadable else 200
    return render_page(
        request, "portal/history/list.html", "portal/history/_results.html", context, status=status
    )


def _page(request: HttpRequest, found: Search) -> Page[HistoryEvent]:
    return paged(
        found.rows.select_related("seal"),
        request.GET,
        {"at": "at"},
        default="-at",
        ranges=found.ranges,
        reach=Reach(found.among, LOOKED_THROUGH, LOOKING_SECONDS) if found.among is not None else None,
    )


def row_page(request: HttpRequest, service: ProvisioningService | None, event_pk: int) -> HttpResponse:
    """One row with all that it holds, to exactly whom the list shows it; for htmx, what opens below its sentence."""
    seal_for_a_page()
    event, is_as_sealed = _with_its_seal(seen_by(request, service), event_pk)
    if event is None:
        if Right.SEE_HISTORY not in rights_of(request, service):
            note_not_ones_own(request, service)
        raise Http404("There is no row of this number in the history, or it is not yours to see.")
    (row,) = rows_of([event], service)
    context: dict[str, Any] = {
        "service": service,
        "place": place_of(service),
        "row": row,
        "is_as_sealed": is_as_sealed,
        "check_url": _check_url(request, service),
    }
    if row.by_import:
        context["whole_import"] = whole_import(event, row.by_import)
    return render_page(request, "portal/history/row.html", "portal/history/_details.html", context)


def _proof_view(service: ProvisioningService | None) -> str:
    return "portal:history-checkpoint" if service else "portal:installation-checkpoint"


def _exports(url: str, request: HttpRequest, form: HistoryFilter) -> list[dict[str, str]]:
    query = f"&{form.query}" if form.query else ""
    query += f"&{EVERYONE}=1" if asks_for_everyone(request.GET) else ""
    return [{"label": label, "url": f"{url}?format={name}{query}"} for name, label in FORMATS]


def _quick(request: HttpRequest, place: Place) -> list[dict[str, Any]]:
    """The choices that these pages are named for, one click away; other filters stay."""
    choices: list[tuple[str, dict[str, str]]] = [
        ("Everything", {}),
        ("What shuts out", {"event": SHUTS_OUT}),
    ]
    if place.is_whole:
        choices.append(("New to me", {"since": LAST}))
    if place.is_whole and place.service is None:
        choices.append(("Sign-ins and people", {"service": NO_SERVICE}))
    asked = {name: request.GET.get(name, "") for name in ("event", "since", "service")}
    # What a choice takes the place of: any event, and of the others only what is a choice here.
    now = {
        name: value
        for name, value in asked.items()
        if value and (name == "event" or value in (LAST, NO_SERVICE))
    }
    tabs = []
    for label, chosen in choices:
        query = request.GET.copy()
        for name in ("after", "before", EVERYONE, *now):
            query.pop(name, None)
        for name, value in chosen.items():
            query[name] = value
        tabs.append({"label": label, "url": f"{place.url}?{query.urlencode()}", "active": now == chosen})
    return tabs


def _news(request: HttpRequest, service: ProvisioningService | None) -> News:
    """Counted among the newest rows of the installation, so that it takes as long in a long history as in a short."""
    user = person(request)
    look, size = last_look_and_size(user, service)
    if look is None:
        return News(None, 0, False, size)
    columns = ("service_id", "actor_kind", "actor_name", "at")
    newest = HistorySeal.objects.filter(index__gt=look.index).order_by("-index").values("event_id")[:COUNTED]
    waiting = UnsealedEvent.objects.values("event_id")[:COUNTED]
    # Each part is asked by its own keys; an OR of both would be a walk through all rows.
    news = (
        (HistoryEvent.objects.filter(pk__in=newest), False),
        (HistoryEvent.objects.filter(pk__in=waiting), True),
    )
    parts = [events.order_by().values_list(*columns, Value(waits)) for events, waits in news]
    try:
        found = list(parts[0].union(parts[1], all=True))
    except UNREADABLE as problem:
        of_a_row(problem)
        found = [
            (row.service_id, row.actor_kind, row.actor_name, row.at, waits)
            for events, waits in news
            for row in events
        ]
    sees_all = Right.SEE_HISTORY in rights_of(request, service)
    count = sum(
        (service is None or of == service.pk)
        and (sees_all or (kind == "user" and name == user.get_username() and at and at >= user.date_joined))
        for of, kind, name, at, _ in found
    )
    are_waiting = sum(bool(waits) for *_, waits in found)
    return News(look, count, size - look.index > COUNTED or are_waiting == COUNTED, size)
