"""What a checked import would do to the devices that are known: before it is started, to look at and to take along.

A request reads what was worked out. Where that is yet to come, it is worked out apart, and the page says how far it is.
"""

from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_safe

from enrollments.actions.import_previews import can_be_foreseen, preview_begun, preview_kept
from enrollments.actions.imports import import_of
from enrollments.actions.preview import Effect
from enrollments.errors import Conflict
from enrollments.models import ImportPreview, ImportRun, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.htmx import render_page, wants_fragment
from enrollments.portal.paging import PAGE_SIZE
from enrollments.portal.previews import (
    DevicePage,
    Line,
    asks_for_everyone,
    effect_named,
    export_rows,
    of_everyone,
    page_with,
)
from enrollments.transfer.kept import KeptLine, KeptPart, parts_of
from enrollments.transfer.kept_devices import KeptDevices
from enrollments.transfer.previewing import work_out_where_wanted
from enrollments.transfer.words import HowFarInWords, how_far

_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which preview of an import. `is_later`: of when all its entries have turned at their times."""

    is_later: bool
    everyone: bool
    effect: Effect | None = None

    @classmethod
    def by(cls, query: QueryDict) -> "_Asked":
        effect = effect_named(query.get("effect", ""))
        return cls(query.get("later") == "1", asks_for_everyone(query), effect)

    def address(self, run: ImportRun, name: str = "portal:import-preview") -> str:
        where = reverse(name, kwargs={"service_name": run.service.name, "import_pk": run.pk})
        url = f"{where}?later={int(self.is_later)}"
        return of_everyone(url) if self.everyone else url

    def shown(self, run: ImportRun, told: KeptPart) -> dict[str, Any]:
        """Its lines and addresses, as templates show them."""
        address = self.address(run)
        return {
            "preview": told,
            "lines": [_line(one, address) for one in told.lines],
            "comings": [
                {"words": one.sentence, "lines": [_line(each) for each in one.lines], "preview": one}
                for one in told.comings
            ],
            "all_url": address,
            "everyone_url": replace(self, everyone=True).address(run),
            "export_url": self.address(run, "portal:import-preview-export"),
        }


def _line(kept: KeptLine, address: str = "") -> Line:
    through = (*kept.through, *([(_OTHERS, kept.unnamed)] if kept.unnamed else []))
    url = f"{address}&effect={kept.effect}" if address else ""
    how_long = kept.out_until, kept.stays, kept.is_looked
    return Line(kept.effect, kept.count, through, kept.examples, url, kept.held, *how_long)


def preview_context(run: ImportRun, *, everyone: bool) -> dict[str, Any]:
    """What _preview.html shows: the preview that is kept, or how far one is, which goes on apart."""
    if not can_be_foreseen(run):
        return {"kept": None, "far": None}
    work_out_where_wanted(run, everyone=everyone)
    kept = preview_kept(run, everyone=everyone)
    context: dict[str, Any] = {"kept": kept, "far": None}
    if kept is None:
        context["far"] = _far(preview_begun(run, everyone=everyone))
    if kept is not None and kept.told is not None:
        asked = _Asked(is_later=False, everyone=everyone)
        now, *later = parts_of(kept.told)
        context["now"] = asked.shown(run, now)
        if later:
            context |= {
                "turning": later[0].sentence,
                "later": replace(asked, is_later=True).shown(run, later[0]),
            }
    return context


def _far(begun: ImportPreview | None) -> HowFarInWords:
    return how_far(begun.progress if begun is not None else {})


@require_safe
@requires(Right.SEE_HISTORY)
def import_preview(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponse:
    run = import_of(service, import_pk)
    asked = _Asked.by(request.GET)
    context = preview_context(run, everyone=asked.everyone)
    if wants_fragment(request) and context["far"] is None:
        # It is there, or there will be none: all of the page is another then.
        return HttpResponse(headers={"HX-Refresh": "true"})
    context |= {"service": service, "run": run, "here": asked.address(run)}
    context["may_export"] = may(request, Right.EXPORT, service)
    if "now" in context:
        context |= _devices_shown(service, asked, run, context, request.GET)
    return render_page(request, "portal/imports/preview.html", "portal/imports/_far.html", context)


def _devices_shown(
    service: ProvisioningService, asked: _Asked, run: ImportRun, context: dict[str, Any], query: QueryDict
) -> dict[str, Any]:
    is_later = asked.is_later and "later" in context
    page = _page(service, context["kept"], replace(asked, is_later=is_later), query)
    here = asked.address(run) + (f"&effect={asked.effect}" if asked.effect else "")
    labels = {"now": "Once carried out", "later": "Once its entries have turned"}
    return {
        "shown": context["later" if is_later else "now"],
        "is_later": is_later,
        "effect": asked.effect,
        "parts": [
            {"label": label, "url": context[name]["all_url"], "active": is_later == (name == "later")}
            for name, label in labels.items()
            if name in context
        ],
        "page": page,
        "previous_url": f"{here}&before={page.previous}" if page.previous else "",
        "next_url": f"{here}&after={page.next}" if page.next else "",
    }


def _page(service: ProvisioningService, kept: ImportPreview, asked: _Asked, query: QueryDict) -> DevicePage:
    devices = KeptDevices(kept, asked.effect, is_later=asked.is_later)
    if "before" in query:
        found = devices.before(registration_key(query.get("before", "")), PAGE_SIZE)
    else:
        found = devices.after(registration_key(query.get("after", "")), PAGE_SIZE)
    return page_with(service, found.rows, found.start, found.total)


@require_safe
@requires(Right.EXPORT)
def import_preview_export(
    request: HttpRequest, service: ProvisioningService, import_pk: int
) -> HttpResponseBase:
    """Raises Conflict where nothing can be told."""
    run = import_of(service, import_pk)
    asked = _Asked.by(request.GET)
    if not can_be_foreseen(run):
        raise Conflict("There is no preview of this import: it is not waiting to be started.")
    kept = preview_kept(run, everyone=asked.everyone)
    if kept is None:
        work_out_where_wanted(run, everyone=asked.everyone)
        kept = preview_kept(run, everyone=asked.everyone)
    if kept is None:
        raise Conflict("The preview of this import is being worked out: export it when it is there.")
    if kept.told is None:
        raise Conflict(f"There is no preview of this import. {kept.problem}")
    if asked.is_later and len(parts_of(kept.told)) == 1:
        raise Conflict(
            "No entry of this import turns by itself: there is one preview of it, and no later one."
        )
    devices = KeptDevices(kept, asked.effect, is_later=asked.is_later)
    what = f"import {run.pk}{', once its entries have turned' if asked.is_later else ''}"
    return export_rows(service, devices.every(), asked.effect, what, actor=actor_of(request))
