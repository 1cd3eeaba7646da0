"""Forms about imports and exports. Translation only; the rules are in the actions."""

from typing import Any

from django import forms

from enrollments.audit.record import MAX_REASON
from enrollments.models import ImportFormat
from enrollments.transfer.words import UPDATING_RESETS, format_of


class ImportForm(forms.Form):
    """With script the files are sent in pieces, and only their names come with this form (`in_pieces`)."""

    list = forms.FileField(
        label="List",
        required=False,
        allow_empty_file=True,
        help_text="CSV (.csv) or JSON Lines (.jsonl), at most 250,000 lines. Without script at most 700 KB. "
        + UPDATING_RESETS,
        widget=forms.FileInput(attrs={"accept": ".csv,.txt,.jsonl,.ndjson,.json"}),
    )
    archive = forms.FileField(
        label="ZIP with certificates",
        required=False,
        allow_empty_file=True,
        help_text="Where the list names certificates as files: pump-042.pem.",
        widget=forms.FileInput(attrs={"accept": ".zip"}),
    )
    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=MAX_REASON,
        help_text="Kept in the history with each entry that changes.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    in_pieces = forms.BooleanField(required=False, widget=forms.HiddenInput)
    list_name = forms.CharField(required=False, max_length=1000, widget=forms.HiddenInput)
    archive_name = forms.CharField(required=False, max_length=1000, widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if not data.get("in_pieces"):
            data["list_name"] = data["list"].name if data.get("list") else ""
            data["archive_name"] = data["archive"].name if data.get("archive") else ""
        if not data.get("list_name"):
            if "list" not in self.errors:
                self.add_error("list", "Choose the list.")
            return data
        data["format"] = format_of(data["list_name"])
        if data["format"] is None:
            self.add_error(
                "list",
                "The name of the list has to end in .csv or .jsonl. A workbook of a spreadsheet can be saved as CSV.",
            )
        return data


class ExportForm(forms.Form):
    format = forms.ChoiceField(
        label="Format",
        choices=[
            (ImportFormat.CSV.value, "CSV, for spreadsheets"),
            (ImportFormat.JSON_LINES.value, "JSON Lines, for programs"),
        ],
        initial=ImportFormat.CSV.value,
        widget=forms.RadioSelect,
    )
