"""Setting the switch of one entry, at once or for a time: the question with its preview, and the deed."""

from dataclasses import replace
from datetime import datetime

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from enrollments.actions.preview import Act, Entry, cancel, ref_of, turn, what_disabling_did
from enrollments.actions.schedule import switches_now
from enrollments.errors import Conflict, Invalid, NotFound, PreviewOutdated
from enrollments.models import IndividualEnrollment, ProvisioningService
from enrollments.portal.access import actor_of
from enrollments.portal.confirmation import ReasonForm, epoch_of_the_question, show_invalid
from enrollments.portal.entry_links import entry_url
from enrollments.portal.entry_lists import SwitchShown, with_row_columns
from enrollments.portal.entry_pages import (
    Asked,
    EntryPages,
    and_what_it_did,
    ask_before,
    done,
    go_to,
    row_answer,
)
from enrollments.portal.forms_schedule import AT, DisableForm, EnableForm
from enrollments.portal.htmx import wants_fragment
from enrollments.portal.preview_times import Then, in_utc


def switch_context(service: ProvisioningService, entry: Entry) -> dict[str, object]:
    """What the page of an entry shows of its switch, and where it is set."""
    prefix = "enrollment" if isinstance(entry, IndividualEnrollment) else "group"
    name = {"registration_id" if prefix == "enrollment" else "group_id": str(entry)}

    def url(act: str) -> str:
        address = reverse(f"portal:{prefix}-{act}", kwargs={"service_name": service.name, **name})
        return f"{address}?from=page"

    return {
        "switch": SwitchShown.of(entry, switches_now(service)),
        "disable_url": url("disable"),
        "enable_url": url("enable"),
        "drop_url": url("cancel-schedule"),
    }


def answer_switch(
    request: HttpRequest, service: ProvisioningService, act: Act, entry: Entry, pages: EntryPages
) -> HttpResponse:
    """Enable or disable one entry. By what only narrows access nobody is held up, whatever has changed since."""
    # Read first: whatever changes while the preview is worked out makes an answer void that may let somebody in.
    epoch = ProvisioningService.epoch_of(service.pk)
    was_enabled = switches_now(service).enabled(entry)
    form = (DisableForm if act is Act.DISABLE else EnableForm).asked(request, entry)
    outdated = False
    looks = request.method == "POST" and "look" in request.POST
    if request.method == "POST" and form.is_valid() and not looks:
        try:
            current = turn(
                service,
                act,
                entry,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                expected_epoch=epoch_of_the_question(request),
                **form.times,
            )
        except PreviewOutdated:
            outdated = True
        except NotFound:
            return _is_gone(request, service, entry, pages)
        except (Invalid, Conflict) as problem:
            form.show(problem)
        else:
            said = _said(service, entry, current, pages, was_enabled=was_enabled, form_times=form.times)
            return _answer(request, service, current, pages, said)
    ends = False
    if isinstance(form, DisableForm) and not was_enabled:
        ends = True
        form.is_about_its_end()
    asked = Asked(
        act,
        [entry],
        pages,
        _back(request, service, entry, pages),
        of=Act.ENABLE if ends else None,
        title=f"Set when {pages.named([entry])} is enabled again?" if ends else "",
        before_preview="It is disabled. When it is enabled again at the time below, as things stand now:"
        if ends
        else "",
        yes="Set" if ends else "",
        target=_target(request, entry),
        outdated=outdated,
        nothing_done="nothing was set" if ends else "",
        looks=True,
    )
    then = Then(**form.times_to_look_at)
    if then != Then():
        try:
            return ask_before(request, service, _with_time(asked, then, ends=ends), form, epoch)
        except (Invalid, Conflict) as problem:
            form.show_once(problem)
    return ask_before(request, service, asked, form, epoch)


def _with_time(asked: Asked, then: Then, *, ends: bool) -> Asked:
    """The same question with what happens at the time that is chosen: besides what happens now, if anything does."""
    words = then.words(asked.act, asked.entries[0])
    if then.until is not None and not ends:
        return replace(asked, before_preview="From now on:", later=then)
    return replace(asked, before_preview=f"It is disabled. {words}" if ends else words, then=then)


