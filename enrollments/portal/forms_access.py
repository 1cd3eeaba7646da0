"""Forms about access policies and API tokens. Translation only; the rules are in the actions."""

from collections.abc import Iterable
from typing import Any

from django import forms

from enrollments.actions.api_tokens import MAX_DAYS
from enrollments.audit.record import MAX_REASON
from enrollments.models import AccessPolicy
from enrollments.policy.access import AccessRight

_PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


def _choices(rights: Iterable[AccessRight]) -> list[tuple[str, str]]:
    return [(right.value, f"{right.value}: {right.in_words}") for right in rights]


class RightsForm(forms.Form):
    rights = forms.MultipleChoiceField(
        label="Rights",
        choices=_choices(AccessRight),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one right."},
    )

    @property
    def chosen(self) -> frozenset[AccessRight]:
        """Ask a valid form only."""
        return frozenset(map(AccessRight, self.cleaned_data["rights"]))


def _reason() -> forms.CharField:
    return forms.CharField(
        label="Reason",
        max_length=MAX_REASON,
        required=False,
        help_text="Kept in the history with the change.",
    )


class PolicyForm(RightsForm):
    name = forms.CharField(
        label="Name",
        max_length=64,
        help_text=str(AccessPolicy._meta.get_field("name").help_text),
        widget=forms.TextInput(attrs={**_PLAIN, "autofocus": True}),
    )
    reason = _reason()
    field_order = ("name", "rights", "reason")


class PolicyChangeForm(RightsForm):
    enabled = forms.BooleanField(
        label="Enabled",
        required=False,
        help_text="Disabled, its keys open nothing from the moment in which this is saved.",
    )
    reason = _reason()
    version = forms.CharField(max_length=80, widget=forms.HiddenInput)


class TokenForm(RightsForm):
    name = forms.CharField(
        label="Name",
        max_length=100,
        help_text="By which you will know it: where it is used, for one.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autofocus": True}),
    )
    days = forms.IntegerField(
        label="Days until it expires",
        min_value=1,
        max_value=MAX_DAYS,
        initial=90,
        help_text=f"1 to {MAX_DAYS}.",
    )
    field_order = ("name", "rights", "days")

    def __init__(self, *args: Any, within: frozenset[AccessRight], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [right for right in AccessRight if right in within]
        # Offered alone: what is chosen beyond them is refused by the action, and told in the history.
        self.fields["rights"].widget.choices = _choices(offered)
