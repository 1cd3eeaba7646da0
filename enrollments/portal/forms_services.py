"""Forms about provisioning services and their linked hubs. Translation only; the rules are in the actions."""

from django import forms
from django.db.models import Field

from enrollments.models import LinkedHub, ProvisioningService
from enrollments.policy.allocation import AllocationPolicy

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


class SettingsForm(forms.Form):
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
        choices=[(policy.value, policy.label) for policy in AllocationPolicy],
        help_text=_help(ProvisioningService, "allocation_policy"),
    )
    retry_after_seconds = forms.IntegerField(
        label="Retry-After in seconds",
        min_value=1,
        max_value=300,
        help_text=_help(ProvisioningService, "retry_after_seconds"),
    )
    attempts_kept_days = forms.IntegerField(
        label="Days that attempts are kept",
        min_value=1,
        max_value=3650,
        help_text=_help(ProvisioningService, "attempts_kept_days"),
    )
    reason = forms.CharField(
        label="Reason", max_length=500, required=False, help_text="Kept in the history with the change."
    )
    version = forms.CharField(widget=forms.HiddenInput)


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
        "apply_allocation_policy",
        "reason",
    )


class HubChangeForm(HubForm):
    """Name and host name of a linked hub stay, so they are shown and not asked for."""

    name = None  # type: ignore[assignment]  # Django's way to leave out an inherited field
    host_name = None  # type: ignore[assignment]  # the same
