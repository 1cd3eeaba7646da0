"""What a check of the history can be given: checkpoints that somebody kept."""

from typing import Any

from django import forms

# A hundred checkpoints take a third of this.
MAX_BYTES = 64 * 1024


class CheckForm(forms.Form):
    kept = forms.CharField(
        label="A checkpoint that you kept",
        required=False,
        strip=False,
        max_length=MAX_BYTES,
        help_text="The signed note, or several, one after another. With it a history that was cut off, or changed and "
        "sealed anew, is found, whoever did it.",
        widget=forms.Textarea(
            attrs={"rows": 6, "spellcheck": "false", "autocomplete": "off", "autocapitalize": "none"}
        ),
    )
    kept_file = forms.FileField(label="Or as a file", required=False, allow_empty_file=True)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        file = data.get("kept_file")
        if file is None:
            return data
        if file.size > MAX_BYTES:
            self.add_error(
                "kept_file", "This is larger than 64 KiB: give the checkpoints of the last months alone."
            )
            return data
        try:
            data["kept"] = f"{data.get('kept', '').rstrip()}\n\n{file.read().decode()}".strip("\n")
        except UnicodeDecodeError:
            self.add_error("kept_file", "This file is no text, so it holds no checkpoint.")
        return data
