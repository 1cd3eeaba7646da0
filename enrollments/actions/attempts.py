"""Attempts: counting what devices try, with the trace of the latest, in a table of bounded size (R3, R14)."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from enrollments import metrics
from enrollments.actions.callers import credential_of
from enrollments.actions.judging import Judgement
from enrollments.actions.tracking import read_tracking_id, tracking_id
from enrollments.audit.actor import clean_client
from enrollments.models import (
    AttemptOutcome,
    Certificate,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.models.locks import in_line
from enrollments.models.prepared import Prepared
from enrollments.policy.decision import Decision, Said
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason

# An hour of a service holds so many refused devices one by one, and then one row for all the others.
MAX_PER_HOUR = {AttemptOutcome.REFUSED: 2000, AttemptOutcome.DISABLED: 20_000}
MAX_TRACE_TEXT = 300
OVERFLOW_NAME = "(many others)"


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request came from; never what identifies a device."""

    address: str = ""
    client: str = ""


def count_attempt(
    service: ProvisioningService,
    claimed_registration_id: str,
    judgement: Judgement,
    outcome: AttemptOutcome,
    reason: Reason,
    peer: Peer,
    *,
    times: int = 1,
) -> str:
    """Count one attempt and return its tracking ID. `times`: with those before it that were not even judged (R14)."""
    name, source = claimed_registration_id, ""
    if outcome is AttemptOutcome.REFUSED:
        source = judgement.leaf_key or peer.address[:45]
    if not has_room(service, judgement, name, outcome, reason, source):
        name, source = OVERFLOW_NAME, ""
    entry = judgement.decision.entry
    is_evidence = outcome is not AttemptOutcome.ASSIGNED and judgement.decision.proven
    values = {
        "service_id": service.pk,
        "hour": _hour_of(judgement),
        "claimed_registration_id": name,
        "registration_key": registration_key(name),
        "outcome": outcome.value,
        "reason": reason.value,
        "source": source,
        "count": times,
        "first_at": judgement.at,
        "last_at": judgement.at,
        "entry_kind": entry.kind.value if entry else "",
        "entry_name": entry.name if entry else "",
        "trace": json.dumps(shown_trace(judgement.decision)),
        "leaf_thumbprint": judgement.leaf_thumbprint,
        "credential": credential_of(judgement, peer.address)[:64],
        "peer_address": peer.address[:45],
        "client": clean_client(peer.client),
    }
    with in_line():
        row, count = _upsert(values)
        if is_evidence and name != OVERFLOW_NAME:
            # Of the assigned it is kept as evidence; of who proved nothing the thumbprint is all that is kept.
            Certificate.objects.store_all(judgement.chain[:1])
    transaction.on_commit(partial(metrics.attempt_kept, service.name, reason.value))
    return tracking_id(row, count)


def tracking_id_of_latest(attempt: RegistrationAttempt) -> str:
    """What the device was given with the latest of the attempts that this row counts."""
    return tracking_id(attempt.pk, attempt.count)


def proven_leaf(attempt: RegistrationAttempt) -> Certificate | None:
    """The certificate of the device, if it proved itself by one. Of a stranger's the thumbprint is all that is kept.

    Asked by proof and not by what is there: another service may hold the certificate that a stranger showed (R1).
    """
    if not is_proven(attempt) or not attempt.leaf_thumbprint:
        return None
    return Certificate.objects.filter(thumbprint_sha256=attempt.leaf_thumbprint).first()


def devices_that_came(service: ProvisioningService) -> dict[str, tuple[str, str]]:
    """Of whom there is no registration record, though they proved themselves by a certificate, which was kept.

    By registration key: the name, and the certificate of the latest such attempt, as PEM.
    """
    records = RegistrationRecord.objects.filter(
        service=OuterRef("service"), registration_key=OuterRef("registration_key")
    )
    attempts = service.attempts.filter(~Exists(records)).exclude(leaf_thumbprint="")
    found: dict[str, tuple[str, str]] = {}
    for attempt in attempts.order_by("registration_key", "last_at", "pk").iterator(chunk_size=1000):
        if is_proven(attempt):
            # The latest comes last, and is written over the others.
            found[attempt.registration_key] = attempt.claimed_registration_id, attempt.leaf_thumbprint
    pems: dict[str, str] = {}
    thumbprints = sorted({thumbprint for _, thumbprint in found.values()})
    for start in range(0, len(thumbprints), 1000):
        rows = Certificate.objects.filter(thumbprint_sha256__in=thumbprints[start : start + 1000])
        pems.update(rows.values_list("thumbprint_sha256", "pem"))
    return {key: (name, pems[one]) for key, (name, one) in found.items() if one in pems}


