"""What an act on entries would do, to look at, to hand on by its address, and to take along (R17)."""

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from enrollments.actions.preview import (
    NO_NAMES,
    Act,
    Effect,
    Entry,
    Preview,
    below_others,
    coming_by,
    names_left_open,
    preview_of_act,
    preview_to_come,
    ref_of,
)
from enrollments.actions.schedule import switches_now
from enrollments.errors import Invalid, NotFound
from enrollments.models import EnrollmentGroup, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.entry_links import entry_url
from enrollments.portal.preview_changes import Change, change_named, in_question
from enrollments.portal.preview_times import Later, Then
from enrollments.portal.previews import (
    asks_for_everyone,
    effect_named,
    entries_named,
    export,
    export_url,
    in_words,
    limits_asked,
    lines_of,
    of_everyone,
    page_of,
    preview_url,
    worth_telling,
)
from enrollments.portal.previews_lately import act_on, change_of, lately


@require_safe
@requires(Right.SEE_HISTORY)
def preview(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    if (change := change_named(service, request.GET)) is not None:
        return _page_of_change(request, service, change)
    act, entries, then, effect = _asked(request, service)
    later = then if isinstance(then, Later) else None
    as_of = switches_now(service)
    everyone = asks_for_everyone(request.GET)
    told = _preview(service, act, entries, then, everyone=everyone)
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    gone = [ref_of(one) for one in entries] if act is Act.DELETE else []
    plain = preview_url(service, act, entries, then)
    address = of_everyone(plain) if everyone else plain
    page = page_of(service, told, effect, request.GET)
    here = f"{address}&effect={effect}" if effect else address
    export_address = export_url(service, act, entries, then)
    export_address = of_everyone(export_address) if everyone else export_address
    context = {
        "service": service,
        "title": f"Preview: {in_words(act, entries)}",
        "when": _when(then, act, entries),
        "sides": later.sides if later else None,
        "entries": [(ref_of(one), entry_url(service, ref_of(one)), as_of.enabled(one)) for one in entries],
        "preview": told,
        "lines": lines_of(told, address, stays=later is not None and later.stays),
        "effect": effect,
        "all_url": address,
        "everyone_url": of_everyone(plain),
        "acts": [
            {"label": one.value.capitalize(), "url": preview_url(service, one, entries), "active": one is act}
            for one in Act
        ],
        "below": worth_telling(act, below_others(service, groups, gone)) if then is None else [],
        "left_open": names_left_open(service, told, entries)
        if act is Act.DELETE and then is None
        else NO_NAMES,
        "is_gone": act is Act.DELETE,
        "act": act.value,
        "barring": [ref_of(one) for one in entries if not as_of.enabled(one)],
        "page": page,
        "previous_url": f"{here}&before={page.previous}" if page.previous else "",
        "next_url": f"{here}&after={page.next}" if page.next else "",
        "export_url": f"{export_address}&effect={effect}" if effect else export_address,
        "may_export": may(request, Right.EXPORT, service),
    }
    return render(request, "portal/previews/of_act.html", context)


@require_safe
@requires(Right.EXPORT)
def preview_export(request: HttpRequest, service: ProvisioningService) -> HttpResponseBase:
    if (change := change_named(service, request.GET)) is not None:
        effect = effect_named(request.GET.get("effect", ""))
        later = Later.named(request.GET)
        told = _preview_of_change(request, service, change, later)
        return export(service, told, effect, change.words, actor=actor_of(request), later=later)
    act, entries, then, effect = _asked(request, service)
    told = _preview(service, act, entries, then, everyone=asks_for_everyone(request.GET))
    what, later = in_words(act, entries), then if isinstance(then, Later) else None
    if isinstance(then, Then):
        what = f"{what}; {then.words(act, entries)[:-1]}"
    return export(service, told, effect, what, actor=actor_of(request), later=later)


def _when(then: Then | Later | None, act: Act, entries: list[Entry]) -> str:
    if isinstance(then, Later):
        return then.words
    return then.words(act, entries) if then is not None else ""


def _page_of_change(request: HttpRequest, service: ProvisioningService, change: Change) -> HttpResponse:
    effect = effect_named(request.GET.get("effect", ""))
    later = Later.named(request.GET)
    told = _preview_of_change(request, service, change, later)
    page = page_of(service, told, effect, request.GET)
    shown = in_question(service, change, told)
    urls = {name: shown[name] for name in ("all_url", "export_url")}
    if later is not None:
        urls = {name: f"{url}&{urlencode(later.query)}" for name, url in urls.items()}
    everyone_url = of_everyone(urls["all_url"])
    if asks_for_everyone(request.GET):
        urls = {name: of_everyone(url) for name, url in urls.items()}
    more = f"&effect={effect}" if effect else ""
    here = urls["all_url"] + more
    context = {
        **shown,
        "lines": lines_of(told, urls["all_url"], stays=later is not None and later.stays),
        "when": later.words if later else "",
        "sides": later.sides if later else None,
        "all_url": urls["all_url"],
        "everyone_url": everyone_url,
        "title": f"Preview: {change.words}",
        "about": change.about,
        "effect": effect,
        "page": page,
        "previous_url": f"{here}&before={page.previous}" if page.previous else "",
        "next_url": f"{here}&after={page.next}" if page.next else "",
        "export_url": urls["export_url"] + more,
        "may_export": may(request, Right.EXPORT, service),
    }
    return render(request, "portal/previews/of_change.html", context)


def _preview_of_change(
    request: HttpRequest, service: ProvisioningService, change: Change, later: Later | None
) -> Preview:
    everyone = asks_for_everyone(request.GET)

    def work_out() -> Preview:
        with limits_asked(everyone=everyone) as limits:
            now = change.preview(limits)
            if later is None:
                return now
            return later.preview(coming_by(service, now, lambda at: change.preview(limits, at)))

    return lately(service, change_of(change.query, later=later, everyone=everyone), work_out)


def _preview(
    service: ProvisioningService, act: Act, entries: list[Entry], then: Then | Later | None, *, everyone: bool
) -> Preview:
    def work_out() -> Preview:
        with limits_asked(everyone=everyone) as limits:
            if isinstance(then, Then):
                return then.preview(service, act, entries, limits=limits)
            now = preview_of_act(service, act, entries, limits=limits)
            if then is None:
                return now
            return then.preview(preview_to_come(service, act, entries, now, limits=limits))

    return lately(service, act_on(entries, act, then, everyone=everyone), work_out)


def _asked(
    request: HttpRequest, service: ProvisioningService
) -> tuple[Act, list[Entry], Then | Later | None, Effect | None]:
    """Raises Invalid for an address that says too little, NotFound where an entry is gone."""
    entries = entries_named(service, request.GET)
    if entries is None:
        raise NotFound("An entry of this preview is not there any more, so nothing can be said about it.")
    act = request.GET.get("act", "")
    if act not in set(Act) or not entries:
        raise Invalid({"": ["A preview is of an act on entries: open it from an entry, or from a question."]})
    then = Then.named(request.GET)
    if then is not None and act == Act.DELETE:
        raise Invalid({"": ["What turns by itself is a switch: a preview of deleting is of now."]})
    if (later := Later.named(request.GET)) is not None and then is not None:
        raise Invalid({"": ["A preview is of one time: leave out `later` or the other one."]})
    return Act(act), entries, later or then, effect_named(request.GET.get("effect", ""))
