"""The symmetric keys in the form of an entry: typed, never shown, and kept for the next page all the same."""

from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone

from enrollments.actions.entry_specs import Kind
from enrollments.errors import Invalid
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    Slot,
)
from enrollments.portal import typed_keys


def _key(slot: Slot) -> forms.CharField:
    # render_value: a key that was typed never comes back in a page.
    widget = forms.PasswordInput(render_value=False, attrs={"autocomplete": "off", "spellcheck": "false"})
    return forms.CharField(label=f"{slot.label} key", required=False, widget=widget)


class KeysForm(forms.Form):
    """`person`: who fills it in. Without one, typed keys do not outlive the page."""

    kind: Kind
    service: ProvisioningService
    current: IndividualEnrollment | EnrollmentGroup | None
    person: int | None
    _typed_at: datetime | None = None

    primary_key = _key(Slot.PRIMARY)
    secondary_key = _key(Slot.SECONDARY)

    def clean(self) -> dict[str, Any]:
        """Keys that an earlier page was given stand in where nothing is typed in this one."""
        token = self.data.get(typed_keys.FIELD, "")
        empty = [name for name in typed_keys.NAMES if not self.cleaned_data.get(name)]
        if token and empty and self._signs:
            try:
                keys, self._typed_at = typed_keys.opened(token, self._place, timezone.now())
            except Invalid as problem:
                self.add_error(empty[0], problem.message)
            else:
                self.cleaned_data.update({name: keys[name] for name in empty if name in keys})
        return self.cleaned_data

    @property
    def typed(self) -> dict[str, str]:
        """The keys that were given, in this page or an earlier one; without what was found wrong."""
        if not self.is_bound:
            return {}
        wrong = self.errors  # asking for them is what reads the data
        given = {name: self.cleaned_data.get(name) for name in typed_keys.NAMES if name not in wrong}
        return {name: key for name, key in given.items() if key and self._signs}

    @property
    def typed_in_words(self) -> str:
        return " and the ".join(name.replace("_", " ") for name in self.typed)

    @property
    def sealed_keys(self) -> str:
        """The hidden field with which the next page is asked for, so that nobody has to type them again for it."""
        typed = self.typed
        if not typed or self.person is None:
            return ""
        return typed_keys.sealed(typed, self._place, self._typed_at or timezone.now())

    @property
    def _signs(self) -> bool:
        """Keys that were given for another mechanism are not looked at."""
        return self.cleaned_data.get("mechanism") == AttestationMechanism.SYMMETRIC_KEY

    @property
    def _place(self) -> typed_keys.Place:
        entry = self.current.pk if self.current is not None else None
        return typed_keys.Place(self.person, self.service.pk, self.kind, entry)
