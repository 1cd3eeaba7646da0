"""Forms of what somebody else has changed meanwhile: what is said, and what is done all the same."""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, cast

from django import forms
from django.http import HttpRequest

from enrollments.actions.preview import Act, Entry, turn, what_disabling_did
from enrollments.errors import ChangedMeanwhile
from enrollments.models import ProvisioningService
from enrollments.portal.access import actor_of
from enrollments.portal.entry_pages import EntryPages, and_what_it_did
from enrollments.portal.entry_saving import AnyForm
from enrollments.portal.forms_entries import TwinField
from enrollments.portal.forms_opened import OpenedForm


def settled_conflict(
    request: HttpRequest, form: AnyForm, current: Entry, pages: EntryPages, problem: ChangedMeanwhile
) -> str:
    """What stands above the form as it comes back. Whoever turned the switch off in it has turned it off (R16).

    By that nobody comes in, so it waits for nobody. Whatever else the form said rests on a state that has passed.
    """
    service: ProvisioningService = form.service
    if not form.turns_off or not current.enabled:
        return f"{problem.message} Your changes were not saved."
    reason = form.cleaned_data["reason"]
    entry = turn(service, Act.DISABLE, current, actor=actor_of(request), reason=reason)
    disabled = and_what_it_did(f"Disabled {pages.named([entry])}", what_disabling_did(service, [entry]))
    return f"{disabled} Somebody else had changed it after you opened it, so nothing else of your changes was saved."


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
