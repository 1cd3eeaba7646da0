"""Setting the switches of entries, at once or for a time: the question with its preview, and the deed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from enrollments.actions.empty_entries import admits_nobody, holding_nothing
from enrollments.actions.preview import (
    Act,
    Entry,
    cancel,
    carry_out,
    ref_of,
    those_put_off,
    what_disabling_did,
)
from enrollments.actions.schedule import may_let_in_later, switches_now
from enrollments.errors import Conflict, Invalid, NotFound, PreviewOutdated
from enrollments.models import IndividualEnrollment, ProvisioningService
from enrollments.portal.access import actor_of
from enrollments.portal.confirmation import ReasonForm, epoch_of_the_question, show_invalid
from enrollments.portal.entry_links import entry_url
from enrollments.portal.entry_lists import SwitchShown, with_row_columns
from enrollments.portal.entry_pages import (
    SEEN,
    Asked,
    EntryPages,
    Kept,
    and_what_it_did,
    ask_before,
    done,
    go_to,
    row_answer,
)
from enrollments.portal.forms_schedule import AT, UNTIL, DisableForm, EnableForm, SwitchForm
from enrollments.portal.htmx import wants_fragment
from enrollments.portal.preview_times import Then, in_utc

# So many are named in a sentence.
MAX_NAMES = 20


def switch_context(service: ProvisioningService, entry: Entry) -> dict[str, object]:
    """What the page of an entry shows of its switch, and where it is set."""
    return {
        "switch": SwitchShown.of(entry, switches_now(service)),
        "disable_url": _act_url(service, entry, "disable"),
        "enable_url": _act_url(service, entry, "enable"),
        "drop_url": _act_url(service, entry, "cancel-schedule"),
    }


def _act_url(service: ProvisioningService, entry: Entry, act: str) -> str:
    prefix = "enrollment" if isinstance(entry, IndividualEnrollment) else "group"
    name = {"registration_id" if prefix == "enrollment" else "group_id": str(entry)}
    return f"{reverse(f'portal:{prefix}-{act}', kwargs={'service_name': service.name, **name})}?from=page"


def answer_switch(
    request: HttpRequest, service: ProvisioningService, act: Act, entry: Entry, pages: EntryPages
) -> HttpResponse:
    """Enable or disable one entry, asked on its page or in its row."""
    back, target = _back(request, service, entry, pages), _target(request, entry)
    return answer_switches(request, service, act, [entry], pages, back=back, target=target)


def answer_switches(
    request: HttpRequest,
    service: ProvisioningService,
    act: Act,
    entries: Sequence[Entry],
    pages: EntryPages,
    *,
    back: str,
    target: str = "",
    missing: int = 0,
) -> HttpResponse:
    """Enable or disable entries, all of them or none. By what only narrows access nobody is held up.

    target, missing: see Asked.
    """
    # Read first: whatever changes while the preview is worked out makes an answer void that may let somebody in.
    epoch = ProvisioningService.epoch_of(service.pk)
    as_of = switches_now(service)
    were_enabled = [one for one in entries if as_of.enabled(one)]
    form = (DisableForm if act is Act.DISABLE else EnableForm).asked(request, entries)
    outdated = False
    looks = request.method == "POST" and "look" in request.POST
    if looks and form.is_valid() and not form.times:
        form.show(
            Invalid({"when": ["Choose one with a time: until further notice, nothing happens by itself."]})
        )
    answers = request.method == "POST" and form.is_valid() and not looks
    unseen = answers and _is_unseen(request, form, act, entries)
    if unseen:
        outdated = epoch_of_the_question(request) != epoch
    elif answers:
        try:
            current = carry_out(
                service,
                act,
                entries,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                expected_epoch=epoch_of_the_question(request),
                **form.times,
            )
        except PreviewOutdated:
            outdated = True
        except NotFound:
            return _is_gone(request, entries, pages, pages.list_url(service) if len(entries) == 1 else back)
        except (Invalid, Conflict) as problem:
            form.show(problem)
        else:
            said = _said(service, act, entries, current, pages, were_enabled, form.times)
            return _answer(request, service, current, pages, said, back=back, target=target)
    asked = Asked(
        act,
        entries,
        pages,
        back,
        also="" if len(entries) == 1 else _also_of(act, entries, were_enabled),
        target=target,
        outdated=outdated,
        unseen=unseen and not outdated,
        looks=True,
        looked=looks or unseen,
        missing=missing,
    )
    ends = isinstance(form, DisableForm) and not were_enabled
    if isinstance(form, DisableForm) and ends:
        form.is_about_an_end(entries)
        asked = _about_an_end(asked)
    then = Then(**form.times_to_look_at)
    if not then.is_what_is_scheduled:
        asked_then = replace(asked, put_off=those_put_off(act, entries, **form.times_to_look_at))
        try:
            return ask_before(request, service, _with_time(asked_then, then, ends=ends), form, epoch)
        except (Invalid, Conflict) as problem:
            form.show_once(problem)
    elif act is Act.ENABLE:
        asked = replace(asked, kept=_kept(service, were_enabled))
    return ask_before(request, service, asked, form, epoch)


def _kept(service: ProvisioningService, were_enabled: Sequence[Entry]) -> list[Kept]:
    """Those that are enabled already, and to be disabled: enabling them leaves that as it is."""
    scheduled = [one for one in were_enabled if one.switches_at is not None]
    return [Kept(str(one), one.switches_at, _act_url(service, one, "cancel-schedule")) for one in scheduled]


def _is_unseen(request: HttpRequest, form: SwitchForm, act: Act, entries: Sequence[Entry]) -> bool:
    """Whether somebody may come in, or stay in, by the time that was chosen, and its preview was not shown."""
    if not form.times:
        return False
    if act is Act.ENABLE:
        widens = bool(those_put_off(act, entries, **form.times))
    else:
        widens = any(may_let_in_later(one, **form.times) for one in entries)
    if not widens:
        return False
    return request.POST.get(SEEN, "") != Then(**form.times).as_text


def _about_an_end(asked: Asked) -> Asked:
    """All are disabled: what is asked is until when."""
    they_are = _they_are(asked.entries)
    return replace(
        asked,
        of=Act.ENABLE,
        title=f"Set when {asked.pages.named(asked.entries)} {_is(asked.entries)} enabled again?",
        also="",
        before_preview=f"{they_are.capitalize()} disabled. When {they_are} enabled again at the time below, as things "
        "stand now:",
        yes="Set",
        nothing_done="nothing was set",
    )


def _also_of(act: Act, entries: Sequence[Entry], were_enabled: Sequence[Entry]) -> str:
    """Of several entries: those that stand already as is asked, and what the choice of a time means for them."""
    already = [one for one in entries if (one in were_enabled) is (act is Act.ENABLE)]
    if not already:
        return ""
    names = ", ".join(map(str, already[:MAX_NAMES]))
    if more := len(already) - MAX_NAMES:
        names += f" and {more} more" if more > 0 else ""
    state, other = ("Enabled", "disabled") if act is Act.ENABLE else ("Disabled", "enabled")
    return f"{state} already: {names}. If you choose an end, {_they_are(already)} {other} then, too."


def _with_time(asked: Asked, then: Then, *, ends: bool) -> Asked:
    """The same question with what happens at the time that is chosen: besides what happens now, if anything does."""
    words = then.words(asked.act, asked.entries)
    if then.until is not None and not ends:
        return replace(asked, before_preview="From now on:", later=then)
    state = f"{_they_are(asked.entries).capitalize()} disabled. " if ends else ""
    return replace(asked, before_preview=f"{state}{words}", then=then)


def answer_cancel(
    request: HttpRequest, service: ProvisioningService, entry: Entry, pages: EntryPages
) -> HttpResponse:
    """Drop what is scheduled for the switch of an entry. Where it was to be disabled, devices stay in by that."""
    epoch = ProvisioningService.epoch_of(service.pk)
    back, target = _back(request, service, entry, pages), _target(request, entry)
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
            return _is_gone(request, [entry], pages, pages.list_url(service))
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            said = f"Nothing is scheduled for {pages.named([entry])} any more."
            return _answer(request, service, [current], pages, said, back=back, target=target)
    enabled = switches_now(service).enabled(entry)
    asked = Asked(
        Act.DISABLE if enabled else Act.ENABLE,
        [entry],
        pages,
        back,
        title=f"Drop what is scheduled for {pages.named([entry])}?",
        body=f"It stays {'enabled' if enabled else 'disabled'}, until somebody turns its switch.",
        before_preview=f"What is scheduled for {in_utc(entry.switches_at)} would do this then:"
        if entry.switches_at is not None
        else "",
        then=Then() if entry.switches_at is not None else None,
        yes="Drop it",
        target=target,
        outdated=outdated,
        nothing_done="nothing was dropped",
    )
    return ask_before(request, service, asked, form, epoch)


def _said(
    service: ProvisioningService,
    act: Act,
    before: Sequence[Entry],
    current: Sequence[Entry],
    pages: EntryPages,
    were_enabled: Sequence[Entry],
    times: dict[str, Any],
) -> str:
    """What was done, and what came of it, for the message and for screen readers."""
    named, until = pages.named(current), times.get(UNTIL)
    put_off = _said_put_off(pages, those_put_off(act, before, **times))
    if act is Act.ENABLE:
        if until is None:
            said_enabled = _said_enabled(pages, current, were_enabled)
        else:
            said_enabled = f"{_said_until(pages, current, until)}{put_off}"
        return f"{said_enabled} {admits_nobody(holding_nothing(service, current))}".rstrip()
    if AT in times:
        open_ = [one for one in current if one.enabled]
        shut = [one for one in current if not one.enabled]
        said = [f"{_said_until(pages, open_, times[AT])}{put_off}"] if open_ else []
        said += [f"{_at_first(pages, shut)} {_is(shut)} disabled already."] if shut else []
        return " ".join(said)
    scheduled = any(one.switches_at is not None for one in (*before, *current))
    if not were_enabled and not scheduled:
        return f"{_at_first(pages, current)} {'was' if len(current) == 1 else 'were'} disabled already."
    said_done = f"Disabled {named}"
    if until is not None:
        said_done = f"{said_done} until {in_utc(until)}"
    if not were_enabled:
        return f"{said_done}." if until is not None else f"{said_done} until further notice."
    return and_what_it_did(said_done, what_disabling_did(service, were_enabled))


def _said_enabled(pages: EntryPages, current: Sequence[Entry], were_enabled: Sequence[Entry]) -> str:
    """Of those that were enabled already nothing is changed: they are told apart, with what stays scheduled."""
    turned = [one for one in current if one not in were_enabled]
    already = [one for one in current if one in were_enabled and one.switches_at is None]
    kept = [one for one in current if one in were_enabled and one.switches_at is not None]
    said = [f"Enabled {pages.named(turned)}."] if turned else []
    if already:
        said.append(f"{_at_first(pages, already)} {'was' if len(already) == 1 else 'were'} enabled already.")
    for one in kept[:MAX_NAMES]:
        when = f"is to be disabled at {in_utc(one.switches_at)} as before"
        said.append(
            f"{_at_first(pages, [one])} was enabled already, and {when}: drop what is scheduled to keep it enabled."
        )
    if more := len(kept[MAX_NAMES:]):
        said.append(f"The same holds for {more} more.")
    return " ".join(said)


def _said_put_off(pages: EntryPages, put_off: Sequence[Entry]) -> str:
    """put_off: as they were. To be said behind another sentence."""
    if not put_off:
        return ""
    at = in_utc(put_off[0].switches_at)
    return f" What was scheduled for {at} is put off{f' for {pages.named(put_off)}' if len(put_off) > 1 else ''}."


def _said_until(pages: EntryPages, entries: Sequence[Entry], at: datetime) -> str:
    said = f"{_at_first(pages, entries)} {_is(entries)} enabled until {in_utc(at)}"
    return f"{said}, when {_they_are(entries)} disabled."


def _is(entries: Sequence[Entry]) -> str:
    return "is" if len(entries) == 1 else "are"


def _they_are(entries: Sequence[Entry]) -> str:
    return "it is" if len(entries) == 1 else "they are"


def _at_first(pages: EntryPages, entries: Sequence[Entry]) -> str:
    """At the beginning of a sentence."""
    named = pages.named(entries)
    return f"{named[0].upper()}{named[1:]}"


def _is_from_its_page(request: HttpRequest) -> bool:
    """Whether it was asked on the page of the entry, where there is no row to be brought up to date."""
    return request.GET.get("from") == "page"


def _target(request: HttpRequest, entry: Entry) -> str:
    return "" if _is_from_its_page(request) else f"#entry-{entry.pk}"


def _back(request: HttpRequest, service: ProvisioningService, entry: Entry, pages: EntryPages) -> str:
    return entry_url(service, ref_of(entry)) if _is_from_its_page(request) else pages.list_url(service)


def _is_gone(request: HttpRequest, entries: Sequence[Entry], pages: EntryPages, back: str) -> HttpResponse:
    what = _at_first(pages, entries) if len(entries) == 1 else f"One of {pages.named(entries)}"
    messages.warning(request, f"{what} was deleted while you answered: nothing was done.")
    return go_to(request, back)


def _answer(
    request: HttpRequest,
    service: ProvisioningService,
    entries: Sequence[Entry],
    pages: EntryPages,
    said: str,
    *,
    back: str,
    target: str,
) -> HttpResponse:
    """To htmx the row of the entry as it then is, where it was asked in a row."""
    if not target or not wants_fragment(request):
        return done(request, back, said)
    (entry,) = entries
    current: Entry
    if isinstance(entry, IndividualEnrollment):
        current = with_row_columns(service.individualenrollments.all()).get(pk=entry.pk)
    else:
        current = with_row_columns(service.enrollmentgroups.all()).get(pk=entry.pk)
    return row_answer(request, service, current, pages.row_template, said)
