"""What the pages of individual enrollments and of groups have in common: saving, asking, answering."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django_htmx.http import HttpResponseClientRedirect, reswap, retarget, trigger_client_event

from enrollments.actions.consequences import Consequences, Entry, consequences_of_deleting
from enrollments.actions.entries import AlreadyEnrolled
from enrollments.actions.schedule import switches_now
from enrollments.errors import ChangedMeanwhile, Invalid, NotFound
from enrollments.models import ProvisioningService
from enrollments.policy.facts import EntryRef
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.entry_links import entry_url, keys_url
from enrollments.portal.entry_lists import rows_of
from enrollments.portal.forms_entries import EntryForm
from enrollments.portal.htmx import render_page, wants_fragment


def show_keys(
    request: HttpRequest, service: ProvisioningService, entry: EntryRef, primary: str, secondary: str
) -> HttpResponse:
    context = {
        "service": service,
        "holder": entry.name,
        "holder_url": entry_url(service, entry),
        "keys_url": keys_url(service, entry),
        "primary": primary,
        "secondary": secondary,
    }
    return render_page(request, "portal/enrollments/keys.html", "portal/enrollments/_keys.html", context)


def go_to(request: HttpRequest, url: str) -> HttpResponse:
    """After something was done: a new page, for htmx as for everybody else."""
    return HttpResponseClientRedirect(url) if wants_fragment(request) else redirect(url)


def saved(form: EntryForm, save: Callable[[], Any]) -> bool:
    """Whether the action took it; otherwise the form says why not, with a link to what is in the way."""
    if not form.is_valid():
        return False
    try:
        save()
    except Invalid as problem:
        form.show_invalid(problem)
    except AlreadyEnrolled as problem:
        form.show_taken(problem, entry_url(form.service, problem.entry))
        form.is_conflict = True
    else:
        return True
    return False


def form_status(form: EntryForm) -> int:
    """200 where nothing is wrong; 409 for what is enrolled elsewhere; else 422."""
    if not form.errors:
        return 200
    return 409 if form.is_conflict else 422


def row_answer(
    request: HttpRequest, service: ProvisioningService, entry: Entry, template: str, said: str
) -> HttpResponse:
    """The row as the database has it now, after a write; the dialog closes, and what was done is read out."""
    (row,) = rows_of(service, [entry], switches_now(service))
    response = render(request, template, {"row": row, "service": service, "is_answer": True})
    trigger_client_event(response, "dialog:close", {})
    trigger_client_event(response, "announce", {"value": said})
    patch_vary_headers(response, ["HX-Request"])
    return response


def done(request: HttpRequest, url: str, said: str) -> HttpResponse:
    messages.success(request, said)
    return go_to(request, url)


def is_from_its_page(request: HttpRequest) -> bool:
    """Whether it was asked on the page of the entry, where there is no row to be brought up to date."""
    return request.GET.get("from") == "page"


def ask_to_switch(
    request: HttpRequest,
    form: ReasonForm,
    *,
    entry: Entry,
    title: str,
    body: str,
    cancel_url: str,
    yes: str,
    no: str = "Cancel",
    version: str = "",
) -> HttpResponse:
    """The question before the switch of an entry is set. The answer is its row, or the page that it was asked on."""
    target = {} if is_from_its_page(request) else {"target": f"#entry-{entry.pk}"}
    response = ask(
        request,
        title=title,
        body=body,
        cancel_url=cancel_url,
        form=form,
        danger=False,
        yes=yes,
        hidden=(("version", version),) if version else (),
        extra={**target, "no": no},
    )
    if target and response.status_code == 422:
        retarget(response, "#dialog")
        reswap(response, "innerHTML")
    return response


def chosen_ids(request: HttpRequest) -> list[int]:
    """The rows that were ticked. What is no number was never ticked."""
    given = request.GET.getlist("entry")
    return [int(one) for one in given if one.isascii() and one.isdigit() and len(one) < 19]


def answer_deletion(
    request: HttpRequest,
    service: ProvisioningService,
    entries: Sequence[Entry],
    *,
    words: tuple[str, str],
    back: str,
    delete: Callable[[str, int], int],
) -> HttpResponse:
    """The question with its consequences, and the deed, if it was answered on the state that it told of."""
    one, several = words
    if not entries:
        gone = f"What you selected is gone already, so nothing was deleted: choose among the {several} that are left."
        none = f"Nothing was selected, so nothing was deleted: tick the {several} first."
        messages.warning(request, gone if chosen_ids(request) else none)
        return go_to(request, back)
    # Read first: whatever changes while the consequences are worked out makes the answer void.
    epoch = ProvisioningService.epoch_of(service.pk)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    outdated = request.method == "POST" and request.POST.get("epoch") != str(epoch)
    if request.method == "POST" and not outdated and form.is_valid():
        try:
            number = delete(form.cleaned_data["reason"], epoch)
        except Invalid as problem:
            show_invalid(form, problem)
        except (ChangedMeanwhile, NotFound):
            messages.warning(
                request, "Something was changed while you answered: nothing was deleted. Look again."
            )
            return go_to(request, request.get_full_path())
        else:
            what = f"{one} {entries[0]}" if number == 1 else f"{number} {several}"
            return done(request, back, f"Deleted {what}.")
    consequences: Consequences = consequences_of_deleting(service, entries)
    named = f"{one} {entries[0]}" if len(entries) == 1 else f"{len(entries)} {several}"
    response = ask(
        request,
        title=f"Delete {named}?",
        body="",
        body_template="portal/enrollments/_deletion.html",
        cancel_url=back,
        form=form,
        hidden=(("epoch", str(epoch)),),
        extra={
            "consequences": consequences,
            "names": [str(entry) for entry in entries],
            "outdated": outdated,
            "missing": len(set(chosen_ids(request))) - len(entries),
        },
    )
    if outdated:
        response.status_code = 409
    return response
