"""Provisioning services: the tenants of an installation, and their settings (R1)."""

import secrets
from datetime import datetime
from typing import Any, NamedTuple

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from enrollments.models import clock
from enrollments.models.prepared import Prepared
from enrollments.models.switches import ALL_SHUT, AsOf
from enrollments.policy.allocation import OF_A_SERVICE, AllocationPolicy

host_name_validator = RegexValidator(
    r"\A[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\Z",
    "A host name consists of letters, digits, hyphens and dots, such as hub-1.example.net.",
)


# How many of its latest registrations are remembered of a device.
MOST_PER_DEVICE = 60


def new_id_scope() -> str:
    """`0ne` and 8 hex digits (R1). The unique column and the absence of any way to delete a service keep it single."""
    return f"0ne{secrets.token_hex(4).upper()}"


class Standing(NamedTuple):
    """What decisions read of a service, as of one moment (R12).

    groups_with_keys_admit: whether groups with symmetric keys may admit.
    proof_of_possession: whether a group admits only where possession of its CA's key is proven.
    now: by the database's clock.
    next_switch: when the switch of an entry turns by itself next; past where one has, and nobody wrote that down yet.
    """

    epoch: int
    groups_with_keys_admit: bool
    proof_of_possession: bool
    now: datetime
    next_switch: datetime | None

    @property
    def is_switch_due(self) -> bool:
        return self.next_switch is not None and self.next_switch <= self.now

    def as_of_now(self, *, recorded_only: bool = False) -> AsOf:
        return AsOf(self.now, self.is_switch_due, recorded_only)

    def as_of(self, at: datetime) -> AsOf:
        """At a time to come, if everything that is scheduled until then happens. What has been is as it is now."""
        if at == ALL_SHUT:
            return AsOf(at, self.next_switch is not None)
        at = max(at, self.now)
        return AsOf(at, self.next_switch is not None and self.next_switch <= at)


class ProvisioningService(models.Model):
    """One provisioning service. It is never deleted, so its ID scope is never given to another."""

    name = models.CharField(
        max_length=50,
        unique=True,
        validators=[
            RegexValidator(
                r"\A[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z", "Use lower-case letters, digits and inner hyphens."
            )
        ],
        help_text="Appears in addresses and commands. Lower-case letters, digits and hyphens.",
    )
    id_scope = models.CharField(max_length=11, unique=True, default=new_id_scope, editable=False)
    description = models.CharField(max_length=200, blank=True)
    host_name = models.CharField(
        max_length=253,
        unique=True,
        null=True,
        blank=True,
        validators=[host_name_validator],
        error_messages={"unique": "This host name cannot be used: choose another one."},
        help_text="The host name by which back ends reach this service, if several services share the listener.",
    )
    allocation_policy = models.CharField(
        max_length=20,
        choices=[(p.value, p.label) for p in OF_A_SERVICE],
        default=AllocationPolicy.HASHED.value,
        help_text="For entries that do not choose one themselves.",
    )
    symmetric_key_groups = models.BooleanField(
        default=False,
        help_text="Lets enrollment groups use symmetric keys (R4). Off for every new service.",
    )
    proof_of_possession = models.BooleanField(
        default=False,
        help_text="Lets enrollment groups admit devices only where possession of their CA's key is proven (R7). Off "
        "for every new service.",
    )
    shared_access_keys = models.BooleanField(
        default=True,
        help_text="Lets back ends prove themselves with the keys of access policies. Without, only with API tokens.",
    )
    retry_after_seconds = models.PositiveSmallIntegerField(
        default=3,
        validators=[MinValueValidator(1), MaxValueValidator(300)],
        help_text="How long a device is told to wait before it asks again, in seconds (1 to 300).",
    )
    longest_retry_after_seconds = models.PositiveIntegerField(
        default=300,
        validators=[MinValueValidator(1), MaxValueValidator(86_400)],
        help_text="Retry-After of a refused device doubles with each refusal in a row, up to this many seconds "
        "(1 to 86400). Most clients believe nothing above 300.",
    )
    device_registrations_per_minute = models.PositiveSmallIntegerField(
        default=12,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_PER_DEVICE)],
        help_text=f"How often one device may register, 1 to {MOST_PER_DEVICE}.",
    )
    registrations_per_minute = models.PositiveIntegerField(
        default=10_000,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
        help_text="How many registrations of all devices together are taken, 1 to 1000000. Refused ones do not count.",
    )
    attempts_kept_days = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(3650)],
        help_text="How long registration attempts are kept, in days. The history is kept for ever.",
    )
    epoch = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(retry_after_seconds__gte=1, retry_after_seconds__lte=300),
                name="service_retry_after_in_range",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    longest_retry_after_seconds__gte=1,
                    longest_retry_after_seconds__lte=86_400,
                    device_registrations_per_minute__gte=1,
                    device_registrations_per_minute__lte=MOST_PER_DEVICE,
                    registrations_per_minute__gte=1,
                    registrations_per_minute__lte=1_000_000,
                ),
                name="service_rates_in_range",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def raise_epoch(self) -> None:
        """Mark everything that was judged before now as judged on an older state (R12)."""
        type(self).objects.filter(pk=self.pk).update(epoch=models.F("epoch") + 1)

    @classmethod
    def by_id_scope(cls, id_scope: str) -> tuple["ProvisioningService", Standing]:
        """The service, and what decisions read of it, as of one moment. Raises ProvisioningService.DoesNotExist."""
        service = _by_id_scope.one(id_scope)
        if service is None:
            raise cls.DoesNotExist
        read: Any = service  # with its annotations
        return service, _standing(
            service.epoch,
            service.symmetric_key_groups,
            service.proof_of_possession,
            read.database_now,
            read.next_individual,
            read.next_group,
        )

    @classmethod
    def what_decisions_read(cls, pk: int) -> Standing:
        """All of it in one query, and so as of one moment (R12)."""
        row = _what_decisions_read.one(pk)
        if row is None:
            raise cls.DoesNotExist
        return _standing(*row)

    @classmethod
    def next_switch_after(cls, pk: int, at: datetime) -> datetime | None:
        """When the switch of an entry turns by itself, after a time."""
        later = [switches.filter(switches_at__gt=at) for switches in _next_switches()]
        found = cls.objects.values_list(*map(_earliest, later)).get(pk=pk)
        return min(filter(None, found), default=None)

    @classmethod
    def at_this_moment(cls, pk: int) -> tuple["ProvisioningService", datetime]:
        """The service, with the time by the database's clock at which it was read."""
        service: Any = cls.objects.annotate(database_now=clock.database_now()).get(pk=pk)
        return service, service.database_now

    @classmethod
    def epoch_and_time(cls, pk: int) -> tuple[int, datetime]:
        """What shows whether a judgement still holds, as of one moment (R12)."""
        row = _epoch_and_time.one(pk)
        if row is None:
            raise cls.DoesNotExist
        epoch, now = row
        return epoch, now

    @classmethod
    def epoch_of(cls, pk: int) -> int:
        epoch: int = cls.objects.values_list("epoch", flat=True).get(pk=pk)
        return epoch