def is_proven(attempt: RegistrationAttempt) -> bool:
    """Whether the device had proven itself (R3); a device that an enrollment refuses may have."""
    if attempt.outcome != AttemptOutcome.REFUSED:
        return True
    return any(step["rule"] == "R3" and step["said"] == Said.PROVES for step in attempt.trace)


def shown_trace(of: Decision | RegistrationAttempt) -> list[dict[str, str]]:
    """The trace as it is kept. Names in it are what strangers wrote into certificates: printable, and not long."""
    if isinstance(of, RegistrationAttempt):
        kept: list[dict[str, str]] = of.trace
        return kept
    return [
        {
            "rule": step.rule,
            "candidate": _bounded(step.candidate),
            "said": step.said.value,
            "because": _bounded(step.because),
        }
        for step in of.trace
    ]


def _bounded(text: str) -> str:
    if text.isprintable() and len(text) <= MAX_TRACE_TEXT:
        return text
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return shown if len(shown) <= MAX_TRACE_TEXT else f"{shown[:MAX_TRACE_TEXT]}…"


def find_attempt(service: ProvisioningService, text: str) -> RegistrationAttempt | None:
    """The attempt that a tracking ID names, if it is of this service and still kept."""
    found = read_tracking_id(text)
    if found is None:
        return None
    pk, ordinal = found
    return service.attempts.filter(pk=pk, count__gte=ordinal).first()


def forget_old_attempts(service: ProvisioningService) -> int:
    """Delete attempts older than the service's setting; how many rows that were."""
    horizon = timezone.now() - timedelta(days=service.attempts_kept_days)
    deleted, _ = service.attempts.filter(last_at__lt=horizon).delete()
    return deleted


def has_room(
    service: ProvisioningService,
    judgement: Judgement,
    claimed_registration_id: str,
    outcome: AttemptOutcome,
    reason: Reason,
    source: str = "",
) -> bool:
    """Whether another device may have a row of its own in this hour (R14).

    Claims cost nothing, and whoever holds the key of a barred CA makes as many proven devices as they like. The
    admitted are as many as were enrolled.
    """
    if outcome not in MAX_PER_HOUR:
        return True
    hour, key = _hour_of(judgement), registration_key(claimed_registration_id)
    if _own_row(service.pk, hour, key, outcome.value, reason.value, source):
        return True
    rows = RegistrationAttempt.objects.filter(service=service, hour=hour, outcome=outcome.value)
    return rows.count() < MAX_PER_HOUR[outcome]


@Prepared
def _own_row(
    service: int, hour: datetime, key: str, outcome: str, reason: str, source: str
) -> "QuerySet[RegistrationAttempt, int]":
    rows = RegistrationAttempt.objects.filter(
        service=service, hour=hour, registration_key=key, outcome=outcome, reason=reason, source=source
    )
    return rows.values_list("pk", flat=True)


def _hour_of(judgement: Judgement) -> datetime:
    return judgement.at.replace(minute=0, second=0, microsecond=0)


_KEY = ("service_id", "hour", "registration_key", "outcome", "reason", "source")
_LATEST = (
    "last_at",
    "entry_kind",
    "entry_name",
    "trace",
    "leaf_thumbprint",
    "credential",
    "peer_address",
    "client",
)


def _upsert(values: dict[str, Any]) -> tuple[int, int]:
    """Insert the row or count it up, in one statement that both databases know. Returns its id and count."""
    table = RegistrationAttempt._meta.db_table
    sql = (
        f"INSERT INTO {table} ({', '.join(values)}) "  # noqa: S608  # names of our own columns
        f"VALUES ({', '.join(['%s'] * len(values))}) "
        f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET count = {table}.count + excluded.count, "
        f"{', '.join(f'{name} = excluded.{name}' for name in _LATEST)} "
        "RETURNING id, count"
    )
    adapt = connection.ops.adapt_datetimefield_value
    parameters = [adapt(value) if isinstance(value, datetime) else value for value in values.values()]
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone()
    return row[0], row[1]
