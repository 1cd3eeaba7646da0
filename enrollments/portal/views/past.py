"""Back in time: who could have registered then, and through which entry. For who may see the history (R17)."""

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import require_safe

from enrollments.actions.history import note_export
from enrollments.actions.past import (
    ALL_OF_DEVICE,
    ALL_OF_FLEET,
    Comparison,
    FleetLimits,
    Limits,
    LookBack,
    TooMuch,
    compare,
    look_back,
)
from enrollments.actions.past.words import (
    KEYS,
    answer,
    in_between,
    left_out,
    names_not_asked,
    numbers,
    otherwise,
    shut_out_otherwise,
    table,
    through_at,
)
from enrollments.actions.preview import Effect
from enrollments.actions.preview.lately import Lately
from enrollments.actions.preview.table import Echo
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.explanations import shown
from enrollments.portal.forms_past import PastForm, in_address
from enrollments.portal.htmx import render_page
from enrollments.portal.past import choices, page_of, past_url, shown_spells
from enrollments.portal.previews import EVERYONE, asks_for_everyone, effect_named, turn_to_examine

CHUNK = 1000
JSON_LINES, CSV = "jsonl", "csv"


@require_safe
@requires(Right.SEE_HISTORY)
def past(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """One device, or all of the service, at a time and compared with another."""
    form = PastForm(request.GET)
    context: dict[str, Any] = {"service": service, "form": form}
    status = 200 if form.is_valid() else 422
    if form.is_valid() and form.chosen.get("at"):
        try:
            context |= _told(request, service, form)
        except Invalid as problem:
            form.show(problem)
            status = 422
        except NotFound as problem:
            context["not_known_device"] = form.chosen["registration_id"]
            form.add_error("registration_id", problem.message)
            status = 422
        except Conflict as problem:
            context["problem"] = problem.message
            if isinstance(problem, TooMuch) and not asks_for_everyone(request.GET):
                context["further_url"] = past_url(service, **_asked(form), **{EVERYONE: "1"})
            status = 409
    return render_page(request, "portal/past/page.html", "portal/past/_page.html", context, status=status)


@require_safe
@requires(Right.EXPORT)
def past_export(request: HttpRequest, service: ProvisioningService) -> HttpResponseBase:
    """All devices of the comparison, or those of one effect, after a row of the history about it (R17)."""
    form = PastForm(request.GET)
    if not form.is_valid() or "at" not in form.chosen:
        raise Invalid({"at": ["Give the time that is asked about, and the other one after it."]})
    at, until = form.chosen["at"], form.chosen.get("until")
    said = _compared(service, at, until, everyone=asks_for_everyone(request.GET))
    effect = effect_named(request.GET.get("effect", ""))
    kind = JSON_LINES if request.GET.get("format") == JSON_LINES else CSV
    filters = {"at": said.at.isoformat(), "until": said.until.isoformat()}
    filters |= {"effect": effect.value} if effect else {}
    words = (
        "who could have registered, as JSON lines"
        if kind == JSON_LINES
        else "who could have registered, as CSV"
    )
    note_export(words, filters, actor=actor_of(request), service=service)
    rows = table(said, effect)
    name = f"as-of-{at:%Y-%m-%dT%H%M%SZ}-{service.name}-{timezone.now():%Y-%m-%d}.{kind}"
    return StreamingHttpResponse(
        _json_lines(rows) if kind == JSON_LINES else _csv(rows),
        content_type="application/jsonl" if kind == JSON_LINES else "text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _asked(form: PastForm) -> dict[str, str]:
    """What was filled in, as it stands in addresses."""
    times = {name: in_address(form.chosen[name]) for name in ("at", "until") if form.chosen.get(name)}
    return {**times, "registration_id": form.chosen.get("registration_id", "")}


def _told(request: HttpRequest, service: ProvisioningService, form: PastForm) -> dict[str, Any]:
    at, until = form.chosen["at"], form.chosen.get("until")
    asked, everyone = _asked(form), asks_for_everyone(request.GET)
    if name := asked.pop("registration_id"):
        with turn_to_examine(everyone=everyone):
            look = look_back(service, name, at, until, limits=ALL_OF_DEVICE if everyone else Limits())
        return _of_device(service, look, asked)
    return _of_fleet(request, service, _compared(service, at, until, everyone=everyone), asked)


def _compared(
    service: ProvisioningService, at: datetime, until: datetime | None, *, everyone: bool
) -> Comparison:
    """Of all devices it may take minutes, and is kept for the pages of the list and the export."""
    if not everyone:
        return compare(service, at, until, limits=FleetLimits())

    def work_out() -> Comparison:
        with turn_to_examine(everyone=True):
            return compare(service, at, until, limits=ALL_OF_FLEET)

    return _LATELY.of(service, (at, until), work_out)


_LATELY: Lately[Comparison] = Lately()


def _of_device(service: ProvisioningService, look: LookBack, asked: dict[str, str]) -> dict[str, Any]:
    key = registration_key(look.registration_id)
    spells = shown_spells(service, look)
    return {
        "look": look,
        "answer": answer(look),
        "in_between": in_between(look),
        "left_out": left_out(look),
        "spells": spells,
        "shut_out_otherwise": shut_out_otherwise(look),
        "not_shown": len(look.spells) - len(spells),
        "shown": shown(service, look.explanation, gone=look.gone) if look.explanation else None,
        "record": service.registrations.filter(registration_key=key).first(),
        "all_url": past_url(service, **asked),
    }


def _of_fleet(
    request: HttpRequest, service: ProvisioningService, said: Comparison, asked: dict[str, str]
) -> dict[str, Any]:
    effect = effect_named(request.GET.get("effect", ""))
    then, later = numbers(said)
    all_asked = {**asked, EVERYONE: "1"}
    addresses = all_asked if asks_for_everyone(request.GET) else asked
    tabs = choices(service, said, effect, addresses)
    query = {**addresses, "effect": effect.value if effect else ""}
    return {
        "said": said,
        "fine": said.at.replace(microsecond=0) == said.until.replace(microsecond=0),
        "then": then,
        "later": later,
        "through_then": through_at(said, first=True),
        "through_later": through_at(said, first=False),
        "choices": tabs,
        "turned": [one for one in tabs if one.effect in (Effect.REFUSED, Effect.COMES_IN)],
        "page": page_of(service, said, effect, request.GET, addresses),
        "everyone_url": past_url(service, **all_asked),
        "may_export": may(request, Right.EXPORT, service),
        "export_query": past_url(service, **query).partition("?")[2],
        "effect": effect,
        "otherwise": otherwise(said),
        "names_not_asked": names_not_asked(said),
        "not_known": said.preview.counts[Effect.UNKNOWN],
    }


def _csv(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    writer = csv.writer(Echo())
    lines: list[str] = []
    for row in rows:
        lines.append(writer.writerow(row))
        if len(lines) == CHUNK:
            yield "".join(lines)
            lines = []
    yield "".join(lines)


def _json_lines(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    next(rows)  # the headings, which are words
    for row in rows:
        yield json.dumps(dict(zip(KEYS, row, strict=True))) + "\n"
