"""Forms about individual enrollments and groups. Translation only; the rules are in the actions."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from django.utils.html import format_html

from enrollments.actions.certificates import parsed
from enrollments.actions.enrollment_groups import GroupSpec, referred
from enrollments.actions.enrollments import IndividualSpec
from enrollments.actions.entries import AlreadyEnrolled, Kind
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.audit.record import MAX_REASON
from enrollments.errors import Invalid
from enrollments.models import (
    AttestationMechanism,
    CaCertificate,
    EnrollmentGroup,
    HeldRole,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
    Slot,
)
from enrollments.models.ca_certificates import MAX_NAME, is_ca_name
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.documents import MAX_TWIN_BYTES, DocumentProblem, parse_initial_twin
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.policy.reprovisioning import ReprovisioningPolicy
from enrollments.portal.certificate_input import Card, Files, Given, as_text, read_slots
from enrollments.portal.paging import MAX_ID
from enrollments.portal.tpm_input import (
    LABELS,
    GivenKey,
    KeyPreview,
    cards_held,
    keys_as_text,
    preview_of_keys,
    read_tpm_keys,
)

if TYPE_CHECKING:
    _SeveralHubs = forms.ModelMultipleChoiceField[LinkedHub]
else:
    _SeveralHubs = forms.ModelMultipleChoiceField  # cannot be subscripted while running

_PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
# Names of CA certificates that a field offers; others can be typed all the same.
MAX_OFFERED = 200
OF_GROUPS = (AttestationMechanism.X509, AttestationMechanism.SYMMETRIC_KEY)


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
    attrs = {**_PLAIN, "rows": 5, "placeholder": "-----BEGIN CERTIFICATE-----"}
    return forms.CharField(
        label=f"{slot.label} certificate as text",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs=attrs),
    )


def _remove(slot: Slot) -> forms.BooleanField:
    return forms.BooleanField(label=f"Remove the {slot} certificate", required=False)


def _reference(slot: Slot) -> forms.CharField:
    return forms.CharField(
        label=f"{slot.label} uploaded CA certificate",
        required=False,
        max_length=MAX_NAME,
        widget=forms.TextInput(attrs={**_PLAIN, "list": "ca-names", "placeholder": "Its name"}),
    )


def _key(slot: Slot) -> forms.CharField:
    # render_value: a key that was typed never comes back in a page.
    widget = forms.PasswordInput(render_value=False, attrs={"autocomplete": "off", "spellcheck": "false"})
    return forms.CharField(label=f"{slot.label} key", required=False, widget=widget)


def _tpm_key(name: str, begins: str, help_text: str) -> forms.CharField:
    widget = forms.Textarea(attrs={**_PLAIN, "rows": 4, "placeholder": f"{begins}…"})
    return forms.CharField(
        label=f"{LABELS[name]} as text", required=False, widget=widget, help_text=help_text
    )


def _tpm_file(name: str) -> forms.FileField:
    widget = forms.FileInput(attrs={"data-submits": "tpm-preview-button"})
    return forms.FileField(label=f"{LABELS[name]} file", required=False, allow_empty_file=True, widget=widget)


class AddressInput(forms.TextInput):
    """A URL of which a page shows nothing from the `?` on: that may be a key."""

    def format_value(self, value: Any) -> str:
        return str(value or "").partition("?")[0]


class HubsField(_SeveralHubs):
    """Hubs of the service. A number that no hub can have is refused here: not every database can be asked for it."""

    def clean(self, value: Any) -> Any:
        for given in value or ():
            if not _may_be_id(given):
                raise ValidationError(self.error_messages["invalid_pk_value"], code="invalid_pk_value")
        return super().clean(value)


class EntryForm(forms.Form):
    """What individual enrollments and groups have in common. `current` is the entry that is edited, if one is."""

    kind: Kind
    # The entry that holds already what was to be enrolled.
    in_the_way: EntryRef | None = None

    primary_upload = _file(Slot.PRIMARY)
    primary_pem = _pem(Slot.PRIMARY)
    primary_remove = _remove(Slot.PRIMARY)
    secondary_upload = _file(Slot.SECONDARY)
    secondary_pem = _pem(Slot.SECONDARY)
    secondary_remove = _remove(Slot.SECONDARY)
    primary_key = _key(Slot.PRIMARY)
    secondary_key = _key(Slot.SECONDARY)
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
        widget=AddressInput(attrs={**_PLAIN, "placeholder": "https://"}),
    )
    webhook_api_version = forms.CharField(
        label="API version for the webhook",
        required=False,
        max_length=30,
        widget=forms.TextInput(attrs=_PLAIN),
        help_text="Empty: 2021-10-01.",
    )
    reprovisioning_policy = forms.ChoiceField(
        label="Reprovisioning policy",
        choices=[(policy.value, policy.label) for policy in ReprovisioningPolicy],
        initial=ReprovisioningPolicy.MIGRATE.value,
        help_text="What becomes of a device that registers again and is assigned elsewhere. Migrate: it moves, and its "
        "twin with it. Reset: it moves, and begins with the initial twin. Never: it stays where it is.",
    )
    initial_twin = forms.CharField(
        label="Initial twin state",
        required=False,
        widget=forms.Textarea(attrs={**_PLAIN, "rows": 7}),
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

    def __init__(
        self,
        service: ProvisioningService,
        data: QueryDict | None = None,
        files: "Files | None" = None,
        *,
        current: IndividualEnrollment | EnrollmentGroup | None = None,
    ) -> None:
        self.service, self.current = service, current
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
            self.fields[f"{slot}_pem"].widget.attrs.update(_preview_as_typed(service, "certificate-preview"))
            if slot not in self.held:
                del self.fields[f"{slot}_remove"]

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
        }

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
            # Browsers send each line end as two characters, which nobody typed.
            return parse_initial_twin(self.cleaned_data["initial_twin"].replace("\r\n", "\n"))
        except DocumentProblem as problem:
            raise ValidationError(str(problem)) from None

    def clean(self) -> dict[str, Any]:
        for slot, given in self.given.items():
            if given.problem:
                self.add_error(self._place_of(slot), given.sentence)
        return self.cleaned_data

    def say_what_is_not_shown_again(self) -> None:
        """Beside the field of a form that comes back: whoever saves it again has to give the webhook's key again."""
        asks = self.is_bound and self.data.get("allocation_policy") == AllocationPolicy.CUSTOM
        if asks and "?" in self.data.get("webhook_url", ""):
            self.add_error(
                "webhook_url",
                "What stood behind ? is not shown again here, since it may be a key: give it once more.",
            )

    def certificates(self) -> dict[Slot, ParsedCertificate]:
        """What the entry is to hold: what was given; else what it holds, unless that is to be removed."""
        chosen: dict[Slot, ParsedCertificate] = {}
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


