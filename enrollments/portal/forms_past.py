"""What can be asked about the past."""

from datetime import UTC, datetime
from typing import Any, cast

from django.forms import DateTimeInput
from django.http import QueryDict

from enrollments.errors import Invalid
from enrollments.portal.forms_filters import MOMENT_FORMATS, FilterForm, Moment, search_field

_FINER = ["%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f"]


class PastMoment(Moment):
    """A moment that may be told to the microsecond, as the history has it: much can happen within a minute."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.input_formats = [*MOMENT_FORMATS, *_FINER]
        self.widget.attrs["step"] = "0.001"

    def show_as_text(self) -> None:
        """Browsers have no calendar for a time that is finer than a millisecond, and would leave the field empty."""
        del self.widget.attrs["step"]
        cast(DateTimeInput, self.widget).input_type = "text"


class PastForm(FilterForm):
    """It lives in the address, so that it can be sent to somebody else."""

    at = PastMoment("At (UTC)")
    until = PastMoment("Compared with (UTC)")
    registration_id = search_field("Registration ID")

    def __init__(self, query: QueryDict) -> None:
        super().__init__(_without_zone(query))
        for name in ("at", "until"):
            if _is_finer_than_a_field(self.data.get(name, "")):
                cast(PastMoment, self.fields[name]).show_as_text()
        self.fields["at"].required = "at" in query
        self.fields["at"].help_text = "A change made at exactly this time counts as made."
        self.fields["until"].help_text = "Empty: now."
        self.fields["registration_id"].help_text = "Empty: all devices of the service."
        self.fields["at"].error_messages["required"] = "Give the time that is asked about."

    def show(self, problem: Invalid) -> None:
        for field, sentences in problem.errors.items():
            for sentence in sentences:
                self.add_error(field if field in self.fields else None, sentence)

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or self.cleaned_data
        at, until = values.get("at"), values.get("until")
        if at and until and until < at:
            self.add_error("until", "This is before the time that is asked about.")
        return values


def in_address(at: datetime) -> str:
    """A time as links give it, exactly: what happened at it counts as made, and what happened just after does not."""
    utc = at.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond:06}".removesuffix("000")


def _is_finer_than_a_field(text: str) -> bool:
    digits = text.partition(".")[2]
    return digits.isdigit() and bool(digits[3:].strip("0"))


def _without_zone(query: QueryDict) -> QueryDict:
    """The same address, with times as ISO 8601 writes UTC taken for what fields have: that is UTC anyway."""
    data = query.copy()
    for name in {"at", "until"} & set(data):
        data[name] = str(data[name]).removesuffix("Z")
    return data
