"""Filters of lists. They live in the address, so that what one sees can be sent to somebody else."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.utils.text import capfirst

from enrollments.models import AttemptOutcome, RegistrationStatus
from enrollments.policy.reasons import Reason

MOMENT_FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"]


def search_field(label: str, **options: Any) -> forms.CharField:
    return forms.CharField(
        label=label,
        required=False,
        max_length=200,
        widget=forms.TextInput(
            attrs={"type": "search", "autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
        **options,
    )


class FilterForm(forms.Form):
    """A filter that cannot be read is shown with its error, and nothing is listed: never more than asked for."""

    @property
    def chosen(self) -> dict[str, Any]:
        """What was filled in. Ask a valid form only."""
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}


class Moment(forms.DateTimeField):
    """A moment in UTC, which is what everything is written in."""

    def __init__(self, label: str) -> None:
        super().__init__(
            label=label,
            required=False,
            input_formats=MOMENT_FORMATS,
            widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        )

    def to_python(self, value: Any) -> datetime | None:
        moment = super().to_python(value)
        return moment.astimezone(UTC) if moment else None


def in_order(form: FilterForm, cleaned: dict[str, Any] | None) -> dict[str, Any]:
    """The values, with an error where the end of a time comes before its beginning."""
    values = cleaned or form.cleaned_data
    since, until = values.get("since"), values.get("until")
    if since and until and since > until:
        form.add_error("until", "This is before the beginning.")
    return values


class RegistrationFilter(FilterForm):
    q = search_field("Registration ID")
    status = forms.ChoiceField(
        label="Status", required=False, choices=[("", "Any"), *RegistrationStatus.choices]
    )
    entry = forms.CharField(required=False, max_length=200, widget=forms.HiddenInput)


class AttemptFilter(FilterForm):
    q = search_field("Registration ID")
    outcome = forms.ChoiceField(
        label="Outcome", required=False, choices=[("", "Any"), *AttemptOutcome.choices]
    )
    reason = forms.ChoiceField(
        label="Why",
        required=False,
        choices=[
            ("", "Any reason"),
            *((one.value, capfirst(one.in_words)) for one in Reason),
        ],
    )
    entry = search_field("Deciding entry")
    address = search_field("From address")
    since = Moment("From (UTC)")
    until = Moment("Until (UTC)")
    tracking_id = search_field("Tracking ID")

    def clean(self) -> dict[str, Any]:
        return in_order(self, super().clean())


class DeviceFilter(FilterForm):
    q = search_field("Device ID")
