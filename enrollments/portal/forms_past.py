"""What can be asked about the past."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import QueryDict

from enrollments.errors import Invalid
from enrollments.portal.forms_filters import MOMENT_FORMATS, FilterForm, Moment, search_field

_FINER = ["%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f"]
MILLISECOND = timedelta(milliseconds=1)


class PastMoment(Moment):
    """A moment that may be told to the millisecond: much can happen within a minute."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.input_formats = [*MOMENT_FORMATS, *_FINER]
        self.widget.attrs["step"] = "0.001"


class PastForm(FilterForm):
    """It lives in the address, so that it can be sent to somebody else."""

    at = PastMoment("At (UTC)")
    until = PastMoment("Compared with (UTC)")
    registration_id = search_field("Registration ID")

    def __init__(self, query: QueryDict) -> None:
        super().__init__(_to_the_millisecond(query))
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
    """A time as links give it: rounded up to the millisecond, so that what happened at it counts as made.

    Browsers do not show a finer one in a field.
    """
    utc = at.astimezone(UTC)
    rest = utc.microsecond % 1000
    utc = utc + MILLISECOND - timedelta(microseconds=rest) if rest else utc
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03}"


def _to_the_millisecond(query: QueryDict) -> QueryDict:
    """The same address, with times that are finer than a field can show rounded up."""
    data = query.copy()
    for name in ("at", "until"):
        text = data.get(name, "").removesuffix("Z")
        try:
            at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=UTC)
        except ValueError:
            if name in data:
                data[name] = text
            continue
        data[name] = in_address(at)
    return data
