"""Changes that are no act on entries, and have a preview with an address like theirs: to look at, and to hand on."""

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from enrollments.actions.denying import preview_of_denying, preview_of_denying_attempt
from enrollments.actions.preview import Preview
from enrollments.errors import Invalid, NotFound
from enrollments.models import ProvisioningService, RegistrationAttempt
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.portal.preview_times import in_utc
from enrollments.portal.previews import lines_of


class Change(Protocol):
    """What an address names."""

    @property
    def query(self) -> list[tuple[str, str]]: ...

    @property
    def words(self) -> str:
        """The change and what it is about: "deny device pump-042"."""

    @property
    def about(self) -> "list[Linked]":
        """What it is about, with its pages."""

    def preview(self) -> Preview:
        """What it would do to the devices that are known. Raises what the change raises."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A thing by its name; `url`: empty where there is no page of it."""

    kind: str
    name: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Denial:
    """Denying one device: that of a registration ID, or whoever made an attempt, by the key that it proved."""

    service: ProvisioningService
    registration_id: str
    attempt: RegistrationAttempt | None = None

    @classmethod
    def named(cls, service: ProvisioningService, query: QueryDict) -> "Denial":
        if "attempt" not in query:
            name = query.get("device", "")
            if not is_registration_id(name):
                raise Invalid({"": [f"A preview of denying is of a device: give {FORM_IN_WORDS}."]})
            return cls(service, name)
        pk = query.get("attempt", "")
        attempt = (
            service.attempts.filter(pk=pk).first() if pk.isascii() and pk.isdigit() and len(pk) < 19 else None
        )
        if attempt is None:
            raise NotFound("That attempt is kept no longer, so nothing can be said about denying its device.")
        return cls.of_attempt(service, attempt)

    @classmethod
    def of_attempt(cls, service: ProvisioningService, attempt: RegistrationAttempt) -> "Denial":
        return cls(service, attempt.claimed_registration_id, attempt)

    @property
    def query(self) -> list[tuple[str, str]]:
        about = ("attempt", str(self.attempt.pk)) if self.attempt else ("device", self.registration_id)
        return [("act", "deny"), about]

    @property
    def words(self) -> str:
        return f"deny device {self.registration_id}"

    @property
    def about(self) -> list[Linked]:
        service, name = self.service, self.registration_id
        records = service.registrations.filter(registration_key=registration_key(name))
        url = reverse("portal:registration-detail", args=[service.name, name]) if records.exists() else ""
        about = [Linked("Device", name, url)]
        if self.attempt is not None:
            page = reverse("portal:attempt-detail", args=[service.name, self.attempt.pk])
            about.append(Linked("Attempt of", in_utc(self.attempt.last_at), page))
        return about

    def preview(self) -> Preview:
        if self.attempt is not None:
            return preview_of_denying_attempt(self.service, self.attempt)
        return preview_of_denying(self.service, [self.registration_id])


def change_named(service: ProvisioningService, query: QueryDict) -> Change | None:
    """The change that an address names; None for an act on entries. Raises Invalid, NotFound."""
    match query.get("act", ""):
        case "deny":
            return Denial.named(service, query)
        case _:
            return None


def change_url(service: ProvisioningService, change: Change, view: str = "preview") -> str:
    url = reverse(f"portal:{view}", kwargs={"service_name": service.name})
    return f"{url}?{urlencode(change.query)}"


def in_question(service: ProvisioningService, change: Change, preview: Preview | None) -> dict[str, Any]:
    """The preview as the templates of questions show it, with its addresses; None where it cannot be worked out."""
    address = change_url(service, change)
    return {
        "service": service,
        "preview": preview,
        "lines": lines_of(preview, address) if preview is not None else [],
        "all_url": address,
        "export_url": change_url(service, change, "preview-export"),
    }
