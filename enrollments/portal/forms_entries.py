"""What the forms of enrollments and groups have in common. Translation only; the rules are in the actions."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from django.utils.html import format_html

from enrollments.actions.certificates import as_held
from enrollments.actions.entries import AlreadyEnrolled
from enrollments.attestation.x509 import ParsedCertificate, UnparsedCertificate
from enrollments.audit.record import MAX_REASON
from enrollments.errors import Invalid
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldRole,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
    Slot,
)
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.documents import MAX_TWIN_BYTES, DocumentProblem, parse_initial_twin
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id
from enrollments.policy.reprovisioning import ReprovisioningPolicy
from enrollments.portal.certificate_input import Card, Files, Given, as_text, read_slots
from enrollments.portal.forms_keys import KeysForm
from enrollments.portal.forms_opened import JoinedInput, OpenedForm
from enrollments.portal.paging import MAX_ID

if TYPE_CHECKING:
    _SeveralHubs = forms.ModelMultipleChoiceField[LinkedHub]
else:
    _SeveralHubs = forms.ModelMultipleChoiceField  # cannot be subscripted while running

PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


def _file(slot: Slot) -> forms.FileField:
    return forms.FileField(
        label=f"{slot.label} certificate file",
        required=False,
        allow_empty_file=True,  # what is wrong with an empty file is said by who reads it
        widget=forms.FileInput(
            attrs={"accept": ".pem,.crt,.cer,.der,application/x-x509-ca-cert", "data-submits": "preview"}
        ),
    )


def _pem(slot: Slot) -> forms.CharField:
    attrs = {**PLAIN, "rows": 5, "placeholder": "-----BEGIN CERTIFICATE-----"}
    return forms.CharField(
        label=f"{slot.label} certificate as text",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs=attrs),
    )


def _remove(slot: Slot) -> forms.BooleanField:
    return forms.BooleanField(label=f"Remove the {slot} certificate", required=False)


class AddressInput(forms.TextInput):
    """A URL of which a page shows nothing from the `?` on: that may be a key."""

    def format_value(self, value: Any) -> str:
        return str(value or "").partition("?")[0]


class HubsField(_SeveralHubs):
    """Hubs of the service. A number that no hub can have is refused here: not every database can be asked for it."""

    hidden_widget = JoinedInput

    def clean(self, value: Any) -> Any:
        self._refuse_what_no_hub_can_be(value)
        return super().clean(value)

    def to_python(self, value: Any) -> Any:
        self._refuse_what_no_hub_can_be(value)
        return super().to_python(value)

    def _refuse_what_no_hub_can_be(self, value: Any) -> None:
        for given in value or ():
            if not _may_be_id(given):
                raise ValidationError(self.error_messages["invalid_pk_value"], code="invalid_pk_value")


class TwinField(forms.CharField):
    def has_changed(self, initial: Any, data: Any) -> bool:
        """Not by being written otherwise: with members in another order, or without those that are empty."""
        return super().has_changed(initial, data) and not _is_one_twin(initial or "", data or "")


class EntryForm(OpenedForm, KeysForm):
    """What individual enrollments and groups have in common. `current` is the entry that is edited, if one is."""

    # The entry that holds already what was to be enrolled.
    in_the_way: EntryRef | None = None
    # Nobody can be asked about it, since its preview cannot be worked out (R16).
    cannot_be_told = False
    # What somebody else may change while the form is open, without what may hold a secret.
    told_as_opened: tuple[str, ...] = (
        "mechanism",
        "allocation_policy",
        "webhook_api_version",
        "hubs",
        "reprovisioning_policy",
        "initial_twin",
        "iot_edge",
        "enabled",
    )

    primary_upload = _file(Slot.PRIMARY)
    primary_pem = _pem(Slot.PRIMARY)
    primary_remove = _remove(Slot.PRIMARY)
    secondary_upload = _file(Slot.SECONDARY)
    secondary_pem = _pem(Slot.SECONDARY)
    secondary_remove = _remove(Slot.SECONDARY)
    allocation_policy = forms.ChoiceField(label="Allocation policy", required=False)
    hubs = HubsField(
        LinkedHub.objects.none(),
        label="Hubs",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: every hub that is linked to the service.",
        error_messages={
            "invalid_choice": "That hub is not linked to this service.",
            "invalid_pk_value": "That hub is not linked to this service.",
        },
    )
    webhook_url = forms.CharField(
        label="Webhook URL",
        required=False,
        max_length=1000,
        widget=AddressInput(attrs={**PLAIN, "placeholder": "https://"}),
    )
    webhook_api_version = forms.CharField(
        label="API version for the webhook",
        required=False,
        max_length=30,
        widget=forms.TextInput(attrs=PLAIN),
        help_text="Empty: 2021-10-01.",
    )
    reprovisioning_policy = forms.ChoiceField(
        label="Reprovisioning policy",
        choices=[(policy.value, policy.label) for policy in ReprovisioningPolicy],
        initial=ReprovisioningPolicy.MIGRATE.value,
        help_text="What becomes of a device that registers again and is assigned elsewhere. Migrate: it moves, and its "
        "twin with it. Reset: it moves, and begins with the initial twin. Never: it stays where it is.",
    )
    initial_twin = TwinField(
        label="Initial twin state",
        required=False,
        widget=forms.Textarea(attrs={**PLAIN, "rows": 7}),
        help_text="A JSON object with tags and desired properties, at most 8 KiB.",
    )
    iot_edge = forms.BooleanField(label="IoT Edge device", required=False)
    enabled = forms.TypedChoiceField(
        label="Enable entry",
        choices=[("yes", "Enable"), ("no", "Disable")],
        coerce=lambda choice: choice == "yes",
        widget=forms.RadioSelect,
        initial="yes",
    )
    reason = forms.CharField(
        label="Reason",
        required=False,
        max_length=MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="Kept in the history with the change.",
    )
    expected_etag = forms.CharField(required=False, widget=forms.HiddenInput)
    # Which way the switch stood in the form as it was opened.
    shown_enabled = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        service: ProvisioningService,
        data: QueryDict | None = None,
        files: "Files | None" = None,
        *,
        current: IndividualEnrollment | EnrollmentGroup | None = None,
        person: int | None = None,
    ) -> None:
        self.service, self.current, self.person = service, current, person
        self.given: dict[Slot, Given] = {}
        if data is not None:
            self.given = read_slots(data, files or MultiValueDict(), self.kind)
            data = as_text(data, self.given)
        self.held = _held(current)
        self.webhook_key_is_held = current is not None and _holds_webhook_key(current)
        super().__init__(data, files, initial=self._initial(current) if current else None)
        policies: Any = self.fields["allocation_policy"]
        policies.choices = [
            ("", f"As the service: {AllocationPolicy(service.allocation_policy).label.lower()}"),
            *((policy.value, policy.label) for policy in AllocationPolicy),
        ]
        if current is not None and current.switches_at is not None:
            self.fields["enabled"].help_text = "Turning the switch here ends what is scheduled for it."
        self.fields["webhook_url"].help_text = _about_the_webhook(self.webhook_key_is_held)
        hubs: Any = self.fields["hubs"]
        hubs.queryset = service.hubs.order_by("name")
        if current is None:
            self.initial.setdefault("initial_twin", twin_as_text({"tags": {}, "properties": {"desired": {}}}))
        for slot in Slot:
            self.fields[f"{slot}_pem"].widget.attrs.update(preview_as_typed(service, "certificate-preview"))
            if slot not in self.held:
                del self.fields[f"{slot}_remove"]
        if current is not None:  # adding meets no conflict
            self.carry_what_it_was_opened_with(self.told_as_opened)

    def _initial(self, current: IndividualEnrollment | EnrollmentGroup) -> dict[str, Any]:
        return {
            "mechanism": current.mechanism,
            "allocation_policy": current.allocation_policy,
            "webhook_url": current.webhook_url,
            "webhook_api_version": current.webhook_api_version,
            "hubs": current.hubs.all(),
            "reprovisioning_policy": current.reprovisioning_policy,
            "initial_twin": twin_as_text(current.initial_twin),
            "iot_edge": current.iot_edge,
            "enabled": "yes" if current.enabled else "no",
            "expected_etag": current.etag,
            "shown_enabled": "yes" if current.enabled else "no",
        }

    @property
    def turns_off(self) -> bool:
        """Whether somebody has turned the switch off in it: it was on when they opened the form."""
        return self.cleaned_data.get("shown_enabled") == "yes" and self.cleaned_data.get("enabled") is False

    @property
    def is_barring(self) -> bool:
        """Whether the keys of the certificates that are held are barred now (R6, R7)."""
        return self.current is not None and not self.current.enabled and bool(self.held)

    @property
    def lost_with_mechanism(self) -> str:
        """What the entry holds now and would not hold any more under another mechanism, for the page."""
        if self.current is None or (self.current.mechanism == AttestationMechanism.X509 and not self.held):
            return ""
        return {
            "x509": "its certificates",
            "symmetricKey": "its symmetric keys, which nothing brings back",
            "tpm": "the keys of its TPM",
        }[self.current.mechanism]

    @property
    def current_cards(self) -> dict[str, Card]:
        """The certificates that the entry holds now, for the page."""
        return {slot.value: Card.of(one, self.kind) for slot, one in self.held.items()}

    def clean_initial_twin(self) -> dict[str, Any]:
        try:
            return _twin_of(self.cleaned_data["initial_twin"])
        except DocumentProblem as problem:
            raise ValidationError(str(problem)) from None

    def clean(self) -> dict[str, Any]:
        for slot, given in self.given.items():
            if given.problem:
                self.add_error(self._place_of(slot), given.sentence)
        return super().clean()

    def say_what_is_not_shown_again(self) -> None:
        """Beside the field of a form that comes back: whoever saves it again has to give the webhook's key again."""
        asks = self.is_bound and self.data.get("allocation_policy") == AllocationPolicy.CUSTOM
        if asks and "?" in self.data.get("webhook_url", ""):
            self.add_error(
                "webhook_url",
                "What stood behind ? is not shown again here, since it may be a key: give it once more.",
            )

    def certificates(self) -> dict[Slot, ParsedCertificate | UnparsedCertificate]:
        """What the entry is to hold: what was given; else what it holds, unless that is to be removed."""
        chosen: dict[Slot, ParsedCertificate | UnparsedCertificate] = {}
        for slot in Slot:
            given = self.given.get(slot, Given())
            if given.certificates:
                chosen[slot] = given.certificates[0]
            elif slot in self.held and not self.cleaned_data.get(f"{slot}_remove"):
                chosen[slot] = self.held[slot]
        return chosen

    def credential_values(self, mechanism: AttestationMechanism) -> dict[str, Any]:
        """Certificates or symmetric keys, whichever the mechanism holds; what was given for another is dropped."""
        signs = mechanism == AttestationMechanism.SYMMETRIC_KEY
        return {
            "mechanism": mechanism,
            "certificates": self.certificates() if mechanism == AttestationMechanism.X509 else {},
            "primary_key": self.cleaned_data["primary_key"].strip() if signs else "",
            "secondary_key": self.cleaned_data["secondary_key"].strip() if signs else "",
        }

    def common_values(self) -> dict[str, Any]:
        data = self.cleaned_data
        return {
            "allocation_policy": data["allocation_policy"],
            "webhook_url": data["webhook_url"],
            "webhook_api_version": data["webhook_api_version"],
            "hubs": tuple(data["hubs"]),
            "reprovisioning_policy": data["reprovisioning_policy"],
            "initial_twin": data["initial_twin"],
            "iot_edge": data["iot_edge"],
            "enabled": data["enabled"],
        }

    def show_invalid(self, problem: Invalid) -> None:
        """Put the sentences of an action beside the fields that they are about."""
        for field, sentences in problem.errors.items():
            for sentence in sentences:
                self.add_error(self._field(field), sentence)

    def show_taken(self, problem: AlreadyEnrolled, url: str) -> None:
        """The sentence, with a link to where it is enrolled."""
        sentence = format_html('{} <a href="{}">Open {}</a>', problem.message, url, problem.entry)
        self.add_error(self._field(problem.field), ValidationError(sentence))
        self.in_the_way = problem.entry

    @property
    def told(self) -> frozenset[str]:
        """The sentences that stand beside the fields."""
        return frozenset(str(sentence) for sentences in self.errors.values() for sentence in sentences)

    def _field(self, name: str) -> str | None:
        slot = name.removesuffix("_certificate")
        name = self._place_of(Slot(slot)) if slot != name else name
        return name if name in self.fields else None

    def _place_of(self, slot: Slot) -> str:
        """Where a certificate was given, and is mended."""
        return f"{slot}_upload" if self.given.get(slot, Given()).is_file else f"{slot}_pem"


