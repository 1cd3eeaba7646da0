"""Forms that say, when they come back, what they were opened with: by that is known what somebody changed in them.

It comes from outside: it decides what a page shows after somebody else was quicker, and never what is saved.
"""

from collections.abc import Iterable
from typing import Any

from django import forms


class OpenedField(forms.BoundField):
    def build_widget_attrs(self, attrs: dict[str, Any], widget: forms.Widget | None = None) -> dict[str, Any]:
        """What is hidden takes no ARIA (ARIA in HTML), also where it stands beside a field that has a help text."""
        built: dict[str, Any] = super().build_widget_attrs(attrs, widget)
        if widget is not None and widget.is_hidden:
            built.pop("aria-describedby", None)
        return built


class OpenedForm(forms.Form):
    bound_field_class = OpenedField

    def carry_what_it_was_opened_with(self, names: Iterable[str]) -> None:
        """In hidden fields. A form that came without goes on without: Django would fill in what was typed since."""
        for name in names:
            is_told = not self.is_bound or self.add_initial_prefix(name) in self.data
            self.fields[name].show_hidden_initial = is_told

    def is_as_opened(self, name: str) -> bool:
        """Whether nobody changed this field, as far as the form says."""
        return self.fields[name].show_hidden_initial and name not in self.changed_data


class JoinedInput(forms.HiddenInput):
    """Several values in one hidden field: there also where there are none, and one field for the bound on fields."""

    def format_value(self, value: Any) -> str:
        return ",".join(map(str, value or ()))

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        joined: str = super().value_from_datadict(data, files, name) or ""
        return [one for one in joined.split(",") if one]
