"""The filter of the history, which lives in the address, and the name under which a person keeps one."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import QueryDict
from django.utils import timezone

from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.models.history_views import MAX_VIEW_NAME, MAX_VIEW_QUERY
from enrollments.portal.forms_filters import FilterForm, Moment, in_order, search_field
from enrollments.portal.history_words import SUBJECT_KINDS, label_of

SHUTS_OUT = "shuts-out"
# In the place of a moment: what came since the person looked last, and said so.
LAST = "last"
# In the place of a service's name: what belongs to none.
NO_SERVICE = "-"
PERIODS = {
    "1h": ("The last hour", timedelta(hours=1)),
    "24h": ("The last 24 hours", timedelta(hours=24)),
    "7d": ("The last 7 days", timedelta(days=7)),
    "30d": ("The last 30 days", timedelta(days=30)),
}


class Since(Moment):
    """A moment, or `last`."""

    def to_python(self, value: Any) -> Any:
        return LAST if value == LAST else super().to_python(value)


class HistoryFilter(FilterForm):
    """`services`: the names to choose from, for the history of the whole installation; None for that of one service.

    `fixed`: what a page about one object, person or device asks for anyway. It counts, and is not shown.
    """

    period = forms.ChoiceField(
        label="When",
        required=False,
        choices=[("", "Any time"), *((name, label) for name, (label, _) in PERIODS.items())],
    )
    event = forms.ChoiceField(
        label="What",
        required=False,
        choices=[
            ("", "Anything"),
            (SHUTS_OUT, "What shuts out"),
            *((event.value, label_of(event)) for event in Event),
        ],
    )
    actor = search_field("Who")
    subject = search_field("To what")
    kind = forms.ChoiceField(
        label="Kind of object",
        required=False,
        choices=[
            ("", "Any kind"),
            *((name, words[:1].upper() + words[1:]) for name, words in SUBJECT_KINDS.items()),
        ],
    )
    reason = search_field("Reason")
    service = forms.ChoiceField(label="Service", required=False)
    way = forms.ChoiceField(
        label="By", required=False, choices=[("", "Any way"), *((way.value, str(way)) for way in Way)]
    )
    since = Since("From (UTC)")
    until = Moment("Until (UTC)")
    device = search_field("Device")
    by_import = forms.IntegerField(
        label="Import (number)",
        required=False,
        min_value=1,
        max_value=10**18 - 1,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off", "inputmode": "numeric"}),
    )

    # The first row of the filter; the others are a click away, unless one of them is in use.
    FIRST = ("period", "event", "actor", "subject", "reason", "service")

    def __init__(
        self, data: QueryDict, *, services: Iterable[str] | None = None, fixed: dict[str, str] | None = None
    ) -> None:
        asked = data.copy()
        for name, value in (fixed or {}).items():
            asked[name] = value
        super().__init__(asked)
        if services is None:
            del self.fields["service"]
        else:
            self.fields["service"].choices = [  # type: ignore[attr-defined]  # it is a ChoiceField
                ("", "Any, and none"),
                (NO_SERVICE, "None: people, sign-ins"),
                *((name, name) for name in services),
            ]
            del self.fields["device"], self.fields["by_import"]
        self.fixed = {name: value for name, value in (fixed or {}).items() if name in self.fields}
        hidden = [*self.fixed, *(["device"] if "device" in self.fields else [])]
        if asked.get("since") == LAST:
            hidden.append("since")
        for name in hidden:
            self.fields[name].widget = forms.HiddenInput()

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        return values if values.get("since") == LAST else in_order(self, values)

    @property
    def asked(self) -> dict[str, str]:
        """What was filled in, as it stands in the address. Ask a valid form only."""
        return {name: self.data[name].strip() for name in self.fields if name in self.chosen}

    @property
    def query(self) -> str:
        return urlencode(self.asked)

    @property
    def is_filtered(self) -> bool:
        """Whether more is asked for than what the page is about."""
        return bool(self.errors or set(self.chosen) - set(self.fixed))

    @property
    def earliest(self) -> datetime | None:
        """The beginning that a period means now."""
        period = self.cleaned_data.get("period")
        return timezone.now() - PERIODS[period][1] if period else None

    @property
    def is_since_last(self) -> bool:
        return self.data.get("since") == LAST

    @property
    def first_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.FIRST if self._is_asked(name)]

    @property
    def other_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in self.FIRST and self._is_asked(name)]

    @property
    def kept_fields(self) -> list[forms.BoundField]:
        """What stays as it is when the filter is sent again: not what the page is about, which its address says."""
        return [
            self[name]
            for name, field in self.fields.items()
            if field.widget.is_hidden and name not in self.fixed and self.data.get(name)
        ]

    @property
    def uses_others(self) -> bool:
        return any(self.data.get(field.name) for field in self.other_fields)

    def _is_asked(self, name: str) -> bool:
        return name in self.fields and not self.fields[name].widget.is_hidden


class ViewNameField(forms.CharField):
    def __init__(self) -> None:
        super().__init__(
            label="Name",
            max_length=MAX_VIEW_NAME,
            widget=forms.TextInput(attrs={"autocomplete": "off"}),
            error_messages={
                "required": "Give the view a name.",
                "max_length": "The name of a view may be %(limit_value)d characters long, and this has %(show_value)d.",
            },
        )


class SaveViewForm(forms.Form):
    """A name for the filter that one looks at."""

    name = ViewNameField()
    query = forms.CharField(
        required=False,
        max_length=MAX_VIEW_QUERY,
        widget=forms.HiddenInput,
        error_messages={
            "max_length": "This filter has %(show_value)d characters, and %(limit_value)d can be kept: take some away."
        },
    )


class RenameViewForm(forms.Form):
    name = ViewNameField()
