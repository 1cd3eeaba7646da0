"""What the pages of individual enrollments and of groups have in common: asking, and answering."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django_htmx.http import HttpResponseClientRedirect, reswap, retarget, trigger_client_event

from enrollments.actions.empty_entries import admits_nobody, holding_nothing
from enrollments.actions.judging import group_ref, individual_ref
from enrollments.actions.preview import (
    CANNOT_BE_TOLD,
    NO_NAMES,
    Act,
    BelowAnother,
    Entry,
    Preview,
    ToCome,
    bars_to_come,
    below_others,
    disabled_groups_above,
    names_left_open,
    preview_of_act,
    preview_to_come,
    ref_of,
)
from enrollments.actions.preview.proofs import lacking_proof
from enrollments.actions.preview.words import did, named
from enrollments.actions.schedule import switches_now
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import may
from enrollments.portal.confirmation import ReasonForm, ask
from enrollments.portal.entry_links import entry_url, keys_url, list_url
from enrollments.portal.entry_lists import rows_of
from enrollments.portal.htmx import render_page, wants_fragment
from enrollments.portal.preview_times import Then, in_utc
from enrollments.portal.previews import (
    comings_shown,
    export_url,
    lines_of,
    of_everyone,
    preview_url,
    worth_telling,
)
from enrollments.portal.previews_lately import act_on, hand_over

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EntryPages:
    """Words and addresses of one kind of entry. `prefix`: what the names of its addresses begin with."""

    one: str
    several: str
    prefix: str
    row_template: str

    def list_url(self, service: ProvisioningService, query: str = "") -> str:
        return list_url(service, f"portal:{self.prefix}-list", query)

    def url(self, service: ProvisioningService, act: Act) -> str:
        """Where an act on chosen entries is asked about."""
        name = {
            Act.DELETE: f"portal:{self.prefix}-delete",
            Act.DISABLE: f"portal:{self.prefix}-disable-chosen",
            Act.ENABLE: f"portal:{self.prefix}-enable-chosen",
        }[act]
        return reverse(name, kwargs={"service_name": service.name})

    def named(self, entries: Sequence[Entry]) -> str:
        return f"{self.one} {entries[0]}" if len(entries) == 1 else f"{len(entries)} {self.several}"


INDIVIDUALS = EntryPages(
    "individual enrollment", "individual enrollments", "enrollment", "portal/enrollments/_row.html"
)
GROUPS = EntryPages("enrollment group", "enrollment groups", "group", "portal/groups/_row.html")

# In a question: of which time the preview is that was shown.
SEEN = "seen"
_UNSEEN = (
    "Somebody may come in by the time that you chose, so nothing was done yet. This is what happens then: answer once "
    "more."
)
DONE = {Act.DISABLE: "Disabled", Act.ENABLE: "Enabled", Act.DELETE: "Deleted"}


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


def done(request: HttpRequest, url: str, said: str) -> HttpResponse:
    messages.success(request, said)
    return go_to(request, url)


def after_adding(
    request: HttpRequest,
    service: ProvisioningService,
    entry: Entry,
    pages: EntryPages,
    preview: Preview | None,
    *,
    is_told: bool,
) -> HttpResponse:
    """To the list; or to the entry itself, where it has keys that somebody will want to see."""
    said = f"Added {pages.one} {entry}, {entry.status.label.lower()}"
    said = and_what_it_did(said, preview) if is_told else f"{said}."
    if entry.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return done(request, pages.list_url(service), said)
    ref = individual_ref(entry) if isinstance(entry, IndividualEnrollment) else group_ref(entry)
    if may(request, Right.REVEAL_KEYS, service):
        where = "Its keys can be shown below."
    else:
        where = "An administrator can show its keys on this page."
    return done(request, entry_url(service, ref), f"{said} {where}")


def after_saving(
    request: HttpRequest,
    service: ProvisioningService,
    seen_etag: str,
    entry: Entry,
    pages: EntryPages,
    preview: Preview | None,
    *,
    is_told: bool,
) -> HttpResponse:
    """To the list. `seen_etag`: of what the form showed, which is still that of an entry that it left as it was."""
    if entry.etag == seen_etag:
        said = f"{pages.one.capitalize()} {entry} was like this already; nothing was changed."
        return done(request, pages.list_url(service), said)
    said = f"Saved {pages.one} {entry}"
    said = and_what_it_did(said, preview) if is_told else f"{said}."
    return done(request, pages.list_url(service), said)


def and_what_it_did(said: str, preview: Preview | None) -> str:
    """What was done and what came of it, in one message."""
    result = did(preview)
    return f"{said}: {result}" if result[0].isdigit() else f"{said}. {result}"


def row_answer(
    request: HttpRequest, service: ProvisioningService, entry: Entry, template: str, said: str
) -> HttpResponse:
    """The row as the database has it now, after a write; the dialog closes, and what was done is said and read out."""
    (row,) = rows_of(service, [entry], switches_now(service))
    messages.success(request, said)
    response = render(request, template, {"row": row, "service": service, "is_answer": True})
    trigger_client_event(response, "dialog:close", {})
    trigger_client_event(response, "announce", {"value": said})
    patch_vary_headers(response, ["HX-Request"])
    return response


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry that is enabled until some time and stays so, and where that is dropped."""

    name: str
    at: datetime | None
    drop_url: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about entries, as it is shown. `back`: where Cancel leads without script.

    of: the act whose preview is shown, where that is another one; `before_preview` then says when it comes.
    title, body, yes: where they are not those of the act. also: a sentence about some of the entries.
    target: what the answer replaces on the page. missing: how many that were chosen are not there any more.
    then: the preview is of what the switches do at a time. later: the same, told besides what is now.
    put_off: those whose scheduled disabling comes later by it; of what it would do there is a preview besides.
    kept: those that are enabled already and stay so until a time, as it is scheduled, by a link to what drops that.
    unseen: it was answered, and lets somebody in at a time of which the preview was not shown before.
    looks: another time can be looked at. looked: it was asked for, so that is where reading goes on.
    """

    act: Act
    entries: Sequence[Entry]
    pages: EntryPages
    back: str
    of: Act | None = None
    title: str = ""
    body: str = ""
    also: str = ""
    before_preview: str = ""
    yes: str = ""
    target: str = ""
    outdated: bool = False
    unseen: bool = False
    note: str = ""
    nothing_done: str = ""
    then: Then | None = None
    later: Then | None = None
    put_off: Sequence[Entry] = ()
    kept: Sequence["Kept"] = ()
    looks: bool = False
    looked: bool = False
    missing: int = 0

    def preview(self, service: ProvisioningService, then: Then | None) -> Preview:
        act = self.shown(then)
        if then is None:
            preview = preview_of_act(service, act, self.entries)
        else:
            preview = then.preview(service, act, self.entries)
        hand_over(service, act_on(self.entries, act, then), preview)
        return preview

    def shown(self, then: Then | None) -> Act:
        """The act whose preview is shown."""
        return self.act if then else self.of or self.act

    @property
    def of_what_is_put_off(self) -> "Asked":
        return replace(self, act=Act.DISABLE, of=None, entries=self.put_off)

    @property
    def words_of_what_is_put_off(self) -> str:
        them = f" for {self.pages.named(self.put_off)}" if len(self.put_off) < len(self.entries) else ""
        what = f"What is scheduled{them} for {in_utc(self.put_off[0].switches_at)}"
        return f"{what} would do this then, and is put off:"


def ask_before(
    request: HttpRequest,
    service: ProvisioningService,
    asked: Asked,
    form: ReasonForm,
    epoch: int,
) -> HttpResponse:
    """The question with its preview, which is of this epoch."""
    act, entries, pages = asked.act, asked.entries, asked.pages
    seen = asked.then or asked.later
    shown = asked.of or act
    time = (asked.then.at or asked.then.until) if asked.then else None
    preview: Preview | None
    later: Preview | None
    put_off: Preview | None
    coming: ToCome | None = None
    below: list[BelowAnother] = []
    gone = [ref_of(one) for one in entries]
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    try:
        preview = asked.preview(service, asked.then)
        if asked.then is None:
            coming = preview_to_come(service, shown, entries, preview)
            preview = coming.now
            # The list is to say the same as the question, which has looked at the times to come.
            hand_over(service, act_on(entries, asked.shown(None), None), preview)
        later = asked.preview(service, asked.later) if asked.later else None
        put_off = asked.of_what_is_put_off.preview(service, Then()) if asked.put_off else None
        if shown is not Act.DISABLE:  # of which nothing that stands above is worth telling
            above = below_others(service, groups, gone if act is Act.DELETE else (), at=time)
            below = worth_telling(shown, above)
    except CANNOT_BE_TOLD as problem:
        if act.may_widen:
            raise
        logger.warning("No preview in service %s: %s", service, problem)
        preview = later = put_off = coming = None
    passing = coming.passing_to_others(gone) if coming is not None and act is Act.DELETE else []
    opened = [one for one in entries if isinstance(one, IndividualEnrollment)] if shown is Act.ENABLE else []
    unsure = preview is not None and (preview.not_examined > 0 or (coming is not None and coming.unsure))
    left_open = (
        names_left_open(service, preview, entries) if preview is not None and act is Act.DELETE else NO_NAMES
    )
    is_open = act is Act.DELETE and (
        bool(passing or left_open) or unsure or any(one.is_open or one.uncertain for one in below)
    )
    as_of = switches_now(service)
    enabled = [as_of.enabled(one) for one in entries]
    kept = [("back", request.GET["back"])] if "back" in request.GET else []
    chosen = urlencode([*(("entry", str(one.pk)) for one in entries), *kept])
    extra = {
        "target": asked.target,
        "service": service,
        "act": shown.value,
        "told": asked.body,
        "also": asked.also,
        "before_preview": asked.before_preview,
        "looked": asked.looked,
        "of_groups": pages is GROUPS,
        **_told(service, asked, preview, asked.then),
        "comings": comings_shown(
            coming, preview_url(service, shown, entries), export_url(service, shown, entries)
        ),
        "stays": any(one.stays for one in coming.comings) if coming is not None else False,
        "later": {"words": asked.later.words(act, entries), **_told(service, asked, later, asked.later)}
        if asked.later and later is not None
        else None,
        "put_off": {
            "words": asked.words_of_what_is_put_off,
            **_told(service, asked.of_what_is_put_off, put_off, Then()),
        }
        if put_off is not None
        else None,
        "kept": asked.kept,
        "in_dialog": wants_fragment(request),
        "below": below,
        "unproven": lacking_proof(service, groups) if act is Act.ENABLE else [],
        "overrides": named(list(disabled_groups_above(service, opened, at=time))) if opened else "",
        "empty": admits_nobody(holding_nothing(service, opened)),
        "passing": len(
            {
                *(registration_key(one.registration_id) for one in passing),
                *map(registration_key, left_open.names),
            }
        ),
        # Whoever was not looked at is, where devices are to be kept out.
        "unsure": unsure,
        "left_open": left_open,
        "barring": [ref for ref, on in zip(gone, enabled, strict=True) if not on],
        "to_bar": bars_to_come(entries) if act is Act.DELETE else [],
        "is_open": is_open,
        "instead": "Disable instead",
        "instead_url": f"{pages.url(service, Act.DISABLE)}?{chosen}" if is_open and any(enabled) else "",
        "names": [str(entry) for entry in entries],
        "has_certificates": any(one.mechanism == AttestationMechanism.X509 for one in entries),
        "has_group_keys": any(one.mechanism == AttestationMechanism.SYMMETRIC_KEY for one in groups),
        "outdated": asked.outdated,
        "note": asked.note or (_UNSEEN if asked.unseen else ""),
        "missing": asked.missing,
        "nothing_done": asked.nothing_done or f"nothing was {DONE[act].lower()}",
        "buttons_template": _buttons_of(asked),
    }
    response = ask(
        request,
        title=asked.title or f"{act.value.capitalize()} {pages.named(entries)}?",
        body="",
        body_template="portal/previews/_act.html",
        cancel_url=asked.back,
        form=form,
        danger=act is Act.DELETE,
        yes=asked.yes or act.value.capitalize(),
        hidden=(("epoch", str(epoch)), (SEEN, seen.as_text if seen is not None else "")),
        extra=extra,
    )
    if asked.outdated or asked.unseen:
        response.status_code = 409
    if response.status_code != 200:
        retarget(response, "#dialog")
        reswap(response, "innerHTML")
    return response


def _buttons_of(asked: Asked) -> str:
    """Other ways to answer."""
    if asked.act is Act.DELETE:
        return "portal/previews/_delete_buttons.html"
    return "portal/previews/_look_button.html" if asked.looks else ""


def _told(
    service: ProvisioningService, asked: Asked, preview: Preview | None, then: Then | None
) -> dict[str, Any]:
    """A preview with its lines and addresses, as templates show it."""
    act = asked.shown(then)
    address = preview_url(service, act, asked.entries, then)
    return {
        "preview": preview,
        "lines": lines_of(preview, address) if preview is not None else [],
        "all_url": address,
        "everyone_url": of_everyone(address),
        "export_url": export_url(service, act, asked.entries, then),
    }