def checked_name(name: str) -> str:
    """The action asks the same; asked here as well, it is answered together with what is wrong elsewhere."""
    if name and not is_registration_id(name):
        raise ValidationError(f"{name!r} cannot be used here: give {FORM_IN_WORDS}.")
    return name


def _about_the_webhook(key_is_held: bool) -> str:
    hosts = ", ".join(settings.DPS_WEBHOOK_HOSTS)
    where = (
        f"Hosts that may be asked: {hosts}."
        if hosts
        else "No host may be asked before DPS_WEBHOOK_HOSTS names it."
    )
    if key_is_held:
        return (
            "Asked for the hub at each registration. A key is held with this address, as what stands behind ?, and is "
            f"kept while the address stays as it is. Give both to replace it. {where}"
        )
    return (
        "Asked for the hub at each registration. What stands behind ? is kept as a secret and not shown again. "
        f"{where}"
    )


def _may_be_id(text: str) -> bool:
    try:
        return abs(int(text)) <= MAX_ID
    except ValueError:
        return False


def preview_as_typed(service: ProvisioningService, view: str) -> dict[str, str]:
    """The view is named as the region of the page that it fills."""
    return {
        "hx-post": reverse(f"portal:{view}", kwargs={"service_name": service.name}),
        "hx-trigger": "input changed delay:500ms",
        "hx-target": f"#{view}",
        "hx-swap": "outerHTML",
        "hx-sync": "this:replace",
    }


