"""Changes that are no act on entries, and have a preview with an address like theirs: to look at, and to hand on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from enrollments.actions.ca_certificates import (
    ca_certificate_named,
    preview_of_deleting,
    preview_of_proof,
)
from enrollments.actions.denying import preview_of_denying, preview_of_denying_attempt
from enrollments.actions.preview import CANNOT_BE_TOLD, Limits, Preview, preview_of_switching
from enrollments.actions.preview.settings import SWITCHES, switches_of
from enrollments.errors import Invalid, NotFound
from enrollments.models import CaCertificate, ProvisioningService, RegistrationAttempt
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.portal.preview_times import in_utc
from enrollments.portal.previews import lines_of, of_everyone
from enrollments.portal.previews_lately import change_of, hand_over

logger = logging.getLogger(__name__)


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

    def preview(self, limits: Limits | None = None, at: datetime | None = None) -> Preview:
        """What it would do to the devices that are known. Raises what the change raises. limits, at: see preview_of.

        Of what only shuts out there is no other time: nobody comes in by it.
        """


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
            about.append(Linked("attempt of", in_utc(self.attempt.last_at), page))
        return about

    def preview(self, limits: Limits | None = None, at: datetime | None = None) -> Preview:
        if self.attempt is not None:
            return preview_of_denying_attempt(self.service, self.attempt, limits=limits)
        return preview_of_denying(self.service, [self.registration_id], limits=limits)


@dataclass(frozen=True, slots=True)
class Switching:
    """Turning settings of the service by which whole kinds of groups admit."""

    service: ProvisioningService
    values: Mapping[str, bool]

    @classmethod
    def named(cls, service: ProvisioningService, query: QueryDict) -> "Switching":
        given = {name: query.get(name, "") for name in SWITCHES if name in query}
        if not given or not set(given.values()) <= {"on", "off"}:
            raise Invalid(
                {
                    "": [
                        f"A preview of settings says on or off of {' or '.join(SWITCHES)}: open it from there."
                    ]
                }
            )
        return cls(service, {name: text == "on" for name, text in given.items()})

    @classmethod
    def of_settings(cls, service: ProvisioningService, settings: Mapping[str, Any]) -> "Switching":
        """Of all these settings the switches that turn."""
        now = switches_of(service)
        return cls(service, {name: settings[name] for name in SWITCHES if settings[name] != now[name]})

    @property
    def query(self) -> list[tuple[str, str]]:
        return [("act", "settings"), *((name, "on" if on else "off") for name, on in self.values.items())]

    @property
    def words(self) -> str:
        return " and ".join(_SWITCHED[name][on] for name, on in self.values.items())

    @property
    def about(self) -> list[Linked]:
        page = reverse("portal:service-settings", args=[self.service.name])
        return [Linked("Settings of", self.service.name, page)]

    def preview(self, limits: Limits | None = None, at: datetime | None = None) -> Preview:
        return preview_of_switching(self.service, self.values, at=at, limits=limits)


# Off and on.
_SWITCHED = {
    "symmetric_key_groups": (
        "let no groups with symmetric keys admit",
        "let groups with symmetric keys admit",
    ),
    "proof_of_possession": ("demand no proof of possession", "demand proof of possession"),
}


@dataclass(frozen=True, slots=True)
class OfCaCertificate:
    """What is done with a CA certificate and its proof of possession."""

    act: str
    ca: CaCertificate

    @property
    def query(self) -> list[tuple[str, str]]:
        return [("act", self.act), ("ca", self.ca.name)]

    @property
    def words(self) -> str:
        return f"{self.act} CA certificate {self.ca}"

    @property
    def about(self) -> list[Linked]:
        page = reverse("portal:ca-detail", args=[self.ca.service.name, self.ca.name])
        return [Linked("CA certificate", self.ca.name, page)]

    def preview(self, limits: Limits | None = None, at: datetime | None = None) -> Preview:
        if self.act == "verify":
            return preview_of_proof(self.ca.service, self.ca, at=at, limits=limits)
        return preview_of_deleting(self.ca.service, self.ca, limits=limits)


_OF_CA = ("verify", "delete")


def change_named(service: ProvisioningService, query: QueryDict) -> Change | None:
    """The change that an address names; None for an act on entries. Raises Invalid, NotFound."""
    act = query.get("act", "")
    if act == "deny":
        return Denial.named(service, query)
    if act == "settings":
        return Switching.named(service, query)
    if act in _OF_CA and "ca" in query:
        return OfCaCertificate(act, ca_certificate_named(service, query.get("ca", "")))
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
        "everyone_url": of_everyone(address),
        "export_url": change_url(service, change, "preview-export"),
    }


def shut_out_in_question(service: ProvisioningService, change: Change) -> dict[str, Any]:
    """The same of a change that only narrows access: it works without the key of the installation, its preview not."""
    try:
        preview = change.preview()
        hand_over(service, change_of(change.query), preview)
    except CANNOT_BE_TOLD as problem:  # R16
        logger.warning("No preview in service %s: %s", service, problem)
        preview = None
    return in_question(service, change, preview)
