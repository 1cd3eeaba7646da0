"""What a person keeps of the history for themselves: saved views, and how far they have looked."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from enrollments.actions.history_views import (
    MOST_VIEWS,
    delete_view,
    mark_seen,
    own_view,
    rename_view,
    save_view,
    views_of,
)
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import person, requires, requires_everywhere
from enrollments.portal.confirmation import show_invalid
from enrollments.portal.forms_history import HistoryFilter, RenameViewForm, SaveViewForm
from enrollments.portal.history_pages import Place, place_of


@require_safe
@requires(Right.SEE)
def history_views(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _views(request, place_of(service))


@require_safe
@requires_everywhere(Right.SEE)
def installation_history_views(request: HttpRequest) -> HttpResponse:
    return _views(request, place_of(None))


@require_POST
@requires(Right.SEE)
def history_view_save(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _save(request, place_of(service))


@require_POST
@requires_everywhere(Right.SEE)
def installation_history_view_save(request: HttpRequest) -> HttpResponse:
    return _save(request, place_of(None))


@require_POST
@requires(Right.SEE)
def history_view_rename(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _rename(request, place_of(service))


@require_POST
@requires_everywhere(Right.SEE)
def installation_history_view_rename(request: HttpRequest) -> HttpResponse:
    return _rename(request, place_of(None))


@require_POST
@requires(Right.SEE)
def history_view_delete(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _delete(request, place_of(service))


@require_POST
@requires_everywhere(Right.SEE)
def installation_history_view_delete(request: HttpRequest) -> HttpResponse:
    return _delete(request, place_of(None))


@require_POST
@requires(Right.SEE)
def history_seen(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _seen(request, place_of(service))


@require_POST
@requires_everywhere(Right.SEE)
def installation_history_seen(request: HttpRequest) -> HttpResponse:
    return _seen(request, place_of(None))


def _views(
    request: HttpRequest,
    place: Place,
    *,
    save_form: SaveViewForm | None = None,
    rename_form: RenameViewForm | None = None,
    renamed: int | None = None,
    status: int = 200,
) -> HttpResponse:
    """One's own saved views, each to be renamed and deleted. What was refused stands there as it was typed."""
    prefix, names = _addresses(place.service)
    context = {
        "service": place.service,
        "place": place,
        "save_form": save_form,
        "save_url": reverse(f"{prefix}-view-save", kwargs=names),
        "views": [
            {
                "view": one,
                "url": f"{place.url}?{one.query}",
                "form": rename_form if one.pk == renamed else None,
            }
            for one in views_of(person(request), place.service)
        ],
        "most": MOST_VIEWS,
        "rename_url": reverse(f"{prefix}-view-rename", kwargs=names),
        "delete_url": reverse(f"{prefix}-view-delete", kwargs=names),
    }
    return render(request, "portal/history/views.html", context, status=status)


def _save(request: HttpRequest, place: Place) -> HttpResponse:
    """Only what the filter itself reads is kept, and only if it can read all of it."""
    form = SaveViewForm(request.POST)
    if not form.is_valid():
        return _views(request, place, save_form=form, status=422)
    names = None if place.service else ProvisioningService.objects.values_list("name", flat=True)
    filter = HistoryFilter(QueryDict(form.cleaned_data["query"]), services=names)
    if not filter.is_valid():
        form.add_error(None, "This filter cannot be read, so it is not kept. Filter again, then save.")
        return _views(request, place, save_form=form, status=422)
    try:
        view, former = save_view(person(request), place.service, form.cleaned_data["name"], filter.query)
    except Invalid as problem:
        show_invalid(form, problem)
        return _views(request, place, save_form=form, status=422)
    except Conflict as problem:
        form.add_error(None, problem.message)
        return _views(request, place, save_form=form, status=409)
    said = f"The view {view} is saved, for you alone."
    if former and former != view.query:
        said = f"The view {view} has this filter now. Before, it had {former}"
    messages.success(request, said)
    return redirect(f"{place.url}?{view.query}")


def _rename(request: HttpRequest, place: Place) -> HttpResponse:
    form, number = RenameViewForm(request.POST), _number(request, "view")
    try:
        view = own_view(person(request), place.service, number)
        if form.is_valid():
            view = rename_view(person(request), place.service, number, form.cleaned_data["name"])
    except Invalid as problem:
        show_invalid(form, problem)
    except NotFound as problem:
        messages.error(request, problem.message)
        return _to_views(place)
    if not form.is_valid():
        return _views(request, place, rename_form=form, renamed=number, status=422)
    messages.success(request, f"The view is named {view} now.")
    return _to_views(place)


def _delete(request: HttpRequest, place: Place) -> HttpResponse:
    try:
        view = delete_view(person(request), place.service, _number(request, "view"))
    except NotFound as problem:
        messages.error(request, problem.message)
    else:
        messages.success(request, f"The view {view} is deleted. The history is as it was.")
    return _to_views(place)


def _seen(request: HttpRequest, place: Place) -> HttpResponse:
    try:
        mark_seen(person(request), place.service, _number(request, "index"))
    except Invalid as problem:
        messages.error(request, " ".join(problem.errors["index"]))
    else:
        messages.success(request, "Noted. What comes from now on is new to you.")
    return redirect(place.url)


def _number(request: HttpRequest, name: str) -> int:
    """What no row can have stands for what is no number."""
    text = request.POST.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


def _to_views(place: Place) -> HttpResponse:
    prefix, names = _addresses(place.service)
    return redirect(reverse(f"{prefix}-views", kwargs=names))


def _addresses(service: ProvisioningService | None) -> tuple[str, dict[str, str]]:
    if service:
        return "portal:history", {"service_name": service.name}
    return "portal:installation-history", {}
