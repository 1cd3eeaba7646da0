"""Writing a history row. It shares the transaction of the change: no record, no action (R15)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import IntegrityError, OperationalError, connection, models, transaction

from enrollments import metrics
from enrollments.audit import spare_ids
from enrollments.audit.actor import Actor, clean_client
from enrollments.audit.events import Event
from enrollments.audit.upkeep import seal_after_commit
from enrollments.errors import Invalid
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.inserting import insert_all, made
from enrollments.models.locks import moment_of_change

MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about, where there is no row (or none any more) to name it."""

    kind: str
    name: str
    pk: str = ""


def record(
    event: Event,
    *,
    subject: models.Model | Subject,
    actor: Actor,
    service: ProvisioningService | None = None,
    reason: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> HistoryEvent:
    """Add one row. Must be called inside the transaction of the change that it tells of.

    Raises NotWritten where the database passes over it, so that the change does not happen either.
    """
    (columns,) = _columns([Happened(event, subject, before, after)], actor, service, reason)
    try:
        return HistoryEvent.objects.create(**columns)
    except (IntegrityError, OperationalError) as problem:
        if not spare_ids.can_be_chosen(problem):
            raise
    return _with_spare_id(columns)


@dataclass(frozen=True, slots=True)
class Happened:
    """One row to be, of several that one actor causes at one time for one reason.

    own_reason: why this one, where the whole has no reason.
    """

    event: Event
    subject: models.Model | Subject
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    own_reason: str = ""


def record_all(
    happened: Iterable[Happened],
    *,
    actor: Actor,
    service: ProvisioningService | None = None,
    reason: str = "",
) -> None:
    """As `record`, of several things at once."""
    rows = _columns(happened, actor, service, reason)
    try:
        # SQLite undoes a statement that fails, and here each row has its own.
        with transaction.atomic(savepoint=len(rows) > 1 and connection.vendor == "sqlite"):
            insert_all([made(HistoryEvent, **columns) for columns in rows])
    except (IntegrityError, OperationalError) as problem:
        if not spare_ids.can_be_chosen(problem):
            raise
        for columns in rows:
            _with_spare_id(columns)


def _with_spare_id(columns: dict[str, Any]) -> HistoryEvent:
    row = HistoryEvent(pk=spare_ids.spare_id(), **columns)
    row.save(force_insert=True)
    return row


def _columns(
    happened: Iterable[Happened], actor: Actor, service: ProvisioningService | None, reason: str
) -> list[dict[str, Any]]:
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("record() belongs into the transaction of the change (R15)")
    require_still(actor)
    seal_after_commit()
    at = moment_of_change()
    rows = [_columns_of(one, actor, service, reason or one.own_reason, at) for one in happened]
    for event, number in Counter(row["event"] for row in rows).items():
        transaction.on_commit(partial(metrics.history_rows_written, event, number))
    return rows


def _columns_of(
    happened: Happened, actor: Actor, service: ProvisioningService | None, reason: str, at: datetime
) -> dict[str, Any]:
    subject = happened.subject
    if isinstance(subject, models.Model):
        # Not its type: whoever is signed in comes wrapped into one that fetches them when they are asked for.
        subject = Subject(subject._meta.object_name or "", str(subject), str(subject.pk))
    return {
        "at": at,
        "event": happened.event.value,
        "service_id": service.pk if service else None,
        "service_name": service.name if service else "",
        "actor_kind": actor.kind,
        "actor_name": actor.name[:150],
        "way": actor.way.value,
        "subject_kind": subject.kind,
        "subject_id": subject.pk,
        "subject_name": subject.name[:200],
        "reason": reason,
        "before": happened.before,
        "after": happened.after,
        "address": actor.address[:45],
        "request_id": actor.request_id[:40],
        "client": clean_client(actor.client),
    }


def require_still(actor: Actor) -> None:
    """Inside the transaction of an act: raises where the actor was shut out since they were let in (R12).

    `record` asks it. Whoever has nothing to record, because all is as it is wanted, asks here.
    """
    if actor.still_may is not None:
        actor.still_may()


def clean_reason(reason: str) -> str:
    """The reason as it is kept: one piece of text, bounded, without control characters. Raises Invalid."""
    text = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    if len(text) > MAX_REASON:
        raise Invalid({"reason": [f"The reason may be {MAX_REASON} characters long; this has {len(text)}."]})
    return text


def changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The members that differ, as they were and as they are."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}
