"""The form of an individual enrollment."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    Slot,
)
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id
from enrollments.portal.certificate_input import Files
from enrollments.portal.forms_entries import PLAIN, EntryForm, checked_name, preview_as_typed
from enrollments.portal.tpm_input import (
    LABELS,
    GivenKey,
    KeyPreview,
    cards_held,
    keys_as_text,
    preview_of_keys,
    read_tpm_keys,
)


def _tpm_key(name: str, begins: str, help_text: str) -> forms.CharField:
    widget = forms.Textarea(attrs={**PLAIN, "rows": 4, "placeholder": f"{begins}…"})
    return forms.CharField(
        label=f"{LABELS[name]} as text", required=False, widget=widget, help_text=help_text
    )


def _tpm_file(name: str) -> forms.FileField:
    widget = forms.FileInput(attrs={"data-submits": "tpm-preview-button"})
    return forms.FileField(label=f"{LABELS[name]} file", required=False, allow_empty_file=True, widget=widget)


class IndividualForm(EntryForm):
    kind = "device"
    told_as_opened = (*EntryForm.told_as_opened, "device_id")

    mechanism = forms.ChoiceField(
        label="Attestation mechanism",
        choices=AttestationMechanism.choices,
        initial=AttestationMechanism.X509.value,
        widget=forms.RadioSelect,
    )
    registration_id = forms.CharField(
        label="Registration ID",
        required=False,
        max_length=128,
        widget=forms.TextInput(attrs=PLAIN),
        help_text="For X.509 it is read from the certificate's common name (CN); for a TPM, if empty, it is made of "
        "the endorsement key.",
    )
    endorsement_key = _tpm_key(
        "endorsement_key", "AToAAQALAAMAsgAg", "In base64, as the device's own tools print it."
    )
    endorsement_key_upload = _tpm_file("endorsement_key")
    storage_root_key = _tpm_key(
        "storage_root_key",
        "ARoAAQALAAMEcgAA",
        "Not needed: the device names its own. Kept for clients that do not repeat it.",
    )
    storage_root_key_upload = _tpm_file("storage_root_key")
    device_id = forms.CharField(
        label="IoT Hub device ID",
        required=False,
        max_length=128,
        widget=forms.TextInput(attrs=PLAIN),
        help_text="Empty: the registration ID.",
    )

    # By their thumbprints, the certificates that the form showed as it was opened.
    shown_primary = forms.CharField(required=False, widget=forms.HiddenInput)
    shown_secondary = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        service: ProvisioningService,
        data: QueryDict | None = None,
        files: "Files | None" = None,
        *,
        current: IndividualEnrollment | None = None,
        person: int | None = None,
    ) -> None:
        self.given_keys: dict[str, GivenKey] = {}
        if data is not None:
            self.given_keys = read_tpm_keys(data, files or MultiValueDict())
            data = keys_as_text(data, self.given_keys)
        super().__init__(service, data, files, current=current, person=person)
        self.tpm_cards_held = cards_held(current) if current is not None else {}
        for name in LABELS:
            self.fields[name].widget.attrs.update(preview_as_typed(service, "tpm-preview"))
        if current is not None:
            del self.fields["registration_id"]

    @property
    def tpm_previews(self) -> list[KeyPreview]:
        return preview_of_keys(self.given_keys)

    def _initial(self, current: IndividualEnrollment | EnrollmentGroup) -> dict[str, Any]:
        assert isinstance(current, IndividualEnrollment)
        shown = {f"shown_{slot}": one.thumbprint_sha256 for slot, one in self.held.items()}
        return {**super()._initial(current), "device_id": current.device_id, **shown}

    @property
    def shown(self) -> dict[Slot, str]:
        """What stood in its slots as it was opened."""
        return {slot: shown for slot in Slot if (shown := self.cleaned_data.get(f"shown_{slot}"))}

    @property
    def taken_away(self) -> dict[Slot, str]:
        """Of these, what somebody has removed in it; nothing where they have given a certificate."""
        if any(one.certificates for one in self.given.values()):
            return {}
        return {slot: one for slot, one in self.shown.items() if self.cleaned_data.get(f"{slot}_remove")}

    def clean_registration_id(self) -> str:
        return checked_name(self.cleaned_data["registration_id"])

    def clean_device_id(self) -> str:
        device_id: str = self.cleaned_data["device_id"]
        if device_id and not is_registration_id(device_id):
            raise ValidationError(f"A device ID has the form of a registration ID: {FORM_IN_WORDS}.")
        return device_id

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        mechanism = data.get("mechanism")
        if mechanism != AttestationMechanism.X509:
            # Certificates that were given for another mechanism are not looked at.
            for slot in Slot:
                self.errors.pop(self._place_of(slot), None)
        if mechanism == AttestationMechanism.TPM:
            for name, given in self.given_keys.items():
                if given.problem:
                    self.add_error(self._field(name), given.sentence)
            if self.current is None and self.given_keys["endorsement_key"].is_empty:
                self.add_error("endorsement_key", "Give the endorsement key of the device's TPM.")
        if self.current is None and not data.get("registration_id") and "registration_id" not in self.errors:
            if mechanism == AttestationMechanism.SYMMETRIC_KEY:
                self.add_error("registration_id", "Give the registration ID of the device.")
            elif mechanism == AttestationMechanism.X509 and not any(
                given.certificates or given.problem for given in self.given.values()
            ):
                self.add_error(
                    "registration_id",
                    "Give the certificate of the device, or the registration ID to be barred.",
                )
        return data

    def _field(self, name: str) -> str | None:
        if self.given_keys.get(name, GivenKey()).is_file:
            return f"{name}_upload"
        return super()._field(name)

    def spec(self) -> IndividualSpec:
        data = self.cleaned_data
        mechanism = AttestationMechanism(data["mechanism"])
        keys: dict[str, Any] = {}
        if mechanism == AttestationMechanism.TPM:
            # Keys that were given for another mechanism are not looked at either.
            keys = {name: one.key.encoded for name, one in self.given_keys.items() if one.key is not None}
        return IndividualSpec(
            registration_id=data.get("registration_id", ""),
            device_id=data["device_id"],
            **keys,
            **self.credential_values(mechanism),
            **self.common_values(),
        )
