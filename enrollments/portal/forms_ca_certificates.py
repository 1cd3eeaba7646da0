"""Forms about CA certificates: uploading one, and the certificate that answers its code."""

from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from enrollments.attestation.x509 import ParsedCertificate
from enrollments.audit.record import MAX_REASON
from enrollments.errors import Invalid
from enrollments.models import CaCertificate
from enrollments.models.ca_certificates import MAX_NAME
from enrollments.policy.names import registration_key
from enrollments.portal.certificate_input import Card, Files, read_one

_PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class CaFilter(forms.Form):
    """Kept in the address."""

    q = forms.CharField(
        label="Name",
        required=False,
        max_length=MAX_NAME,
        widget=forms.TextInput(
            attrs={**_PLAIN, "type": "search", "placeholder": "The name, or how it begins"}
        ),
    )

    @property
    def prefix_key(self) -> str:
        return registration_key(self.cleaned_data["q"]) if self.is_valid() else ""


class OneCertificateForm(forms.Form):
    """One certificate, as a file or as text. `part`: how its two fields begin, and what errors of actions name."""

    part = "certificate"

    def __init__(self, data: QueryDict | None = None, files: "Files | None" = None) -> None:
        if data is not None:
            self.given = read_one(data, files or MultiValueDict(), self.part)
            data = data.copy()
            data[f"{self.part}_pem"] = self.given.text
        super().__init__(data, files)

    @property
    def certificate(self) -> ParsedCertificate | None:
        return self.given.certificates[0] if self.given.certificates else None

    def clean(self) -> dict[str, Any]:
        if self.given.problem:
            self.add_error(self._place, self.given.sentence)
        elif self.certificate is None:
            self.add_error(self._place, "Choose a file, or paste the certificate as text.")
        return self.cleaned_data

    def show_invalid(self, problem: Invalid) -> None:
        """The sentences of an action, beside the fields that they are about."""
        for field, sentences in problem.errors.items():
            for sentence in sentences:
                place = self._place if field in (self.part, "verification_certificate") else field
                self.add_error(place if place in self.fields else None, sentence)

    @property
    def told(self) -> frozenset[str]:
        return frozenset(str(sentence) for sentences in self.errors.values() for sentence in sentences)

    @property
    def _place(self) -> str:
        return f"{self.part}_upload" if self.given.is_file else f"{self.part}_pem"


def _file(label: str) -> forms.FileField:
    accept = ".pem,.crt,.cer,.der,application/x-x509-ca-cert"
    return forms.FileField(
        label=label,
        required=False,
        allow_empty_file=True,  # what is wrong with an empty file is said by who reads it
        widget=forms.FileInput(attrs={"accept": accept}),
    )


def _pem(label: str) -> forms.CharField:
    attrs = {**_PLAIN, "rows": 5, "placeholder": "-----BEGIN CERTIFICATE-----"}
    return forms.CharField(label=label, required=False, strip=False, widget=forms.Textarea(attrs=attrs))


def _reason() -> forms.CharField:
    return forms.CharField(
        label="Reason",
        max_length=MAX_REASON,
        required=False,
        help_text="Kept in the history with the change.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class CaUploadForm(OneCertificateForm):
    name = forms.CharField(
        label="Name",
        max_length=MAX_NAME,
        help_text=str(CaCertificate._meta.get_field("name").help_text),
        widget=forms.TextInput(attrs={**_PLAIN, "autofocus": True}),
        error_messages={"required": "Give the certificate a name."},
    )
    certificate_upload = _file("Certificate file")
    certificate_pem = _pem("Certificate as text")
    reason = _reason()

    @property
    def card(self) -> Card | None:
        """What was read, before it is saved."""
        if not self.is_bound or self.certificate is None:
            return None
        return Card.of(self.certificate, "ca", told=self.told)


class ProofForm(OneCertificateForm):
    part = "proof"

    proof_upload = _file("Verification certificate file")
    proof_pem = _pem("Verification certificate as text")
    reason = _reason()
    etag = forms.CharField(widget=forms.HiddenInput, max_length=80)
