"""The two lists of entries: their filters, their order, and what a row shows beside the entry itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django import forms
from django.db.models import Prefetch, QuerySet
from django.http import QueryDict
from django.utils import timezone

from enrollments.actions.possession import CaKey, possession_of
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
    ProvisioningStatus,
)
from enrollments.models.enrollments import SECRETS
from enrollments.models.keyset import starting_with
from enrollments.models.switches import AsOf
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.names import registration_key
from enrollments.portal.certificate_input import validity
from enrollments.portal.explanations import Mark, possession_mark
from enrollments.portal.paging import Page, paged

Entry = IndividualEnrollment | EnrollmentGroup
Row = TypeVar("Row", IndividualEnrollment, EnrollmentGroup)

EXPIRES_SOON = timedelta(days=30)


class EntryFilter(forms.Form):
    """Kept in the address. Where it cannot be read nothing is listed: never more than was asked for."""

    q = forms.CharField(
        required=False,
        max_length=128,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off", "spellcheck": "false"}),
    )
    status = forms.ChoiceField(
        label="Status",
        required=False,
        choices=[("", "Any"), ("enabled", "Enabled"), ("disabled", "Disabled")],
    )
    mechanism = forms.ChoiceField(label="Mechanism", required=False)

    def __init__(
        self,
        data: QueryDict,
        *,
        name: str,
        mechanisms: Sequence[AttestationMechanism] = tuple(AttestationMechanism),
    ) -> None:
        super().__init__(data)
        choice: Any = self.fields["mechanism"]
        choice.choices = [("", "Any"), *((one.value, one.label) for one in mechanisms)]
        self.fields["q"].label = name
        self.fields["q"].widget.attrs["placeholder"] = "The ID, or how it begins"

    @property
    def is_set(self) -> bool:
        return not self.is_valid() or any(self.cleaned_data.values())

    def apply(self, entries: QuerySet[Row], key_column: str, as_of: AsOf) -> QuerySet[Row]:
        if not self.is_valid():
            return entries.none()
        data = self.cleaned_data
        if prefix := registration_key(data.get("q", "")):
            entries = entries.filter(starting_with(key_column, prefix))
        if status := data.get("status"):
            entries = entries.filter(as_of.where(enabled=status == "enabled"))
        if mechanism := data.get("mechanism"):
            entries = entries.filter(mechanism=mechanism)
        return entries


@dataclass(frozen=True, slots=True)
class SwitchShown:
    """Which way the switch of an entry stands, and when it turns by itself (_switch.html)."""

    entry: Entry
    enabled: bool
    is_overdue: bool

    @classmethod
    def of(cls, entry: Entry, as_of: AsOf) -> "SwitchShown":
        return cls(entry, as_of.enabled(entry), entry.is_due(as_of.at))

    @property
    def status(self) -> str:
        return (ProvisioningStatus.ENABLED if self.enabled else ProvisioningStatus.DISABLED).value


@dataclass(frozen=True, slots=True)
class EntryRow:
    entry: Entry
    switch: SwitchShown
    certificate: str
    expires: datetime | None
    expiry_state: str
    hubs: tuple[str, ...]
    policy: str
    possession: tuple[Mark, ...] = ()

    @property
    def is_changed(self) -> bool:
        return self.entry.updated_at - self.entry.created_at > timedelta(minutes=1)

    @property
    def row_id(self) -> str:
        return f"entry-{self.entry.pk}"


def page_of_individuals(
    service: ProvisioningService, query: QueryDict, filters: EntryFilter, as_of: AsOf
) -> Page[IndividualEnrollment]:
    entries = filters.apply(with_row_columns(service.individualenrollments.all()), "registration_key", as_of)
    return paged(entries, query, {"name": "registration_key", "created": "created_at"}, "name")


def page_of_groups(
    service: ProvisioningService, query: QueryDict, filters: EntryFilter, as_of: AsOf
) -> Page[EnrollmentGroup]:
    entries = filters.apply(with_row_columns(service.enrollmentgroups.all()), "group_key", as_of)
    return paged(entries, query, {"name": "group_key", "created": "created_at"}, "name")


def with_row_columns(entries: QuerySet[Row]) -> QuerySet[Row]:
    """What rows show, in three queries however many there are; no keys are decrypted for a list."""
    held = (
        HeldCertificate.objects.exclude(role=HeldRole.HELPER)
        .select_related("certificate")
        .defer("certificate__pem")
        .order_by("slot")
    )
    return entries.defer(*SECRETS, "initial_twin").prefetch_related(
        Prefetch("certificates", queryset=held), "hubs"
    )


def rows_of(service: ProvisioningService, entries: Sequence[Entry], as_of: AsOf) -> list[EntryRow]:
    now = timezone.now()
    cas = {entry.pk: _cas(entry) for entry in entries}
    states = possession_of(service, {ca for own in cas.values() for ca in own}, now)
    return [
        _row(
            service,
            entry,
            now,
            as_of,
            tuple(dict.fromkeys(possession_mark(service, states[ca]) for ca in cas[entry.pk])),
        )
        for entry in entries
    ]


def _cas(entry: Entry) -> list[CaKey]:
    """The CAs of a group; an individual enrollment has none."""
    held = entry.certificates.all()  # prefetched, without helpers
    return [(one.subject_sha256, one.spki_sha256) for one in held if one.role == HeldRole.ANCHOR]


def _row(
    service: ProvisioningService, entry: Entry, now: datetime, as_of: AsOf, possession: tuple[Mark, ...]
) -> EntryRow:
    certificates = [held.certificate for held in entry.certificates.all()]
    nearest = min(certificates, key=lambda one: one.not_after, default=None)
    policy = AllocationPolicy(entry.allocation_policy or service.allocation_policy)
    return EntryRow(
        entry,
        SwitchShown.of(entry, as_of),
        certificate=certificates[0].subject if certificates else "",
        expires=nearest.not_after if nearest else None,
        expiry_state=_expiry_state(nearest.not_before, nearest.not_after, now) if nearest else "",
        hubs=tuple(sorted(hub.name for hub in entry.hubs.all())),
        policy=policy.label,
        possession=possession,
    )


def _expiry_state(not_before: datetime, not_after: datetime, now: datetime) -> str:
    word = validity(not_before, not_after, now)
    return "expiring" if word == "valid" and not_after - now < EXPIRES_SOON else word
