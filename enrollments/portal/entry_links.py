"""Where the pages of entries are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.http import QueryDict
from django.urls import reverse

from enrollments.actions.attempt_entries import deciding_entries
from enrollments.models import ProvisioningService, RegistrationAttempt
from enrollments.policy.facts import EntryKind, EntryRef


def entry_url(service: ProvisioningService, ref: EntryRef) -> str:
    if ref.kind is EntryKind.GROUP:
        kwargs = {"service_name": service.name, "group_id": ref.name}
        return reverse("portal:group-edit", kwargs=kwargs)
    kwargs = {"service_name": service.name, "registration_id": ref.name}
    return reverse("portal:enrollment-edit", kwargs=kwargs)


@dataclass(frozen=True, slots=True)
class DecidingEntry:
    """As portal/_decider.html shows it."""

    url: str
    namesake_since: datetime | None


def shown_deciding_entries(
    service: ProvisioningService, attempts: Sequence[RegistrationAttempt]
) -> list[DecidingEntry]:
    """The entry that decided each of these, in the same order."""
    return [
        DecidingEntry(entry_url(service, one.entry) if one.entry is not None else "", one.namesake_since)
        for one in deciding_entries(service, attempts)
    ]


def keys_url(service: ProvisioningService, ref: EntryRef) -> str:
    """Where the symmetric keys of an entry are shown."""
    if ref.kind is EntryKind.GROUP:
        return reverse("portal:group-keys", kwargs={"service_name": service.name, "group_id": ref.name})
    kwargs = {"service_name": service.name, "registration_id": ref.name}
    return reverse("portal:enrollment-keys", kwargs=kwargs)


def list_url(service: ProvisioningService, view: str, query: str = "") -> str:
    """A list, filtered as the query says; what is no query in it is encoded away."""
    query = QueryDict(query).urlencode()
    url = reverse(view, kwargs={"service_name": service.name})
    return f"{url}?{query}" if query else url


def entry_tabs(service: ProvisioningService, active: str) -> list[dict[str, object]]:
    pairs = (
        ("Individual Enrollments", "portal:enrollment-list"),
        ("Enrollment Groups", "portal:group-list"),
    )
    return [
        {"label": label, "url": list_url(service, view), "active": view == f"portal:{active}"}
        for label, view in pairs
    ]
