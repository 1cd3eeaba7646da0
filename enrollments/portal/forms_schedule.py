"""The forms in which somebody says why switches are turned, and for how long or from when on."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, QueryDict

from enrollments.errors import Conflict, Invalid
from enrollments.portal.confirmation import ReasonForm
from enrollments.portal.entry_lists import Entry
from enrollments.portal.forms_filters import Moment

NOW, UNTIL, AT = "now", "until", "at"
NOT_MEANT = (
    "A time is given, and until further notice was chosen: choose one with a time, or leave the time empty."
)


class SwitchMoment(Moment):
    """A moment to the second, as switches turn."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.widget = forms.DateTimeInput(
            attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"
        )


class SwitchForm(ReasonForm):
    """Without a choice, as a switch in a row posts it, it is meant at once and until further notice.

    scheduled: the time that the field begins with. Beside that choice it says nothing; any other time was meant.
    """

    when = forms.ChoiceField(label="For how long", initial=NOW, widget=forms.RadioSelect)
    moment = SwitchMoment("Time (UTC), where the choice above names one")
    field_order = ("when", "moment", "reason")

    choices: tuple[tuple[str, str], ...] = ()

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        initial: dict[str, Any] | None = None,
        scheduled: datetime | None = None,
    ) -> None:
        if data is not None:
            data = data.copy()
            data.setdefault("when", NOW)
        super().__init__(data, initial=initial)
        self._scheduled = scheduled
        when: Any = self.fields["when"]
        when.choices = self.choices
        moment: Any = self.fields["moment"]
        moment.help_text = "In UTC, not in your own time zone."
        moment.is_needed = True  # by some of the choices, so it is not said to be optional

    @classmethod
    def asked(cls, request: HttpRequest, entries: Sequence[Entry]) -> "SwitchForm":
        """The form as it is opened, or as it was sent. A link may choose beforehand: ?when=until.

        The time is the one that is scheduled for all of them.
        """
        times = {one.switches_at for one in entries}
        moment = times.pop() if len(times) == 1 else None
        if request.method == "POST":
            return cls(request.POST, scheduled=moment)
        chosen = request.GET.get("when", NOW)
        is_known = chosen in dict(cls.choices)
        return cls(initial={"when": chosen if is_known else NOW, "moment": moment})

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if self._chosen in (UNTIL, AT) and not values.get("moment") and "moment" not in self.errors:
            self.add_error("moment", ValidationError("Give the time, or choose until further notice."))
        given = values.get("moment")
        if self._chosen == NOW and "when" not in self.errors and given not in (None, self._scheduled):
            self.add_error("moment", ValidationError(NOT_MEANT))
        return values

    @property
    def times(self) -> dict[str, Any]:
        """As the actions take them. Ask a valid form only."""
        return {} if self._chosen == NOW else {self._chosen: self.cleaned_data["moment"]}

    @property
    def times_to_look_at(self) -> dict[str, Any]:
        """The same where the form may have been opened a moment ago, or lack a reason yet."""
        if not self.is_bound:
            chosen, moment = self.initial.get("when"), self.initial.get("moment")
        elif hasattr(self, "cleaned_data"):
            chosen, moment = self._chosen, self.cleaned_data.get("moment")
        else:
            return {}
        return {chosen: moment} if chosen in (UNTIL, AT) and moment else {}

    @property
    def _chosen(self) -> str:
        return self.cleaned_data.get("when") or NOW

    def show_once(self, problem: Invalid | Conflict) -> None:
        """The same, unless it is there already or nothing was sent yet."""
        if self.is_bound and not self.errors:
            self.show(problem)

    def show(self, problem: Invalid | Conflict) -> None:
        """Put the sentences of an action where they belong."""
        if isinstance(problem, Conflict):
            self.add_error(None, problem.message)
            return
        for field, sentences in problem.errors.items():
            place = "moment" if field in (UNTIL, AT) else field
            for sentence in sentences:
                self.add_error(place if place in self.fields else None, sentence)


class DisableForm(SwitchForm):
    choices = (
        (NOW, "From now on, until further notice"),
        (UNTIL, "From now on, until the time below"),
        (AT, "From the time below on"),
    )

    def is_about_an_end(self, entries: Sequence[Entry]) -> None:
        """All are disabled, and what is asked is until when. A choice that was sent all the same is kept."""
        when: Any = self.fields["when"]
        when.label = f"How long {'it stays' if len(entries) == 1 else 'they stay'} disabled"
        when.choices = [
            (NOW, "Until further notice"),
            (UNTIL, "Until the time below"),
            *([self.choices[2]] if self.is_bound and self.data.get("when") == AT else []),
        ]


class EnableForm(SwitchForm):
    choices = (
        (NOW, "From now on, until further notice"),
        (UNTIL, "From now on, until the time below"),
    )
