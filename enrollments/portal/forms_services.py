"""Forms about provisioning services and their linked hubs. Translation only; the rules are in the actions."""

import re
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Field

from enrollments.actions.services import SETTINGS
from enrollments.models import LinkedHub, ProvisioningService
from enrollments.models.services import MOST_PER_DEVICE
from enrollments.policy.allocation import MAX_REGION, OF_A_SERVICE
from enrollments.portal.forms_opened import OpenedForm

# Milliseconds: digits, and few of them.
_FIGURE = re.compile(r"[0-9]{1,6}")
_PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


def _help(model: type[ProvisioningService] | type[LinkedHub], field: str) -> str:
    column = model._meta.get_field(field)
    assert isinstance(column, Field)
    return str(column.help_text)


class ServiceForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=50,
        help_text=_help(ProvisioningService, "name"),
        widget=forms.TextInput(attrs={**_PLAIN, "autofocus": True}),
    )
    description = forms.CharField(label="Description", max_length=200, required=False)


@dataclass(frozen=True, slots=True)
class Section:
    """Fields of a long form that belong together. `is_grid`: short ones, side by side where there is room."""

    title: str
    fields: tuple[str, ...]
    is_grid: bool = False


class SettingsForm(OpenedForm):
    description = forms.CharField(label="Description", max_length=200, required=False)
    host_name = forms.CharField(
        label="Host name of the service endpoint",
        max_length=253,
        required=False,
        help_text=_help(ProvisioningService, "host_name"),
        widget=forms.TextInput(attrs=_PLAIN),
    )
    allocation_policy = forms.ChoiceField(
        label="Allocation policy",
        choices=[(policy.value, policy.label) for policy in OF_A_SERVICE],
        help_text=_help(ProvisioningService, "allocation_policy"),
    )
    symmetric_key_groups = forms.BooleanField(
        label="Enrollment groups may use symmetric keys",
        required=False,
        help_text="Whoever reads the key of such a group can be any device of it. Switched off again, groups that "
        "have keys admit nobody, and those that are disabled still bar.",
    )
    proof_of_possession = forms.BooleanField(
        label="Enrollment groups need proof of possession",
        required=False,
        help_text="A group admits devices only if somebody has proven to hold the key of its CA. Without proof, it "
        "admits nobody, and bars all the same where it is disabled. Groups with symmetric keys have no CA to prove.",
    )
    shared_access_keys = forms.BooleanField(
        label="Back ends may use the keys of access policies",
        required=False,
        help_text="Switched off, the service API takes API tokens of people and nothing else.",
    )
    retry_after_seconds = forms.IntegerField(
        label="Retry-After in seconds",
        min_value=1,
        max_value=300,
        help_text=_help(ProvisioningService, "retry_after_seconds"),
    )
    longest_retry_after_seconds = forms.IntegerField(
        label="Longest Retry-After of refused devices in seconds",
        min_value=1,
        max_value=86_400,
        help_text=_help(ProvisioningService, "longest_retry_after_seconds"),
    )
    device_registrations_per_minute = forms.IntegerField(
        label="Registrations of one device per minute",
        min_value=1,
        max_value=MOST_PER_DEVICE,
        help_text=_help(ProvisioningService, "device_registrations_per_minute"),
    )
    registrations_per_minute = forms.IntegerField(
        label="Registrations of all devices per minute",
        min_value=1,
        max_value=1_000_000,
        help_text=_help(ProvisioningService, "registrations_per_minute"),
    )
    attempts_kept_days = forms.IntegerField(
        label="Days that attempts are kept",
        min_value=1,
        max_value=3650,
        help_text=f"{_help(ProvisioningService, 'attempts_kept_days')} Records of devices that were turned away and "
        "never assigned go with their attempts.",
    )
    reason = forms.CharField(
        label="Reason", max_length=500, required=False, help_text="Kept in the history with the change."
    )
    version = forms.CharField(widget=forms.HiddenInput)

    SECTIONS = (
        Section("Service", ("description", "host_name")),
        Section("Allocation", ("allocation_policy",)),
        Section("Enrollment groups", ("symmetric_key_groups", "proof_of_possession")),
        Section("Service API", ("shared_access_keys",)),
        Section(
            "Rates and back-off",
            (
                "retry_after_seconds",
                "longest_retry_after_seconds",
                "device_registrations_per_minute",
                "registrations_per_minute",
            ),
            is_grid=True,
        ),
        Section("Attempts", ("attempts_kept_days",)),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.carry_what_it_was_opened_with(SETTINGS)

    @property
    def sections(self) -> list[tuple[Section, list[forms.BoundField]]]:
        """The settings under headings; what belongs to saving them stands below."""
        return [(section, [self[name] for name in section.fields]) for section in self.SECTIONS]


class HubForm(forms.Form):
    name = forms.CharField(label="Name", max_length=50, widget=forms.TextInput(attrs=_PLAIN))
    host_name = forms.CharField(
        label="Host name",
        max_length=253,
        help_text=_help(LinkedHub, "host_name"),
        widget=forms.TextInput(attrs=_PLAIN),
    )
    allocation_weight = forms.IntegerField(
        label="Weight",
        min_value=1,
        max_value=1000,
        initial=1,
        help_text="For the policy evenly weighted: its share of the devices, 1 to 1000.",
    )
    latency_ms = forms.IntegerField(
        label="Latency in milliseconds",
        min_value=0,
        max_value=2**31 - 1,
        initial=0,
        help_text=_help(LinkedHub, "latency_ms"),
    )
    region_latencies = forms.CharField(
        label="Latency by region",
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={**_PLAIN, "rows": 3, "placeholder": "west: 12"}),
        help_text="A line for each region that devices may name in their payload: its name, a colon, milliseconds. "
        "Devices that name none of these have the latency that is not of a region.",
    )
    apply_allocation_policy = forms.BooleanField(
        label="Allocation policies may pick this hub",
        required=False,
        initial=True,
        help_text=_help(LinkedHub, "apply_allocation_policy"),
    )
    reason = forms.CharField(label="Reason", max_length=500, required=False)
    field_order = (
        "name",
        "host_name",
        "allocation_weight",
        "latency_ms",
        "region_latencies",
        "apply_allocation_policy",
        "reason",
    )

    def clean_region_latencies(self) -> dict[str, int]:
        latencies: dict[str, int] = {}
        for line in self.cleaned_data["region_latencies"].splitlines():
            region, _, figure = (part.strip() for part in line.partition(":"))
            if not line.strip():
                continue
            if not region or len(region) > MAX_REGION or not _FIGURE.fullmatch(figure):
                raise ValidationError(f"{line.strip()[:80]!r} cannot be read: write a line such as west: 12.")
            if region.lower() in latencies:
                raise ValidationError(f"The region {region} stands there twice (case does not count).")
            latencies[region.lower()] = int(figure)
        return latencies


def latencies_as_text(latencies: dict[str, int]) -> str:
    return "\n".join(f"{region}: {figure}" for region, figure in sorted(latencies.items()))


class HubChangeForm(HubForm):
    """Name and host name of a linked hub stay, so they are shown and not asked for."""

    name = None  # type: ignore[assignment]  # Django's way to leave out an inherited field
    host_name = None  # type: ignore[assignment]  # the same