def answer_cancel(
    request: HttpRequest, service: ProvisioningService, entry: Entry, pages: EntryPages
) -> HttpResponse:
    """Drop what is scheduled for the switch of an entry. Where it was to be disabled, devices stay in by that."""
    epoch = ProvisioningService.epoch_of(service.pk)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    outdated = False
    if request.method == "POST" and form.is_valid():
        try:
            current = cancel(
                service,
                entry,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                expected_epoch=epoch_of_the_question(request),
            )
        except PreviewOutdated:
            outdated = True
        except NotFound:
            return _is_gone(request, service, entry, pages)
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            said = f"Nothing is scheduled for {pages.named([entry])} any more."
            return _answer(request, service, current, pages, said)
    enabled = switches_now(service).enabled(entry)
    asked = Asked(
        Act.DISABLE if enabled else Act.ENABLE,
        [entry],
        pages,
        _back(request, service, entry, pages),
        title=f"Drop what is scheduled for {pages.named([entry])}?",
        body=f"It stays {'enabled' if enabled else 'disabled'}, until somebody turns its switch.",
        before_preview=f"What is scheduled for {in_utc(entry.switches_at)} would do this then:"
        if entry.switches_at is not None
        else "",
        then=Then() if entry.switches_at is not None else None,
        yes="Drop it",
        target=_target(request, entry),
        outdated=outdated,
        nothing_done="nothing was dropped",
    )
    return ask_before(request, service, asked, form, epoch)


def _said(
    service: ProvisioningService,
    before: Entry,
    current: Entry,
    pages: EntryPages,
    *,
    was_enabled: bool,
    form_times: dict[str, datetime],
) -> str:
    """What was done, and what came of it, for the message and for screen readers."""
    named = pages.named([current])
    at_first = f"{named[0].upper()}{named[1:]}"
    if current.enabled:
        if current.switches_at is None:
            return f"Enabled {named}."
        return f"{at_first} is enabled until {in_utc(current.switches_at)}, when it is disabled."
    if AT in form_times:
        return f"{at_first} is disabled already."
    if not was_enabled and current.switches_at is None and before.switches_at is None:
        return f"{at_first} was disabled already."
    said = f"Disabled {named}"
    if current.switches_at is not None:
        said = f"{said} until {in_utc(current.switches_at)}"
    elif not was_enabled:
        said = f"{said} until further notice"
    return and_what_it_did(said, what_disabling_did(service, [current])) if was_enabled else f"{said}."


def _is_from_its_page(request: HttpRequest) -> bool:
    """Whether it was asked on the page of the entry, where there is no row to be brought up to date."""
    return request.GET.get("from") == "page"


def _target(request: HttpRequest, entry: Entry) -> str:
    return "" if _is_from_its_page(request) else f"#entry-{entry.pk}"


def _back(request: HttpRequest, service: ProvisioningService, entry: Entry, pages: EntryPages) -> str:
    return entry_url(service, ref_of(entry)) if _is_from_its_page(request) else pages.list_url(service)


def _is_gone(
    request: HttpRequest, service: ProvisioningService, entry: Entry, pages: EntryPages
) -> HttpResponse:
    named = pages.named([entry])
    messages.warning(
        request, f"{named[0].upper()}{named[1:]} was deleted while you answered: nothing was done."
    )
    return go_to(request, pages.list_url(service))


def _answer(
    request: HttpRequest, service: ProvisioningService, entry: Entry, pages: EntryPages, said: str
) -> HttpResponse:
    """To htmx the row of the entry as it then is, where it was asked in a row."""
    if _is_from_its_page(request) or not wants_fragment(request):
        return done(request, _back(request, service, entry, pages), said)
    current: Entry
    if isinstance(entry, IndividualEnrollment):
        current = with_row_columns(service.individualenrollments.all()).get(pk=entry.pk)
    else:
        current = with_row_columns(service.enrollmentgroups.all()).get(pk=entry.pk)
    return row_answer(request, service, current, pages.row_template, said)