def twin_as_text(twin: Mapping[str, Any]) -> str:
    """Indented where that fits the bound of the field, so that a form that nobody touched can be saved."""
    text = json.dumps(twin, indent=2, ensure_ascii=False)
    if len(text.encode()) <= MAX_TWIN_BYTES:
        return text
    return json.dumps(twin, ensure_ascii=False, separators=(",", ":"))


def _is_one_twin(*texts: str) -> bool:
    try:
        twins = {json.dumps(_twin_of(one), sort_keys=True) for one in texts}
    except DocumentProblem:
        return False
    return len(twins) == 1


def _twin_of(text: str) -> dict[str, Any]:
    # Browsers send each line end as two characters, which nobody typed.
    return parse_initial_twin(text.replace("\r\n", "\n"))


def _holds_webhook_key(current: IndividualEnrollment | EnrollmentGroup) -> bool:
    """Found out without decrypting it: the form has to open, so that an entry can be disabled in it (R16)."""
    if current.allocation_policy != AllocationPolicy.CUSTOM:
        return False
    return type(current).objects.filter(pk=current.pk).exclude(webhook_query="").exists()


def _held(
    current: IndividualEnrollment | EnrollmentGroup | None,
) -> dict[Slot, ParsedCertificate | UnparsedCertificate]:
    if current is None:
        return {}
    held = current.certificates.exclude(role=HeldRole.HELPER).select_related("certificate").order_by("slot")
    return {Slot(one.slot): as_held(one) for one in held}