class IndividualForm(EntryForm):
    kind = "device"

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
        widget=forms.TextInput(attrs=_PLAIN),
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
        widget=forms.TextInput(attrs=_PLAIN),
        help_text="Empty: the registration ID.",
    )

    def __init__(
        self,
        service: ProvisioningService,
        data: QueryDict | None = None,
        files: "Files | None" = None,
        *,
        current: IndividualEnrollment | None = None,
    ) -> None:
        self.given_keys: dict[str, GivenKey] = {}
        if data is not None:
            self.given_keys = read_tpm_keys(data, files or MultiValueDict())
            data = keys_as_text(data, self.given_keys)
        super().__init__(service, data, files, current=current)
        self.tpm_cards_held = cards_held(current) if current is not None else {}
        for name in LABELS:
            self.fields[name].widget.attrs.update(_preview_as_typed(service, "tpm-preview"))
        if current is not None:
            del self.fields["registration_id"]

    @property
    def tpm_previews(self) -> list[KeyPreview]:
        return preview_of_keys(self.given_keys)

    def _initial(self, current: IndividualEnrollment | EnrollmentGroup) -> dict[str, Any]:
        assert isinstance(current, IndividualEnrollment)
        return {**super()._initial(current), "device_id": current.device_id}

    def clean_registration_id(self) -> str:
        return _checked_name(self.cleaned_data["registration_id"])

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


class GroupForm(EntryForm):
    kind = "ca"

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
        widget=forms.TextInput(attrs=_PLAIN),
        error_messages={"required": "Give the group an ID."},
    )
    primary_reference = _reference(Slot.PRIMARY)
    secondary_reference = _reference(Slot.SECONDARY)
    predecessor = forms.CharField(
        label="Predecessor group ID",
        required=False,
        max_length=128,
        widget=forms.TextInput(attrs=_PLAIN),
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
        predecessor = current.predecessor.group_id if current.predecessor else ""
        held = current.certificates.exclude(ca_certificate=None).select_related("ca_certificate")
        references = {f"{one.slot}_reference": one.ca_certificate.name for one in held if one.ca_certificate}
        return {**super()._initial(current), "predecessor": predecessor, **references}

    @property
    def ca_names(self) -> list[str]:
        """What the fields offer while somebody types."""
        names = self.service.ca_certificates.order_by("name_key").values_list("name", flat=True)
        return list(names[:MAX_OFFERED])

    @property
    def helper_cards(self) -> list[Card]:
        return [Card.of(one, self.kind, helper=True) for one in self.helpers.values()]

    def clean_group_id(self) -> str:
        return _checked_name(self.cleaned_data["group_id"])

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

    def certificates(self) -> dict[Slot, ParsedCertificate]:
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
            return self.service.enrollmentgroups.by_group_id(group_id)
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


def _checked_name(name: str) -> str:
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


def _preview_as_typed(service: ProvisioningService, view: str) -> dict[str, str]:
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


def _holds_webhook_key(current: IndividualEnrollment | EnrollmentGroup) -> bool:
    """Found out without decrypting it: the form has to open, so that an entry can be disabled in it (R16)."""
    if current.allocation_policy != AllocationPolicy.CUSTOM:
        return False
    return type(current).objects.filter(pk=current.pk).exclude(webhook_query="").exists()


def _held(current: IndividualEnrollment | EnrollmentGroup | None) -> dict[Slot, ParsedCertificate]:
    if current is None:
        return {}
    held = current.certificates.exclude(role=HeldRole.HELPER).order_by("slot")
    return {Slot(slot): parsed(pem) for slot, pem in held.values_list("slot", "certificate__pem")}


def _helpers(current: IndividualEnrollment | EnrollmentGroup | None) -> dict[str, ParsedCertificate]:
    if current is None:
        return {}
    held = current.certificates.filter(role=HeldRole.HELPER).order_by("pk")
    helpers = [parsed(pem) for pem in held.values_list("certificate__pem", flat=True)]
    return {one.thumbprint_sha256: one for one in helpers}


def _once(certificates: Iterable[ParsedCertificate]) -> list[ParsedCertificate]:
    return list({one.thumbprint_sha256: one for one in certificates}.values())
