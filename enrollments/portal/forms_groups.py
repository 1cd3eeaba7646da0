"""The form of an enrollment group."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils.html import format_html

from enrollments.actions.certificates import as_held
from enrollments.actions.group_specs import Ca, GroupSpec, referred
from enrollments.errors import Invalid
from enrollments.models import (
    AttestationMechanism,
    CaCertificate,
    EnrollmentGroup,
    HeldRole,
    IndividualEnrollment,
    Slot,
)
from enrollments.models.ca_certificates import MAX_NAME, is_ca_name
from enrollments.policy.names import registration_key
from enrollments.portal.certificate_input import Card, Given
from enrollments.portal.forms_entries import PLAIN, EntryForm, checked_name

# Names of CA certificates that a field offers; others can be typed all the same.
MAX_OFFERED = 200
OF_GROUPS = (AttestationMechanism.X509, AttestationMechanism.SYMMETRIC_KEY)


def _reference(slot: Slot) -> forms.CharField:
    return forms.CharField(
        label=f"{slot.label} uploaded CA certificate",
        required=False,
        max_length=MAX_NAME,
        widget=forms.TextInput(attrs={**PLAIN, "list": "ca-names", "placeholder": "Its name"}),
    )


class GroupForm(EntryForm):
    kind = "ca"
    told_as_opened = (
        *EntryForm.told_as_opened,
        "primary_reference",
        "secondary_reference",
        "predecessor",
    )

    mechanism = forms.ChoiceField(
        label="Attestation mechanism",
        required=False,  # what a script does not say is a CA certificate, as ever
        choices=[(one.value, one.label) for one in OF_GROUPS],
        initial=AttestationMechanism.X509.value,
        widget=forms.RadioSelect,
    )
    group_id = forms.CharField(
        label="Group ID",
        max_length=128,
        widget=forms.TextInput(attrs=PLAIN),
        error_messages={"required": "Give the group an ID."},
    )
    primary_reference = _reference(Slot.PRIMARY)
    secondary_reference = _reference(Slot.SECONDARY)
    predecessor = forms.CharField(
        label="Predecessor group ID",
        required=False,
        max_length=128,
        widget=forms.TextInput(attrs=PLAIN),
        help_text="For the change of a CA: devices that the predecessor admitted may come back through this group, and "
        "keep their names. Otherwise a name stays with the entry that admitted it first, until it is released.",
    )
    helpers_removed = forms.MultipleChoiceField(
        label="Helpers to remove", required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.references: dict[Slot, CaCertificate] = {}
        self.helpers = _helpers(self.current)
        holds_keys = self.current is not None and self.current.mechanism == AttestationMechanism.SYMMETRIC_KEY
        if not self.service.symmetric_key_groups and not holds_keys:  # else the page says more about it
            self.fields["mechanism"].help_text = format_html(
                'Groups with symmetric keys are switched off in the <a href="{}">settings</a> of this service.',
                reverse("portal:service-settings", kwargs={"service_name": self.service.name}),
            )
        if self.current is not None:
            del self.fields["group_id"]
        if self.helpers:
            removed: Any = self.fields["helpers_removed"]
            removed.choices = [(thumbprint, f"{one.subject}") for thumbprint, one in self.helpers.items()]
        else:
            del self.fields["helpers_removed"]

    def _initial(self, current: IndividualEnrollment | EnrollmentGroup) -> dict[str, Any]:
        assert isinstance(current, EnrollmentGroup)
        held = current.certificates.exclude(ca_certificate=None).select_related("ca_certificate")
        references = {f"{one.slot}_reference": one.ca_certificate.name for one in held if one.ca_certificate}
        return {**super()._initial(current), "predecessor": current.predecessor_name, **references}

    @property
    def ca_names(self) -> list[str]:
        """What the fields offer while somebody types."""
        names = self.service.ca_certificates.order_by("name_key").values_list("name", flat=True)
        return list(names[:MAX_OFFERED])

    @property
    def helper_cards(self) -> list[Card]:
        return [Card.of(one, self.kind, helper=True) for one in self.helpers.values()]

    def clean_group_id(self) -> str:
        return checked_name(self.cleaned_data["group_id"])

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("mechanism") == AttestationMechanism.SYMMETRIC_KEY:
            for slot in Slot:
                self.errors.pop(f"{slot}_pem", None)
        else:
            for slot in Slot:
                self._look_up(slot)
        return data

    def _look_up(self, slot: Slot) -> None:
        """The CA certificate that is named for this slot, if one is; it takes the place of what is held."""
        name = self.cleaned_data.get(f"{slot}_reference", "")
        is_held = bool(name) and name == self.initial.get(f"{slot}_reference")
        if not name or (is_held and self.cleaned_data.get(f"{slot}_remove")):
            return
        given = self.given.get(slot, Given())
        if given.certificates or given.problem:
            self.add_error(
                f"{slot}_reference",
                "Give a certificate, or the name of one that is uploaded, and not both: clear one of the two.",
            )
            return
        rows = self.service.ca_certificates.select_related("certificate")
        found = rows.filter(name_key=registration_key(name)).first() if is_ca_name(name) else None
        if found is None:
            self.add_error(f"{slot}_reference", f"There is no CA certificate {name} in this service.")
        else:
            self.references[slot] = found

    def certificates(self) -> dict[Slot, Ca]:
        return {**super().certificates(), **referred(self.references)}

    def _place_of(self, slot: Slot) -> str:
        return f"{slot}_reference" if slot in self.references else super()._place_of(slot)

    def show_invalid(self, problem: Invalid) -> None:
        super().show_invalid(problem)
        if "mechanism" in self.errors:
            self["mechanism"].help_text = ""  # the error says the same, and why

    def clean_predecessor(self) -> EnrollmentGroup | None:
        group_id: str = self.cleaned_data["predecessor"]
        if not group_id:
            return None
        try:
            return self.service.enrollmentgroups.without_secrets().by_group_id(group_id)
        except EnrollmentGroup.DoesNotExist:
            raise ValidationError(f"There is no enrollment group {group_id} in this service.") from None

    def spec(self) -> GroupSpec:
        mechanism = AttestationMechanism(self.cleaned_data["mechanism"] or AttestationMechanism.X509)
        removed = set(self.cleaned_data.get("helpers_removed", ()))
        kept = [one for thumbprint, one in self.helpers.items() if thumbprint not in removed]
        given = [one for slot in self.given.values() for one in slot.certificates[1:]]
        holds_own = mechanism == AttestationMechanism.X509 and not self.references
        return GroupSpec(
            group_id=self.cleaned_data.get("group_id", ""),
            predecessor=self.cleaned_data["predecessor"],
            helpers=tuple(_once([*kept, *given])) if holds_own else (),
            references=self.references if mechanism == AttestationMechanism.X509 else {},
            **self.credential_values(mechanism),
            **self.common_values(),
        )


def _helpers(current: IndividualEnrollment | EnrollmentGroup | None) -> dict[str, Ca]:
    if current is None:
        return {}
    held = current.certificates.filter(role=HeldRole.HELPER).select_related("certificate").order_by("pk")
    helpers = map(as_held, held)
    return {one.thumbprint_sha256: one for one in helpers}


def _once(certificates: Iterable[Ca]) -> list[Ca]:
    return list({one.thumbprint_sha256: one for one in certificates}.values())
