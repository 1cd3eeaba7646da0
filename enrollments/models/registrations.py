"""Registration records with their evidence, and the attempts behind them (R10, R14)."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any

from django.db import models
from django.db.models import F, Q

from enrollments.models import clock
from enrollments.models.certificates import Certificate
from enrollments.models.enrollments import (
    AttestationMechanism,
    EnrollmentGroup,
    Entry,
    IndividualEnrollment,
    new_etag,
)
from enrollments.models.fields import AsciiLower
from enrollments.models.hubs import LinkedHub
from enrollments.models.json_columns import JsonColumn
from enrollments.models.prepared import Prepared
from enrollments.models.services import ProvisioningService
from enrollments.policy.names import registration_key


class RegistrationStatus(models.TextChoices):
    """The spellings of the wire (contract 1.3)."""

    ASSIGNING = "assigning", "Assigning"
    ASSIGNED = "assigned", "Assigned"
    FAILED = "failed", "Failed"
    DISABLED = "disabled", "Disabled"


@cache
def _all_but(entry: type[Entry], name: str, *, under: str) -> tuple[str, ...]:
    """The columns to be deferred where an entry is joined for its primary key and its name alone."""
    kept = {"id", name}
    return tuple(f"{under}__{one.attname}" for one in entry._meta.concrete_fields if one.attname not in kept)


class RegistrationQuerySet(models.QuerySet["RegistrationRecord"]):
    def by_registration_id(self, registration_id: str) -> "RegistrationRecord":
        """Raises RegistrationRecord.DoesNotExist. Case does not count (R2)."""
        return self.get(registration_key=registration_key(registration_id))

    def with_holder(self) -> "RegistrationQuerySet":
        """With the hub, and of the entry that holds the name (R11) what it is called: every registration asks."""
        return self.select_related("hub", "owner_individual", "owner_group").defer(
            *_all_but(IndividualEnrollment, "registration_id", under="owner_individual"),
            *_all_but(EnrollmentGroup, "group_id", under="owner_group"),
            "hub__region_latencies",
            "hub__created_at",
        )

    def assigned(self) -> "RegistrationQuerySet":
        return self.filter(status=RegistrationStatus.ASSIGNED)

    def of_entry(self, entry: IndividualEnrollment | EnrollmentGroup) -> "RegistrationQuerySet":
        if isinstance(entry, IndividualEnrollment):
            return self.filter(individual=entry)
        return self.filter(group=entry)


class RegistrationRecord(models.Model):
    """What became of a device: hub, device ID, deciding entry and when. One per registration ID and service."""

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="registrations")
    registration_id = models.CharField(max_length=128)
    registration_key = models.CharField(max_length=128, editable=False)
    status = models.CharField(max_length=12, choices=RegistrationStatus.choices)
    substatus = models.CharField(max_length=40, blank=True)
    reason = models.CharField(
        max_length=40, blank=True, help_text="A Reason; says why where the status is failed."
    )
    mechanism = models.CharField(max_length=20, choices=AttestationMechanism.choices)

    # The assignment. It outlives a later `disabled` or `failed`: the hub still knows the device (R13).
    hub = models.ForeignKey(LinkedHub, on_delete=models.PROTECT, null=True, related_name="registrations")
    device_id = models.CharField(max_length=128, blank=True)
    assigned_at = models.DateTimeField(null=True)

    # The entry that decided last, and the one that holds the name (R11). An entry that is deleted leaves its name.
    individual = models.ForeignKey(
        IndividualEnrollment, on_delete=models.SET_NULL, null=True, related_name="registrations"
    )
    group = models.ForeignKey(
        EnrollmentGroup, on_delete=models.SET_NULL, null=True, related_name="registrations"
    )
    entry_name = models.CharField(max_length=128, blank=True)
    entry_etag = models.CharField(max_length=80, blank=True)
    owner_individual = models.ForeignKey(
        IndividualEnrollment, on_delete=models.SET_NULL, null=True, related_name="owned_registrations"
    )
    owner_group = models.ForeignKey(
        EnrollmentGroup, on_delete=models.SET_NULL, null=True, related_name="owned_registrations"
    )

    operation_id = models.CharField(max_length=80)
    operation_done_at = models.DateTimeField(null=True)
    epoch = models.PositiveBigIntegerField(
        help_text="The epoch of the service on which this was judged (R12)."
    )
    leaf_thumbprint = models.CharField(max_length=64, blank=True)

    # The evidence in short, so that what a change would do to many devices can be said without looking at each
    # chain: devices of one class have the same above their leaf, signatures verified included.
    evidence_class = models.CharField(max_length=64, blank=True)
    leaf_spki = models.CharField(max_length=64, blank=True)
    leaf_not_before = models.DateTimeField(null=True)
    leaf_not_after = models.DateTimeField(null=True)
    key_fingerprint = models.CharField(
        max_length=80,
        blank=True,
        help_text="Of the symmetric key that was proven: the enrollment's or the group's.",
    )
    key_ids = models.CharField(
        max_length=120,
        blank=True,
        help_text="What identifies the key that was proven, and outlives it (actions/key_identifiers.py).",
    )

    returned_payload = JsonColumn(null=True, help_text="What the allocation webhook gave for the device.")
    etag = models.CharField(max_length=80, default=new_etag)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = RegistrationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["service", "registration_key"], name="one_record_per_registration_id"
            ),
            models.CheckConstraint(
                name="record_key_is_lower_case",
                condition=Q(registration_key=AsciiLower("registration_id")),
            ),
            models.CheckConstraint(
                name="assigned_record_is_complete",
                condition=~Q(status=RegistrationStatus.ASSIGNED)
                | (Q(hub__isnull=False, assigned_at__isnull=False) & ~Q(device_id="")),
            ),
            models.CheckConstraint(
                name="failed_record_says_why",
                condition=~Q(status=RegistrationStatus.FAILED) | ~Q(reason=""),
            ),
        ]
        indexes = [
            models.Index(fields=["service", "updated_at", "id"], name="registration_by_age"),
            models.Index(fields=["service", "status", "registration_key"], name="registration_by_status"),
            models.Index(fields=["group", "registration_key"], name="registration_by_group"),
            models.Index(fields=["service", "evidence_class"], name="registration_by_class"),
            models.Index(fields=["service", "leaf_spki"], name="registration_by_leaf_key"),
            models.Index(fields=["group", "id"], name="registration_by_group_id"),
        ]

    def __str__(self) -> str:
        return self.registration_id

    # The fields as they were read, by their attribute names; nothing of a record that was made here.
    as_read: Mapping[str, Any] = MappingProxyType({})

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.registration_key = registration_key(self.registration_id)
        super().save(*args, **kwargs)

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **how: Any
    ) -> "RegistrationRecord":
        record = super().from_db(db, field_names, values, **how)
        record.as_read = dict(zip(field_names, values, strict=True))
        return record

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self.as_read = MappingProxyType({})

    @classmethod
    def of(cls, service_pk: int, registration_key: str) -> "RegistrationRecord | None":
        """The record of this ID, with its holder and its hub: what every registration and every poll asks."""
        return _of.one(service_pk, registration_key)

    @classmethod
    def at_this_moment(
        cls, service_pk: int, registration_key: str
    ) -> "tuple[RegistrationRecord | None, int, datetime]":
        """The record of this ID, the epoch of its service and the time by the database's clock.

        Inside the admission lock, which nothing changes meanwhile. Where there is a record, it takes one query.
        """
        record = _at_this_moment.one(service_pk, registration_key)
        if record is None:
            return None, *ProvisioningService.epoch_and_time(service_pk)
        read: Any = record  # with its annotations
        return record, read.service_epoch, read.database_now

    @property
    def entry(self) -> IndividualEnrollment | EnrollmentGroup | None:
        return self.individual or self.group


@Prepared
def _of(service: int, key: str) -> RegistrationQuerySet:
    return RegistrationRecord.objects.with_holder().filter(service=service, registration_key=key)


@Prepared
def _at_this_moment(service: int, key: str) -> RegistrationQuerySet:
    found = RegistrationRecord.objects.with_holder().filter(service=service, registration_key=key)
    return found.annotate(service_epoch=F("service__epoch"), database_now=clock.database_now())


class RegistrationEvidence(models.Model):
    """One certificate of the chain with which a device proved itself last; position 0 is the leaf."""

    registration = models.ForeignKey(RegistrationRecord, on_delete=models.CASCADE, related_name="evidence")
    position = models.PositiveSmallIntegerField()
    certificate = models.ForeignKey(Certificate, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["registration", "position"], name="evidence_position_once"),
        ]

    def __str__(self) -> str:
        return f"{self.registration_id}:{self.position}"


class AttemptOutcome(models.TextChoices):
    ASSIGNED = "assigned", "Assigned"
    FAILED = "failed", "Failed"
    DISABLED = "disabled", "Disabled"
    REFUSED = "refused", "Not proven"
    THROTTLED = "throttled", "Throttled"


class RegistrationAttempt(models.Model):
    """Attempts of one device with one cause within one hour that were decided alike, counted.

    Alike: by the same entry, with the same trace, and after proof on the same evidence (R14). `source` tells those
    apart that are not; actions/attempts.py makes it, and says which rows count others together.
    """

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="attempts")
    hour = models.DateTimeField()
    claimed_registration_id = models.CharField(max_length=128)
    registration_key = models.CharField(max_length=128)
    outcome = models.CharField(max_length=10, choices=AttemptOutcome.choices)
    reason = models.CharField(max_length=40)
    source = models.CharField(max_length=64, blank=True)
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    entry_kind = models.CharField(max_length=12, blank=True)
    entry_name = models.CharField(max_length=128, blank=True)
    trace = JsonColumn(default=list)
    leaf_thumbprint = models.CharField(max_length=64, blank=True)
    key_id = models.CharField(
        max_length=64,
        blank=True,
        db_default="",
        help_text="What identifies the enrolled key that a token proved (actions/key_identifiers.py).",
    )
    key_of_group = models.BooleanField(
        null=True,
        help_text="Whether that is the key of a group, from which the device has its own; empty if that was not kept.",
    )
    chain = models.TextField(
        blank=True,
        db_default="",
        help_text="SHA-256 thumbprints of what is kept above the leaf, of who proved itself by a certificate.",
    )
    evidence_class = models.CharField(
        max_length=64,
        blank=True,
        db_default="",
        help_text="That of what is kept of the certificates (actions/evidence.py); empty if that was not noted.",
    )
    credential = models.CharField(
        max_length=64, blank=True, help_text="Who came, as rates and back-off tell one caller from another."
    )
    peer_address = models.CharField(max_length=45, blank=True)
    client = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["service", "hour", "registration_key", "outcome", "reason", "source"],
                name="attempts_of_a_device_counted_per_hour",
            ),
        ]
        indexes = [
            models.Index(fields=["service", "last_at"], name="attempt_by_time"),
            models.Index(fields=["service", "hour", "outcome"], name="attempt_by_hour"),
            models.Index(fields=["service", "registration_key", "last_at"], name="attempt_by_device"),
        ]

    def __str__(self) -> str:
        return f"{self.claimed_registration_id} {self.outcome}"
