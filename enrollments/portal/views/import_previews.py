"""What a checked import would do to the devices that are known: before it is started, to look at and to take along."""

from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_safe

from enrollments.actions.imports import import_of, keep_foreseen
from enrollments.actions.preview import Effect, Preview
from enrollments.actions.preview.words import turning_in_line
from enrollments.errors import Conflict
from enrollments.models import ImportRun, ImportState, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.htmx import render_page
from enrollments.portal.previews import (
    asks_for_everyone,
    effect_named,
    export,
    limits_asked,
    lines_of,
    of_everyone,
    page_of,
)
from enrollments.transfer.foreseen import Foreseen, foreseen_lately
from enrollments.transfer.kept import numbers_of


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which preview of an import. `is_later`: of when all its entries have turned at their times."""

    is_later: bool
    everyone: bool
    effect: Effect | None

    @classmethod
    def by(cls, query: QueryDict) -> "_Asked":
        effect = effect_named(query.get("effect", ""))
        return cls(query.get("later") == "1", asks_for_everyone(query), effect)

    def seen(self, run: ImportRun) -> Foreseen | None:
        """None where it is not waiting to be started: what it was started on is on its page.

        What is shown is kept, so that it can be looked up once the import is started on it.
        """
        if run.state != ImportState.CHECKED:
            return None
        with limits_asked(everyone=self.everyone) as limits:
            seen = foreseen_lately(run, limits)
        keep_foreseen(run, numbers_of(seen))
        return seen

    def address(self, run: ImportRun, name: str = "portal:import-preview") -> str:
        where = reverse(name, kwargs={"service_name": run.service.name, "import_pk": run.pk})
        url = f"{where}?later={int(self.is_later)}"
        return of_everyone(url) if self.everyone else url

    def shown(self, run: ImportRun, told: Preview) -> dict[str, Any]:
        """Its lines and addresses, as templates show them."""
        address = self.address(run)
        return {
            "preview": told,
            "lines": lines_of(told, address),
            "all_url": address,
            "everyone_url": replace(self, everyone=True).address(run),
            "export_url": self.address(run, "portal:import-preview-export"),
        }


@require_safe
@requires(Right.SEE_HISTORY)
def import_preview(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponse:
    run = import_of(service, import_pk)
    asked = _Asked.by(request.GET)
    seen = asked.seen(run)
    context: dict[str, Any] = {"service": service, "run": run, "preview": None}
    context["may_export"] = may(request, Right.EXPORT, service)
    if seen is not None:
        context |= {"preview": seen.now, "now": replace(asked, is_later=False).shown(run, seen.now)}
        told = seen.now
        if seen.later is not None:
            context["turning"] = turning_in_line(seen.turning)
            context["later"] = replace(asked, is_later=True).shown(run, seen.later)
            told = seen.later if asked.is_later else told
            context["parts"] = [
                {"label": label, "url": context[name]["all_url"], "active": context[name]["preview"] is told}
                for name, label in (("now", "Once carried out"), ("later", "Once its entries have turned"))
            ]
        page = page_of(service, told, asked.effect, request.GET)
        here = asked.address(run) + (f"&effect={asked.effect}" if asked.effect else "")
        context |= {
            "shown": context["now"] if told is seen.now else context["later"],
            "is_later": told is not seen.now,
            "effect": asked.effect,
            "page": page,
            "previous_url": f"{here}&before={page.previous}" if page.previous else "",
            "next_url": f"{here}&after={page.next}" if page.next else "",
        }
    return render_page(request, "portal/imports/preview.html", "portal/imports/_preview.html", context)


@require_safe
@requires(Right.EXPORT)
def import_preview_export(
    request: HttpRequest, service: ProvisioningService, import_pk: int
) -> HttpResponseBase:
    """Raises Conflict where nothing can be told."""
    run = import_of(service, import_pk)
    asked = _Asked.by(request.GET)
    seen = asked.seen(run)
    if seen is None:
        raise Conflict("There is no preview of this import: it is not waiting to be started.")
    if asked.is_later and seen.later is None:
        raise Conflict(
            "No entry of this import turns by itself: there is one preview of it, and no later one."
        )
    told = seen.later if asked.is_later and seen.later is not None else seen.now
    what = f"import {run.pk}{', once its entries have turned' if asked.is_later else ''}"
    return export(service, told, asked.effect, what, actor=actor_of(request))
