"""Which hub: by the policy of the entry or its service, or by asking the entry's webhook (R10, contract 7.2, 7.3)."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from enrollments.actions.judging import Judgement
from enrollments.hubs.allocation_webhook import WebhookAnswer, WebhookFailed, ask_webhook
from enrollments.models import (
    EnrollmentGroup,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
    RegistrationRecord,
)
from enrollments.models.enrollments import NOT_ASKED
from enrollments.models.prepared import Prepared
from enrollments.policy.addresses import shown_url
from enrollments.policy.allocation import AllocationPolicy, HubFacts, choose_hub, region_in
from enrollments.policy.decision import Said, TraceStep
from enrollments.policy.reprovisioning import ReprovisioningPolicy

Entry = IndividualEnrollment | EnrollmentGroup


@dataclass(frozen=True, slots=True)
class Question:
    """What an entry's webhook is to be asked. It holds for the entry as it was: `etag` says which that is."""

    url: str = field(repr=False)
    api_version: str
    body: dict[str, Any] = field(repr=False)
    etag: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What a webhook answered, or why it is no answer; `shown` names it without what may be a key."""

    etag: str
    shown: str
    answer: WebhookAnswer | None
    problem: str = ""

    def step(self, problem: str = "") -> TraceStep:
        """For the trace: what it said, word for word where it was no answer."""
        problem = problem or self.problem
        if self.answer is None or problem:
            return TraceStep("R10", f"allocation webhook {self.shown}", Said.FAILS, problem)
        because = f"it chose {self.answer.host_name[:200]}"
        return TraceStep("R10", f"allocation webhook {self.shown}", Said.CHOOSES, because)


def policy_of(service: ProvisioningService, entry: Entry) -> AllocationPolicy:
    return AllocationPolicy(entry.allocation_policy or service.allocation_policy)


def hub_of(
    service: ProvisioningService,
    entry: Entry,
    registration_key: str,
    payload: Any,
    choice: Choice | None,
) -> HubFacts | None:
    """The hub that the policy picks. Inside the admission lock."""
    named = choice.answer.host_name if choice is not None and choice.answer is not None else ""
    hubs = _hubs_of_individual if isinstance(entry, IndividualEnrollment) else _hubs_of_group
    rows = hubs(service.pk, entry.pk)
    return choose_hub(
        policy_of(service, entry),
        registration_key,
        [HubFacts(*facts) for *facts, _ in rows],
        frozenset(pk for pk, *_, is_named in rows if is_named),
        region=region_in(payload),
        named=named,
    )


@Prepared
def _hubs_of_individual(service: int, entry: int) -> "QuerySet[LinkedHub, Any]":
    return _hubs(service, IndividualEnrollment.objects.filter(pk=entry, hubs=OuterRef("pk")))


@Prepared
def _hubs_of_group(service: int, entry: int) -> "QuerySet[LinkedHub, Any]":
    return _hubs(service, EnrollmentGroup.objects.filter(pk=entry, hubs=OuterRef("pk")))


def _hubs(service: int, naming: "QuerySet[Any]") -> "QuerySet[LinkedHub, Any]":
    """All hubs of a service, as HubFacts has them; `is_named`: whether the entry names it."""
    hubs = LinkedHub.objects.filter(service=service).annotate(is_named=Exists(naming)).order_by("pk")
    return hubs.values_list(
        "pk",
        "host_name",
        "allocation_weight",
        "latency_ms",
        "apply_allocation_policy",
        "region_latencies",
        "is_named",
    )


def question_for(
    service: ProvisioningService, entry: Entry, record: RegistrationRecord, judgement: Judgement, payload: Any
) -> Question:
    """What the contract (7.3) tells a webhook. Keys are not among it."""
    entry.refresh_from_db(fields=NOT_ASKED)  # in one query
    chosen = entry.hubs.order_by("pk") if entry.hubs.exists() else service.hubs.order_by("pk")
    context: dict[str, Any] = {
        "registrationId": record.registration_id,
        "currentIotHubHostName": record.hub.host_name if record.hub else None,
        "currentDeviceId": record.device_id or None,
        "payload": payload,
        judgement.mechanism: _attested(judgement),
    }
    kind = "individualEnrollment" if isinstance(entry, IndividualEnrollment) else "enrollmentGroup"
    body = {
        kind: _described(entry),
        "deviceRuntimeContext": {name: value for name, value in context.items() if value is not None},
        "linkedHubs": [hub.host_name for hub in chosen],
    }
    return Question(_webhook_of(entry), entry.webhook_api_version, body, entry.etag)


def _webhook_of(entry: Entry) -> str:
    return f"{entry.webhook_url}?{entry.webhook_query}" if entry.webhook_query else entry.webhook_url


def ask(question: Question) -> Choice:
    """Ask. It may take as long as DPS_WEBHOOK_SECONDS, so it is refused inside a transaction."""
    if transaction.get_connection().in_atomic_block:
        raise RuntimeError("a webhook is never asked inside a transaction (R12)")
    shown = shown_url(question.url)
    try:
        answer = ask_webhook(question.url, question.api_version, question.body)
    except WebhookFailed as problem:
        return Choice(question.etag, shown, None, problem.message)
    return Choice(question.etag, shown, answer)


def needs_webhook(service: ProvisioningService, entry: Entry, record: RegistrationRecord) -> bool:
    """A device that is never moved once it is assigned needs no choice."""
    stays = entry.reprovisioning_policy == ReprovisioningPolicy.NEVER and record.hub_id is not None
    return policy_of(service, entry) is AllocationPolicy.CUSTOM and not stays


def problem_with(choice: Choice, entry: Entry, hub: HubFacts | None) -> str:
    """Why a choice cannot be carried out, in words for the trace; empty where it can."""
    if choice.answer is None:
        return choice.problem
    if choice.etag != entry.etag:
        return "the entry was changed while it was asked, so its answer does not count"
    if hub is None:
        return f"it chose {choice.answer.host_name[:200]!r}, which is not among the hubs of the entry"
    return ""


def _described(entry: Entry) -> dict[str, Any]:
    """The entry as the service API would show it (contract 6.4), without its credentials."""
    policy = ReprovisioningPolicy(entry.reprovisioning_policy)
    described = {
        "attestation": {"type": entry.mechanism},
        "capabilities": {"iotEdge": entry.iot_edge},
        "initialTwin": entry.initial_twin,
        "etag": entry.etag,
        "provisioningStatus": entry.status.value,
        "reprovisionPolicy": {
            "updateHubAssignment": policy is not ReprovisioningPolicy.NEVER,
            "migrateDeviceData": policy is ReprovisioningPolicy.MIGRATE,
        },
        "createdDateTimeUtc": _utc(entry.created_at),
        "lastUpdatedDateTimeUtc": _utc(entry.updated_at),
        "allocationPolicy": AllocationPolicy.CUSTOM.value,
        "iotHubs": [hub.host_name for hub in entry.hubs.order_by("pk")],
    }
    if isinstance(entry, IndividualEnrollment):
        return {"registrationId": entry.registration_id, "deviceId": entry.device_id or None, **described}
    return {"enrollmentGroupId": entry.group_id, **described}


def _attested(judgement: Judgement) -> dict[str, Any]:
    if not judgement.chain:
        return {}
    leaf = judgement.chain[0]
    return {
        "certificateInfo": {
            "subjectName": leaf.subject,
            "sha1Thumbprint": leaf.thumbprint_sha1.upper(),
            "sha256Thumbprint": leaf.thumbprint_sha256.upper(),
            "issuerName": leaf.issuer,
            "notBeforeUtc": _utc(leaf.not_before),
            "notAfterUtc": _utc(leaf.not_after),
            "serialNumber": leaf.serial_number.upper(),
            "version": 3,
        }
    }


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
