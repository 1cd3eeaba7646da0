"""What an administrator wants an entry of either kind to be, and whether it can be that."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from django.utils import timezone

from enrollments.attestation.symmetric_key import key_bytes
from enrollments.attestation.x509 import (
    DeviceCertificate,
    Finding,
    ParsedCertificate,
    UnparsedCertificate,
    findings_for_ca,
    findings_for_device,
    findings_of_unparsed,
)
from enrollments.errors import AttestationError, Invalid
from enrollments.hubs.allocation_webhook import problem_of_url
from enrollments.models import AttestationMechanism, LinkedHub, ProvisioningService, Slot
from enrollments.models.enrollments import empty_twin
from enrollments.policy.allocation import AllocationPolicy
from enrollments.policy.documents import MAX_TWIN_BYTES, DocumentProblem, check_initial_twin, parse_json
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.policy.reprovisioning import ReprovisioningPolicy

Certificates = Mapping[Slot, ParsedCertificate | DeviceCertificate]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntrySpec:
    """What an administrator wants an entry to be. Empty keys: made by us when added, kept when changed.

    switches_at: when the switch turns by itself, in whole seconds: scheduled by whoever saves this, because of
    schedule_reason, or else of what the whole is saved for. schedule_reason: None where nothing is said of it; then the
    one of what is scheduled for that time already stays, and otherwise this is its reason from now on.
    for_good: without it, as it stands until somebody turns the switch, whatever was scheduled. Otherwise what is
    scheduled stays, unless the switch is turned.
    webhook_url: with its query, where it has one; the address alone keeps the query that is held with it.
    """

    mechanism: AttestationMechanism = AttestationMechanism.X509
    certificates: Certificates = field(default_factory=dict)
    primary_key: str = field(default="", repr=False)
    secondary_key: str = field(default="", repr=False)
    allocation_policy: str = ""
    hubs: tuple[LinkedHub, ...] = ()
    reprovisioning_policy: str = ReprovisioningPolicy.MIGRATE.value
    initial_twin: dict[str, Any] = field(default_factory=empty_twin)
    enabled: bool = True
    for_good: bool = False
    switches_at: datetime | None = None
    schedule_reason: str | None = None
    iot_edge: bool = False
    webhook_url: str = field(default="", repr=False)
    webhook_api_version: str = ""

    @property
    def opens(self) -> bool:
        """Whether it is enabled by this, now or at a time."""
        return self.enabled or self.switches_at is not None


Kind = Literal["device", "ca"]


def findings(
    certificate: ParsedCertificate | DeviceCertificate, kind: Kind, now: datetime | None = None
) -> tuple[Finding, ...]:
    """What is to be said about a certificate before it is saved."""
    if isinstance(certificate, UnparsedCertificate):
        return findings_of_unparsed(certificate)
    now = now or timezone.now()
    if kind == "device":
        return findings_for_device(certificate, now)
    if isinstance(certificate, DeviceCertificate):
        raise TypeError("a certificate that was judged as a device's is to be that of a CA")
    return findings_for_ca(certificate, now)


def enrolled_in(service: ProvisioningService, certificate: ParsedCertificate, kind: Kind) -> EntryRef | None:
    """The entry that holds the name of this device certificate, or this CA, already."""
    if kind == "ca":
        anchors = service.trust_anchors.filter(
            subject_sha256=certificate.subject_sha256, spki_sha256=certificate.spki_sha256
        )
        anchor = anchors.select_related("group").first()
        return EntryRef(EntryKind.GROUP, anchor.group.pk, anchor.group.group_id) if anchor else None
    names = [registration_key(name) for name in certificate.common_names]
    found = service.individualenrollments.filter(registration_key__in=names).first()
    return EntryRef(EntryKind.INDIVIDUAL, found.pk, found.registration_id) if found else None


def check_spec(spec: EntrySpec, name: str, name_field: str, kind: Kind) -> None:
    """Raises Invalid with a sentence for each field that cannot be accepted."""
    errors: dict[str, list[str]] = {}

    def refuse(field: str, sentence: str) -> None:
        errors.setdefault(field, []).append(sentence)

    if not is_registration_id(name):
        refuse(name_field, f"{name[:130]!r} cannot be used here: give {FORM_IN_WORDS}.")
    for slot, certificate in spec.certificates.items():
        for finding in findings(certificate, kind):
            # A weak certificate never admits anybody, and may still have to be barred (R6, R7).
            admits = spec.opens if isinstance(certificate, UnparsedCertificate) else spec.enabled
            if finding.blocks_barring or (finding.severity == "error" and admits):
                refuse(f"{slot}_certificate", finding.message)
    for key_field, key in (("primary_key", spec.primary_key), ("secondary_key", spec.secondary_key)):
        try:
            if key:
                key_bytes(key)
        except AttestationError as problem:
            refuse(key_field, problem.message)
    if spec.allocation_policy and spec.allocation_policy not in set(AllocationPolicy):
        refuse("allocation_policy", f"{spec.allocation_policy!r} is no allocation policy.")
    if spec.reprovisioning_policy not in set(ReprovisioningPolicy):
        refuse("reprovisioning_policy", f"{spec.reprovisioning_policy!r} is no reprovisioning policy.")
    for sentence in _problems_of_webhook(spec):
        refuse("webhook_url", sentence)
    if spec.allocation_policy == AllocationPolicy.STATIC and len(spec.hubs) > 1:
        refuse("hubs", "The static policy assigns to one hub: choose a single one.")
    try:
        _check_twin(spec.initial_twin)
    except DocumentProblem as problem:
        refuse("initial_twin", str(problem))
    if errors:
        raise Invalid(errors)


def _problems_of_webhook(spec: EntrySpec) -> Iterator[str]:
    if spec.allocation_policy != AllocationPolicy.CUSTOM:
        return
    if not spec.webhook_url:
        yield "Give the URL of the webhook that chooses the hub."
    elif problem := problem_of_url(spec.webhook_url):
        yield problem
    if not re.fullmatch(r"(\d{4}-\d{2}-\d{2}(-preview)?)?", spec.webhook_api_version, re.ASCII):
        yield "The API version of a webhook is a date such as 2021-10-01."


def _check_twin(twin: dict[str, Any]) -> None:
    if twin == empty_twin():
        return
    parse_json(json.dumps(twin), max_bytes=MAX_TWIN_BYTES)
    check_initial_twin(twin)


def check_hubs(service: ProvisioningService, hubs: Iterable[LinkedHub]) -> None:
    """R1: a hub of another service is no hub of this one."""
    if any(hub.service_id != service.pk for hub in hubs):
        raise Invalid({"hubs": ["That hub is not linked to this service."]})
