"""Taking along exactly what is filtered: recorded before the first byte, sealed and signed, sent as it is read."""

from datetime import datetime

from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import require_safe

from enrollments.actions.history import note_export, take_checkpoint
from enrollments.actions.schedule import settle_if_possible
from enrollments.errors import Conflict, HistoryDisagrees
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, requires, requires_everywhere
from enrollments.portal.forms_history import HistoryFilter
from enrollments.portal.history_export import ENDINGS, TYPES, Export
from enrollments.portal.history_pages import filter_of, found_by, place_of
from enrollments.portal.history_shut_outs import what_shut_out_the_device
from enrollments.portal.refusals import refused_page

NAMES = {"csv": "history as CSV", "jsonl": "history as JSON Lines", "xlsx": "history as XLSX"}


@require_safe
@requires(Right.EXPORT)
def history_export(request: HttpRequest, service: ProvisioningService) -> HttpResponseBase:
    return _export(request, service)


@require_safe
@requires_everywhere(Right.EXPORT)
def installation_history_export(request: HttpRequest) -> HttpResponseBase:
    return _export(request, None)


def _export(request: HttpRequest, service: ProvisioningService | None) -> HttpResponseBase:
    format = request.GET.get("format", "csv")
    if format not in TYPES:
        return refused_page(
            request, f"There is no export in this format. There are: {', '.join(TYPES)}.", 422
        )
    form = filter_of(request, place_of(service))
    if not form.is_valid():
        # Exported is exactly what is filtered: a filter that cannot be read exports nothing.
        labels = {name: f"{field.label}: " for name, field in form.fields.items()}
        cause = " ".join(
            labels.get(name, "") + " ".join(map(str, said)) for name, said in form.errors.items()
        )
        return refused_page(request, f"The filter of this export cannot be read: {cause}", 422)
    if service is not None:
        settle_if_possible(service)
    told = what_shut_out_the_device(request, service, form)
    if told is not None and told.problem:
        # Exported is exactly what is asked for: rows that were not worked out would be missing, and nobody would know.
        return refused_page(request, f"Nothing was exported: {told.problem}", 409)
    found = found_by(request, form, service, told)
    asked, now = _in_words(form, found.seen_up_to), timezone.now()
    try:
        # First, so that everything that is exported is sealed, and covered by what was signed.
        checkpoint, _ = take_checkpoint(in_background=True)
        export = Export(found, checkpoint, service.name if service else "", asked, now)
        export.begin()
    except (HistoryDisagrees, Conflict) as problem:
        return refused_page(request, f"Nothing was exported: {problem.message}", 409)
    note_export(
        NAMES[format],
        {**asked, "rows_up_to": checkpoint.size},
        actor=actor_of(request),
        service=service,
    )
    name = f"history-{service.name if service else 'installation'}-{now:%Y-%m-%d}.{ENDINGS[format]}"
    return StreamingHttpResponse(
        export.written(format),
        content_type=TYPES[format],
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _in_words(form: HistoryFilter, seen_up_to: int) -> dict[str, str]:
    """What was asked for, with moments as such: «24h» is counted from the export itself, «last» goes on."""
    asked = {
        name: value.isoformat() if isinstance(value := form.chosen[name], datetime) else text
        for name, text in form.asked.items()
    }
    return asked | ({"since": f"last, after #{seen_up_to}"} if form.is_since_last else {})
