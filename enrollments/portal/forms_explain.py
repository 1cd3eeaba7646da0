"""What can be asked on the page that explains decisions."""

from typing import Any

from django import forms

from enrollments.errors import Invalid
from enrollments.portal.forms_filters import FilterForm, Moment, search_field

AT_ANOTHER_TIME = (
    "Shows what will have expired. What is enrolled is that of now; at a time to come, switches have turned as "
    "scheduled."
)


class _Question(FilterForm):
    """Sentences of the action stand beside the fields they are about."""

    def show(self, problem: Invalid) -> None:
        for field, sentences in problem.errors.items():
            for sentence in sentences:
                self.add_error(field if field in self.fields else None, sentence)


class KnownDeviceForm(_Question):
    """By name. It lives in the address, so that it can be sent to somebody else."""

    registration_id = search_field("Registration ID")
    group = search_field("As a device of group")
    tracking_id = search_field("Tracking ID")
    at = Moment("At another time (UTC)")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "registration_id"
        ].help_text = "Judged by what the device showed last, or what is enrolled for it."
        self.fields["group"].help_text = (
            "With a registration ID, a group with symmetric keys: also for devices that never came. Alone, any "
            "group: what stands above it."
        )
        self.fields[
            "tracking_id"
        ].help_text = "From an answer that a device was given: shows how it was decided then."
        self.fields["at"].help_text = AT_ANOTHER_TIME


class ChainForm(_Question):
    """By certificates. They are posted, and never stand in an address."""

    chain_upload = forms.FileField(label="Certificate file", required=False)
    chain_pem = forms.CharField(
        label="Certificates as text",
        required=False,
        strip=False,
        help_text="As the device sends them, its own first. PEM or DER, at most 64 KiB, without private key.",
        widget=forms.Textarea(
            attrs={"rows": 6, "spellcheck": "false", "autocomplete": "off", "autocapitalize": "none"}
        ),
    )
    registration_id = search_field("Registration ID")
    at = Moment("At another time (UTC)")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = "chain_%s"  # two forms of the page ask for a registration ID
        self.fields["registration_id"].help_text = "Where it is not the common name."
        self.fields["at"].help_text = AT_ANOTHER_TIME
