"""What a checked import would do to the devices that are known: before it is started, to look at and to take along."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_safe

from enrollments.actions.imports import import_of, keep_foreseen
from enrollments.actions.preview.words import turning_in_line
from enrollments.errors import Conflict
from enrollments.models import ImportRun, ImportState, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.htmx import render_page
from enrollments.portal.previews import effect_named, export, lines_of, page_of
from enrollments.transfer.foreseen import Foreseen, foreseen_lately
from enrollments.transfer.kept import numbers_of


@require_safe
@requires(Right.SEE_HISTORY)
def import_preview(request: HttpRequest, service: ProvisioningService, import_pk: int) -> HttpResponse:
    run = import_of(service, import_pk)
    names = {"service_name": service.name, "import_pk": run.pk}
    address = f"{reverse('portal:import-preview', kwargs=names)}?"
    effect = effect_named(request.GET.get("effect", ""))
    context = {
        "service": service,
        "run": run,
        "preview_url": address,
        "export_url": reverse("portal:import-preview-export", kwargs=names),
        "may_export": may(request, Right.EXPORT, service),
        "effect": effect,
    }
    seen = _foreseen(run)
    context["preview"] = preview = seen.now if seen is not None else None
    if seen is not None and preview is not None:
        page = page_of(service, preview, effect, request.GET)
        here = f"{address}effect={effect}&" if effect else address
        context |= {
            "lines": lines_of(preview, address),
            "turning": turning_in_line(seen.turning) if seen.later else "",
            "later": seen.later,
            "later_lines": lines_of(seen.later) if seen.later else [],
            "page": page,
            "previous_url": f"{here}before={page.previous}" if page.previous else "",
            "next_url": f"{here}after={page.next}" if page.next else "",
        }
    return render_page(request, "portal/imports/preview.html", "portal/imports/_preview.html", context)


@require_safe
@requires(Right.EXPORT)
def import_preview_export(
    request: HttpRequest, service: ProvisioningService, import_pk: int
) -> HttpResponseBase:
    """Raises Conflict where nothing can be told."""
    run = import_of(service, import_pk)
    seen = _foreseen(run)
    if seen is None:
        raise Conflict("There is no preview of this import: it is not waiting to be started.")
    effect = effect_named(request.GET.get("effect", ""))
    return export(service, seen.now, effect, f"import {run.pk}", actor=actor_of(request))


def _foreseen(run: ImportRun) -> Foreseen | None:
    """None where it is not waiting to be started: what it was started on is on its page.

    What is shown is kept, so that it can be looked up once the import is started on it.
    """
    if run.state != ImportState.CHECKED:
        return None
    seen = foreseen_lately(run)
    keep_foreseen(run, numbers_of(seen))
    return seen
