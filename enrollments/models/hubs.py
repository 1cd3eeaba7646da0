"""Linked hubs, and the device identities that the built-in ones hold."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from enrollments.models.enrollments import empty_twin, new_etag
from enrollments.models.fields import EncryptedTextField
from enrollments.models.json_columns import JsonColumn
from enrollments.models.services import ProvisioningService, host_name_validator


class HubKind(models.TextChoices):
    BUILT_IN = "builtin", "Built-in"


class LinkedHub(models.Model):
    """A hub that devices of a service can be assigned to."""

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="hubs")
    name = models.CharField(max_length=50)
    host_name = models.CharField(
        max_length=253, validators=[host_name_validator], help_text="What a device is told to connect to."
    )
    kind = models.CharField(max_length=20, choices=HubKind.choices, default=HubKind.BUILT_IN)
    allocation_weight = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(1000)]
    )
    latency_ms = models.PositiveIntegerField(
        default=0, help_text="For the policy lowest latency: as measured by you, in milliseconds."
    )
    region_latencies = JsonColumn(
        default=dict,
        blank=True,
        help_text="Latency in milliseconds by region, for devices that name theirs in the payload.",
    )
    apply_allocation_policy = models.BooleanField(
        default=True, help_text="Off: only entries that name this hub are assigned to it."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["service", "name"], name="hub_name_once_per_service"),
            models.UniqueConstraint(fields=["service", "host_name"], name="hub_host_once_per_service"),
            models.CheckConstraint(
                name="hub_weight_in_range",
                condition=Q(allocation_weight__gte=1, allocation_weight__lte=1000),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class HubDevice(models.Model):
    """A device identity at a built-in hub, with its twin.

    One device ID at one hub belongs to one registration ID (R11); device IDs that differ in case only are the
    same here, since nobody could tell them apart in a log.
    """

    hub = models.ForeignKey(LinkedHub, on_delete=models.PROTECT, related_name="devices")
    device_id = models.CharField(max_length=128)
    device_key = models.CharField(max_length=128, editable=False)
    registration_key = models.CharField(max_length=128, editable=False)
    thumbprint_sha256 = models.CharField(
        max_length=64, blank=True, help_text="The leaf it was assigned with."
    )
    primary_key = EncryptedTextField(blank=True, default="")
    secondary_key = EncryptedTextField(blank=True, default="")
    iot_edge = models.BooleanField(default=False)
    twin = JsonColumn(default=empty_twin)
    etag = models.CharField(max_length=80, default=new_etag)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hub", "device_key"], name="device_id_once_per_hub"),
        ]
        indexes = [models.Index(fields=["hub", "registration_key"], name="hub_device_by_registration")]

    def __str__(self) -> str:
        return self.device_id