def _earliest(switches: "models.QuerySet[Any, Any]") -> models.Subquery:
    return models.Subquery(switches.order_by("switches_at")[:1])


def _next_switches() -> "list[models.QuerySet[Any, Any]]":
    """For both kinds of entry, the times at which switches turn; the earliest is one index look-up."""
    # Their module needs this one.
    from enrollments.models.enrollments import EnrollmentGroup, IndividualEnrollment

    return [
        kind.objects.filter(service=models.OuterRef("pk"), switches_at__isnull=False).values_list(
            "switches_at", flat=True
        )
        for kind in (IndividualEnrollment, EnrollmentGroup)
    ]


def _standing(
    epoch: int, groups_with_keys: bool, proof: bool, now: datetime, *switches: datetime | None
) -> Standing:
    return Standing(epoch, groups_with_keys, proof, now, min(filter(None, switches), default=None))


@Prepared
def _by_id_scope(id_scope: str) -> "models.QuerySet[ProvisioningService]":
    next_individual, next_group = map(_earliest, _next_switches())
    return (
        ProvisioningService.objects.order_by()
        .annotate(database_now=clock.database_now(), next_individual=next_individual, next_group=next_group)
        .filter(id_scope=id_scope)
        # What no device asks for.
        .defer("description", "host_name", "shared_access_keys", "attempts_kept_days", "created_at")
    )


@Prepared
def _what_decisions_read(pk: int) -> "models.QuerySet[ProvisioningService, Any]":
    return (
        ProvisioningService.objects.order_by()
        .filter(pk=pk)
        .values_list(
            "epoch",
            "symmetric_key_groups",
            "proof_of_possession",
            clock.database_now(),
            *map(_earliest, _next_switches()),
        )
    )


@Prepared
def _epoch_and_time(pk: int) -> "models.QuerySet[ProvisioningService, Any]":
    return ProvisioningService.objects.order_by().filter(pk=pk).values_list("epoch", clock.database_now())
