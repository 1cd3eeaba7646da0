"""A question before something is done: a page, or a dialog for htmx, and the form in which people say why."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from enrollments.audit.record import MAX_REASON
from enrollments.errors import Invalid
from enrollments.portal.htmx import wants_fragment


class ReasonForm(forms.Form):
    reason = forms.CharField(
        required=False,
        max_length=MAX_REASON,
        label="Reason",
        help_text="Kept in the history, for whoever asks later.",
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The dialog stands over pages whose own form asks for a reason, too: labels find their field by its ID.
        self.auto_id = "question_%s"


def ask(
    request: HttpRequest,
    *,
    title: str,
    yes: str,
    body: str,
    cancel_url: str,
    form: forms.Form | None = None,
    danger: bool = True,
    hidden: tuple[tuple[str, str], ...] = (),
    body_template: str = "",
    extra: dict[str, Any] | None = None,
) -> HttpResponse:
    """The question, answered by a post to the same address. A form with errors comes back with status 422.

    yes: the verb on the button beside *Cancel*.
    """
    in_dialog = wants_fragment(request)
    if form is not None and body_template and not in_dialog:
        # A page that opens at its last field has hidden what is to be read before.
        for field in form.fields.values():
            field.widget.attrs.pop("autofocus", None)
    template = "portal/_confirm_dialog.html" if in_dialog else "portal/confirm.html"
    context = {
        "title": title,
        "body": body,
        "body_template": body_template,
        "action": request.get_full_path(),
        "cancel_url": cancel_url,
        "form": form,
        "danger": danger,
        "yes": yes,
        "hidden": hidden,
        **(extra or {}),
    }
    response = render(request, template, context, status=422 if form is not None and form.errors else 200)
    patch_vary_headers(response, ["HX-Request"])
    return response


def show_invalid(form: forms.Form, problem: Invalid) -> None:
    """Put the sentences of an action beside their fields; those about the whole stand above the form."""
    for field, sentences in problem.errors.items():
        for sentence in sentences:
            form.add_error(field if field in form.fields else None, sentence)


def without_epoch(mark: str) -> str:
    """Of what a confirmation carries, the part that is no epoch: what only shuts out waits for none (R12)."""
    return mark.partition("-")[2]


def epoch_of_the_question(request: HttpRequest) -> int:
    """That of the preview which was answered. None was shown, or none that can be read: one that there never was."""
    given = request.POST.get("epoch", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else -1
