"""Forms of what somebody else has changed meanwhile: what is said, and what is done all the same."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, cast

from django import forms
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from enrollments.actions.enrollments import drop_certificates
from enrollments.actions.preview import Act, Entry, turn, what_changing_did, what_disabling_did
from enrollments.errors import ChangedMeanwhile
from enrollments.models import AttestationMechanism, ProvisioningService, Slot
from enrollments.portal.access import actor_of
from enrollments.portal.confirmation import without_epoch
from enrollments.portal.entry_pages import EntryPages, and_what_it_did
from enrollments.portal.entry_saving import AnyForm, mark_of
from enrollments.portal.forms_entries import TwinField
from enrollments.portal.forms_individuals import IndividualForm
from enrollments.portal.forms_opened import OpenedForm


def settled_conflict(
    request: HttpRequest, form: AnyForm, current: Entry, pages: EntryPages, problem: ChangedMeanwhile
) -> str:
    """What stands above the form as it comes back. Whoever turned the switch off in it has turned it off (R16).

    So is a certificate gone that was taken away, and confirmed. By that nobody comes in, so it waits for nobody.
    Whatever else the form said rests on a state that has passed.
    """
    done = _done_all_the_same(request, form, current, pages)
    if not done:
        return f"{problem.message} Your changes were not saved."
    return (
        f"{done} Somebody else had changed it after you opened it, so nothing else of your changes was saved."
    )


def _done_all_the_same(request: HttpRequest, form: AnyForm, current: Entry, pages: EntryPages) -> str:
    service: ProvisioningService = form.service
    how: dict[str, Any] = {"actor": actor_of(request), "reason": form.cleaned_data["reason"]}
    if form.turns_off and current.enabled:
        entry = turn(service, Act.DISABLE, current, **how)
        return and_what_it_did(f"Disabled {pages.named([entry])}", what_disabling_did(service, [entry]))
    if not isinstance(form, IndividualForm) or not (taken := _taken_away(request, form)):
        return ""
    try:
        left = drop_certificates(service, str(current), taken, **how)
    except ChangedMeanwhile:
        return ""
    certificates = " and ".join(f"the {slot} certificate" for slot in taken)
    former = replace(form.spec(), certificates=form.held)
    return and_what_it_did(
        f"Removed {certificates} of {pages.named([left])}", what_changing_did(service, left, former)
    )


def _taken_away(request: HttpRequest, form: IndividualForm) -> dict[Slot, str]:
    """The certificates that the form takes away, by their thumbprints, if that was confirmed or nobody can be asked.

    Only where it was opened on an entry that was enabled, and leaves it so: a bar may be lifted by it otherwise.
    """
    spec, taken = form.spec(), form.taken_away
    if spec.mechanism != AttestationMechanism.X509 or not spec.enabled:
        return {}
    if form.cleaned_data["shown_enabled"] != "yes":
        return {}
    if form.cannot_be_told:
        return taken
    left = {slot: one for slot, one in form.shown.items() if slot not in taken}
    mark, given = mark_of(0, form, spec, left, taken), request.POST.get("confirmed", "")
    return taken if constant_time_compare(without_epoch(given), without_epoch(mark)) else {}


class Typed(NamedTuple):
    """What somebody had given for a field of a form, in words."""

    label: str
    text: str


def typed_otherwise(form: OpenedForm, fresh: OpenedForm, secrets: Collection[str]) -> list[Typed]:
    """The fields that say something else than the form as it comes back, to be taken over from here. No secrets.

    Without those that are as the form was opened with: in these it was somebody else who changed something.
    """
    found = []
    for name, field in form.fields.items():
        if name in secrets or field.widget.is_hidden or isinstance(field, forms.FileField):
            continue
        if name not in fresh.fields:  # the certificate that it would remove is gone
            continue
        typed, holds = (_in_words(field, one[name].value()) for one in (form, fresh))
        is_alike = isinstance(field, TwinField) and not field.has_changed(holds, typed)
        if typed != holds and not is_alike and not form.is_as_opened(name):
            found.append(Typed(str(form[name].label), typed))
    return found


def _in_words(field: forms.Field, value: object) -> str:
    if isinstance(field, forms.BooleanField):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(field, one) for one in value)
    text = "" if value is None else "\n".join(str(value).split("\r\n")).strip()
    if isinstance(field, forms.ChoiceField):
        choices = cast(Iterable[tuple[Any, Any]], field.choices)
        return next((str(label) for key, label in choices if str(key) == text), text)
    return text
