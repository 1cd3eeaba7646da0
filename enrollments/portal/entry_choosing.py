"""Acts on the rows of a list that were ticked: several entries at once, all of them or none."""

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from enrollments.actions.deleting import delete_and_deny, preview_if_it_only_narrows
from enrollments.actions.preview import Act, Entry, carry_out
from enrollments.actions.schedule import settle_if_possible
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid, NotFound
from enrollments.models import ProvisioningService
from enrollments.portal.access import actor_of
from enrollments.portal.confirmation import ReasonForm, show_invalid
from enrollments.portal.entry_pages import (
    DONE,
    INDIVIDUALS,
    Asked,
    EntryPages,
    and_what_it_did,
    ask_before,
    done,
    go_to,
)
from enrollments.portal.entry_switching import answer_switches
from enrollments.portal.refused_acts import chosen_ids


def answer_chosen(
    request: HttpRequest, service: ProvisioningService, act: Act, pages: EntryPages
) -> HttpResponse:
    """An act on the rows that were ticked."""
    rows: QuerySet[Any]
    settle_if_possible(service)
    if pages is INDIVIDUALS:
        rows = service.individualenrollments.without_secrets().order_by("registration_key")
    else:
        rows = service.enrollmentgroups.without_secrets().order_by("group_key")
    chosen = set(chosen_ids(request))
    entries: list[Entry] = list(rows.filter(pk__in=chosen))
    back = pages.list_url(service, request.GET.get("back", ""))
    if not entries:
        what = DONE[act].lower()
        gone = (
            f"What you selected is gone already, so nothing was {what}: choose among the {pages.several} that "
            "are left."
        )
        none = f"Nothing was selected, so nothing was {what}: tick the {pages.several} first."
        messages.warning(request, gone if chosen else none)
        return go_to(request, back)
    missing = len(chosen) - len(entries)
    if act is Act.DELETE:
        return _answer_deleting(request, service, entries, pages, back=back, missing=missing)
    return answer_switches(request, service, act, entries, pages, back=back, missing=missing)


def _answer_deleting(
    request: HttpRequest,
    service: ProvisioningService,
    entries: Sequence[Entry],
    pages: EntryPages,
    *,
    back: str,
    missing: int,
) -> HttpResponse:
    """The question with its preview, and the deed. Where it lets nobody in, it is done whatever has changed since."""
    # Read first: whatever changes while the preview is worked out makes the answer void.
    epoch = ProvisioningService.epoch_of(service.pk)
    is_answer = request.method == "POST"
    form = ReasonForm(request.POST if is_answer else None)
    outdated = is_answer and request.POST.get("epoch") != str(epoch)
    note = ""
    narrowing = None
    if outdated and "keep_out" not in request.POST and form.is_valid():
        narrowing = preview_if_it_only_narrows(service, entries)
    if narrowing is not None:
        outdated, epoch = False, narrowing.epoch
    if is_answer and not outdated and form.is_valid():
        try:
            said, note = _delete(request, service, entries, pages, form.cleaned_data["reason"], epoch)
            said = and_what_it_did(said[:-1], narrowing) if narrowing is not None else said
        except Invalid as problem:
            show_invalid(form, problem)
        except (ChangedMeanwhile, NotFound):
            messages.warning(
                request, "Something was changed while you answered: nothing was deleted. Look again."
            )
            return go_to(request, request.get_full_path())
        except Conflict as problem:
            epoch, note = ProvisioningService.epoch_of(service.pk), problem.message
        else:
            if not note:
                return done(request, back, said)
            epoch, form = ProvisioningService.epoch_of(service.pk), ReasonForm()
    asked = Asked(Act.DELETE, entries, pages, back, outdated=outdated, note=note, missing=missing)
    return ask_before(request, service, asked, form, epoch)


def _delete(
    request: HttpRequest,
    service: ProvisioningService,
    entries: Sequence[Entry],
    pages: EntryPages,
    reason: str,
    epoch: int,
) -> tuple[str, str]:
    """What is to be said; and, where there is more to do than one request does, what is left."""
    actor, named = actor_of(request), pages.named(entries)
    if "keep_out" in request.POST:
        result = delete_and_deny(service, entries, actor=actor, reason=reason, expected_epoch=epoch)
        one = result.denied == 1
        devices = "1 device is" if one else f"{result.denied:,} devices are"
        how = "by an entry of its own" if one else "each by an entry of its own"
        if result.left:
            return "", (
                f"{devices} denied now {how}, and nothing is deleted yet: {result.left:,} are left. "
                "Answer once more to go on with them."
            )
        return f"Deleted {named}: {devices} kept out, {how}.", ""
    carry_out(service, Act.DELETE, entries, actor=actor, reason=reason, expected_epoch=epoch)
    return f"Deleted {named}.", ""
