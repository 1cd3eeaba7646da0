"""Filters of lists. They live in the address, so that what one sees can be sent to somebody else."""

from datetime import UTC, datetime
from typing import Any

from django import forms

from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.models import AttemptOutcome, RegistrationStatus

SHUTS_OUT = "shuts-out"
_MOMENT_FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"]


def _search(label: str, **options: Any) -> forms.CharField:
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


class RegistrationFilter(FilterForm):
    q = _search("Registration ID")
    status = forms.ChoiceField(
        label="Status", required=False, choices=[("", "Any"), *RegistrationStatus.choices]
    )
    entry = forms.CharField(required=False, max_length=200, widget=forms.HiddenInput)


class AttemptFilter(FilterForm):
    q = _search("Registration ID")
    outcome = forms.ChoiceField(
        label="Outcome", required=False, choices=[("", "Any"), *AttemptOutcome.choices]
    )
    tracking_id = _search("Tracking ID")


class DeviceFilter(FilterForm):
    q = _search("Device ID")


class Moment(forms.DateTimeField):
    """A moment in UTC, which is what the history is written in."""

    def __init__(self, label: str) -> None:
        super().__init__(
            label=label,
            required=False,
            input_formats=_MOMENT_FORMATS,
            widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        )

    def to_python(self, value: Any) -> datetime | None:
        moment = super().to_python(value)
        return moment.astimezone(UTC) if moment else None


class HistoryFilter(FilterForm):
    since = Moment("From (UTC)")
    until = Moment("Until (UTC)")
    event = forms.ChoiceField(
        label="What",
        required=False,
        choices=[
            ("", "Anything"),
            (SHUTS_OUT, "What shuts out"),
            *((event.value, event.in_words.capitalize()) for event in Event),
        ],
    )
    actor = _search("Who")
    way = forms.ChoiceField(
        label="By", required=False, choices=[("", "Any way"), *((way.value, str(way)) for way in Way)]
    )
    subject = _search("To what")
    reason = _search("Reason")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        since, until = values.get("since"), values.get("until")
        if since and until and since > until:
            self.add_error("until", "This is before the beginning.")
        return values
