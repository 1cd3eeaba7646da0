"""Entries: individual enrollments and enrollment groups (R2, R4)."""

import base64
import secrets
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q

from enrollments.models.fields import AsciiLower, EncryptedTextField
from enrollments.models.json_columns import JsonColumn
from enrollments.models.services import ProvisioningService
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.names import registration_key
from enrollments.policy.reprovisioning import ReprovisioningPolicy

if TYPE_CHECKING:
    from enrollments.models.hubs import LinkedHub


class AttestationMechanism(models.TextChoices):
    X509 = "x509", "X.509"
    SYMMETRIC_KEY = "symmetricKey", "Symmetric key"
    TPM = "tpm", "TPM"


class ProvisioningStatus(models.TextChoices):
    ENABLED = "enabled", "Enabled"
    DISABLED = "disabled", "Disabled"


def new_etag() -> str:
    """The contract's shape (6.3): base64 of a quoted GUID-like string; changes with each write."""
    return base64.b64encode(f'"{uuid.uuid4()}"'.encode()).decode()


def new_symmetric_key() -> str:
    """64 random bytes, the length that the contract (2.2) documents for keys made by the service."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


def empty_twin() -> dict[str, object]:
    return {"tags": {}, "properties": {"desired": {}}}


# A time at which a switch turns has somebody who wanted it; without one nothing of an earlier one is left.
_SCHEDULE_IS_WHOLE = Q(switches_at__isnull=True, scheduled_by="", schedule_reason="") | (
    Q(switches_at__isnull=False) & ~Q(scheduled_by="")
)


class Entry(models.Model):
    """What an individual enrollment and a group have in common."""

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="%(class)ss")
    mechanism = models.CharField(max_length=20, choices=AttestationMechanism.choices)
    enabled = models.BooleanField(default=True)
    switches_at = models.DateTimeField(
        null=True,
        help_text="When the switch turns, once, by the database's clock. Empty: when somebody turns it.",
    )
    scheduled_by = models.CharField(
        max_length=150, blank=True, help_text="Who wanted that; the name is frozen, for the history."
    )
    schedule_reason = models.CharField(max_length=500, blank=True)
    primary_key = EncryptedTextField(blank=True, default="")
    secondary_key = EncryptedTextField(blank=True, default="")
    primary_key_id = models.CharField(
        max_length=32, blank=True, help_text="Identifies the key, and tells nothing about it."
    )
    secondary_key_id = models.CharField(max_length=32, blank=True)
    allocation_policy = models.CharField(
        max_length=20,
        blank=True,
        choices=[(p.value, p.label) for p in AllocationPolicy],
        help_text="Empty: the policy of the service.",
    )
    webhook_url = models.CharField(
        max_length=1000, blank=True, help_text="For the policy custom; without its query."
    )
    webhook_query = EncryptedTextField(
        blank=True, default="", help_text="The query of the webhook's URL, which may hold a key."
    )
    webhook_api_version = models.CharField(max_length=30, blank=True)
    hubs: "models.ManyToManyField[LinkedHub, models.Model]" = models.ManyToManyField(
        "LinkedHub", blank=True, related_name="+"
    )
    reprovisioning_policy = models.CharField(
        max_length=20,
        choices=[(p.value, p.label) for p in ReprovisioningPolicy],
        default=ReprovisioningPolicy.MIGRATE.value,
    )
    initial_twin = JsonColumn(default=empty_twin, encoder=DjangoJSONEncoder)
    iot_edge = models.BooleanField(default=False)
    etag = models.CharField(max_length=80, default=new_etag)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True

    def is_due(self, at: datetime) -> bool:
        """Whether the switch should have turned by then, and nobody has written that down yet."""
        return self.switches_at is not None and self.switches_at <= at

    @property
    def disabled_until(self) -> datetime | None:
        """When it is enabled by itself; None where it is enabled, or disabled until further notice."""
        return None if self.enabled else self.switches_at

    @property
    def status(self) -> ProvisioningStatus:
        return ProvisioningStatus.ENABLED if self.enabled else ProvisioningStatus.DISABLED


# Columns that stay unread wherever they are not needed: shutting out works without the key that decrypts them (R16).
SECRETS = ("primary_key", "secondary_key", "webhook_query")

# Of an entry, what neither a decision nor an assignment of a device that comes again asks for.
NOT_ASKED = ("scheduled_by", "schedule_reason", "initial_twin", "created_at", "updated_at")
# What identifies the keys, and is no secret.
KEY_IDS = ("primary_key_id", "secondary_key_id")


def secrets_of(*relations: str) -> list[str]:
    """The secret columns of entries that are joined under these names, to be deferred."""
    return [f"{relation}__{column}" for relation in relations for column in SECRETS]


class IndividualEnrollmentQuerySet(models.QuerySet["IndividualEnrollment"]):
    def without_secrets(self) -> "IndividualEnrollmentQuerySet":
        return self.defer(*SECRETS)

    def by_registration_id(self, registration_id: str) -> "IndividualEnrollment":
        """Raises IndividualEnrollment.DoesNotExist. Case does not count (R2)."""
        return self.get(registration_key=registration_key(registration_id))


class IndividualEnrollment(Entry):
    """One device, named by its registration ID."""

    registration_id = models.CharField(max_length=128)
    registration_key = models.CharField(max_length=128, editable=False)
    device_id = models.CharField(max_length=128, blank=True, help_text="Empty: the registration ID.")
    endorsement_key = models.BinaryField(null=True, editable=True)
    storage_root_key = models.BinaryField(null=True, editable=True)
    device_information = JsonColumn(
        null=True, blank=True, help_text="What back ends keep here about the device; nothing here reads it."
    )

    objects = IndividualEnrollmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["service", "registration_key"], name="registration_id_once_per_service"
            ),
            models.CheckConstraint(
                name="individual_with_custom_policy_has_webhook",
                condition=~Q(allocation_policy=AllocationPolicy.CUSTOM.value) | ~Q(webhook_url=""),
            ),
            models.CheckConstraint(
                name="registration_key_is_lower_case",
                condition=Q(registration_key=AsciiLower("registration_id")),
            ),
            models.CheckConstraint(
                name="individual_has_credential_of_its_mechanism",
                condition=Q(
                    mechanism=AttestationMechanism.X509,
                    primary_key="",
                    secondary_key="",
                    endorsement_key__isnull=True,
                )
                | (
                    Q(mechanism=AttestationMechanism.SYMMETRIC_KEY, endorsement_key__isnull=True)
                    & ~Q(primary_key="")
                    & ~Q(secondary_key="")
                )
                | Q(
                    mechanism=AttestationMechanism.TPM,
                    primary_key="",
                    secondary_key="",
                    endorsement_key__isnull=False,
                ),
            ),
            models.CheckConstraint(name="individual_schedule_is_whole", condition=_SCHEDULE_IS_WHOLE),
        ]
        indexes = [
            models.Index(
                fields=["service", "switches_at"],
                name="individual_by_switch",
                condition=Q(switches_at__isnull=False),
            ),
            models.Index(fields=["service", "enabled", "registration_key"], name="individual_by_status"),
            models.Index(fields=["service", "mechanism", "registration_key"], name="individual_by_mechanism"),
            models.Index(fields=["service", "created_at", "id"], name="individual_by_age"),
            models.Index(fields=["service", "id"], name="individual_by_id"),
        ]

    def __str__(self) -> str:
        return self.registration_id

    def save(self, *args: object, **kwargs: object) -> None:
        self.registration_key = registration_key(self.registration_id)
        super().save(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came


class TpmChallenges(models.Model):
    """What a TPM was challenged with: the pending secret, the one before it, and the key that was proven last.

    One row per enrollment, whatever number of challenges is asked for, by whomever. All of it holds for the
    endorsement key that it was made for and for no other.
    """

    individual = models.OneToOneField(
        IndividualEnrollment, on_delete=models.CASCADE, related_name="tpm_challenges"
    )
    endorsement_key_sha256 = models.CharField(max_length=64)
    pending_secret = EncryptedTextField()
    pending_since = models.DateTimeField()
    former_secret = EncryptedTextField(blank=True, default="")
    former_until = models.DateTimeField(null=True)
    recent_storage_root_keys = JsonColumn(
        default=list,
        help_text="Who named which in the latest challenges: pairs of source and base64, newest first.",
    )
    proven_key = EncryptedTextField(blank=True, default="")
    proven_at = models.DateTimeField(null=True)
    proven_storage_root_key = models.BinaryField(null=True)
    hub_key = EncryptedTextField(
        blank=True, default="", help_text="What the device was given to sign the tokens for its hub with."
    )

    def __str__(self) -> str:
        return f"challenges of {self.individual_id}"


class EnrollmentGroupQuerySet(models.QuerySet["EnrollmentGroup"]):
    def without_secrets(self) -> "EnrollmentGroupQuerySet":
        return self.defer(*SECRETS)

    def with_predecessor(self) -> "EnrollmentGroupQuerySet":
        """Each with its predecessor, of which no secret is read (R16)."""
        return self.select_related("predecessor").defer(*secrets_of("predecessor"))

    def ever_enabled(self) -> "EnrollmentGroupQuerySet":
        """Those that are enabled, or will be at some time if nobody touches their switch; or were until it turned."""
        return self.exclude(enabled=False, switches_at__isnull=True)

    def by_group_id(self, group_id: str) -> "EnrollmentGroup":
        """Raises EnrollmentGroup.DoesNotExist. Case does not count, as with registration IDs."""
        return self.get(group_key=registration_key(group_id))


class EnrollmentGroup(Entry):
    """All devices below one CA, or all with keys derived from those of the group (R4)."""

    group_id = models.CharField(max_length=128)
    group_key = models.CharField(max_length=128, editable=False)
    predecessor = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="successors",
        help_text="The group whose devices this one may take over (CA rollover, R11).",
    )

    objects = EnrollmentGroupQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "group_key"], name="group_id_once_per_service"),
            models.CheckConstraint(
                name="group_with_custom_policy_has_webhook",
                condition=~Q(allocation_policy=AllocationPolicy.CUSTOM.value) | ~Q(webhook_url=""),
            ),
            models.CheckConstraint(
                name="group_key_is_lower_case", condition=Q(group_key=AsciiLower("group_id"))
            ),
            models.CheckConstraint(
                name="group_has_credential_of_its_mechanism",
                condition=Q(mechanism=AttestationMechanism.X509, primary_key="", secondary_key="")
                | (
                    Q(mechanism=AttestationMechanism.SYMMETRIC_KEY)
                    & ~Q(primary_key="")
                    & ~Q(secondary_key="")
                ),
            ),
            models.CheckConstraint(name="group_schedule_is_whole", condition=_SCHEDULE_IS_WHOLE),
        ]
        indexes = [
            models.Index(
                fields=["service", "switches_at"],
                name="group_by_switch",
                condition=Q(switches_at__isnull=False),
            ),
            models.Index(fields=["service", "enabled", "group_key"], name="group_by_status"),
            models.Index(fields=["service", "created_at", "id"], name="group_by_age"),
            models.Index(fields=["service", "id"], name="group_by_id"),
            models.Index(
                fields=["service", "id"], name="group_with_keys", condition=Q(mechanism="symmetricKey")
            ),
        ]

    def __str__(self) -> str:
        return self.group_id

    def save(self, *args: object, **kwargs: object) -> None:
        self.group_key = registration_key(self.group_id)
        super().save(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    @property
    def predecessor_name(self) -> str:
        """Its ID, or nothing. Where the predecessor was not read with the group, no more of it is read (R16)."""
        if self.predecessor_id is None or "predecessor" in self._state.fields_cache:
            return self.predecessor.group_id if self.predecessor else ""
        names = EnrollmentGroup.objects.filter(pk=self.predecessor_id).values_list("group_id", flat=True)
        return names.first() or ""
