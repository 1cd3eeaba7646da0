"""Saving the form of an entry: at once where access stays as it is, otherwise after a preview that was confirmed.

What may let somebody in rests on the very preview that was confirmed. What only shuts out is asked once and done then,
whatever has changed in the service since, and at once where its preview cannot be worked out (R16). Where somebody else
changed the entry meanwhile, that part of the form alone is done (see settled_conflict).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.utils.crypto import constant_time_compare, salted_hmac
from django_htmx.http import reswap, retarget, trigger_client_event

from enrollments.actions.certificates import parsed
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.entries import AlreadyEnrolled
from enrollments.actions.entry_specs import EntrySpec
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.preview import (
    CANNOT_BE_TOLD,
    BelowAnother,
    Effect,
    Entry,
    Limits,
    Preview,
    ToCome,
    below_others,
    coming_by,
    disabled_groups_above,
    kept_shut,
    ref_of,
    what_adding_did,
    what_changing_did,
    what_disabling_did,
)
from enrollments.actions.preview.proofs import lacking_proof
from enrollments.actions.preview.sent_along import preview_with_what_is_sent_along
from enrollments.actions.preview.words import named
from enrollments.actions.reach import Reach, drops_pins_only, reach_of
from enrollments.errors import Invalid, PreviewOutdated
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    Slot,
)
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal import typed_keys
from enrollments.portal.access import actor_of, requires
from enrollments.portal.confirmation import without_epoch
from enrollments.portal.entry_links import entry_url
from enrollments.portal.forms_entries import EntryForm
from enrollments.portal.forms_groups import GroupForm
from enrollments.portal.forms_individuals import IndividualForm
from enrollments.portal.htmx import wants_fragment
from enrollments.portal.preview_times import Later, in_utc
from enrollments.portal.previews import (
    Line,
    asks_for_everyone,
    comings_shown,
    effect_named,
    export,
    limits_asked,
    lines_of,
    page_of,
)

logger = logging.getLogger(__name__)
AnyForm = IndividualForm | GroupForm
# Adds or changes the entry that the form is about; the epoch is that of the preview that was confirmed.
Save = Callable[[int | None], Entry]


class Show(Protocol):
    """Answers with the form: with the question above it, or with what somebody else changed meanwhile."""

    def __call__(self, form: Any, *, question: "Question | None" = None, status: int = 0) -> HttpResponse: ...


class Done(Protocol):
    """Answers after saving. `preview`: what a change did that was not asked about; told where `is_told`."""

    def __call__(self, entry: Entry, *, preview: Preview | None, is_told: bool) -> HttpResponse: ...


@dataclass(frozen=True, slots=True)
class Question:
    """A preview to be confirmed. `mark`: what the confirmation carries. comings: who comes in later by it.

    sentence: what holds for devices that nobody knows yet. is_first: nothing that is known is touched but the device
    that is being enrolled itself.
    """

    title: str
    mark: str
    preview: Preview
    sentence: str
    below: BelowAnother | None
    is_first: bool
    outdated: bool
    address: str
    lines: list[Line] = field(default_factory=list)
    comings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def below_list(self) -> list[BelowAnother]:
        return [self.below] if self.below is not None else []


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
    else:
        return True
    return False


def form_status(form: EntryForm) -> int:
    """200 where nothing is wrong; 409 for what is enrolled elsewhere; else 422."""
    if not form.errors:
        return 200
    return 422 if form.in_the_way is None else 409


def answer_save(request: HttpRequest, form: AnyForm, save: Save, *, show: Show, after: Done) -> HttpResponse:
    """Save, or ask first. Raises ChangedMeanwhile where the entry is not what the form was made of."""
    service = form.service
    if not form.is_valid():
        return show(form)
    spec = form.spec()
    reach = reach_of(form.current, spec)
    narrows = reach is Reach.NARROWS
    former = _former(form, spec)
    entries: list[Entry] = []

    def save_at_once() -> HttpResponse:
        if not saved(form, lambda: entries.append(save(None))):
            return show(form)
        return _told(form, entries[0], reach, former, after)

    if reach is Reach.NONE:
        return save_at_once()
    epoch = ProvisioningService.epoch_of(service.pk)
    mark, given = mark_of(epoch, form, spec), request.POST.get("confirmed", "")
    if narrows and constant_time_compare(without_epoch(given), without_epoch(mark)):
        return save_at_once()
    if not narrows and constant_time_compare(given, mark):
        try:
            if not saved(form, lambda: entries.append(save(epoch))):
                return show(form)
        except PreviewOutdated:
            epoch = ProvisioningService.epoch_of(service.pk)
            mark = mark_of(epoch, form, spec)
        else:
            return after(entries[0], preview=None, is_told=False)
    outdated = bool(given) and given.partition("-")[0] != str(epoch)
    try:
        question = _question(request, form, save, mark, outdated=outdated)
    except CANNOT_BE_TOLD as problem:
        if not narrows:
            raise
        logger.warning("No preview in service %s: %s", service, problem)
        form.cannot_be_told = True
        return save_at_once()
    if question is None:
        return show(form)
    if former is not None and spec.enabled:
        question = replace(question, sentence="")  # whom it still admits is nobody new
    status = 409 if outdated else 200
    if not wants_fragment(request):
        return show(form, question=question, status=status)
    context = {"service": service, "question": question, "cancel_url": request.path}
    response = render(request, "portal/previews/_save_dialog.html", context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return reswap(retarget(response, "#dialog"), "innerHTML")


def show_errors(response: HttpResponse) -> HttpResponse:
    """The form is what counts: a dialog that was open above it closes."""
    return trigger_client_event(response, "dialog:close", {})


def mark_of(
    epoch: int,
    form: AnyForm,
    spec: EntrySpec,
    left: Mapping[Slot, str] | None = None,
    taken: Mapping[Slot, str] | None = None,
) -> str:
    """The epoch of a preview, and what it was of: as much of the form as access depends on.

    What is saved is what was looked at, also where the form was changed under the preview.
    left, taken: thumbprints of the certificates that were to be held and to be held no more, where they are others by
    now than the form tells.
    """
    if left is None:
        left = {slot: one.thumbprint_sha256 for slot, one in spec.certificates.items()}
    if taken is None:
        taken = {slot: one.thumbprint_sha256 for slot, one in form.held.items() if slot not in left}
    parts: list[object] = [
        form.service.pk,
        form.kind,
        form.current.pk if form.current is not None else None,
        spec.enabled,
        str(spec.mechanism),
        *(sorted((str(slot), one) for slot, one in some.items()) for some in (left, taken)),
        spec.primary_key,
        spec.secondary_key,
    ]
    if isinstance(spec, IndividualSpec):
        parts += [registration_key(spec.registration_id), spec.endorsement_key, spec.storage_root_key]
    if isinstance(spec, GroupSpec):
        helpers = sorted(one.thumbprint_sha256 for one in spec.helpers)
        parts += [registration_key(spec.group_id), helpers, spec.predecessor and spec.predecessor.pk]
    digest = salted_hmac("dpsportal.preview", repr(parts), algorithm="sha256").hexdigest()
    return f"{epoch}-{digest[:32]}"


def _former(form: AnyForm, spec: EntrySpec) -> IndividualSpec | None:
    """What an individual enrollment is that loses some of its certificates, where nothing else of access changes."""
    if (
        form.current is None
        or not isinstance(spec, IndividualSpec)
        or not drops_pins_only(form.current, spec)
    ):
        return None
    return replace(spec, certificates=form.held, enabled=form.current.enabled)


def _told(
    form: AnyForm, entry: Entry, reach: Reach, former: IndividualSpec | None, after: Done
) -> HttpResponse:
    if reach is Reach.NONE:
        return after(entry, preview=None, is_told=False)
    if form.current is None:
        return after(entry, preview=what_adding_did(form.service, entry), is_told=True)
    if former is not None and isinstance(entry, IndividualEnrollment):
        return after(entry, preview=what_changing_did(form.service, entry, former), is_told=True)
    return after(entry, preview=what_disabling_did(form.service, [entry]), is_told=True)


@dataclass(frozen=True, slots=True)
class _Rehearsed:
    """What a rehearsal of saving told. `sentence`: what the entry means for devices that nobody knows yet."""

    entry: EntryRef
    sentence: str
    below: BelowAnother | None
    preview: Preview
    coming: ToCome


def _rehearse(form: AnyForm, save: Save, limits: Limits | None = None) -> _Rehearsed | None:
    """None where the form has errors now, as if it had been saved."""
    made: list[tuple[EntryRef, str, BelowAnother | None]] = []
    told: list[ToCome] = []

    def change() -> list[Entry]:
        entry = save(None)
        below = below_others(form.service, [entry])[0] if isinstance(entry, EnrollmentGroup) else None
        made.append((ref_of(entry), _of_the_unknown(entry, below), below))
        return [entry] if form.current is None else []

    def rehearse() -> None:
        current: list[Entry] = [form.current] if form.current is not None else []

        def look(at: datetime | None = None) -> Preview:
            instead = kept_shut(form.service, current) if at is not None else None
            return preview_with_what_is_sent_along(
                form.service, change, current, at=at, instead_of=instead, limits=limits
            )

        told.append(coming_by(form.service, look(), look))

    return _Rehearsed(*made[0], told[0].now, told[0]) if saved(form, rehearse) else None


def _question(
    request: HttpRequest, form: AnyForm, save: Save, mark: str, *, outdated: bool
) -> Question | None:
    told = _rehearse(form, save)
    if told is None:
        return None
    preview = told.preview
    own = all(
        registration_key(one.registration_id) == registration_key(told.entry.name) for one in preview.devices
    )
    first = (
        form.current is None
        and preview.counts.keys() <= {Effect.COMES_IN}
        and own
        and not told.coming.comings
    )
    return Question(
        title=f"{'Add' if form.current is None else 'Save'} {told.entry}?",
        mark=mark,
        preview=preview,
        sentence=told.sentence,
        below=told.below,
        is_first=first and not preview.not_examined,
        outdated=outdated,
        address=f"{request.path}preview/",
        lines=lines_of(preview),
        comings=comings_shown(told.coming),
    )


_CREDENTIALS = {
    AttestationMechanism.X509: "one of its certificates",
    AttestationMechanism.SYMMETRIC_KEY: "one of its keys",
    AttestationMechanism.TPM: "its TPM",
}


def _of_the_unknown(entry: Entry, below: BelowAnother | None) -> str:
    """What the entry means for devices that have never been here."""
    if not entry.enabled:
        if entry.switches_at is None:
            return "The entry is disabled: it admits nobody."
        until = f"The entry is disabled until {in_utc(entry.switches_at)}: it admits nobody before."
        return " ".join([until, _of_the_unknown_once_enabled(entry, below, "from then on")]).strip()
    return _of_the_unknown_once_enabled(entry, below, "from now on")


def _of_the_unknown_once_enabled(entry: Entry, below: BelowAnother | None, since: str) -> str:
    if not isinstance(entry, EnrollmentGroup):
        above = named(list(disabled_groups_above(entry.service, [entry])))
        overrides = f", also below the disabled {above}: its own entry alone decides" if above else ""
        # Also where the device that is known by this name has shown something else, and is refused.
        credential = _CREDENTIALS[AttestationMechanism(entry.mechanism)]
        return (
            f"Whoever registers as {entry.registration_id} with {credential} is admitted {since}{overrides}."
        )
    if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        return f"Devices with a key derived from those of this group are admitted {since}."
    if below is not None and below.barred_by:
        return ""
    if lacking_proof(entry.service, [entry]):
        return (
            f"This service demands proof of possession, and there is none of {' and '.join(_cas(entry))}: the group "
            "admits nobody until there is."
        )
    return f"Devices below {' and '.join(_cas(entry))} that register {since} are admitted."


def _cas(group: EnrollmentGroup) -> list[str]:
    """The CAs of a group by the names that people know them by."""
    held = group.certificates.anchors().select_related("certificate").order_by("slot")
    names = (next(iter(parsed(one.certificate.pem).common_names), one.certificate.subject) for one in held)
    return list(dict.fromkeys(names))


# --- All devices of a preview of a form: the same form, posted to another address ----------------


def answer_preview(request: HttpRequest, form: AnyForm, save: Save) -> HttpResponseBase:
    """A page of the devices of one effect, or all of them as CSV."""
    with limits_asked(everyone=asks_for_everyone(request.POST)) as limits:
        told = _rehearse(form, save, limits) if form.is_valid() else None
    later = Later.named(request.GET)
    if told is None:
        sentences = " ".join(str(one) for errors in form.errors.values() for one in errors)
        message = f"Nothing can be previewed as long as the form has errors. {sentences}"
        return render(
            request, "portal/refused.html", {"message": message, "status": 422}, status=form_status(form)
        )
    preview = later.preview(told.coming) if later is not None else told.preview
    effect = effect_named(request.POST.get("effect", ""))
    what = f"{'add' if form.current is None else 'save'} {told.entry}"
    if "export" in request.POST:
        return _export(
            request, service_name=form.service.name, preview=preview, effect=effect, what=what, later=later
        )
    context = {
        "service": form.service,
        "title": f"Preview: {what}",
        "when": later.words if later else "",
        "sides": later.sides if later else None,
        "preview": preview,
        "lines": lines_of(preview, stays=later is not None and later.stays),
        "effect": effect,
        "page": page_of(form.service, preview, effect, request.POST),
        "kept": _kept(form),
    }
    return render(request, "portal/previews/of_form.html", context)


@requires(Right.EXPORT)
def _export(
    request: HttpRequest,
    service: ProvisioningService,
    preview: Preview,
    effect: Effect | None,
    what: str,
    later: Later | None,
) -> HttpResponseBase:
    return export(service, preview, effect, what, actor=actor_of(request), later=later)


# Of the page itself; and what never comes back in a page: typed keys do so sealed.
_NOT_KEPT = frozenset(
    {
        "csrfmiddlewaretoken",
        "effect",
        "after",
        "before",
        "export",
        "confirmed",
        typed_keys.FIELD,
        *typed_keys.NAMES,
    }
)


def _kept(form: AnyForm) -> list[tuple[str, str]]:
    """The form as hidden fields, with which other pages of its preview are asked for."""
    kept = []
    if token := form.sealed_keys:
        kept.append((typed_keys.FIELD, token))
    for name, values in form.data.lists():  # type: ignore[attr-defined]  # the forms take a QueryDict
        for value in values:
            if name == "webhook_url":  # which hub it chooses is no part of a preview
                value = value.partition("?")[0]
            if name not in _NOT_KEPT:
                kept.append((name, value))
    return kept
